"""The namespace under load: stat, create, a huge directory, and a million files.

Owns: the metadata rows of the table. The asynchronous figures come from one client process with 64 tasks. Never:
moves file data.
"""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import isotach
from isotach.bench.context import BenchContext
from isotach.bench.measure import median_seconds, seconds
from isotach.bench.result import Judged, Row

TASKS: Final = 64
MB = 1e6
_LISTED_PER_SAMPLE: Final = 10_000

AsyncCall = Callable[["isotach.AsyncFileSystem", str], Awaitable[object]]


def stat_rate(context: BenchContext) -> list[Row]:
    """Looking up existing files: one blocking client, then 64 tasks."""
    paths = _make(context, "/stat", context.sizes.few)
    wanted = [paths[number % len(paths)] for number in range(context.sizes.calls)]
    serial = wanted[: len(wanted) // 4]
    blocking = len(serial) / median_seconds(lambda: [context.fs.stat(path) for path in serial], context.sizes.repeats)
    tasks = len(wanted) / median_seconds(lambda: _together(context, wanted, _stat), context.sizes.repeats)
    context.fs.remove("/stat", recursive=True)
    return [
        Row(work="stat, one blocking client", unit="calls/s", isotach=blocking, judged=Judged.AT_LEAST, target=12_000),
        Row(work=f"stat, {TASKS} tasks", unit="calls/s", isotach=tasks, judged=Judged.AT_LEAST, target=40_000),
    ]


def create_rate(context: BenchContext) -> list[Row]:
    """Creating and completing of empty files: 64 tasks, then one at a time. Each is durable when its call returns."""
    sizes = context.sizes
    context.fs.mkdir("/create")
    many = [f"/create/t{number}" for number in range(sizes.creates)]
    one_by_one = [f"/create/s{number}" for number in range(sizes.creates_serial)]
    tasks = len(many) / seconds(lambda: _together(context, many, _create))
    serial = len(one_by_one) / seconds(
        lambda: [context.fs.write(path, b"", write_type="MUST_CACHE") for path in one_by_one]
    )
    context.fs.remove("/create", recursive=True)
    work = "create+complete of empty files"
    return [
        Row(work=f"{work}, {TASKS} tasks", unit="files/s", isotach=tasks, judged=Judged.AT_LEAST, target=8_000),
        Row(work=f"{work}, serial", unit="files/s", isotach=serial, judged=Judged.AT_LEAST, target=1_500),
    ]


def listing(context: BenchContext) -> list[Row]:
    """One huge directory, listed to the end; the client's memory is watched on the way."""
    count = context.sizes.listed
    _make(context, "/listed", count)
    grown = 0

    def list_all() -> None:
        nonlocal grown
        seen, start, peak = 0, _own_resident_bytes(), 0
        for _ in context.fs.list("/listed"):
            seen += 1
            if seen % _LISTED_PER_SAMPLE == 0:
                peak = max(peak, _own_resident_bytes())
        if seen != count:
            raise AssertionError(f"listed {seen} of {count} entries")
        grown = max(grown, peak - start)

    rate = count / median_seconds(list_all, context.sizes.repeats)
    context.fs.remove("/listed", recursive=True)
    work = f"listing a directory of {count:,}"
    return [
        Row(work=work, unit="entries/s", isotach=rate, judged=Judged.AT_LEAST, target=200_000),
        Row(work=f"{work}: client's growth", unit="MB", isotach=grown / MB, judged=Judged.AT_MOST, target=50),
    ]


def million_files(context: BenchContext) -> list[Row]:
    """The master's own memory with many files, and stat's rate against the rate with few."""
    sizes = context.sizes
    few = _make(context, "/few", sizes.few)
    rate_few = _random_stat_rate(context, few)
    many = _make(context, "/many", sizes.many)
    rate_many = _random_stat_rate(context, many)
    memory = anonymous_bytes(context.cluster.master_pid)
    context.fs.remove("/few", recursive=True)
    context.fs.remove("/many", recursive=True)
    return [
        Row(
            work=f"master's anonymous memory, {sizes.many:,} files", unit="MB", isotach=memory / MB,
            judged=Judged.AT_MOST, target=200,
        ),
        Row(
            work=f"stat with {sizes.many:,} files", unit="calls/s", isotach=rate_many, baseline=rate_few,
            against=f"with {sizes.few:,}", judged=Judged.RATIO, target=0.8,
        ),
    ]  # fmt: skip


def _random_stat_rate(context: BenchContext, paths: list[str]) -> float:
    chance = random.Random(7)
    wanted = chance.choices(paths, k=context.sizes.calls)
    return len(wanted) / median_seconds(lambda: _together(context, wanted, _stat), context.sizes.repeats)


def _make(context: BenchContext, folder: str, count: int) -> list[str]:
    """Empty files in one directory, made by many tasks."""
    context.fs.mkdir(folder)
    paths = [f"{folder}/f{number:07}" for number in range(count)]
    _together(context, paths, _create)
    return paths


def _stat(fs: "isotach.AsyncFileSystem", path: str) -> Awaitable[object]:
    return fs.stat(path)


def _create(fs: "isotach.AsyncFileSystem", path: str) -> Awaitable[object]:
    return fs.write(path, b"", write_type="MUST_CACHE")


def _together(context: BenchContext, paths: Iterable[str], call: AsyncCall) -> None:
    """`call` for every path, with 64 in flight, in one asynchronous client."""

    async def work(fs: "isotach.AsyncFileSystem", shared: Iterator[str]) -> None:
        for path in shared:
            await call(fs, path)

    async def all_of_it() -> None:
        fs = await isotach.connect_async(context.cluster.address)
        shared = iter(paths)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(TASKS):
                    group.create_task(work(fs, shared))
        finally:
            await fs.close()

    asyncio.run(all_of_it())


def anonymous_bytes(pid: int) -> int:
    """The private memory of a process and its children (its reader processes); mapped files do not count."""
    own = _field_kib(Path(f"/proc/{pid}/smaps_rollup"), "Anonymous:") * 1024
    return own + sum(anonymous_bytes(child) for child in _children(pid))


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        found.extend(int(child) for child in (thread / "children").read_text(encoding="ascii").split())
    return found


def _field_kib(path: Path, name: str) -> int:
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise ValueError(f"{path} has no line {name}")


def _own_resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
