"""What a measurement says: one row per promise, and the report that holds them.

Owns: the row, how it is judged, and its JSON and plain-text forms. Pure. Never: measures, prints or draws.
"""

import enum
from collections.abc import Sequence
from typing import Final

import msgspec


class Judged(enum.StrEnum):
    """Which number the target speaks of."""

    RATIO = "ratio"  # Isotach's figure over the baseline's, at least the target
    AT_LEAST = "at_least"  # Isotach's figure itself
    AT_MOST = "at_most"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One promise and what was measured for it."""

    work: str
    unit: str  # of `isotach` and `baseline`
    isotach: float
    judged: Judged
    target: float
    baseline: float | None = None
    against: str = ""  # what the baseline is
    error: str = ""  # why there is no figure; such a row fails

    @property
    def ratio(self) -> float | None:
        """Isotach's figure over the baseline's; None without one."""
        return self.isotach / self.baseline if self.baseline else None

    @property
    def passed(self) -> bool:
        """Whether the target is met."""
        if self.error:
            return False
        if self.judged is Judged.AT_LEAST:
            return self.isotach >= self.target
        if self.judged is Judged.AT_MOST:
            return self.isotach <= self.target
        return self.ratio is not None and self.ratio >= self.target

    @property
    def target_text(self) -> str:
        """The target as people write it."""
        if self.judged is Judged.RATIO:
            return f">= {self.target:g} x"
        sign = ">=" if self.judged is Judged.AT_LEAST else "<="
        return f"{sign} {figure(self.target)} {self.unit}"

    def cells(self) -> tuple[str, ...]:
        """The row for a table, in the order of COLUMNS."""
        if self.error:
            return (self.work, "-", "-", "-", self.target_text, f"FAILED: {self.error}")
        baseline = "-" if self.baseline is None else f"{figure(self.baseline)} {self.unit} ({self.against})"
        ratio = "-" if self.ratio is None else f"{self.ratio:.2f}"
        return (self.work, f"{figure(self.isotach)} {self.unit}", baseline, ratio, self.target_text, self.verdict)

    @property
    def verdict(self) -> str:
        return "met" if self.passed else "missed"


COLUMNS: Final = ("work", "isotach", "baseline", "ratio", "target", "verdict")


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All rows of one run, and the machine that it ran on."""

    rows: list[Row]
    machine: dict[str, str]
    quick: bool

    @property
    def passed(self) -> bool:
        return all(row.passed for row in self.rows)

    def to_json(self) -> bytes:
        """The report with ratios and verdicts written out, for people and programs."""
        rows = [{**msgspec.to_builtins(row), "ratio": row.ratio, "passed": row.passed} for row in self.rows]
        told = {"machine": self.machine, "quick": self.quick, "passed": self.passed, "rows": rows}
        return msgspec.json.format(msgspec.json.encode(told), indent=2)

    def to_text(self) -> str:
        """A table in plain text."""
        return aligned([COLUMNS, *(row.cells() for row in self.rows)])


def figure(value: float) -> str:
    """A number with as many digits as it deserves: three significant ones, thousands separated."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Columns padded to their widest cell."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)
