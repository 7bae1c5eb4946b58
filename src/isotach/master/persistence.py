"""Writing files to their under storages later: the scheduler over the durable queue.

Owns: which file is persisted when and by which worker, and who waits for a file. Never: moves bytes: a worker that
holds the file does, under a commit that `commits.py` opens. Empty files need no worker. What users ask for is in
`persist_requests.py`.

    due, and its mount's lane has room -> a live worker that holds it -> PERSIST
        -> (worker: BEGIN_COMMIT, store, END_COMMIT) -> persisted
       failure: back to the queue, later and later; a store that keeps failing is only probed (`persist_lanes.py`)

The queue is first in, first out for each mount, and the mounts take turns. It survives a restart of the master; a
worker that restarts or is lost fails its command, which puts the file back into the queue.
"""

import asyncio
import errno
import os
from collections import defaultdict

import msgspec

from isotach.base.errors import IsotachError, StaleVersionError, UfsError
from isotach.base.limits import (
    EMPTY_PERSIST_DELAY_S,
    GRANT_LIFETIME_S,
    PERSIST_BYTES_PER_S_MIN,
    PERSIST_PROBE_S_MAX,
    PERSIST_TIMEOUT_S,
    PERSISTS_IN_FLIGHT_MAX,
)
from isotach.base.types import BlockHolder, FileId, Flag, Inode, MountId, Version
from isotach.master.cache_states import covers, holds_all
from isotach.master.commits import Commits
from isotach.master.core import Core
from isotach.master.locations import Locations
from isotach.master.mount_set import MountSet
from isotach.master.persist_lanes import PersistLanes
from isotach.master.persist_tickets import PersistTickets
from isotach.master.ufs_pool import UfsPool
from isotach.master.workers import WorkerRegistry
from isotach.master.writes import put_empty
from isotach.namespace import entries, intents, persist_queue
from isotach.namespace.actor import SYSTEM
from isotach.namespace.intents import Intent
from isotach.namespace.lookup import Resolved, inode_of, is_current, location_of, path_of, resolve
from isotach.namespace.persist_queue import PersistItem, mark_persisted
from isotach.namespace.policies import is_memory_only
from isotach.namespace.view import View
from isotach.net.peer import Peer
from isotach.obs.log import get_logger
from isotach.ufs.trouble import is_store_trouble
from isotach.wire.grants import seal
from isotach.wire.messages import BeginCommitRequest, EndCommitRequest, ReadGrant

log = get_logger("master.persistence")
_IDLE_S = 5.0
#: A worker that restarts with its master is back after a try or two: until then, who waits goes on waiting.
_PATIENCE_ATTEMPTS = 3


class NobodyHoldsItError(IsotachError):
    """No live worker has the bytes at present."""


class _WorkerFailedError(UfsError):
    """What a worker answered to its PERSIST."""

    store_trouble = False


class Persistence:
    """One per master. For the event-loop thread."""

    def __init__(
        self,
        core: Core,
        *,
        mounts: MountSet,
        pool: UfsPool,
        commits: Commits,
        locations: Locations,
        workers: WorkerRegistry,
        retry_s: float,
        retry_s_max: float,
    ) -> None:
        self._core = core
        self._mounts = mounts
        self._pool = pool
        self._commits = commits
        self._locations = locations
        self._workers = workers
        self._retry_s = retry_s
        self._retry_s_max = retry_s_max
        self._lanes = PersistLanes(retry_s, retry_s_max)
        self._in_flight: dict[FileId, Version] = {}
        self._waiters: dict[FileId, list[asyncio.Future[None]]] = defaultdict(list)
        self._woken = asyncio.Event()
        self._turn = 0
        self.tickets = PersistTickets()
        self.done = 0
        self.failed = 0
        commits.file_to_persist = self._file_of
        commits.persisted = self._persisted

    def wake(self) -> None:
        """Something was queued, or a worker came."""
        self._woken.set()

    def length(self) -> int:
        """How many files wait, those under way included."""
        with self._core.reading() as view:
            return persist_queue.length(view)

    def trouble(self, mount_id: MountId) -> Exception | None:
        """What the store of a mount failed by, while it is taken for dead."""
        return self._lanes.trouble(mount_id)

    # --- what others want persisted ---

    async def queue(self, files: list[Inode]) -> list[FileId]:
        """Durably queues those of the files that are not in their under storage; returns their ids. Memory-only files
        are left out."""
        if not files:
            return []
        queued = await self._core.pipeline.submit(lambda view: self._enqueue(view, files))
        self.wake()
        return queued

    def _enqueue(self, view: View, files: list[Inode]) -> list[FileId]:
        now_ms = self._core.clock.now_ms()
        queued = []
        for seen in files:
            try:
                inode = inode_of(view, seen.id)
            except FileNotFoundError:
                continue
            if not inode.is_file or inode.flags & Flag.PERSISTED or is_memory_only(inode):
                continue
            after = msgspec.structs.replace(inode, flags=int(inode.flags | Flag.TO_PERSIST))
            entries.store(view, *location_of(view, inode.id), inode, after)
            persist_queue.enqueue(view, inode.id, now_ms)
            queued.append(inode.id)
        return queued

    def wait_for(self, file_id: FileId) -> asyncio.Future[None]:
        """Resolved when the queued file is persisted (or gone), failed when a try of it failed, or its store is taken
        for dead (it stays queued then)."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen, even if nobody awaits it
        self._waiters[file_id].append(waiter)
        return waiter

    def _settle(self, file_id: FileId, error: Exception | None) -> None:
        for waiter in self._waiters.pop(file_id, ()):
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)

    def _settle_mount(self, mount_id: MountId, error: Exception) -> None:
        """Nobody shall wait for a store that is taken for dead."""
        with self._core.reading() as view:
            waiting = {file_id: persist_queue.find(view, file_id) for file_id in self._waiters}
        for file_id, item in waiting.items():
            if item is not None and item.mount_id == mount_id:
                self._settle(file_id, error)

    # --- the scheduler ---

    async def run(self) -> None:
        """For ever: hands out what is due, sleeps until the next is, or until it is woken."""
        while True:
            self._woken.clear()
            sleep_s = _IDLE_S
            try:
                sleep_s = self._hand_out()
            except OSError as error:
                log.error("persist_round_failed", error=str(error))
            try:
                async with asyncio.timeout(sleep_s):
                    await self._woken.wait()
            except TimeoutError:
                pass

    def _hand_out(self) -> float:
        """Starts what may start; returns after how many seconds more may, if nothing happens before."""
        sleep_s = _IDLE_S
        with self._core.reading() as view:
            mounts = persist_queue.mounts_waiting(view)
            self._turn += 1
            for index in range(len(mounts)):
                mount_id = mounts[(self._turn + index) % len(mounts)]
                sleep_s = min(sleep_s, self._hand_out_of(view, mount_id))
        return sleep_s

    def _hand_out_of(self, view: View, mount_id: MountId) -> float:
        now, now_ms = self._core.clock.monotonic(), self._core.clock.now_ms()
        room = min(self._lanes.room(mount_id, now), PERSISTS_IN_FLIGHT_MAX - len(self._in_flight))
        if room <= 0:
            return self._lanes.wait_s(mount_id, now) or _IDLE_S  # else somebody's end wakes us
        for item in persist_queue.first(view, mount_id, room + 1 + self._lanes.in_flight(mount_id)):
            if item.file_id in self._in_flight:
                continue
            # Where the clock was set back, nothing waits for longer than its pause.
            if 0 < item.due_ms - now_ms <= self._pause_s(item.attempts - 1) * 1000 + 1:
                return (item.due_ms - now_ms) / 1000
            if not room:
                break
            room -= 1
            self._in_flight[item.file_id] = 0
            self._lanes.began(mount_id)
            self._core.background.spawn("persist", self._one(item))
        return _IDLE_S

    async def _one(self, item: PersistItem) -> None:
        try:
            failure: Exception | None = None
            try:
                await self._dispatch(item)
            except (OSError, IsotachError) as error:
                failure = error
            with self._core.reading() as view:
                left = persist_queue.find(view, item.file_id)
                overtaken = not is_current(view, item.file_id, self._in_flight[item.file_id])
            if failure is not None and not (overtaken and self._in_flight[item.file_id]):
                await self._failed(item, failure)
            elif left == item:  # whatever went wrong went wrong with bytes that nobody wants: who waits, waits on
                await self._put_back(item, failure or StaleVersionError("overtaken while it was persisted"))
            else:
                self._lanes.answered(item.mount_id)
                if left is None:  # else it was written anew, and queued again: who waits, waits for that
                    self.done += 1
                    self._settle(item.file_id, None)
        finally:
            del self._in_flight[item.file_id]
            self._lanes.ended(item.mount_id)
            self.wake()

    async def _failed(self, item: PersistItem, failure: Exception) -> None:
        self.failed += 1
        trouble = getattr(failure, "store_trouble", is_store_trouble(failure))
        await self._put_back(item, failure, PERSIST_PROBE_S_MAX if trouble else self._retry_s_max)
        with self._core.reading() as view:
            path = _path_or_none(view, item.file_id)
        if path is not None:
            self.tickets.note_failed(path, item.file_id, f"{os.fsdecode(path)}: {failure}")
        if trouble and self._lanes.failed(item.mount_id, failure, self._core.clock.monotonic()):
            self._settle_mount(item.mount_id, failure)
        elif isinstance(failure, _WorkerFailedError) and not trouble:
            self._lanes.answered(item.mount_id)
        if not isinstance(failure, NobodyHoldsItError) or item.attempts >= _PATIENCE_ATTEMPTS:
            self._settle(item.file_id, failure)

    async def _put_back(self, item: PersistItem, failure: Exception, pause_s_max: float = 1.0) -> None:
        pause_s = min(pause_s_max, self._pause_s(item.attempts))
        due_ms = self._core.clock.now_ms() + int(pause_s * 1000)
        attempts = item.attempts + 1
        log.warning("persist_failed", file_id=item.file_id, attempts=attempts, pause_s=pause_s, error=str(failure))
        await self._core.pipeline.submit(lambda view: persist_queue.reschedule(view, item, attempts, due_ms))

    def _pause_s(self, attempts: int) -> float:
        """The longest pause after that many failed attempts and one more; below 0, before the first: that which an
        empty file has to get content."""
        return (
            EMPTY_PERSIST_DELAY_S if attempts < 0 else min(self._retry_s_max, self._retry_s * 2.0 ** min(attempts, 30))
        )

    async def _dispatch(self, item: PersistItem) -> None:
        with self._core.reading() as view:
            found = _waiting_file(view, item.file_id)
        if found is None:
            await self._core.pipeline.submit(lambda view: _drop_unless_waiting(view, item.file_id))
            return
        inode = found.inode
        self._in_flight[item.file_id] = inode.version
        if inode.length == 0:
            await self._persist_empty(inode)
            return
        holders = [row for row in self._locations.holders(inode.version) if self._workers.is_live(row.worker_id)]
        worker_id = _best(holders, inode)
        rows = [row for row in (self._workers.row_of(holder.worker_id) for holder in holders) if row is not None]
        timeout_s = PERSIST_TIMEOUT_S + inode.length / PERSIST_BYTES_PER_S_MIN
        result = await self._workers.ask(
            worker_id, "PERSIST", inode.version, timeout_s, grant=self._grant(found), holders=rows
        )
        if not result.ok:
            failure = _WorkerFailedError(errno.EIO, result.error or "the worker could not persist the file")
            failure.store_trouble = result.store_trouble
            raise failure

    def _grant(self, found: Resolved) -> bytes:
        inode = found.inode
        return seal(
            self._core.secret,
            ReadGrant(
                version=inode.version,
                file_id=inode.id,
                length=inode.length,
                block_size=inode.block_size,
                mount_id=inode.mount_id,
                ufs_path=found.relative,
                fingerprint=None,
                pinned=bool(inode.flags & Flag.PINNED),
                expires_s=int(self._core.clock.now_s() + GRANT_LIFETIME_S),
            ),
        )

    async def _persist_empty(self, inode: Inode) -> None:
        peer = Peer("master")
        begun = await self._commits.begin(BeginCommitRequest(b"", inode.version), peer)
        try:
            driver = await self._mounts.driver(self._mounts.table[begun.mount_id])
            status = await self._pool.run("write", put_empty, driver, os.fsdecode(begun.ufs_path))
        except BaseException:
            await self._commits.end(EndCommitRequest(begun.intent_id, inode.version, failed=True), peer)
            raise
        await self._commits.end(EndCommitRequest(begun.intent_id, inode.version, status.fingerprint), peer)

    # --- what the commits ask and tell ---

    def _file_of(self, version: Version) -> FileId | None:
        return next((file_id for file_id, known in self._in_flight.items() if known == version), None)

    async def _persisted(self, intent_id: int, intent: Intent, fingerprint: str | None) -> None:
        now_ns = self._core.clock.now_ns()

        def apply(view: View) -> bool:
            intents.drop(view, intent_id)
            return mark_persisted(view, intent.file_id, intent.version, fingerprint, now_ns)

        if not await self._core.pipeline.submit(apply):
            raise StaleVersionError("the file was written anew while it was persisted: the new version follows")
        self.tickets.note_done(intent.path, intent.file_id)
        for holder in self._locations.holders(intent.version):
            self._workers.tell(holder.worker_id, "MARK_PERSISTED", intent.version, fingerprint=fingerprint)


def _path_or_none(view: View, file_id: FileId) -> bytes | None:
    try:
        return path_of(view, file_id)
    except FileNotFoundError:
        return None


def _waiting_file(view: View, file_id: FileId) -> Resolved | None:
    """The file as it stands, if it still waits to be persisted."""
    try:
        found = resolve(view, path_of(view, file_id), SYSTEM)
    except FileNotFoundError:
        return None
    waits = found.inode.flags & (Flag.PERSISTED | Flag.TO_PERSIST) == Flag.TO_PERSIST
    return found if waits and found.inode.is_file and not is_memory_only(found.inode) else None


def _drop_unless_waiting(view: View, file_id: FileId) -> None:
    if _waiting_file(view, file_id) is None:
        persist_queue.dequeue(view, file_id)


def _best(holders: list[BlockHolder], inode: Inode) -> str:
    """Whoever has all of it, else whoever has most: it gets the rest from the others."""
    if not covers(holders, inode.length, inode.block_size):
        raise NobodyHoldsItError(
            f"no live worker holds all of version {inode.version}: waiting for its worker to return"
        )
    return max(holders, key=lambda row: (holds_all(row, inode.length, inode.block_size), row.cached_bytes)).worker_id
