"""kill -9 at each durable step of a move: exactly one whole copy of every version is found again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from isotach.base.limits import MIB, PAGE_BYTES
from isotach.blockstore.store import BlockStore
from isotach.conf.kinds import TierSpec

from .conftest import bytes_of, content

_CHILD = """
import sys
from pathlib import Path
from isotach.blockstore.store import BlockStore
from isotach.conf.kinds import TierSpec
from tests.t2_adapters.blockstore.conftest import fill_all, write_all
MIB = 1 << 20
folder = Path(sys.argv[1])
store = BlockStore([TierSpec("MEM", folder / "mem", 8 * MIB), TierSpec("SSD", folder / "ssd", 32 * MIB)])
for version in range(4):
    write_all(store, version, MIB + version)
for version in range(4, 8):
    fill_all(store, version, MIB // 2)
for version in range(6):
    store.set_pinned(version, True, "SSD")
store.mover.run_once()
for version in range(4, 6):
    store.promote(version)
print("moved")
"""


@pytest.mark.parametrize(
    "point",
    ["before_commit:20", "store.before_move_switch", "store.after_move_switch", "store.after_move_switch:2", ""],
)
def test_every_version_is_found_once(tmp_path: Path, point: str):
    root = Path(__file__).parents[3]
    environment = {**os.environ, "ISOTACH_TEST_FAILPOINT": point}
    environment["PYTHONPATH"] = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, str(tmp_path)], check=False, timeout=60, env=environment, capture_output=True
    )
    assert child.returncode == (-9 if point else 0), child.stderr.decode()
    store = BlockStore([TierSpec("MEM", tmp_path / "mem", 8 * MIB), TierSpec("SSD", tmp_path / "ssd", 32 * MIB)])
    try:
        assert sorted(store.versions()) == list(range(8))
        names: list[str] = []
        for folder in ("mem", "ssd"):
            names += os.listdir(tmp_path / folder / "containers")
        assert sorted(names) == [f"{version:016x}" for version in range(8)]
        for version in range(8):
            length = MIB + version if version < 4 else MIB // 2
            entry = store.get(version)
            store.verify(entry)
            assert entry.dirty == (version < 4)
            assert bytes_of(store, version) == content(version, length)
        if not point:
            assert {store.get(version).tier.alias for version in range(4)} == {"SSD"}
        assert sum(tier.used_bytes for tier in store.tiers()) == 4 * (PAGE_BYTES + 4096) - 4096 + 4 * MIB // 2
    finally:
        store.close()
