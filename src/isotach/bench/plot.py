"""The picture of a report: how each row stands to its target.

Owns: the one plot; matplotlib is loaded only when it is drawn. Never: measures.
"""

from pathlib import Path

from isotach.bench.result import Judged, Report, Row


def draw(report: Report, target: Path) -> None:
    """Writes a PNG. Raises ImportError that says how to get matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("matplotlib is not installed; get it with: pip install 'isotach[bench]'") from error
    rows = [row for row in report.rows if not row.error][::-1]
    picture = Figure(figsize=(10, 1 + 0.5 * len(rows)), layout="constrained")
    FigureCanvasAgg(picture)
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
