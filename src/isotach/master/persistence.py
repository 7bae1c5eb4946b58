"""Writing files to their under storages later: ASYNC_THROUGH writes, and PERSIST.

Owns: the scheduler over the durable queue, and who waits for a file. Never: moves bytes: a worker that holds the file
does, under a commit that `commits.py` opens. Empty files need no worker.

    due -> a live worker that holds it -> PERSIST -> (worker: BEGIN_COMMIT, store, END_COMMIT) -> persisted
       failure: back to the queue, later and later

The queue survives a restart of the master; a worker that restarts or is lost fails its command, which puts the file
back into the queue.
"""

import asyncio
import os
from collections import defaultdict

import msgspec

from isotach.base.errors import InvalidArgumentError, IsotachError, StaleVersionError, UfsError
from isotach.base.limits import GRANT_LIFETIME_S, PERSIST_TIMEOUT_S, PERSISTS_IN_FLIGHT_MAX
from isotach.base.types import BlockHolder, FileId, Flag, Inode, Version
from isotach.master.cache_states import covers, holds_all
from isotach.master.commits import Commits
from isotach.master.core import Core
from isotach.master.locations import Locations
from isotach.master.mount_set import MountSet
from isotach.master.residency import Residency
from isotach.master.sync import Syncer
from isotach.master.ufs_pool import UfsPool
from isotach.master.workers import WorkerRegistry
from isotach.master.writes import put_empty
from isotach.namespace import entries, intents, persist_queue
from isotach.namespace.actor import SYSTEM
from isotach.namespace.intents import Intent
from isotach.namespace.lookup import Resolved, inode_of, location_of, path_of, resolve
from isotach.namespace.persist_queue import PersistItem, mark_persisted
from isotach.namespace.policies import is_memory_only
from isotach.namespace.view import View
from isotach.net.peer import Peer
from isotach.obs.log import get_logger
from isotach.wire.grants import seal
from isotach.wire.messages import BeginCommitRequest, CountReply, EndCommitRequest, PersistRequest, ReadGrant

log = get_logger("master.persistence")
_IDLE_S = 5.0
#: A worker that restarts with its master is back after a try or two: until then, who waits goes on waiting.
_PATIENCE_ATTEMPTS = 3


class NobodyHoldsItError(IsotachError):
    """No live worker has the bytes at present."""


class Persistence:
    """One per master. For the event-loop thread."""

    def __init__(
        self,
        core: Core,
        *,
        mounts: MountSet,
        pool: UfsPool,
        syncer: Syncer,
        commits: Commits,
        locations: Locations,
        workers: WorkerRegistry,
        residency: Residency,
        retry_s: float,
        retry_s_max: float,
    ) -> None:
        self._core = core
        self._mounts = mounts
        self._pool = pool
        self._syncer = syncer
        self._commits = commits
        self._locations = locations
        self._workers = workers
        self._residency = residency
        self._retry_s = retry_s
        self._retry_s_max = retry_s_max
        self._in_flight: dict[FileId, Version] = {}
        self._waiters: dict[FileId, list[asyncio.Future[None]]] = defaultdict(list)
        self._woken = asyncio.Event()
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

    # --- PERSIST ---

    async def persist(self, request: PersistRequest, peer: Peer) -> CountReply:
        """The handler. Raises, with `wait`, what the first failed file failed with; it stays queued nevertheless.
        Memory-only files are left alone and counted as skipped; InvalidArgumentError when `path` is one."""
        count = skipped = 0
        await self._syncer.load(request.path)
        actor = self._core.identity.actor(peer)
        waits: list[asyncio.Future[None]] = []
        async for files in self._residency.files_below(request.path, actor, True):
            wanted = [inode for inode in files if not inode.flags & Flag.PERSISTED]
            queued = await self.queue(wanted)
            count += len(queued)
            skipped += sum(map(is_memory_only, wanted))
            if request.wait:
                waits += [self.wait_for(file_id) for file_id in queued]
        if skipped and not count:
            with self._core.reading() as view:
                if not resolve(view, request.path, actor).inode.is_dir:
                    raise InvalidArgumentError(
                        f"{os.fsdecode(request.path)} is memory-only: it must not be written out"
                    )
        for wait in waits:
            await wait
        return CountReply(count, skipped)

    async def queue(self, files: list[Inode]) -> list[FileId]:
        """Durably queues those of the files that still wait for their under storage; returns their ids. Memory-only
        files are left out."""
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
            if inode.flags & Flag.PERSISTED or is_memory_only(inode):
                continue
            after = msgspec.structs.replace(inode, flags=int(inode.flags | Flag.TO_PERSIST))
            entries.store(view, *location_of(view, inode.id), inode, after)
            persist_queue.enqueue(view, inode.id, now_ms)
            queued.append(inode.id)
        return queued

    def wait_for(self, file_id: FileId) -> asyncio.Future[None]:
        """Resolved when the queued file is persisted, or failed once (it stays queued then)."""
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

    # --- the scheduler ---

    async def run(self) -> None:
        """For ever: hands out what is due, sleeps until the next is, or until it is woken."""
        while True:
            self._woken.clear()
            try:
                self._hand_out()
            except OSError as error:
                log.error("persist_round_failed", error=str(error))
            try:
                async with asyncio.timeout(self._sleep_s()):
                    await self._woken.wait()
            except TimeoutError:
                pass

    def _hand_out(self) -> None:
        room = PERSISTS_IN_FLIGHT_MAX - len(self._in_flight)
        if room <= 0:
            return
        with self._core.reading() as view:
            due = persist_queue.due(view, self._core.clock.now_ms(), room + len(self._in_flight))
        for item in due:
            if item.file_id not in self._in_flight and len(self._in_flight) < PERSISTS_IN_FLIGHT_MAX:
                self._in_flight[item.file_id] = 0
                self._core.background.spawn("persist", self._one(item))

    def _sleep_s(self) -> float:
        with self._core.reading() as view:
            due_ms = persist_queue.next_due_ms(view)
        if due_ms is None or self._in_flight:
            return _IDLE_S
        return min(_IDLE_S, max(0.0, (due_ms - self._core.clock.now_ms()) / 1000))

    async def _one(self, item: PersistItem) -> None:
        error: Exception | None = None
        try:
            await self._dispatch(item)
            self.done += 1
        except (OSError, IsotachError) as failure:
            error = failure
            self.failed += 1
            await self._put_back(item, failure)
        finally:
            del self._in_flight[item.file_id]
            if not isinstance(error, NobodyHoldsItError) or item.attempts >= _PATIENCE_ATTEMPTS:
                self._settle(item.file_id, error)
            self.wake()

    async def _put_back(self, item: PersistItem, failure: Exception) -> None:
        pause_s = min(self._retry_s_max, self._retry_s * 2.0 ** min(item.attempts, 30))
        due_ms = self._core.clock.now_ms() + int(pause_s * 1000)
        attempts = item.attempts + 1
        log.warning("persist_failed", file_id=item.file_id, attempts=attempts, pause_s=pause_s, error=str(failure))
        await self._core.pipeline.submit(lambda view: persist_queue.reschedule(view, item.file_id, attempts, due_ms))

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
        result = await self._workers.ask(
            worker_id, "PERSIST", inode.version, PERSIST_TIMEOUT_S, grant=self._grant(found), holders=rows
        )
        if not result.ok:
            raise UfsError(5, result.error or "the worker could not persist the file")

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
        for holder in self._locations.holders(intent.version):
            self._workers.tell(holder.worker_id, "MARK_PERSISTED", intent.version, fingerprint=fingerprint)


def _waiting_file(view: View, file_id: FileId) -> Resolved | None:
    """The file as it stands, if it still waits to be persisted."""
    try:
        found = resolve(view, path_of(view, file_id), SYSTEM)
    except FileNotFoundError:
        return None
    return None if found.inode.flags & Flag.PERSISTED or found.inode.is_dir else found


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
