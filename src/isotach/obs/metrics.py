"""Counting, and the exposition of what was counted in Prometheus' text format.

Owns: prometheus-client (imported nowhere else), the cells that hot paths add to, and the merging of what other
processes of the same component counted. Never: a global registry, a lock on a hot path, or a socket (`obs.serve`).

A cell is a plain Python number. `cell.value += n` is one bytecode sequence without a call or a backward jump, where
CPython (3.10 and later, with its lock) never switches threads, so nothing is lost and nothing waits.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from isotach.obs.catalogue import CATALOGUE, Declared
from isotach.obs.log import get_logger

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

log = get_logger("obs.metrics")

#: Gives the value of a counter or gauge when it is asked for.
Read = Callable[[], float]
#: The same for a metric with labels: values by label values, in the declared order of the labels.
ReadLabelled = Callable[[], Mapping[tuple[str, ...], float]]


class Counter:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def add(self, amount: int = 1) -> None:
        """Counts `amount` more."""
        self.value += amount


class Gauge:
    """A number that goes up and down."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def set(self, value: float) -> None:
        """Replaces the value."""
        self.value = value

    def add(self, amount: float = 1) -> None:
        """Changes the value by `amount`, which may be negative."""
        self.value += amount


class Histogram:
    """How often values fell into each bucket."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Counts one value."""
        bucket = bisect_left(self.bounds, value)
        self.counts[bucket] += 1
        self.sum += value


class Metrics:
    """All metrics of one component (`master`, `worker`) in this process.

    A name is looked up once, at start: keep the cell that `counter`, `gauge` or `histogram` gives, and add to it. A
    name or label that the catalogue does not declare is a KeyError or TypeError: our bug, found by the first test.
    """

    def __init__(self, component: str, *, process: str | None = None) -> None:
        """`process` (`reader-0`) becomes a label of every sample, to tell processes of one component apart."""
        self._prefix = f"isotach_{component}_"
        self._declared: dict[str, Declared] = {each.name: each for each in CATALOGUE[component]}
        self._process = process
        self._cells: dict[str, dict[tuple[str, ...], Counter | Gauge | Histogram]] = {}
        self._watched: dict[str, list[ReadLabelled]] = {}
        self._merged: dict[str, Mapping[str, float]] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)
        # Memory, CPU time, open descriptors and garbage collections of the process itself.
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def counter(self, name: str, **labels: str) -> Counter:
        """The cell of a counter; the same one for the same labels."""
        cell = self._cell(name, "counter", labels)
        assert isinstance(cell, Counter)
        return cell

    def gauge(self, name: str, **labels: str) -> Gauge:
        """The cell of a gauge; the same one for the same labels."""
        cell = self._cell(name, "gauge", labels)
        assert isinstance(cell, Gauge)
        return cell

    def histogram(self, name: str, **labels: str) -> Histogram:
        """The cell of a histogram; the same one for the same labels."""
        cell = self._cell(name, "histogram", labels)
        assert isinstance(cell, Histogram)
        return cell

    def watch(self, name: str, read: Read, **labels: str) -> None:
        """Lets `read` give the value of a counter or gauge whenever it is collected."""
        key = self._label_values(self._declared[name], labels)
        self._watched.setdefault(name, []).append(lambda: {key: read()})

    def watch_labelled(self, name: str, read: ReadLabelled) -> None:
        """Lets `read` give all values of a counter or gauge with labels, whenever it is collected."""
        self._watched.setdefault(self._declared[name].name, []).append(read)

    def render(self) -> bytes:
        """The text that `/metrics` answers with."""
        return generate_latest(self._registry)

    def render_snapshot(self) -> dict[str, float]:
        """All samples of this process by name and labels (`name{label="value"}`), to send to the process that serves
        `/metrics`. Plain data; what was merged here is not part of it."""
        return {_sample_key(sample): sample.value for metric in self._own() for sample in metric.samples}

    def merge_snapshot(self, process: str, snapshot: Mapping[str, float]) -> None:
        """Shows another process's snapshot with the label process="..."; the newest replaces the one before."""
        self._merged[process] = dict(snapshot)

    def drop_snapshot(self, process: str) -> None:
        """Forgets a process that is gone."""
        self._merged.pop(process, None)

    def collect(self) -> Iterator[Metric]:
        """What prometheus-client asks its collectors for."""
        metrics = {metric.name: metric for metric in self._own()}
        for process, snapshot in tuple(self._merged.items()):
            for sample in _parse_samples(snapshot):
                metric = metrics.get(_family_of(sample.name, metrics))
                if metric is not None:
                    metric.add_sample(sample.name, {**sample.labels, "process": process}, sample.value)
        return iter(metrics.values())

    def describe(self) -> list[Metric]:
        """Nothing: so that registering does not collect."""
        return []

    def _own(self) -> Iterator[Metric]:
        for declared in self._declared.values():
            metric = Metric(self._prefix + declared.name, declared.help, declared.kind)
            for key, cell in tuple(self._cells.get(declared.name, {}).items()):
                self._add_cell(metric, self._labels(declared, key), cell)
            for read in self._watched.get(declared.name, ()):
                self._add_watched(metric, declared, read)
            yield metric

    def _add_cell(self, metric: Metric, labels: dict[str, str], cell: Counter | Gauge | Histogram) -> None:
        if not isinstance(cell, Histogram):
            metric.add_sample(_value_name(metric), labels, cell.value)
            return
        seen = 0
        bounds = [repr(bound) for bound in cell.bounds] + ["+Inf"]
        for bound, count in zip(bounds, tuple(cell.counts), strict=True):
            seen += count
            metric.add_sample(f"{metric.name}_bucket", {**labels, "le": bound}, seen)
        metric.add_sample(f"{metric.name}_count", labels, seen)
        metric.add_sample(f"{metric.name}_sum", labels, cell.sum)

    def _add_watched(self, metric: Metric, declared: Declared, read: ReadLabelled) -> None:
        try:
            values = read()
        except Exception as error:  # one broken gauge must not take the whole page down
            log.warning("metric_not_readable", metric=metric.name, error=error)
            return
        for key, value in values.items():
            metric.add_sample(_value_name(metric), self._labels(declared, key), value)

    def _labels(self, declared: Declared, key: tuple[str, ...]) -> dict[str, str]:
        labels = dict(zip(declared.labels, key, strict=True))
        return labels if self._process is None else {**labels, "process": self._process}

    def _cell(self, name: str, kind: str, labels: Mapping[str, str]) -> Counter | Gauge | Histogram:
        declared = self._declared[name]
        if declared.kind != kind:
            raise TypeError(f"the metric {name} is a {declared.kind}, not a {kind}")
        cells = self._cells.setdefault(name, {})
        key = self._label_values(declared, labels)
        if key not in cells:
            # setdefault is atomic: two threads that ask at once get the same cell.
            cells.setdefault(key, _new_cell(declared))
        return cells[key]

    @staticmethod
    def _label_values(declared: Declared, labels: Mapping[str, str]) -> tuple[str, ...]:
        if set(labels) != set(declared.labels):
            raise TypeError(f"the metric {declared.name} takes the labels {declared.labels}, not {tuple(labels)}")
        return tuple(labels[label] for label in declared.labels)


def _new_cell(declared: Declared) -> Counter | Gauge | Histogram:
    if declared.kind == "histogram":
        return Histogram(declared.buckets)
    return Counter() if declared.kind == "counter" else Gauge()


def _value_name(metric: Metric) -> str:
    return f"{metric.name}_total" if metric.type == "counter" else metric.name


def _sample_key(sample: Sample) -> str:
    if not sample.labels:
        return sample.name
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in sorted(sample.labels.items()))
    return f"{sample.name}{{{inner}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _parse_samples(snapshot: Mapping[str, float]) -> Iterator[Sample]:
    text = "".join(f"{key} {float(value)!r}\n" for key, value in snapshot.items())
    for family in text_string_to_metric_families(text):
        yield from family.samples


def _family_of(sample_name: str, families: Mapping[str, Metric]) -> str:
    if sample_name in families:
        return sample_name
    base = sample_name.rpartition("_")[0]
    return base if base in families else sample_name
