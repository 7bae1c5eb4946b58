"""Writes that go on to an under storage: what they cost beside memory alone, and beside the plain S3 library.

Owns: the rows of ASYNC_THROUGH and CACHE_THROUGH. Never: starts a server; the context says where one is.
"""

import time
from contextlib import AbstractContextManager
from typing import Final

import obstore

import isotach
from isotach.base.limits import MIB
from isotach.bench.cold import MOUNT, mount_in
from isotach.bench.context import BenchContext, random_chunks
from isotach.bench.hot import GB
from isotach.bench.measure import median_pair
from isotach.bench.result import Judged, Row

_CHUNK_BYTES: Final = 8 * MIB
_PERSISTED_WITHIN_S: Final = 300.0
_REPEATS: Final = 3


def async_through(context: BenchContext) -> list[Row]:
    """A large file into memory, its persistence to a folder beginning at once, against memory alone."""
    size = context.sizes.through_bytes
    with _roomy(context) as cluster, isotach.connect(cluster.address) as fs:

        def settle() -> None:
            if fs.exists("/async"):
                _await_persisted(fs, "/async")
            _remove(fs, "/async", "/cached")

        mine, other = median_pair(
            lambda: _write(fs, "/async", "ASYNC_THROUGH", size),
            lambda: _write(fs, "/cached", "MUST_CACHE", size),
            _REPEATS,
            before_ours=settle,
            before_theirs=settle,
        )
    return [_row("ASYNC_THROUGH write", size, mine, other, "MUST_CACHE", 0.8)]


def cache_through(context: BenchContext) -> list[Row]:
    """A large file into memory and S3 at once, against the same S3 library writing it in parts."""
    size = context.sizes.through_bytes
    path = f"{MOUNT}/through"
    with _roomy(context) as cluster, isotach.connect(cluster.address) as fs, mount_in(fs, context.s3) as store:

        def theirs() -> None:
            obstore.put(store, "direct", random_chunks(size, _CHUNK_BYTES), chunk_size=_CHUNK_BYTES)

        def remove_direct() -> None:
            obstore.delete(store, "direct")

        mine, other = median_pair(
            lambda: _write(fs, path, "CACHE_THROUGH", size),
            theirs,
            _REPEATS,
            before_ours=lambda: _remove(fs, path),
            before_theirs=remove_direct,
        )
    return [_row("CACHE_THROUGH write to S3", size, mine, other, "obstore alone", 0.9)]


def _roomy(context: BenchContext) -> AbstractContextManager["isotach.Cluster"]:
    return context.own_cluster("through", mem=3 * context.sizes.through_bytes)


def _write(fs: "isotach.FileSystem", path: str, write_type: str, size: int) -> None:
    with fs.open(path, "wb", write_type=write_type) as target:
        for chunk in random_chunks(size, _CHUNK_BYTES):
            target.write(chunk)


def _remove(fs: "isotach.FileSystem", *paths: str) -> None:
    for path in paths:
        if fs.exists(path):
            fs.remove(path)


def _await_persisted(fs: "isotach.FileSystem", path: str) -> None:
    deadline = time.monotonic() + _PERSISTED_WITHIN_S
    while not fs.stat(path).persisted:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} was not persisted within {_PERSISTED_WITHIN_S:.0f} s")
        time.sleep(0.05)


def _row(work: str, size: int, mine: float, other: float, against: str, target: float) -> Row:
    return Row(
        work=work, unit="GB/s", isotach=size / GB / mine, baseline=size / GB / other, against=against,
        judged=Judged.RATIO, target=target,
    )  # fmt: skip
