"""A worker that comes back with a million files: how long until the master knows all of them, and who notices.

Owns: the rows of the re-registration. The worker is one without bytes (`rejoin_peer`), in a process of its own. Never:
writes a file's content.
"""

import os
import random
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Final

import msgspec

import isotach
from isotach.base.types import FileId, Version
from isotach.bench.context import BenchContext
from isotach.bench.measure import latencies_for, latencies_until, percentile
from isotach.bench.peer import Peer
from isotach.bench.result import Judged, Row

_FILES_PER_FOLDER: Final = 1_000
_FILE_BYTES: Final = 100_000
_TARGET_S: Final = 5.0
_FIRST_TARGET_S: Final = 15.0  # every row is new to the master
_HARM_MAX: Final = 2.0
_US: Final = 1e6


def rejoin(context: BenchContext) -> list[Row]:
    """A first registration (the master learns a million places), then another process of the same worker."""
    count = context.sizes.rejoined
    with (
        context.own_cluster("rejoin", mem=256 << 20) as cluster,
        isotach.connect(cluster.address, direct_metadata=False) as fs,
    ):
        holdings = _make_files(fs, context.folder / "million", count)
        told = context.folder / "holdings"
        told.write_bytes(msgspec.msgpack.encode(holdings))
        chance = random.Random(5)
        paths = [f"/many/{n // _FILES_PER_FOLDER}/{n % _FILES_PER_FOLDER}" for n in chance.sample(range(count), 2000)]
        stat = _stat_of(fs, paths)
        quiet = percentile(latencies_for(stat, 3.0), 0.99)
        first_s, _ = _register(cluster, told, stat)
        again_s, busy = _register(cluster, told, stat)
    return [
        Row(
            work=f"first registration of a worker with {count:,} files", unit="s", isotach=first_s,
            judged=Judged.AT_MOST, target=_FIRST_TARGET_S,
        ),
        Row(work="its re-registration", unit="s", isotach=again_s, judged=Judged.AT_MOST, target=_TARGET_S),
        Row(
            work="p99 of stat meanwhile", unit="us", isotach=percentile(busy, 0.99) * _US, baseline=quiet * _US,
            against="at rest", judged=Judged.AT_MOST, target=_HARM_MAX * quiet * _US,
        ),
    ]  # fmt: skip


def _make_files(fs: "isotach.FileSystem", folder: Path, count: int) -> dict[Version, tuple[FileId, int]]:
    """A mounted folder of sparse files, listed: version, id and length of each."""
    found: dict[Version, tuple[FileId, int]] = {}
    for part in range(0, count, _FILES_PER_FOLDER):
        below = folder / str(part // _FILES_PER_FOLDER)
        below.mkdir(parents=True)
        for number in range(min(_FILES_PER_FOLDER, count - part)):
            descriptor = os.open(below / str(number), os.O_WRONLY | os.O_CREAT)
            os.truncate(descriptor, _FILE_BYTES)
            os.close(descriptor)
    fs.mount("/many", os.fspath(folder))
    for directory in fs.list("/many"):
        for info in fs.list(directory.path):
            found[info.inode.version] = (info.id, info.length)
    if len(found) != count:
        raise AssertionError(f"{len(found)} of {count} files were found in the mounted folder")
    return found


def _stat_of(fs: "isotach.FileSystem", paths: list[str]) -> Callable[[], object]:
    turns = cycle(paths)
    return lambda: fs.stat(next(turns))


def _register(cluster: "isotach.Cluster", told: Path, stat: Callable[[], object]) -> tuple[float, list[float]]:
    """Seconds that it took, and those of each stat meanwhile."""
    with Peer("rejoin_peer", cluster.address, os.fspath(cluster.dir), os.fspath(told)) as peer:
        peer.line()
        busy = latencies_until(stat, peer.has_spoken)
        taken, unknown = peer.line().split()
    if int(unknown):
        raise AssertionError(f"the master did not know {unknown} of the versions")
    return float(taken), busy
