"""LOAD: brings every file at or below a path into the cache, with all workers at work.

Owns: who loads what, retries, pace, and the honest count of what did not work. Never: moves a byte: workers fetch, from
each other or from the under storage.

A worker has many commands at hand at once, so that it never waits for the master, and no file has a task, a timer or a
call of its own. When a worker is lost, its files go to others. At the end the cache itself is asked what it holds.
"""

import asyncio
from collections import deque
from functools import partial

from isotach.base.errors import IsotachError
from isotach.base.limits import (
    JOB_RECHECKS_MAX,
    JOB_RETRIES_WAITING_MAX,
    LOAD_ATTEMPTS_MAX,
    LOAD_CHECK_PAUSE_S,
    LOAD_CHECK_WAIT_S,
    LOAD_COMMAND_TIMEOUT_S,
    LOAD_MOVES_MAX,
    LOAD_WORKERS_AWAITED_S,
)
from isotach.base.types import CacheState, Flag, Inode, WorkerId
from isotach.master.core import Core
from isotach.master.grants import read_grant_of
from isotach.master.jobs.rooms import Rooms
from isotach.master.jobs.running import JobStoppedError, RunningJob, Slice
from isotach.master.jobs.tree import Found
from isotach.master.locations import Locations
from isotach.master.sync import Syncer
from isotach.master.workers import WorkerRegistry
from isotach.namespace.actor import SYSTEM
from isotach.namespace.jobs import JobRecord
from isotach.namespace.lookup import Missing, try_resolve
from isotach.wire.grants import seal
from isotach.wire.messages import CommandResult, WorkerRow

_PAUSE_S_MAX = 5.0
_SWEEP_S = 5.0
_PACE_SLACK_S = 0.02
_WORKERS_LOOKED_AT_S = 0.5


class _Load:
    """One file on its way. `held_by` are the workers that have it, `peers` those that have some of it; `step` is what
    comes next: LOAD or VERIFY."""

    __slots__ = ("attempts", "found", "held_by", "moves", "part", "peers", "row", "sent_mono", "step", "wanted")

    def __init__(self, found: Found, part: Slice, wanted: int, held_by: list[WorkerId], step: str) -> None:
        self.found = found
        self.part = part
        self.wanted = wanted  # replicas
        self.held_by = held_by
        self.step = step
        self.peers: list[WorkerId] = []
        self.attempts = 0
        self.moves = 0  # to another worker, because the one before went away
        self.row: WorkerRow | None = None
        self.sent_mono = 0.0


class LoadJob(RunningJob):
    """See the module."""

    def __init__(
        self,
        core: Core,
        syncer: Syncer,
        record: JobRecord,
        *,
        locations: Locations,
        workers: WorkerRegistry,
        follow: bool,
    ) -> None:
        super().__init__(core, syncer, record, follow=follow)
        self._locations = locations
        self._workers = workers
        self._rooms = Rooms(workers.live_rows, core.clock.monotonic)
        self._again: deque[_Load] = deque()
        self._asleep = 0  # that wait before they are tried again
        self._under_way: dict[asyncio.Future[CommandResult], _Load] = {}
        self._next_free_mono = 0.0
        self._closing = False
        self._rechecks = asyncio.Semaphore(JOB_RECHECKS_MAX)

    async def _survey(self) -> None:
        if not self.record.metadata_only:
            await super()._survey()

    async def _work(self) -> None:
        if self.record.metadata_only:
            await self._count()
            return
        self._rooms.spread(self.record.counts.bytes_done)
        sweep = self._core.background.spawn("load-sweep", self._sweep())
        try:
            async for found in self._tree(sync=True).slices(self.record.path, self.record.cursor):
                part = self._open(found.cursor, len(found.files), found.failures)
                states = self._locations.states([each.inode.version for each in found.files])
                for each, state in zip(found.files, states, strict=True):
                    await self._begin(each, state, part)
                self._close(part)
            while self._slices:
                await self._try_again()
                if self._slices and not self._again:  # nothing happened since that was looked at
                    await self._wait_for_change(_SWEEP_S)
            await self._check_cached()
        finally:
            self._closing = True
            sweep.cancel()
            for answer in self._under_way:
                answer.cancel()

    async def _count(self) -> None:
        """Metadata only: the walk itself is the work. The store is asked for every listing, however young the known
        one is: that is what it is called for."""
        self._files_total, self._bytes_total = self.record.counts.files_done, self.record.counts.bytes_done
        async for found in self._tree(sync=True, anew=True).slices(self.record.path, self.record.cursor):
            self._files_total += len(found.files)
            self._bytes_total += sum(each.inode.length for each in found.files)
            part = self._open(found.cursor, len(found.files), found.failures)
            for each in found.files:
                self._done(part, each)
            self._close(part)
        self._listed = True

    # --- one file ---

    async def _begin(self, found: Found, state: CacheState | None, part: Slice) -> None:
        inode = found.inode
        least = 0 if inode.policy is None else inode.policy.replication_min
        wanted = max(1, self.record.replicas, least)
        holders = [] if state is None else [row.worker_id for row in state.holders if row.cached_bytes >= inode.length]
        if inode.length == 0:
            self._done(part, found)
            return
        for worker_id in holders:
            self._rooms.book(worker_id, inode.length)
        is_cached = len(holders) >= wanted or (state is not None and wanted == 1 and state.cached_bytes >= inode.length)
        if is_cached and not self.record.verify:
            self._done(part, found, state)
        elif not inode.flags & Flag.PERSISTED and not holders:
            self._fail(part, found.path, "it is not persisted, and no worker holds all of it at present")
        else:
            await self._try_again()
            step = "VERIFY" if holders and self.record.verify else "LOAD"
            load = _Load(found, part, wanted, holders, step)
            load.peers = [] if state is None else [row.worker_id for row in state.holders]
            await self._give(load, state)

    async def _give(self, load: _Load, state: CacheState | None) -> None:
        """Gives it to a worker, as soon as one has a place for it and the pace allows."""
        row = await self._choose(load, state)
        if row is not None:
            if self.record.bandwidth and load.step == "LOAD":
                await self._pace(load.found.inode.length)
            self._post(load, row)
        elif load.held_by:
            self._done(load.part, load.found)  # as many replicas as there is room for
        else:
            self._unfit(load.part, load.found)

    async def _try_again(self) -> None:
        """What failed, or lost its worker, goes first."""
        self._check_luck()
        while self._again or self._asleep > JOB_RETRIES_WAITING_MAX:
            if self._again:
                await self._give(self._again.popleft(), None)
            else:
                await self._wait_for_change()

    async def _choose(self, load: _Load, state: CacheState | None) -> WorkerRow | None:
        """The worker for it; None when no worker has room for the file. Raises JobStoppedError when none is live."""
        if load.step == "VERIFY":
            held = [row for row in self._rooms.workers() if row.worker_id in load.held_by]
            if held:
                return held[0]
            load.step, load.held_by = "LOAD", []
        gives_up = self._core.clock.monotonic() + LOAD_WORKERS_AWAITED_S
        while True:
            self._check_luck()
            if self._rooms.workers():
                ranked = self._rooms.ranked(load.found.inode, state, load.held_by)
                row = self._rooms.free_of(ranked)
                if row is not None or not ranked:
                    return row
                gives_up = self._core.clock.monotonic() + LOAD_WORKERS_AWAITED_S
            elif self._core.clock.monotonic() > gives_up:
                raise JobStoppedError("no worker is live to load files into: start one with `isotach worker`")
            await self._wait_for_change(_WORKERS_LOOKED_AT_S)

    async def _pace(self, size: int) -> None:
        now = self._core.clock.monotonic()
        self._next_free_mono = max(now, self._next_free_mono) + size / self.record.bandwidth
        ahead_s = self._next_free_mono - now - size / self.record.bandwidth
        if ahead_s > _PACE_SLACK_S:
            await asyncio.sleep(ahead_s)

    def _post(self, load: _Load, row: WorkerRow) -> None:
        found, worker_id = load.found, row.worker_id
        load.row, load.sent_mono = row, self._core.clock.monotonic()
        if load.step == "LOAD":
            self._rooms.book(worker_id, found.inode.length)
        self._rooms.in_flight[worker_id] += 1
        grant = read_grant_of(found.inode, found.ufs_path, self._core.clock.now_s(), self.record.user)
        others = [self._workers.row_of(each) for each in {*load.peers, *load.held_by} if each != worker_id]
        answer = self._workers.post(
            worker_id,
            load.step,
            found.inode.version,
            grant=seal(self._core.secret, grant),
            holders=[each for each in others if each is not None and each.live],
            bandwidth=self.record.bandwidth // max(1, len(self._rooms.workers())),
        )
        self._under_way[answer] = load
        answer.add_done_callback(partial(self._answered, load, worker_id))

    def _answered(self, load: _Load, worker_id: WorkerId, answer: asyncio.Future[CommandResult]) -> None:
        self._rooms.in_flight[worker_id] -= 1
        self._under_way.pop(answer, None)
        self._changed.set()
        error = None if answer.cancelled() else answer.exception()
        if self._closing:
            return
        size, result = load.found.inode.length, None
        if not answer.cancelled() and error is None:
            result = answer.result()
            if result.ok and not (load.step == "LOAD" and 0 <= result.cached_bytes < size):
                self._carried_out(load, worker_id)
                return
        if load.step == "LOAD":
            self._rooms.book(worker_id, -size)
        if result is None:
            self._move(load, "its worker did not answer in time" if error is None else str(error))
        elif result.ok:
            self._unfit(load.part, load.found)
        else:
            self._retry(load, result.error)

    def _carried_out(self, load: _Load, worker_id: WorkerId) -> None:
        """One step of the file is done."""
        if load.step == "LOAD":
            load.held_by.append(worker_id)
            if self.record.verify and load.row is not None:
                load.step = "VERIFY"
                self._post(load, load.row)
                return
        if len(load.held_by) < load.wanted:
            load.step = "LOAD"
            self._again.append(load)
        else:
            self._done(load.part, load.found)

    # --- what does not go well ---

    def _move(self, load: _Load, error: str) -> None:
        """Its worker is gone, or does not answer: another one gets the file."""
        self._rooms.forget_workers()
        load.moves += 1
        if load.moves > LOAD_MOVES_MAX:
            self._fail(load.part, load.found.path, error)
            return
        load.step = "LOAD"
        self._again.append(load)

    def _retry(self, load: _Load, error: str) -> None:
        load.attempts += 1
        load.step, load.held_by, load.peers = "LOAD", [], []
        self._asleep += 1
        self._core.background.spawn("load-again", self._look_again(load, error))

    async def _look_again(self, load: _Load, error: str) -> None:
        """After a failure: the file may be gone, or another one by now. Else it is tried again, a bounded number of
        times."""
        try:
            async with self._rechecks:
                await self._refresh(load)
            await asyncio.sleep(min(_PAUSE_S_MAX, 0.2 * 2.0**load.attempts) if load.attempts > 1 else 0.0)
        finally:
            self._asleep -= 1
            self._changed.set()
        if self._closing:
            return
        inode = self._present(load.found.path)
        if inode is None:
            self._skip(load.part)
        elif inode.version != load.found.inode.version:
            load.found = Found(load.found.path, inode, load.found.ufs_path)
            self._again.append(load)
        elif load.attempts >= LOAD_ATTEMPTS_MAX:
            self._fail(load.part, load.found.path, error)
        else:
            self._again.append(load)

    async def _refresh(self, load: _Load) -> None:
        if 1 < load.attempts < LOAD_ATTEMPTS_MAX:
            return
        try:
            await self._syncer.ensure_current(load.found.path, False, 0)
        except (OSError, IsotachError):
            pass  # the store is away: the next try says so

    def _present(self, path: bytes) -> Inode | None:
        with self._core.reading() as view:
            try:
                found = try_resolve(view, path, SYSTEM)
            except NotADirectoryError:
                return None
            return None if isinstance(found, Missing) or found.inode.is_dir else found.inode

    async def _sweep(self) -> None:
        """Takes files away from workers that live and do not answer."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            late = self._core.clock.monotonic() - LOAD_COMMAND_TIMEOUT_S
            for answer in [answer for answer, load in self._under_way.items() if load.sent_mono < late]:
                answer.cancel()

    # --- the end ---

    async def _check_cached(self) -> None:
        """Asks the cache itself. What is missing once more, although it was loaded, was evicted since: there was no
        room for it."""
        files, size, few = await self._missing_at_last()
        if files:
            await self._bring_again()
            files, size, few = await self._missing_at_last()
        counts = self.record.counts
        counts.files_done -= files
        counts.bytes_done -= size
        counts.files_unfit += files
        counts.bytes_unfit += size
        if few:
            workers, wanted = len(self._rooms.workers()), self.record.replicas
            raise JobStoppedError(
                f"{few} files are held by fewer than {wanted} workers ({workers} take files in at present): add "
                "workers or room, or look at the files' replication maximum"
            )

    async def _bring_again(self) -> None:
        """What was there when the job came by, and left when it made room for others, is loaded after all: once."""
        self._rooms = Rooms(self._workers.live_rows, self._core.clock.monotonic)
        for is_loading in (False, True):
            async for found in self._tree(sync=False).slices(self.record.path):
                part = Slice(b"", len(found.files))  # that nobody counts: its files are counted already
                states = self._locations.states([each.inode.version for each in found.files])
                for each, state in zip(found.files, states, strict=True):
                    is_whole = state is not None and state.cached_bytes >= each.inode.length
                    if is_loading and not is_whole:
                        await self._begin(each, state, part)
                        continue
                    part.open_files -= 1
                    for row in () if is_loading or state is None else state.holders:
                        self._rooms.book(row.worker_id, row.cached_bytes)
                while part.open_files:
                    await self._try_again()
                    if part.open_files:
                        await self._wait_for_change(LOAD_CHECK_PAUSE_S)

    async def _missing_at_last(self) -> tuple[int, int, int]:
        """Workers report a moment late, so that a missing file is looked for again for a while."""
        until = self._core.clock.monotonic() + LOAD_CHECK_WAIT_S
        found = await self._missing()
        enough = len(self._rooms.workers()) >= self.record.replicas
        while (found[0] or (found[2] and enough)) and self._core.clock.monotonic() < until:
            await asyncio.sleep(LOAD_CHECK_PAUSE_S)
            found = await self._missing()
        return found

    async def _missing(self) -> tuple[int, int, int]:
        """(files, bytes) of those taken for done that are not whole in the cache, and how many files are, but at fewer
        workers than the job was asked for."""
        files = size = few = 0
        async for found in self._tree(sync=False).slices(self.record.path):
            states = self._locations.states([each.inode.version for each in found.files])
            for each, state in zip(found.files, states, strict=True):
                length = each.inode.length
                if length and (state is None or state.cached_bytes < length):
                    files, size = files + 1, size + length
                elif length and state is not None:
                    few += 0 < sum(row.cached_bytes >= length for row in state.holders) < self.record.replicas
        counts = self.record.counts
        known = counts.files_unfit + counts.files_failed + counts.files_skipped
        files = min(max(0, files - known), counts.files_done)
        return files, min(max(0, size - counts.bytes_unfit), counts.bytes_done) if files else 0, few
