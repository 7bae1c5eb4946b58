"""`python -m benchmarks fuse`: the mount beside tmpfs, JuiceFS (with Redis) and `rclone mount`, in one run.

Owns: starting and ending all of them, the terminal's table, the JSON file and the plot. Never: measures (the loops are
`isotach.bench.posix_peer`). Needs root, FUSE, and room for the data in shared memory; peers that are not installed are
left out, and it says so. Exits with 1 when a target is missed.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import msgspec
import obstore
from rich.console import Console
from rich.table import Table

import isotach
from isotach.base.limits import FETCH_BYTES, FETCH_THREADS, MIB
from isotach.bench import posix
from isotach.bench.cold import plain_store
from isotach.bench.context import SHARED_MEMORY, S3Access, random_chunks
from isotach.bench.plot import draw_posix
from isotach.bench.posix import QUICK, PosixRow, PosixSizes
from isotach.bench.result import aligned
from isotach.testing import other_mounts
from isotach.testing.fuse import mounted
from isotach.testing.seaweed import SeaweedServer

BUCKET: Final = "benchmarks"
OTHERS: Final = (posix.TMPFS, "juicefs", "rclone")
WORKS: Final = ("large", "small", "entries", "write", "mapped", "cold")


class Bench:
    """All that is mounted, and the works on it."""

    def __init__(self, sizes: PosixSizes, stack: ExitStack) -> None:
        self.sizes = sizes
        self.stack = stack
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="isotach-bench-")))
        memory = stack.enter_context(tempfile.TemporaryDirectory(prefix="isotach-bench-", dir=SHARED_MEMORY))
        self.memory = Path(memory)
        room = max(2 * sizes.large_bytes, sizes.mapped_bytes, sizes.small_files * sizes.small_bytes)
        self.server = stack.enter_context(SeaweedServer.start(str(self.folder / "s3")))
        self.server.create_bucket(BUCKET)
        self.cluster = stack.enter_context(
            isotach.start(
                dir=self.folder / "isotach", mem=f"{int(room * 1.3) // MIB}MiB", worker__mem_dir=self.memory / "mem"
            )
        )
        self.plain = self.memory / "plain"
        self.plain.mkdir()
        self.ours = stack.enter_context(mounted(self.cluster, self.folder / "mount", write_type="MUST_CACHE"))

    def peers(self) -> dict[str, Path]:
        """The other mounts that this machine can have."""
        missing = other_mounts.is_missing()
        found = {posix.TMPFS: self.plain}
        if "juicefs" not in missing:
            found["juicefs"] = self.stack.enter_context(other_mounts.juicefs(self.folder, self.memory))
        if "rclone" not in missing:
            found["rclone"] = self.stack.enter_context(
                other_mounts.rclone(self.folder, self.memory, self.server, BUCKET)
            )
        return found

    def mount_again(self, name: str, option: str, value: object) -> Path:
        """The same namespace at another place, with another option."""
        options: dict[str, Any] = {"write_type": "MUST_CACHE", option: value}
        return self.stack.enter_context(mounted(self.cluster, self.folder / name, **options))

    def cold(self) -> Iterator[PosixRow]:
        """The first read of an object in S3, against the same S3 library with as many ranged requests."""
        size = self.sizes.large_bytes // 2
        access = S3Access(
            bucket=BUCKET,
            endpoint=self.server.endpoint,
            access_key_id=self.server.access_key,
            secret_access_key=self.server.secret_key,
            prefix="cold",
        )
        store = plain_store(access)
        obstore.put(store, "cold", b"".join(random_chunks(size)))

        def one_range(offset: int) -> int:
            return len(obstore.get_range(store, "cold", start=offset, end=min(size, offset + FETCH_BYTES)))

        ours, theirs = [], []
        with isotach.connect(self.cluster.address) as fs, ThreadPoolExecutor(FETCH_THREADS) as pool:
            fs.mount("/s3", access.uri, access.mount_options)
            for _ in range(self.sizes.repeats):
                fs.free("/s3/cold")
                forget()
                ours.append(posix.figure("sequential", self.ours / "s3" / "cold"))
                started = time.perf_counter()
                assert sum(pool.map(one_range, range(0, size, FETCH_BYTES))) == size
                theirs.append(size / (time.perf_counter() - started))
            fs.unmount("/s3")
        figures = {posix.OURS: statistics.median(ours) / 1e9, "obstore": statistics.median(theirs) / 1e9}
        yield PosixRow(work="cold sequential read from S3", unit="GB/s", figures=figures, targets={"obstore": 0.9})


def forget() -> None:
    """Empties the kernel's caches of names, attributes and pages."""
    Path("/proc/sys/vm/drop_caches").write_text("3")


def run(bench: Bench, only: list[str], say: Callable[[str], None]) -> list[PosixRow]:
    """The works one after the other."""
    sizes = bench.sizes
    others = bench.peers()
    folders = {posix.OURS: bench.ours, **others}
    without_rclone = {name: folder for name, folder in folders.items() if name != "rclone"}
    plain_only = {posix.OURS: bench.ours, posix.TMPFS: bench.plain}
    works: dict[str, Callable[[], Iterator[PosixRow]]] = {
        "large": lambda: posix.large_file(folders, sizes),
        "small": lambda: posix.small_files(
            {**without_rclone, "training": bench.mount_again("training", "training", True)}, sizes
        ),
        "entries": lambda: posix.entries(without_rclone, sizes, forget),
        "write": lambda: posix.writes(
            {**without_rclone, "passthrough": bench.mount_again("kernel", "write_passthrough", "on")}, sizes
        ),
        "mapped": lambda: posix.mapped(plain_only, sizes),
        "cold": bench.cold,
    }
    rows: list[PosixRow] = []
    for name, work in works.items():
        if not only or name in only:
            started = time.monotonic()
            rows += work()
            say(f"{name}: {time.monotonic() - started:.1f} s")
    return rows


def main(arguments: list[str], results: Path) -> int:
    """Parses the flags, runs, reports; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks fuse", description="the mount beside others")
    parser.add_argument("only", nargs="*", metavar="work", help=f"which to run (all): {', '.join(WORKS)}")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it work, not how fast is it")
    parser.add_argument("--results", type=Path, default=results, help="folder of the JSON file and the plot")
    options = parser.parse_args(arguments)
    console = Console()
    for name, why in other_mounts.is_missing().items():
        console.print(f"without {name}: {why}")
    with ExitStack() as stack:
        rows = run(Bench(QUICK if options.quick else PosixSizes(), stack), options.only, console.print)
    show(rows, console)
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "fuse.json").write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=2))
    draw_posix(rows, options.results / "fuse.png")
    console.print(f"wrote fuse.json and fuse.png in {options.results}")
    return 0 if all(row.passed for row in rows) else 1


def show(rows: list[PosixRow], console: Console) -> None:
    """A coloured table on a terminal, aligned plain text in a pipe."""
    lines = posix.as_cells(rows, OTHERS)
    if not console.is_terminal:
        print(aligned(lines))
        return
    table = Table(*lines[0], title="Isotach as a folder")
    for row, line in zip(rows, lines[1:], strict=True):
        table.add_row(*line, style="green" if row.passed else "red")
    console.print(table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path(__file__).resolve().parent / "results"))
