"""`make demo`: a real S3 bucket and a local folder in one namespace, cold and hot, with the speeds side by side.

Owns: the story, its data (real files of this machine, never zeros) and its clean-up. Exits with 1 when any byte
differs from what was stored. Never: leaves a process or a file behind.
"""

import hashlib
import shutil
import signal
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import boto3
from botocore.config import Config
from demo_stage import Stage

import isotach
from isotach.testing.seaweed import SeaweedServer, find_weed

BUCKET = "demo"
MIB = 1 << 20
LARGE_MIN = 8 * MIB
LARGE_FILES_MAX = 6
SMALL_FILES_MAX = 1_500
SMALL_FILE_BYTES_MAX = 256 << 10
TOTAL_BYTES_MIN = 200 * MIB
CACHE = "1GiB"
READ_BYTES = MIB

Objects = dict[str, Path]
Digests = dict[str, bytes]


def main() -> int:
    """Tells the story from start to end; returns the exit code."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that it cleans up then, too
    stage = Stage()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="isotach-demo-") as name:
        folder = Path(name)
        objects = choose_files()
        stage.title("A real S3 server, filled by a plain S3 client")
        with SeaweedServer.start(folder / "seaweed") as server:
            s3 = s3_client(server)
            fill_bucket(s3, server, objects, stage)
            local = fill_local_folder(folder / "photos")
            stage.title("Isotach, standalone: a master and a worker on this machine")
            with standalone(folder / "isotach") as cluster:
                stage.say(f"up at {cluster.address}, {CACHE} of memory for the cache")
                wrong = tell(cluster, server, s3, objects, local, stage)
    stage.title("Done")
    stage.say(f"{time.monotonic() - started:.0f} s; everything stopped and removed")
    if wrong:
        stage.say(f"WRONG BYTES in: {', '.join(wrong[:10])}")
    return 1 if wrong else 0


@contextmanager
def standalone(folder: Path) -> Iterator[isotach.Cluster]:
    """A cluster of which nothing stays: stopping one keeps its cache in memory for the next start."""
    cluster = isotach.start(dir=folder, mem=CACHE)
    try:
        with cluster:
            yield cluster
    finally:
        shutil.rmtree(cluster.settings.worker.mem_dir, ignore_errors=True)


def tell(
    cluster: isotach.Cluster, server: SeaweedServer, s3: "S3", objects: Objects, local: Objects, stage: Stage
) -> list[str]:
    """Mounts, reads cold and hot, writes; returns the paths whose bytes were not what they must be."""
    fs = isotach.connect(cluster.address)
    try:
        stage.title("Two storages, one namespace")
        fs.mount("/s3", f"s3://{BUCKET}", options=server.options())
        fs.mount("/photos", folder_of(local).as_uri(), read_only=True)
        show_namespace(fs, stage)
        stage.title("The first read comes from S3, the second from memory")
        wrong = read_twice(fs, objects, stage)
        wrong += [path for path, source in local.items() if fs.read(f"/photos/{path}") != source.read_bytes()]
        stage.title("A write reaches the bucket")
        wrong += write_through(fs, s3, stage)
        stage.title("Status")
        stage.table(("worker", "tier", "used", "of"), status_rows(fs))
        return wrong
    finally:
        fs.close()


# --------------------------------------------------------------------------------------------------------------- data


def choose_files() -> Objects:
    """At least 200 MB: a few large files and many small ones that the installed packages brought. Key -> file."""
    installed = Path(sysconfig.get_paths()["purelib"])
    files = sorted(path for path in installed.rglob("*") if path.is_file() and not path.is_symlink())
    large = sorted((path for path in files if path.stat().st_size >= LARGE_MIN), key=lambda path: -path.stat().st_size)
    small = [path for path in files if path.suffix == ".py" and 0 < path.stat().st_size <= SMALL_FILE_BYTES_MAX]
    weed = find_weed()
    chosen = {f"large/{path.name}": path for path in [weed, *large[:LARGE_FILES_MAX]]}
    chosen |= {f"small/{path.relative_to(installed)}": path for path in small[:SMALL_FILES_MAX]}
    total = sum(path.stat().st_size for path in chosen.values())
    if total < TOTAL_BYTES_MIN:
        raise SystemExit(f"only {total // MIB} MiB of files found below {installed}; run `make setup` first")
    return chosen


def fill_bucket(s3: "S3", server: SeaweedServer, objects: Objects, stage: Stage) -> None:
    """Uploads with boto3, showing how far it is."""
    server.create_bucket(BUCKET)
    total = sum(path.stat().st_size for path in objects.values())
    stage.say(f"s3://{BUCKET}: {len(objects):,} objects, {total / 1e6:.0f} MB, at {server.endpoint}")
    with stage.progress("uploading", total) as advance:
        for key, path in objects.items():
            s3.upload_file(str(path), BUCKET, key)
            advance(path.stat().st_size)


def fill_local_folder(folder: Path) -> Objects:
    """A folder as any user has one: the sources of this demo."""
    folder.mkdir()
    copies = {}
    for source in sorted(Path(__file__).resolve().parent.glob("*.py")):
        copy = folder / source.name
        copy.write_bytes(source.read_bytes())
        copies[source.name] = copy
    return copies


def folder_of(files: Objects) -> Path:
    return next(iter(files.values())).parent


# -------------------------------------------------------------------------------------------------------------- story


def show_namespace(fs: isotach.FileSystem, stage: Stage) -> None:
    """The root, and what stands below both mounts."""
    stage.table(
        ("path", "from", "access"),
        [(m.path, m.ufs_uri, "read only" if m.read_only else "read, write") for m in fs.mounts()],
    )
    for top in ("/", "/s3/large", "/photos"):
        entries = [f"{info.name}{'/' if info.is_dir else ''}" for info in fs.list(top)]
        stage.say(f"{top}: {', '.join(entries)}")


def read_twice(fs: isotach.FileSystem, objects: Objects, stage: Stage) -> list[str]:
    """Every object cold, then hot; returns those whose bytes differ from their source."""
    large = [key for key in objects if key.startswith("large/")]
    small = [key for key in objects if key.startswith("small/")]
    megabytes = sum(objects[key].stat().st_size for key in large) / 1e6
    groups = (
        (f"{len(large)} large files, {megabytes:.0f} MB", large, megabytes, "MB/s"),
        (f"{len(small):,} small files", small, len(small), "files/s"),
    )
    rows = []
    wrong: list[str] = []
    for name, keys, amount, unit in groups:
        cold_s, cold = timed_read(fs, keys, stage, f"cold: {name}")
        hot_s, hot = timed_read(fs, keys, stage, f"hot: {name}")
        speeds = (f"{amount / cold_s:,.0f} {unit}", f"{amount / hot_s:,.0f} {unit}")
        rows.append((name, *speeds, f"{cold_s / hot_s:.1f} x"))
        truth = {key: hashlib.sha256(objects[key].read_bytes()).digest() for key in keys}
        wrong += [f"/s3/{key}" for key in keys if not truth[key] == cold[key] == hot[key]]
    stage.table(("what", "cold, from S3", "hot, from memory", "faster"), rows)
    stage.say("every byte compared with its source: " + ("DIFFERENT" if wrong else "equal"))
    return wrong


def timed_read(fs: isotach.FileSystem, keys: list[str], stage: Stage, what: str) -> tuple[float, Digests]:
    """Reads each file to the end. The clock runs while reading, not while checking."""
    clock = 0.0
    digests: Digests = {}
    with stage.progress(what, len(keys)) as advance:
        for key in keys:
            digest = hashlib.sha256()
            start = time.perf_counter()
            for chunk in chunks(fs, f"/s3/{key}"):
                clock += time.perf_counter() - start
                digest.update(chunk)
                start = time.perf_counter()
            clock += time.perf_counter() - start
            digests[key] = digest.digest()
            advance(1)
    return clock, digests


def chunks(fs: isotach.FileSystem, path: str) -> Iterator[memoryview]:
    """A file through a plain file object, into one buffer."""
    buffer = memoryview(bytearray(READ_BYTES))
    with fs.open(path, "rb") as source:
        while got := source.readinto(buffer):
            yield buffer[:got]


def write_through(fs: isotach.FileSystem, s3: "S3", stage: Stage) -> list[str]:
    """A file written through Isotach is an object that any S3 client reads."""
    report = b"".join(f"{number},{number * number}\n".encode() for number in range(200_000))
    start = time.perf_counter()
    with fs.open("/s3/results/squares.csv", "wb") as target:
        target.write(report)
    took = time.perf_counter() - start
    stored = s3.get_object(Bucket=BUCKET, Key="results/squares.csv")["Body"].read()
    stage.say(
        f"/s3/results/squares.csv: {len(report) / 1e6:.1f} MB in {took * 1000:.0f} ms; boto3 reads it: "
        + ("equal" if stored == report else "DIFFERENT")
    )
    return [] if stored == report else ["/s3/results/squares.csv"]


def status_rows(fs: isotach.FileSystem) -> list[tuple[str, ...]]:
    """What `isotach status` says of the cache."""
    return [
        (worker.address, tier.alias, f"{tier.used_bytes / 1e6:.0f} MB", f"{tier.capacity_bytes / 1e6:.0f} MB")
        for worker in fs.status().workers
        for tier in worker.tiers
    ]


# ----------------------------------------------------------------------------------------------------------------- S3


class S3(Protocol):
    """The few calls of boto3's client that the demo makes, typed."""

    def upload_file(self, filename: str, bucket: str, key: str, /) -> None: ...

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]: ...  # noqa: N803 -- boto3's own names


def s3_client(server: SeaweedServer) -> S3:
    """boto3, as anyone would set it up."""
    client: S3 = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )
    return client


if __name__ == "__main__":
    sys.exit(main())
