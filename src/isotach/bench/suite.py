"""The list of benchmarks, and how a run goes through it.

Owns: the names, their order, and what happens when one fails (its row says so; the others still run). Never: prints;
progress goes to a callback.
"""

import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import isotach
from isotach.bench import cold, hot, load, metadata, policies, rejoin, through, tiering
from isotach.bench.context import QUICK, BenchContext, S3Access, Sizes, bench_context
from isotach.bench.result import Judged, Report, Row

Benchmark = Callable[[BenchContext], list[Row]]
Progress = Callable[[str, list[Row] | None], None]

BENCHMARKS: Final[dict[str, Benchmark]] = {
    "sequential": hot.sequential_read,
    "view": hot.numpy_view,
    "tcp": hot.tcp_loopback,
    "cold": cold.cold_read,
    "small": cold.small_files,
    "stat": metadata.stat_rate,
    "create": metadata.create_rate,
    "list": metadata.listing,
    "million": metadata.million_files,
    "policies": policies.default_policy,
    "tiering": tiering.hot_reads_beside_filling,
    "overflow": tiering.overflowing_write,
    "async": through.async_through,
    "through": through.cache_through,
    "load": load.load,
    "rejoin": rejoin.rejoin,
}
NEED_S3: Final = frozenset({"cold", "small", "through", "load"})


def names() -> list[str]:
    """The benchmarks in the order they run."""
    return list(BENCHMARKS)


def run_suite(
    *,
    only: Sequence[str] = (),
    quick: bool = False,
    s3: S3Access | None = None,
    folder: Path | None = None,
    progress: Progress = lambda _name, _rows: None,
) -> Report:
    """Runs the benchmarks (`only` these, when named) on a cluster of its own and returns what came out.

    Without `s3`, those that need a bucket are left out unless named. `progress` is called with a name before each
    benchmark, and again with its rows. Raises ValueError for an unknown name.
    """
    chosen = _chosen(only, s3)
    rows: list[Row] = []
    with bench_context(folder, QUICK if quick else Sizes(), s3) as context:
        for name in chosen:
            progress(name, None)
            done = _run(name, context)
            progress(name, done)
            rows += done
    return Report(rows=rows, machine=machine(), quick=quick)


def _chosen(only: Sequence[str], s3: S3Access | None) -> list[str]:
    unknown = [name for name in only if name not in BENCHMARKS]
    if unknown:
        raise ValueError(f"no benchmark is called {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}")
    if only:
        return [name for name in BENCHMARKS if name in only]
    return [name for name in BENCHMARKS if s3 is not None or name not in NEED_S3]


def _run(name: str, context: BenchContext) -> list[Row]:
    try:
        return BENCHMARKS[name](context)
    except Exception as error:  # a failed benchmark is a row of the report, and the run's exit code
        text = f"{type(error).__name__}: {error}"
        return [Row(work=name, unit="", isotach=0, judged=Judged.AT_LEAST, target=0, error=text)]


def machine() -> dict[str, str]:
    """What the figures depend on."""
    return {
        "cpus": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "isotach": isotach.__version__,
    }
