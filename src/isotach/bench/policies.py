"""Hit ratios of all eviction policies on all traces: by what the default was chosen, and whether it still deserves it.

Owns: the table, its judgement, and its two rows in the report. Never: needs a cluster, or touches a file.

Judged by bytes: a byte that is not cached must be fetched, whichever file it is of. (By files, policies that keep only
small ones win on mixed sizes; both figures are in the JSON.)
"""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from isotach.bench import libcachesim
from isotach.bench.context import QUICK, BenchContext
from isotach.bench.replay import Hits, replay, replay_belady
from isotach.bench.result import Judged, Row
from isotach.bench.traces import READS, Trace, traces
from isotach.conf.settings import KEYS
from isotach.eviction import POLICIES, make

DEFAULT: Final[str] = next(row.key.default for row in KEYS if row.name == "worker.eviction")
BEHIND_MAX: Final = 0.03
_READS_QUICK: Final = READS // 4


class TraceLine(msgspec.Struct, frozen=True):
    """One trace: hits by policy. Theirs are those of libCacheSim; `belady` knew the future."""

    trace: str
    ours: dict[str, Hits]
    theirs: dict[str, Hits]
    belady: Hits

    @property
    def best(self) -> tuple[str, float]:
        """The best policy that does not know the future, ours or theirs, and its share of bytes."""
        known = [(name, hits.of_bytes) for name, hits in self.ours.items()]
        known += [(f"{name} (libCacheSim)", hits.of_bytes) for name, hits in self.theirs.items()]
        return max(known, key=lambda pair: pair[1])

    @property
    def behind(self) -> float:
        """How far the default stays behind the best."""
        return self.best[1] - self.ours[DEFAULT].of_bytes

    @property
    def passed(self) -> bool:
        """Within three points of the best, and above nothing where LRU has nothing."""
        share = self.ours[DEFAULT].of_bytes
        return self.behind <= BEHIND_MAX and (self.ours["LRU"].of_bytes > 0 or share > 0)


class PolicyTable(msgspec.Struct, frozen=True):
    """All traces."""

    lines: list[TraceLine]
    reads: int

    @property
    def passed(self) -> bool:
        return all(line.passed for line in self.lines)

    def to_json(self) -> bytes:
        """With the judgement written out."""
        lines = [
            {
                **msgspec.to_builtins(line),
                "best": line.best[0],
                "behind_points": 100 * line.behind,
                "passed": line.passed,
            }
            for line in self.lines
        ]
        told = {"default": DEFAULT, "reads": self.reads, "passed": self.passed, "traces": lines}
        return msgspec.json.format(msgspec.json.encode(told), indent=2)


def table_columns() -> tuple[str, ...]:
    """The heads of the columns: hits are percent of the bytes read."""
    return ("trace", *POLICIES, "best known", "Belady", "behind", "verdict")


def table_cells(line: TraceLine) -> tuple[str, ...]:
    """One line of the table."""
    ours = (percent(line.ours[name].of_bytes) for name in POLICIES)
    name, share = line.best
    verdict = "met" if line.passed else "missed"
    return (
        line.trace, *ours, f"{percent(share)} {name}", percent(line.belady.of_bytes), percent(line.behind), verdict
    )  # fmt: skip


def percent(share: float) -> str:
    """With one digit after the point."""
    return f"{100 * share:.1f}"


def measure(quick: bool, progress: Callable[[TraceLine], None] = lambda _line: None) -> PolicyTable:
    """Replays everything: two minutes, or a quarter of that when `quick`."""
    reads = _READS_QUICK if quick else READS
    lines = []
    for line in _lines(traces(reads)):
        progress(line)
        lines.append(line)
    return PolicyTable(lines, reads)


def _lines(all_traces: Iterable[Trace]) -> Iterable[TraceLine]:
    for trace in all_traces:
        ours = {name: replay(trace, make(name, trace.cache_bytes)) for name in POLICIES}
        theirs = {}
        if libcachesim.is_installed():
            theirs = {name: libcachesim.replay_there(trace, name) for name in libcachesim.POLICIES}
        yield TraceLine(trace.name, ours, theirs, replay_belady(trace))


def default_policy(context: BenchContext) -> list[Row]:
    """The promise in two rows: never far behind the best, and something where LRU has nothing."""
    lines = measure(quick=context.sizes == QUICK).lines
    worst = max(lines, key=lambda line: line.behind)
    hopeless = [line for line in lines if line.ours["LRU"].of_bytes == 0]
    least = min(100 * line.ours[DEFAULT].of_bytes for line in hopeless)
    return [
        Row(
            work=f"{DEFAULT} behind the best policy ({worst.best[0]}), worst trace ({worst.trace})", unit="points",
            isotach=100 * worst.behind, judged=Judged.AT_MOST, target=100 * BEHIND_MAX,
        ),
        Row(
            work=f"bytes that {DEFAULT} hits where LRU hits none", unit="%", isotach=least,
            judged=Judged.AT_LEAST, target=1,
        ),
    ]  # fmt: skip
