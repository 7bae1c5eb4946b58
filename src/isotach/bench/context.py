"""What a benchmark is given: a running cluster, a scratch folder, sizes, and perhaps an S3 bucket.

Owns: the sizes of the full and the quick run, and the test data. Never: measures.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

import isotach
from isotach.base.limits import GIB, KIB, MIB

SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 -- the tmpfs that every Linux has
ROOM_FACTOR: Final = 1.25  # what a cache must hold beyond the largest file, for pages in flight


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """How much each benchmark moves."""

    hot_bytes: int = GIB
    cold_bytes: int = 512 * MIB
    small_files: int = 10_000
    small_file_bytes: int = 100_000
    small_files_from_s3: int = 500  # sampled for the one-by-one baseline
    calls: int = 40_000
    creates: int = 20_000
    creates_serial: int = 3_000
    listed: int = 1_000_000
    few: int = 1_000
    many: int = 1_000_000
    repeats: int = 5
    tier_bytes: int = GIB  # the MEM tier over a disk
    tiered_bytes: int = 4 * GIB  # written into it
    tiered_file_bytes: int = 64 * MIB
    hot_files: int = 300  # of small_file_bytes, read while tiers are filled
    hot_seconds: float = 8.0
    through_bytes: int = GIB
    loaded: int = 20_000  # objects of small_file_bytes
    rejoined: int = 1_000_000  # versions that a worker reports


QUICK = Sizes(
    hot_bytes=128 * MIB, cold_bytes=64 * MIB, small_files=1_000, small_files_from_s3=100, calls=8_000, creates=4_000,
    creates_serial=500, listed=20_000, many=20_000, repeats=3, tier_bytes=128 * MIB, tiered_bytes=512 * MIB,
    tiered_file_bytes=16 * MIB, hot_files=100, hot_seconds=2.0, through_bytes=64 * MIB, loaded=600, rejoined=20_000,
)  # fmt: skip


class S3Access(msgspec.Struct, frozen=True, kw_only=True):
    """A bucket that the benchmark may fill below `prefix`, and empties again."""

    bucket: str
    endpoint: str | None = None
    access_key_id: str = ""
    secret_access_key: str = ""
    region: str = "us-east-1"
    prefix: str = "isotach-bench"

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    @property
    def mount_options(self) -> dict[str, str]:
        """As `fs.mount` takes them; empty values are left out."""
        told = {
            "endpoint": self.endpoint or "",
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
            "region": self.region,
        }
        return {key: value for key, value in told.items() if value}


class BenchContext:
    """A cluster of its own, started for the benchmark, with a blocking client."""

    def __init__(self, cluster: "isotach.Cluster", folder: Path, sizes: Sizes, s3: S3Access | None) -> None:
        self.cluster = cluster
        self.folder = folder  # on a disk
        self.sizes = sizes
        self.s3 = s3
        self.fs = isotach.connect(cluster.address)

    @contextmanager
    def own_cluster(self, name: str, **options: Any) -> "Iterator[isotach.Cluster]":
        """Another cluster beside the shared one, for benchmarks that need tiers or workers of their own; `options` as
        of `isotach.start`. Nothing of it is left."""
        folder = self.folder / name
        with self.tmpfs_folder() as memory:
            try:
                with isotach.start(dir=folder, worker__mem_dir=memory / "mem", **options) as cluster:
                    yield cluster
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def tmpfs_folder(self) -> Iterator[Path]:
        """A folder in memory, for baselines: where POSIX shared memory is."""
        with tempfile.TemporaryDirectory(prefix="isotach-bench-", dir=SHARED_MEMORY) as name:
            yield Path(name)

    @contextmanager
    def hot_pair(self, path: str) -> Iterator[Path]:
        """The same random bytes in Isotach's memory at `path` and in a plain tmpfs file, which is given."""
        with self.tmpfs_folder() as folder:
            plain = folder / "plain"
            with self.fs.open(path, "wb", write_type="MUST_CACHE") as target, plain.open("wb") as copy:
                for chunk in random_chunks(self.sizes.hot_bytes):
                    target.write(chunk)
                    copy.write(chunk)
            try:
                yield plain
            finally:
                self.fs.remove(path)


@contextmanager
def bench_context(folder: Path | None, sizes: Sizes, s3: S3Access | None) -> Iterator[BenchContext]:
    """Starts a cluster in `folder` (default: a temporary one) with room for the largest benchmark; stops it after."""
    with tempfile.TemporaryDirectory(prefix="isotach-bench-", dir=folder) as name:
        small = sizes.small_files * sizes.small_file_bytes
        room = int(max(sizes.hot_bytes, sizes.cold_bytes, small) * ROOM_FACTOR)
        check_room(room + sizes.hot_bytes)
        with (
            tempfile.TemporaryDirectory(prefix="isotach-bench-", dir=SHARED_MEMORY) as memory,
            isotach.start(dir=name, mem=str(room), worker__mem_dir=f"{memory}/mem") as cluster,
        ):
            context = BenchContext(cluster, Path(name), sizes, s3)
            try:
                yield context
            finally:
                context.fs.close()


def check_room(wanted_bytes: int) -> None:
    """Raises OSError(ENOSPC) before the start rather than in the middle when memory cannot hold the data."""
    free = shutil.disk_usage(SHARED_MEMORY).free
    if free < wanted_bytes:
        told = f"{SHARED_MEMORY} has {free // MIB} MiB free, the benchmark needs {wanted_bytes // MIB}: use --quick"
        raise OSError(errno.ENOSPC, told)


def random_chunks(total: int, chunk_bytes: int = 8 * MIB) -> Iterator[bytes]:
    """Random bytes in chunks, each of them different, made from one pool so that making them costs little."""
    pool = os.urandom(chunk_bytes + 64 * KIB)
    done, number = 0, 0
    while done < total:
        size = min(chunk_bytes, total - done)
        shift = number % (64 * KIB)
        yield pool[shift : shift + size]
        done += size
        number += 1
