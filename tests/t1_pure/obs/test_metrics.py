"""Tests of counting and of the Prometheus page, judged by Prometheus' own parser.

Owns: what a scrape shows. Never: opens a socket.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from isotach.obs.catalogue import CATALOGUE
from isotach.obs.metrics import Metrics

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples_of(metrics: Metrics) -> Samples:
    families = text_string_to_metric_families(metrics.render().decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value_of(metrics: Metrics, name: str, **labels: str) -> float:
    return samples_of(metrics)[name, frozenset(labels.items())]


def test_cells_are_shown_with_their_labels() -> None:
    metrics = Metrics("master")
    metrics.counter("rpc_calls", method="stat").add()
    metrics.counter("rpc_calls", method="stat").add(2)
    metrics.gauge("workers", state="live").set(4)
    metrics.gauge("workers", state="live").add(-1)

    assert value_of(metrics, "isotach_master_rpc_calls_total", method="stat") == 3
    assert value_of(metrics, "isotach_master_workers", state="live") == 3


@given(st.lists(st.floats(0, 20, allow_nan=False)))
def test_a_histogram_counts_every_value_once(values: list[float]) -> None:
    metrics = Metrics("master")
    histogram = metrics.histogram("commit_seconds")
    for value in values:
        histogram.observe(value)
    name = "isotach_master_commit_seconds"

    assert value_of(metrics, f"{name}_count") == len(values)
    assert value_of(metrics, f"{name}_sum") == pytest.approx(sum(values))
    for bound in histogram.bounds:
        assert value_of(metrics, f"{name}_bucket", le=repr(bound)) == sum(value <= bound for value in values)


def test_watched_values_are_read_when_asked_for() -> None:
    metrics = Metrics("worker")
    values = {("MEM",): 1.0}
    metrics.watch("connections", lambda: len(values))
    metrics.watch_labelled("used_bytes", lambda: values)
    values["SSD",] = 2.0

    assert value_of(metrics, "isotach_worker_connections") == 2
    assert value_of(metrics, "isotach_worker_used_bytes", tier="SSD") == 2


def test_a_broken_gauge_leaves_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = Metrics("worker")
    metrics.watch("connections", lambda: 1 // 0)
    metrics.counter("fetches").add()

    assert value_of(metrics, "isotach_worker_fetches_total") == 1
    assert "metric_not_readable" in capsys.readouterr().err


@given(st.dictionaries(st.text(max_size=8), st.integers(0, 1 << 40), max_size=5))
def test_snapshots_of_other_processes_are_shown_beside_our_own(calls: dict[str, int]) -> None:
    reader, metrics = Metrics("master"), Metrics("master", process="writer")
    reader.histogram("rpc_seconds").observe(0.5)
    for method, count in calls.items():
        reader.counter("rpc_calls", method=method).add(count)
    metrics.counter("rpc_calls", method="stat").add(7)
    metrics.merge_snapshot("reader-0", reader.render_snapshot())

    name = "isotach_master_rpc_calls_total"
    assert value_of(metrics, name, method="stat", process="writer") == 7
    assert value_of(metrics, "isotach_master_rpc_seconds_count", process="reader-0") == 1
    for method, count in calls.items():
        assert value_of(metrics, name, method=method, process="reader-0") == count
    metrics.drop_snapshot("reader-0")
    assert not any(("process", "reader-0") in labels for _, labels in samples_of(metrics))


def test_undeclared_names_and_labels_are_our_bug() -> None:
    metrics = Metrics("master")

    with pytest.raises(KeyError):
        metrics.counter("nonsense")
    with pytest.raises(TypeError, match="is a counter, not a gauge"):
        metrics.gauge("batches")
    with pytest.raises(TypeError, match="takes the labels"):
        metrics.counter("rpc_calls")


@pytest.mark.parametrize("component", CATALOGUE)
def test_the_catalogue_is_complete_and_unambiguous(component: str) -> None:
    declared = CATALOGUE[component]

    assert len({each.name for each in declared}) == len(declared)
    assert [each.name for each in declared if not each.help.endswith(".")] == []
    assert [each.name for each in declared if each.name.endswith(("_total", "_count", "_sum", "_bucket"))] == []
    assert [each.name for each in declared if (each.kind == "histogram") != bool(each.buckets)] == []
    assert f"isotach_{component}_{declared[0].name}" in Metrics(component).render().decode()
