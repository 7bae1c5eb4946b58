"""Real tiers in real folders for the tests of the block store."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from isotach.base.limits import MIB
from isotach.blockstore.entry import CachedVersion, VersionMeta
from isotach.blockstore.store import BlockStore
from isotach.blockstore.tier import Watermarks
from isotach.conf.kinds import TierSpec


def meta_of(
    version: int, length: int, *, pinned: bool = False, tier: str = "", memory_only: bool = False
) -> VersionMeta:
    """A version with 4 MiB blocks."""
    return VersionMeta(version, version + 1000, length, 4 * MIB, "etag", pinned, False, tier, memory_only)


def content(version: int, length: int) -> bytes:
    """Bytes that tell version and place apart."""
    word = (version * 2654435761 % 2**32).to_bytes(4, "big")
    row = b"".join(word + place.to_bytes(4, "big") for place in range(512))
    return (row * (length // len(row) + 1))[:length]


def fill_all(store: BlockStore, version: int, length: int, **marks: Any) -> bool:
    """Brings the whole version in, as a fetch does."""
    return store.fill(meta_of(version, length, **marks), 0, content(version, length))


def write_all(store: BlockStore, version: int, length: int, *, dirty: bool = True, **marks: Any) -> CachedVersion:
    """Writes the whole version, as a client does."""
    draft = store.begin_write(meta_of(version, 0, **marks))
    data = content(version, length)
    try:
        for at in range(0, length, MIB):
            draft.write(at, data[at : at + MIB])
        return draft.seal(length, dirty=dirty)
    except BaseException:
        draft.abort()
        raise


def bytes_of(store: BlockStore, version: int) -> bytes:
    """The version as a client reads it."""
    entry = store.get(version)
    assert entry is not None
    descriptor = store.open_container(entry)
    try:
        return os.pread(descriptor, 1 << 30, 0)
    finally:
        os.close(descriptor)


def places_of(store: BlockStore) -> dict[int, str]:
    """Version -> the name of its folder, which the tests call after its tier: SSD, SSD2, ..."""
    return {version: store.get(version).folder.path.name for version in store.versions()}


@pytest.fixture
def memory_folder() -> Iterator[Path]:
    """A folder in a tmpfs, for tiers that must really be in memory."""
    root = Path("/dev/shm")
    if not root.is_dir():
        pytest.skip("no tmpfs here")
    folder = Path(tempfile.mkdtemp(dir=root, prefix="isotach-test-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[..., BlockStore]]:
    """`open_store(MEM=8, SSD=16, SSD2=16)` gives a store with a MEM tier of 8 MiB and two folders of an SSD tier, named
    like that, which later calls find again. Its mover works only when asked."""
    opened: list[BlockStore] = []

    def build(marks: Watermarks | None = None, eviction: str = "LRU", **quotas_mib: float) -> BlockStore:
        specs = [TierSpec(name.rstrip("23"), tmp_path / name, int(quota * MIB)) for name, quota in quotas_mib.items()]
        store = BlockStore(specs, marks=marks, eviction=eviction)
        opened.append(store)
        return store

    yield build
    for store in opened:
        store.close()
