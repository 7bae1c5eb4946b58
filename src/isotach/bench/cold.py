"""Data that lies in S3: the first read of a large object, and many small ones once they are cached.

Owns: three rows of the table, against obstore, the same S3 library that Isotach reads through. Empties its prefix of
the bucket afterwards. Never: starts an S3 server; the context says where one is.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from itertools import repeat
from typing import Final

import obstore
from obstore.store import S3Store

import isotach
from isotach.base.limits import FETCH_BYTES, FETCH_THREADS
from isotach.bench.context import BenchContext, S3Access, random_chunks
from isotach.bench.hot import GB, READ_BYTES, drain
from isotach.bench.measure import median_pair, median_seconds, seconds
from isotach.bench.result import Judged, Row

LARGE: Final = "large"
MOUNT: Final = "/bench-s3"


def cold_read(context: BenchContext) -> list[Row]:
    """A large object through Isotach, caching it, against obstore with as many ranged GETs of the same size."""
    size = context.sizes.cold_bytes
    buffer = bytearray(READ_BYTES)
    with mounted(context) as store, ThreadPoolExecutor(FETCH_THREADS) as pool:
        obstore.put(store, LARGE, b"".join(random_chunks(size)))
        path = f"{MOUNT}/{LARGE}"
        context.fs.stat(path)

        def ours() -> None:
            with context.fs.open(path, "rb") as source:
                _whole(drain(source, buffer), size)

        def one_range(offset: int) -> int:
            return len(obstore.get_range(store, LARGE, start=offset, end=min(size, offset + FETCH_BYTES)))

        def theirs() -> None:
            _whole(sum(pool.map(one_range, range(0, size, FETCH_BYTES))), size)

        mine, other = median_pair(ours, theirs, context.sizes.repeats, before_ours=lambda: context.fs.free(path))
    row = Row(
        work="cold read of a large object", unit="GB/s", isotach=size / GB / mine, baseline=size / GB / other,
        against=f"obstore, {FETCH_THREADS} ranged GETs", judged=Judged.RATIO, target=0.9,
    )  # fmt: skip
    return [row]


def small_files(context: BenchContext) -> list[Row]:
    """Opening, reading and closing many small files that are cached, against getting them from S3 one by one."""
    sizes = context.sizes
    with mounted(context) as store:
        names = [f"small/{number // 1000:03}/{number:06}" for number in range(sizes.small_files)]
        fill_store(store, names, sizes.small_file_bytes)
        paths = [f"{MOUNT}/{name}" for name in names]
        read_all = _reader(context, paths, sizes.small_file_bytes)
        read_all()  # caches them
        mine = len(paths) / median_seconds(read_all, sizes.repeats)
        sample = names[: sizes.small_files_from_s3]
        other = len(sample) / seconds(lambda: [obstore.get(store, name).bytes() for name in sample])
    work = f"open+read+close of {sizes.small_files:,} hot files of {sizes.small_file_bytes // 1000} KB"
    return [
        Row(work=work, unit="files/s", isotach=mine, judged=Judged.AT_LEAST, target=8_000),
        Row(
            work="the same against S3", unit="files/s", isotach=mine, baseline=other, against="one by one from S3",
            judged=Judged.RATIO, target=20,
        ),
    ]  # fmt: skip


def _reader(context: BenchContext, paths: list[str], size: int) -> Callable[[], None]:
    def read_all() -> None:
        for path in paths:
            with context.fs.open(path, "rb") as source:
                _whole(len(source.read()), size)

    return read_all


def fill_store(store: S3Store, names: list[str], size: int) -> None:
    """Puts an object of `size` random bytes under each name."""
    with ThreadPoolExecutor(FETCH_THREADS) as pool:
        chunks = random_chunks(len(names) * size, chunk_bytes=size)
        for _ in pool.map(obstore.put, repeat(store), names, chunks):
            pass


def mounted(context: BenchContext) -> AbstractContextManager[S3Store]:
    """The same in the shared cluster."""
    return mount_in(context.fs, context.s3)


@contextmanager
def mount_in(fs: "isotach.FileSystem", s3: S3Access | None) -> Iterator[S3Store]:
    """The bucket's prefix as a mount and as a plain store; both are gone, and the prefix empty, afterwards."""
    if s3 is None:
        raise ValueError("no S3 was given: pass --s3-bucket, and --s3-endpoint for any but Amazon's")
    store = plain_store(s3)
    fs.mount(MOUNT, s3.uri, options=s3.mount_options)
    try:
        yield store
    finally:
        fs.unmount(MOUNT)
        for page in obstore.list(store):
            obstore.delete(store, [entry["path"] for entry in page])


def plain_store(s3: S3Access) -> S3Store:
    """Obstore's own view of the same prefix."""
    http = bool(s3.endpoint and s3.endpoint.startswith("http://"))
    return S3Store(
        s3.bucket,
        prefix=s3.prefix,
        endpoint=s3.endpoint or f"https://s3.{s3.region}.amazonaws.com",
        access_key_id=s3.access_key_id,
        secret_access_key=s3.secret_access_key,
        region=s3.region,
        virtual_hosted_style_request=s3.endpoint is None,
        client_options={"allow_http": http},
    )


def _whole(got: int, wanted: int) -> None:
    if got != wanted:
        raise AssertionError(f"read {got} of {wanted} bytes")
