"""The pictures: how each row of a report stands to its target, and the hit ratios of the eviction policies.

Owns: the two plots; matplotlib is loaded only when one is drawn. Never: measures.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from isotach.bench.policies import DEFAULT, PolicyTable
from isotach.bench.posix import OURS, PosixRow
from isotach.bench.result import Judged, Report, Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(report: Report, target: Path) -> None:
    """Writes a PNG. Raises ImportError that says how to get matplotlib."""
    rows = [row for row in report.rows if not row.error][::-1]
    picture = _figure(1 + 0.5 * len(rows))
    axes = picture.add_subplot()
    colours = ["#2f7d5b" if row.passed else "#b5493b" for row in rows]
    bars = axes.barh([row.work for row in rows], [attainment(row) for row in rows], color=colours)
    axes.bar_label(bars, [" " + row.cells()[1] for row in rows], fontsize=8)
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.margins(x=0.25)
    axes.set_xlabel("times the target (right of the line: met)")
    axes.set_title("Isotach: measured against its targets" + (" (quick run)" if report.quick else ""))
    picture.savefig(target, dpi=120)


def attainment(row: Row) -> float:
    """How many times the target is reached; for an upper bound, how many times below it the figure stays."""
    if row.judged is Judged.AT_MOST:
        return row.target / max(row.isotach, row.target / 100)
    value = row.ratio if row.judged is Judged.RATIO else row.isotach
    return max((value or 0) / row.target, 0.001)


_MARKS = {"LRU": "v", "LRFU": "1", "S3FIFO": "s", "SIEVE": "^", "WTINYLFU": "D", "EPOCH": "P", DEFAULT: "o"}


def draw_policies(table: PolicyTable, target: Path) -> None:
    """Writes a PNG or SVG, by the name: one line per trace, one mark per policy. Raises ImportError as `draw` does."""
    lines = table.lines[::-1]
    places = range(len(lines))
    picture = _figure(1.5 + 0.35 * len(lines))
    axes = picture.add_subplot()
    axes.hlines(places, 0, [100 * line.belady.of_bytes for line in lines], color="#dddddd", zorder=1)
    for name, mark in _MARKS.items():
        shares = [100 * line.ours[name].of_bytes for line in lines]
        emphasis = {"s": 90, "color": "#b5493b"} if name == DEFAULT else {"s": 35}
        axes.scatter(shares, places, marker=mark, label=name, zorder=3 if name == DEFAULT else 2, **emphasis)
    best = [100 * line.best[1] for line in lines]
    axes.scatter(best, places, marker="|", s=260, color="black", label="best known", zorder=4)
    optimum = [100 * line.belady.of_bytes for line in lines]
    axes.scatter(optimum, places, marker="x", s=35, color="#888888", label="Belady (knows the future)", zorder=2)
    axes.set_yticks(places, [line.trace for line in lines])
    axes.set_xlabel("bytes read from the cache, %")
    axes.set_title("Isotach: eviction policies by trace")
    picture.legend(loc="outside lower center", ncols=5, fontsize=8)
    picture.savefig(target, dpi=120)


def draw_posix(rows: Sequence[PosixRow], target: Path) -> None:
    """Writes a PNG: for each work how fast each mount is, ours being 1. Raises ImportError as `draw` does."""
    shown = list(rows)[::-1]
    names = list(dict.fromkeys(name for row in rows for name in row.figures))
    picture = _figure(1.5 + 0.2 * len(names) * len(shown))
    axes = picture.add_subplot()
    height = 0.8 / len(names)
    for place, name in enumerate(names):
        having = [(at, row.figures[name] / row.figures[OURS]) for at, row in enumerate(shown) if name in row.figures]
        bars = axes.barh([at - place * height for at, _ in having], [share for _, share in having], height, label=name)
        axes.bar_label(bars, [f" {shown[at].figures[name]:,.3g} {shown[at].unit}" for at, _ in having], fontsize=7)
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.margins(x=0.25)
    axes.set_yticks(range(len(shown)), [row.work for row in shown])
    axes.set_xlabel("speed, Isotach being 1")
    axes.set_title("Isotach as a folder, beside others in one run")
    axes.legend(fontsize=8)
    picture.savefig(target, dpi=120)


def _figure(height: float) -> "Figure":
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("matplotlib is not installed; get it with: pip install 'isotach[bench]'") from error
    picture = Figure(figsize=(10, height), layout="constrained")
    FigureCanvasAgg(picture)
    return picture
