"""Timing: medians of interleaved runs, so that a noisy neighbour hits both sides alike.

Owns: how often and in which order things are run. Never: knows what it times.
"""

import statistics
import time
from collections.abc import Callable, Sequence

Action = Callable[[], object]


def seconds(action: Action) -> float:
    """The wall time of one run."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of all values do not exceed. Raises ValueError when there are none."""
    if not values:
        raise ValueError("no value was measured")
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def latencies_until(action: Action, is_over: Callable[[], bool]) -> list[float]:
    """The wall time of each run of `action`, one after the other, until it is over: looked at between runs."""
    taken = []
    while not is_over():
        taken.append(seconds(action))
    return taken


def latencies_for(action: Action, duration_s: float) -> list[float]:
    """The same for so long."""
    end = time.perf_counter() + duration_s
    return latencies_until(action, lambda: time.perf_counter() >= end)


def median_seconds(action: Action, repeats: int, before: Action | None = None) -> float:
    """The median of `repeats` runs; `before` runs untimed ahead of each."""
    return statistics.median(_one(action, before) for _ in range(repeats))


def median_pair(
    ours: Action,
    theirs: Action,
    repeats: int,
    before_ours: Action | None = None,
    before_theirs: Action | None = None,
) -> tuple[float, float]:
    """The medians in seconds of both, run in turns: A B A B; what comes before is not timed. One untimed round warms
    both up."""
    _one(ours, before_ours)
    _one(theirs, before_theirs)
    pairs = [(_one(ours, before_ours), _one(theirs, before_theirs)) for _ in range(repeats)]
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)


def _one(action: Action, before: Action | None) -> float:
    if before is not None:
        before()
    return seconds(action)
