"""A memory tier over a disk tier: what readers feel of it being filled, and how fast it swallows more than it holds.

Owns: the tiering rows of the table, against the same tiers at rest and the same disk without us. Never: touches S3.
"""

import os
import random
from contextlib import AbstractContextManager
from itertools import cycle
from pathlib import Path
from typing import Final

import isotach
from isotach.base.limits import MIB
from isotach.bench.context import BenchContext, random_chunks
from isotach.bench.measure import latencies_for, median_pair, percentile, seconds
from isotach.bench.peer import Peer
from isotach.bench.result import Judged, Row

_QUIET_FACTOR: Final = 3.0
_WRITE_BYTES: Final = 8 * MIB
_US: Final = 1e6


def hot_reads_beside_filling(context: BenchContext) -> list[Row]:
    """The slowest hundredth of hot reads (open, read, close) at rest, and while another process writes four times the
    memory tier, round and round, so that all of it is moved down and dropped."""
    rows = []
    for name, direct in (("a call each", False), ("directly", True)):
        with (
            _tiered(context) as cluster,
            isotach.connect(cluster.address, direct_metadata=direct, short_circuit=True) as fs,
        ):
            quiet, busy = _quiet_and_busy(context, cluster, fs)
        rows.append(
            Row(
                work=f"p99 of hot reads while tiers are filled, {name}", unit="us", isotach=busy * _US,
                baseline=quiet * _US, against="at rest", judged=Judged.AT_MOST, target=_QUIET_FACTOR * quiet * _US,
            )
        )  # fmt: skip
    return rows


def _quiet_and_busy(context: BenchContext, cluster: "isotach.Cluster", fs: "isotach.FileSystem") -> tuple[float, float]:
    sizes = context.sizes
    paths = [f"/hot/{number}" for number in range(sizes.hot_files)]
    for path, data in zip(
        paths, random_chunks(len(paths) * sizes.small_file_bytes, sizes.small_file_bytes), strict=True
    ):
        fs.write(path, data, write_type="CACHE_THROUGH")
    random.Random(11).shuffle(paths)
    turns = cycle(paths)

    def read_one() -> None:
        with fs.open(next(turns), "rb") as source:
            if len(source.read()) != sizes.small_file_bytes:
                raise AssertionError("a hot file came back short")

    for _ in paths:
        read_one()
    quiet = percentile(latencies_for(read_one, sizes.hot_seconds), 0.99)
    with Peer("fill_peer", cluster.address, str(4 * sizes.tier_bytes)) as peer:
        peer.line()
        latencies_for(read_one, sizes.hot_seconds / 2)  # until the memory tier is full
        busy = percentile(latencies_for(read_one, sizes.hot_seconds), 0.99)
    return quiet, busy


def overflowing_write(context: BenchContext) -> list[Row]:
    """Four times the memory tier in files of 64 MiB, against plain files with fsync in the disk tier's folder."""
    sizes = context.sizes
    count = max(sizes.tiered_bytes // sizes.tiered_file_bytes, 1)
    chunk = next(random_chunks(_WRITE_BYTES, _WRITE_BYTES))
    plain = context.folder / "plain"
    plain.mkdir()
    longest = 0.0
    with _tiered(context) as cluster, isotach.connect(cluster.address) as fs:

        def ours() -> None:
            nonlocal longest
            for number in range(count):
                with fs.open(f"/written/{number}", "wb", write_type="MUST_CACHE") as target:
                    for _ in range(sizes.tiered_file_bytes // _WRITE_BYTES):
                        longest = max(longest, seconds(lambda: target.write(chunk)))
                    longest = max(longest, seconds(target.close))

        def theirs() -> None:
            for number in range(count):
                _write_plain(plain / str(number), chunk, sizes.tiered_file_bytes)

        def clear() -> None:
            if fs.exists("/written"):
                fs.remove("/written", recursive=True)
            for path in plain.iterdir():
                path.unlink()
            os.sync()

        mine, other = median_pair(ours, theirs, 2, before_ours=clear)
        clear()
    plain.rmdir()
    total_mb = count * sizes.tiered_file_bytes / MIB
    return [
        Row(
            work=f"write of {total_mb:,.0f} MiB into {sizes.tier_bytes // MIB} MiB of memory over a disk", unit="MiB/s",
            isotach=total_mb / mine, baseline=total_mb / other, against="plain files with fsync", judged=Judged.RATIO,
            target=0.9,
        ),
        Row(work="longest pause in it", unit="s", isotach=longest, judged=Judged.AT_MOST, target=1.0),
    ]  # fmt: skip


def _tiered(context: BenchContext) -> AbstractContextManager["isotach.Cluster"]:
    disk = context.folder / "tiered" / "disk"  # goes with the cluster: a tier must not outlive its master
    room = context.sizes.tiered_bytes + 2 * context.sizes.tier_bytes
    return context.own_cluster("tiered", mem=context.sizes.tier_bytes, worker__tiers=f"SSD:{disk}:{room}")


def _write_plain(path: Path, chunk: bytes, total: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        for offset in range(0, total, len(chunk)):
            os.pwrite(descriptor, chunk, offset)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
