"""`python -m benchmarks policies`: the hit ratios of all eviction policies, as a table, JSON and a plot.

Owns: the flags, the terminal's table, and the files policies.json and policies.png. Never: measures.
"""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from isotach.bench import libcachesim
from isotach.bench.plot import draw_policies
from isotach.bench.policies import PolicyTable, measure, table_cells, table_columns
from isotach.bench.result import aligned


def main(arguments: list[str], results: Path) -> int:
    """Parses the flags, replays, reports; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks policies", description="Hit ratios on all traces")
    parser.add_argument("--quick", action="store_true", help="a quarter of the reads")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--results", type=Path, default=results, help="folder of the JSON file and the plot")
    options = parser.parse_args(arguments)
    console = Console(stderr=options.json)
    if not libcachesim.is_installed():
        console.print(f"without the comparison: {libcachesim.WHY_MISSING}")
    table = measure(options.quick, lambda line: console.print(f"{line.trace} ..."))
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "policies.json").write_bytes(table.to_json())
    draw_policies(table, options.results / "policies.png")
    if options.json:
        print(table.to_json().decode())
    else:
        show(table, console)
        console.print(f"wrote policies.json and policies.png in {options.results}")
    return 0 if table.passed else 1


def show(table: PolicyTable, console: Console) -> None:
    """A coloured table on a terminal, aligned plain text in a pipe."""
    if not console.is_terminal:
        print(aligned([table_columns(), *(table_cells(line) for line in table.lines)]))
        return
    drawn = Table(*table_columns(), title=f"Hits, % of the bytes of {table.reads:,} reads")
    for line in table.lines:
        drawn.add_row(*table_cells(line), style="green" if line.passed else "red")
    console.print(drawn)
