"""The report of a benchmark: how rows are judged, and what a reader of it sees.

Owns: the judgement and the forms of a report. The figures are made up; nothing is measured.
"""

import json
from pathlib import Path

import pytest

from isotach.bench.measure import median_pair, median_seconds
from isotach.bench.plot import attainment, draw
from isotach.bench.result import Judged, Report, Row, figure
from isotach.bench.suite import names, run_suite


def row(judged: Judged = Judged.RATIO, **changes: object) -> Row:
    fields = {"work": "hot read", "unit": "GB/s", "isotach": 9.5, "judged": judged, "target": 0.9, **changes}
    return Row(**fields)


def report(*rows: Row) -> Report:
    return Report(rows=list(rows), machine={"cpus": "2"}, quick=True)


@pytest.mark.parametrize(
    ("judged", "isotach", "baseline", "target", "passed"),
    [
        (Judged.RATIO, 9.0, 10.0, 0.9, True),
        (Judged.RATIO, 8.9, 10.0, 0.9, False),
        (Judged.RATIO, 8.9, None, 0.9, False),
        (Judged.AT_LEAST, 8_000, None, 8_000, True),
        (Judged.AT_LEAST, 7_999, None, 8_000, False),
        (Judged.AT_MOST, 200, None, 200, True),
        (Judged.AT_MOST, 201, None, 200, False),
    ],
)
def test_a_row_is_judged_by_its_target(
    judged: Judged, isotach: float, baseline: float | None, target: float, passed: bool
) -> None:
    judged_row = row(judged, isotach=isotach, baseline=baseline, target=target)

    assert judged_row.passed is passed
    assert (attainment(judged_row) >= 1) is passed


def test_a_failed_measurement_fails_the_report_and_says_why() -> None:
    failed = row(Judged.AT_LEAST, target=0, error="OSError: no room")

    assert not report(row(baseline=9.0), failed).passed
    assert "FAILED: OSError: no room" in report(failed).to_text()


def test_the_json_holds_ratios_and_verdicts() -> None:
    told = json.loads(report(row(baseline=10.0)).to_json())

    assert told["rows"][0]["ratio"] == 0.95
    assert (told["passed"], told["quick"], told["machine"]) == (True, True, {"cpus": "2"})


def test_the_text_is_aligned() -> None:
    lines = (
        report(row(baseline=10.0, against="plain file"), row(work="a much longer name of work")).to_text().splitlines()
    )

    assert len(lines) == 3
    assert len({line.index(word) for line, word in zip(lines, ("isotach", "9.5", "9.5"), strict=True)}) == 1


@pytest.mark.parametrize(("value", "text"), [(123456.7, "123,457"), (99.96, "100"), (9.512, "9.51"), (0, "0")])
def test_figures_have_the_digits_they_deserve(value: float, text: str) -> None:
    assert figure(value) == text


def test_runs_alternate_and_the_first_round_only_warms_up() -> None:
    calls: list[str] = []
    median_pair(lambda: calls.append("ours"), lambda: calls.append("theirs"), 2, lambda: calls.append("before"))

    assert calls == ["before", "ours", "theirs"] * 3


def test_the_median_is_over_all_repeats() -> None:
    calls: list[int] = []
    median_seconds(lambda: calls.append(1), 3)

    assert len(calls) == 3


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    target = tmp_path / "bench.png"
    draw(report(row(baseline=10.0), row(Judged.AT_MOST, isotach=0, target=50), row(error="broken")), target)

    assert target.read_bytes().startswith(b"\x89PNG")


def test_an_unknown_name_is_refused_before_anything_starts() -> None:
    with pytest.raises(ValueError, match="there are: " + ", ".join(names())):
        run_suite(only=["no-such"])
