"""Timing: medians of interleaved runs, so that a noisy neighbour hits both sides alike.

Owns: how often and in which order things are run. Never: knows what it times.
"""

import statistics
import time
from collections.abc import Callable

Action = Callable[[], object]


def seconds(action: Action) -> float:
    """The wall time of one run."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def median_seconds(action: Action, repeats: int, before: Action | None = None) -> float:
    """The median of `repeats` runs; `before` runs untimed ahead of each."""
    return statistics.median(_one(action, before) for _ in range(repeats))


def median_pair(ours: Action, theirs: Action, repeats: int, before_ours: Action | None = None) -> tuple[float, float]:
    """The medians in seconds of both, run in turns: A B A B. One untimed round warms both up."""
    _one(ours, before_ours)
    theirs()
    pairs = [(_one(ours, before_ours), seconds(theirs)) for _ in range(repeats)]
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)


def _one(action: Action, before: Action | None) -> float:
    if before is not None:
        before()
    return seconds(action)
