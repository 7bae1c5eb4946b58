"""Keeping as many copies of a file as its policy says, and moving off what workers leave with.

Owns: which files are looked at when, the copies under way, and when a failed one is tried again. Never: decides what a
file needs (`copies.py`), or keeps any of it over a restart: the policies are durable, the copies are reported.

Files are looked at when something happens to them (a change of the policy or the content, a report, a worker that went
or leaves), and all that have a policy in a slow round besides, so that a forgotten event costs time and no copy.
"""

import asyncio
import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from isotach.base.errors import IsotachError, UnavailableError
from isotach.base.limits import (
    FREE_WAIT_S,
    REPLICATION_PAUSE_S,
    REPLICATION_RETRY_S,
    REPLICATION_RETRY_S_MAX,
    REPLICATION_SLICE_ROWS,
    REPLICATION_SWEEP_S,
    REPLICATION_TIMEOUT_S,
    REPLICATIONS_IN_FLIGHT_MAX,
    REPLICATIONS_WAITING_MAX,
)
from isotach.base.types import FileId, Flag, Inode, Version, WorkerId
from isotach.kv.interface import Batch
from isotach.master.copies import CopyPlan, plan_copies
from isotach.master.core import Core
from isotach.master.grants import read_grant
from isotach.master.location_rows import Orphan
from isotach.master.locations import Locations
from isotach.master.workers import WorkerRegistry
from isotach.namespace import keys
from isotach.namespace.actor import SYSTEM
from isotach.namespace.entries import has_copies_rule
from isotach.namespace.lookup import inode_of, path_of, resolve
from isotach.namespace.policies import is_memory_only
from isotach.namespace.view import View
from isotach.obs.log import get_logger
from isotach.wire.grants import seal
from isotach.wire.messages import WorkerRow

log = get_logger("master.replication")
_IDLE_S: Final = 1.0
_SWEEP_PAUSE_S: Final = 0.1
_SWEEP_CHECKS: Final = 100  # files looked at without letting others on the loop


class _Waiting(msgspec.Struct):
    """A file to be looked at. `problem` says why it was not enough last time."""

    due_mono: float
    attempts: int = 0
    problem: str = ""


class Replication:
    """One per master. For the event-loop thread. Nothing is done before `settled`: a worker that is only late would be
    taken for a lost one."""

    def __init__(self, core: Core, locations: Locations, workers: WorkerRegistry, settled: Callable[[], bool]) -> None:
        self._core: Final = core
        self._locations: Final = locations
        self._workers: Final = workers
        self._settled: Final = settled
        self._waiting: dict[FileId, _Waiting] = {}
        self._by_time: list[tuple[float, FileId]] = []
        self._in_flight: set[FileId] = set()
        self._again: set[FileId] = set()  # something happened to them while they were in flight
        self._hot: set[FileId] = set()  # to get one copy more when they are looked at
        self._woken: Final = asyncio.Event()
        self.gone: Callable[[list[Orphan], WorkerId], None] = _nobody_minds
        self.copied = 0
        self.trimmed = 0
        self.failed = 0
        core.pipeline.on_commit(self._changed)

    @property
    def waiting(self) -> int:
        """Files that are to be looked at, or being copied."""
        return len(self._waiting) + len(self._in_flight)

    # --- what makes it look at a file ---

    def _changed(self, _index: int, batch: Batch) -> None:
        """The change feed: rows of the index are put whenever a file with a policy changes."""
        rows = [(int.from_bytes(key[1:], "big"), value) for key, value in batch if key[:1] == b"r"]
        want = [file_id for file_id, value in rows if value is not None]
        self._let_go([file_id for file_id, value in rows if value is None])
        if want:
            self.want(want, after_s=REPLICATION_PAUSE_S)  # a completed write tells who has it only after its commit

    def _let_go(self, file_ids: list[FileId]) -> None:
        """No policy wants these copies any more: they may be evicted again."""
        if not file_ids:
            return
        with self._core.reading() as view:
            for file_id in file_ids:
                try:
                    inode = inode_of(view, file_id)
                except FileNotFoundError:
                    continue
                if inode.flags & Flag.PINNED:
                    continue
                for holder in self._locations.holders(inode.version):
                    self._workers.tell(holder.worker_id, "UNPIN", inode.version)

    def check(self, file_ids: Iterable[FileId]) -> None:
        """Something happened to the copies of these: those with a policy are looked at."""
        with self._core.reading() as view:
            self.want([file_id for file_id in file_ids if view.get(keys.replicated(file_id)) is not None])

    def want(self, file_ids: Iterable[FileId], *, after_s: float = 0.0) -> None:
        """Looks at these as soon as there is room, whether or not they have a policy."""
        due = self._core.clock.monotonic() + after_s
        for file_id in file_ids:
            if file_id in self._in_flight:
                self._again.add(file_id)
            elif file_id not in self._waiting and len(self._waiting) < REPLICATIONS_WAITING_MAX:
                self._wait(file_id, _Waiting(due))
        self._woken.set()

    def heat(self, worker_id: WorkerId, versions: Sequence[Version]) -> None:
        """Clients open these very often at that worker: one more copy of each, as far as the policies allow. When that
        is not enough, its holders say so again."""
        file_ids = [file_id for version in versions if (file_id := self._locations.file_of(worker_id, version))]
        room = REPLICATIONS_WAITING_MAX - len(self._hot)
        self._hot |= set(file_ids[: max(0, room)])
        self.want(file_ids)

    def hurry(self) -> None:
        """A worker joined: what waited for one need not wait longer."""
        now = self._core.clock.monotonic()
        for file_id, waiting in self._waiting.items():
            if waiting.due_mono > now:
                waiting.due_mono = now
                heapq.heappush(self._by_time, (now, file_id))
        self._woken.set()

    def problem_of(self, file_id: FileId) -> str:
        """Why the file does not have its copies; empty when nothing was tried in vain."""
        waiting = self._waiting.get(file_id)
        return "" if waiting is None else waiting.problem

    def plan(
        self, view: View, file_id: FileId, live: Sequence[WorkerRow], *, hot: bool = False
    ) -> tuple[Inode, CopyPlan] | None:
        """The file and what it needs; None for one that is gone."""
        try:
            inode = inode_of(view, file_id)
        except FileNotFoundError:
            return None
        holders = self._locations.holders(inode.version)
        dirty: set[WorkerId] = set()
        if not inode.flags & Flag.PERSISTED:
            dirty = self._locations.dirty_holders(inode.version, [each.worker_id for each in holders])
        return inode, plan_copies(inode, holders, live, dirty=dirty, hot=hot)

    # --- the loops ---

    async def run(self) -> None:
        """For ever: hands out what is due."""
        while True:
            self._woken.clear()
            try:
                if self._settled():
                    self._hand_out()
            except OSError as error:
                log.error("copies_round_failed", error=str(error))
            try:
                async with asyncio.timeout(self._sleep_s()):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def sweep(self) -> None:
        """For ever: looks at every file with a policy, a few at a time."""
        while True:
            try:
                after: FileId | None = 0
                while after is not None:
                    after = await self._sweep_slice(after)
            except (IsotachError, OSError) as error:
                log.error("copies_sweep_failed", error=str(error))
            await asyncio.sleep(REPLICATION_SWEEP_S)

    async def _sweep_slice(self, after: FileId) -> FileId | None:
        while not self._settled() or len(self._waiting) > REPLICATION_SLICE_ROWS:  # noqa: ASYNC110 - nothing signals it
            await asyncio.sleep(_IDLE_S)
        live = self._workers.live_rows()
        with self._core.reading() as view:
            ids = []
            for key, _ in view.scan(keys.replicated(after + 1), keys.all_of(b"r")[1]):
                ids.append(int.from_bytes(key[1:], "big"))
                if len(ids) == _SWEEP_CHECKS:
                    break
            plans = [(file_id, self.plan(view, file_id, live)) for file_id in ids]
        self.want([file_id for file_id, found in plans if found is not None and not found[1].is_idle])
        await asyncio.sleep(_SWEEP_PAUSE_S)
        return ids[-1] if len(ids) == _SWEEP_CHECKS else None

    def _sleep_s(self) -> float:
        if not self._by_time or len(self._in_flight) >= REPLICATIONS_IN_FLIGHT_MAX or not self._settled():
            return _IDLE_S
        return min(_IDLE_S, max(0.0, self._by_time[0][0] - self._core.clock.monotonic()))

    def _wait(self, file_id: FileId, waiting: _Waiting) -> None:
        self._waiting[file_id] = waiting
        heapq.heappush(self._by_time, (waiting.due_mono, file_id))

    def _hand_out(self) -> None:
        now = self._core.clock.monotonic()
        while self._by_time and len(self._in_flight) < REPLICATIONS_IN_FLIGHT_MAX and self._by_time[0][0] <= now:
            due_mono, file_id = heapq.heappop(self._by_time)
            waiting = self._waiting.get(file_id)
            if waiting is None or waiting.due_mono != due_mono:
                continue  # it was put elsewhere in the queue meanwhile
            del self._waiting[file_id]
            self._in_flight.add(file_id)
            self._core.background.spawn("copies", self._one(file_id, waiting))

    async def _one(self, file_id: FileId, waiting: _Waiting) -> None:
        problem = ""
        try:
            problem = await self._settle(file_id)
        except (IsotachError, OSError) as error:
            problem = str(error)
        finally:
            self._in_flight.discard(file_id)
        if problem:
            self.failed += 1
            pause_s = min(REPLICATION_RETRY_S_MAX, REPLICATION_RETRY_S * 2.0 ** min(waiting.attempts, 16))
            log.warning("copies_missing", file_id=file_id, pause_s=pause_s, problem=problem)
            due = self._core.clock.monotonic() + pause_s
            self._wait(file_id, _Waiting(due, waiting.attempts + 1, problem))
            self._again.discard(file_id)
        elif file_id in self._again:
            self._again.discard(file_id)
            self.want([file_id])
        self._woken.set()

    async def _settle(self, file_id: FileId) -> str:
        """Does what the plan says; what went wrong, if anything did."""
        with self._core.reading() as view:
            found = self.plan(view, file_id, self._workers.live_rows(), hot=file_id in self._hot)
        self._hot.discard(file_id)
        if found is None or found[1].is_idle:
            return ""
        inode, plan = found
        if plan.missing:
            return await self._add(inode, plan)
        for worker_id in plan.drops:
            await self._drop(inode, worker_id)
        return ""

    async def _add(self, inode: Inode, plan: CopyPlan) -> str:
        if not plan.sources and not plan.in_store:
            self.gone([Orphan(inode.version, inode.id)], "")
            if not has_copies_rule(inode):
                return ""
            return "no live worker has all of it, and no under storage has it: waiting for its workers to return"
        if not plan.targets:
            hint = "" if plan.in_store or is_memory_only(inode) else ", or persist the file (`isotach fs persist`)"
            return f"{plan.missing} more copies are wanted, and no other worker can take one: start more workers{hint}"
        with self._core.reading() as view:
            found = resolve(view, path_of(view, inode.id), SYSTEM)
        if found.inode.version != inode.version:
            return ""  # written anew: that is looked at by itself
        grant = read_grant(found, self._core.clock.now_s())
        if has_copies_rule(inode):  # what the policy wants is not evicted: it would be copied again and again
            grant = msgspec.structs.replace(grant, pinned=True)
        sealed = seal(self._core.secret, grant)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._copy(row.worker_id, inode, sealed, plan)) for row in plan.targets]
        problems = [task.result() for task in tasks if task.result()]
        self.copied += len(tasks) - len(problems)
        if not problems and len(plan.targets) < plan.missing:
            return f"{plan.missing - len(plan.targets)} more copies are wanted than there are workers: start more"
        return problems[0] if problems else ""

    async def _copy(self, worker_id: WorkerId, inode: Inode, grant: bytes, plan: CopyPlan) -> str:
        """One copy; what went wrong, if anything did."""
        try:
            result = await self._workers.ask(
                worker_id,
                "REPLICATE",
                inode.version,
                REPLICATION_TIMEOUT_S,
                grant=grant,
                holders=plan.sources,
                dirty=not inode.flags & Flag.PERSISTED,
            )
        except (IsotachError, OSError) as error:
            return str(error) or f"the worker {worker_id} did not answer in time"
        return "" if result.ok else result.error or "the worker could not copy it"

    async def _drop(self, inode: Inode, worker_id: WorkerId) -> None:
        """One copy too many goes. It may be dirty: the plan leaves a whole one elsewhere."""
        force = not inode.flags & Flag.PERSISTED
        result = await self._workers.ask(worker_id, "FREE", inode.version, FREE_WAIT_S, force=force)
        if not result.ok:
            raise UnavailableError(f"the worker {worker_id} keeps its copy: {result.error}")
        await self._locations.remove(worker_id, [inode.version])
        self.trimmed += 1


def _nobody_minds(_orphans: list[Orphan], _worker_id: WorkerId) -> None:
    return
