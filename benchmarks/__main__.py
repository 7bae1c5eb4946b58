"""`python -m benchmarks`: every row of the speed table, on a SeaweedFS of its own. `policies` and `fuse` alone: their
own tables.

Owns: the flags, the S3 server's life, the terminal's table and the files in benchmarks/results/. Never: measures.
Exits with 1 when a target is missed.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import fuse, policies
from isotach.bench import Report, Row, S3Access, names, run_suite
from isotach.bench.plot import draw
from isotach.bench.result import COLUMNS
from isotach.testing.seaweed import SeaweedServer

RESULTS = Path(__file__).resolve().parent / "results"
BUCKET = "benchmarks"


def main() -> int:
    """Parses the flags, runs, reports; returns the exit code."""
    if sys.argv[1:2] == ["policies"]:
        return policies.main(sys.argv[2:], RESULTS)
    if sys.argv[1:2] == ["fuse"]:
        return fuse.main(sys.argv[2:], RESULTS)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Isotach against the plain thing")
    parser.add_argument("only", nargs="*", metavar="name", help=f"which to run (all): {', '.join(names())}")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it work, not how fast is it")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file and the plot")
    options = parser.parse_args()
    console = Console()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="isotach-bench-s3-") as folder, SeaweedServer.start(folder) as server:
        server.create_bucket(BUCKET)
        s3 = S3Access(
            bucket=BUCKET,
            endpoint=server.endpoint,
            access_key_id=server.access_key,
            secret_access_key=server.secret_key,
        )
        report = run_suite(only=options.only, quick=options.quick, s3=s3, progress=Progress(console))
    show(report, console)
    write(report, options.results)
    console.print(f"{time.monotonic() - started:.0f} s; wrote bench.json and bench.png in {options.results}")
    return 0 if report.passed else 1


class Progress:
    """Says what runs now, and how long each benchmark took."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = 0.0

    def __call__(self, name: str, rows: list[Row] | None) -> None:
        if rows is None:
            self._started = time.monotonic()
            self._console.print(f"{name} ...", end=" ")
        else:
            self._console.print(f"{time.monotonic() - self._started:.1f} s")


def show(report: Report, console: Console) -> None:
    """A coloured table on a terminal, aligned plain text in a pipe."""
    if not console.is_terminal:
        print(report.to_text())
        return
    table = Table(*COLUMNS, title="Isotach bench" + (" (quick)" if report.quick else ""))
    for row in report.rows:
        table.add_row(*row.cells(), style="green" if row.passed else "red")
    console.print(table)


def write(report: Report, folder: Path) -> None:
    """The JSON file and the plot."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.json").write_bytes(report.to_json())
    draw(report, folder / "bench.png")


if __name__ == "__main__":
    sys.exit(main())
