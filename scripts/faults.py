"""`make faults`: runs every test that breaks something on purpose, and makes the table of faults and outcomes.

Owns: the runs and the table in `docs/faults.md`. Never: decides what is right; the tests do.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "faults.md"
BEGIN, END = "<!-- table: make faults -->", "<!-- end of the table -->"


class FaultTable:
    """A pytest plugin: counts the runs of each `fault` mark and whether they held."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], list[str]] = {}
        self._marks: dict[str, tuple[str, str]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Remembers which test is of which fault."""
        for item in items:
            for mark in item.iter_markers("fault"):
                self._marks[item.nodeid] = (str(mark.args[0]), str(mark.args[1]))

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Notes one outcome: of the call, or of a set-up that did not get that far."""
        mark = self._marks.get(report.nodeid)
        if mark is not None and (report.when == "call" or report.outcome != "passed"):
            self.rows.setdefault(mark, []).append(report.outcome)

    def lines(self) -> Iterator[str]:
        """The table in Markdown."""
        yield "| fault | runs | held | what happens |"
        yield "|---|---|---|---|"
        for (what, outcome), results in self.rows.items():
            runs = [result for result in results if result != "skipped"]
            held = f"{runs.count('passed')} of {len(runs)}" if runs else "skipped here"
            yield f"| {what} | {len(runs)} | {held} | {outcome} |"


def main() -> int:
    """Parses the arguments, runs the tests, prints or writes the table; returns pytest's exit code."""
    parser = argparse.ArgumentParser(description="Runs the fault tests and tables their outcomes")
    parser.add_argument("--rounds", type=int, default=1, help="how often each test runs (1)")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.relative_to(ROOT)}")
    parser.add_argument("tests", nargs="*", default=["tests/t5_system"], help="where to look (tests/t5_system)")
    given = parser.parse_args()
    table = FaultTable()
    code = 0
    for _ in range(given.rounds):
        arguments = ["-q", "-m", "fault", "--durations=0", "--durations-min=10", *given.tests]
        code = int(pytest.main(arguments, plugins=[table])) or code
    text = "\n".join(table.lines())
    print(text)
    if given.write:
        _write(text)
    return code


def _write(text: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    PAGE.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
