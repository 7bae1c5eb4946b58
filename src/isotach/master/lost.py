"""Files whose last copy is gone: noticed, told, and found again.

Owns: when a file counts as lost, and LOST (the list of them). Never: loses one: a file that any under storage has, or
whose blocks the live workers have between them, is not lost.

A loss is noticed when a worker's rows are dropped or shrink. What was lost while the master itself was away is found by
one sweep over the namespace, once every worker that it knew before had its time to come back.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from isotach.base.limits import LOST_MARKS_PER_CHANGE, LOST_PAGE_FILES_MAX, LOST_SLICE_ROWS
from isotach.base.paths import is_within, split
from isotach.base.types import FileId, Flag, Kind, Version, WorkerId
from isotach.kv.interface import Snapshot
from isotach.master.cache_states import covers
from isotach.master.core import Core
from isotach.master.location_rows import Orphan, dirty_holders, state_in
from isotach.master.locations import Locations
from isotach.master.workers import WorkerRegistry
from isotach.namespace import keys, lost
from isotach.namespace.actor import Actor
from isotach.namespace.lookup import inode_of, path_of, resolve
from isotach.namespace.lost import LostRecord
from isotach.namespace.records import InodeHead, decode_inode_head
from isotach.namespace.view import View
from isotach.net.peer import Peer
from isotach.obs.log import get_logger
from isotach.wire.messages import LostFile, LostReply, LostRequest

log = get_logger("master.lost")
_SETTLE_CHECK_S: Final = 0.5
_SWEEP_RETRY_S: Final = 10.0


class _Seen(msgspec.Struct):
    """What a slice of the sweep found: files that are nowhere, lost ones that are here, those of which there are only
    copies that may be evicted, and where the next slice starts."""

    gone: list[Orphan] = []
    here: list[Orphan] = []
    exposed: list[FileId] = []
    next_key: bytes | None = None


class Lost:
    """One per master. For the event-loop thread. `settled` tells whether the workers have told all that they have;
    `found_again` is called with files that are whole again,
    `exposed` with those of which only copies are left that may be evicted."""

    def __init__(self, core: Core, locations: Locations, workers: WorkerRegistry, settled: Callable[[], bool]) -> None:
        self._core: Final = core
        self._locations: Final = locations
        self._workers: Final = workers
        self._settled: Final = settled
        #: What was written since is known from its workers: the sweep is about what was there before.
        self._born: Final[Version] = core.ids.allocate()
        self.exposed: Callable[[list[FileId]], None] = _nobody
        self.found_again: Callable[[list[FileId]], None] = _nobody
        self.lost_files = 0  # noticed in this process

    # --- noticing ---

    def mark_soon(self, orphans: list[Orphan], worker_id: WorkerId) -> None:
        """These are nowhere whole any more, because of that worker."""
        self._core.background.spawn("mark-lost", self._mark(orphans, worker_id))

    def find_soon(self, found: list[Orphan]) -> None:
        """A worker has something of these lost versions."""
        self._core.background.spawn("mark-found", self._find(found))

    async def _mark(self, orphans: list[Orphan], worker_id: WorkerId) -> None:
        for start in range(0, len(orphans), LOST_MARKS_PER_CHANGE):
            await self._mark_some(orphans[start : start + LOST_MARKS_PER_CHANGE], worker_id)

    async def _mark_some(self, orphans: list[Orphan], worker_id: WorkerId) -> None:
        row = self._workers.row_of(worker_id) if worker_id else None
        host = "" if row is None else row.host

        def apply(view: View) -> int:
            now_ms = self._core.clock.now_ms()
            return sum(
                lost.mark_lost(view, each.file_id, LostRecord(each.version, worker_id, host, now_ms))
                for each in orphans
                if not self._is_whole(view, each)
            )

        count = await self._core.pipeline.submit(apply)
        if count:
            self.lost_files += count
            log.error("files_lost", count=count, worker=worker_id, host=host)
        with self._core.reading() as view:
            whole = [each for each in orphans if self._is_whole(view, each)]
        if whole:  # a report came between the look and the mark, and saw nothing of the mark
            await self._find(whole)

    async def _find(self, found: list[Orphan]) -> None:
        for start in range(0, len(found), LOST_MARKS_PER_CHANGE):
            await self._find_some(found[start : start + LOST_MARKS_PER_CHANGE])

    async def _find_some(self, found: list[Orphan]) -> None:
        def apply(view: View) -> list[FileId]:
            now_ms = self._core.clock.now_ms()
            return [
                each.file_id
                for each in found
                if self._is_whole(view, each) and lost.mark_found(view, each.file_id, each.version, now_ms)
            ]

        file_ids = await self._core.pipeline.submit(apply)
        if file_ids:
            log.info("files_found_again", count=len(file_ids))
            self.found_again(file_ids)

    def _is_whole(self, view: View, orphan: Orphan) -> bool:
        """Whether the workers have all of the version between them."""
        try:
            inode = inode_of(view, orphan.file_id)
        except FileNotFoundError:
            return False
        return covers(self._locations.holders(orphan.version), inode.length, inode.block_size)

    # --- after a restart ---

    async def sweep(self) -> None:
        """Once: looks through the namespace for what no worker has brought back."""
        while not self._settled():  # noqa: ASYNC110 - nothing signals that time has passed and reports are complete
            await asyncio.sleep(_SETTLE_CHECK_S)
        while True:
            try:
                await self._locations.note_complete()
                await self._look_through()
            except OSError as error:
                log.error("lost_sweep_failed", error=str(error))
                await asyncio.sleep(_SWEEP_RETRY_S)
            else:
                return

    async def _look_through(self) -> None:
        start: bytes | None = keys.all_of(b"e")[0]
        while start is not None:
            seen = await self._locations.page(
                lambda soft, start=start: ([], self._slice(soft, start))  # type: ignore[misc]
            )
            await self._mark(seen.gone, "")
            await self._find(seen.here)
            self.exposed(seen.exposed)
            start = seen.next_key

    def _slice(self, soft: Snapshot, start: bytes) -> _Seen:
        """In the thread."""
        seen = _Seen()
        count = 0
        with self._core.store.snapshot() as names:
            for key, raw in names.scan(start, keys.all_of(b"e")[1]):
                if count == LOST_SLICE_ROWS:
                    seen.next_key = key
                    break
                count += 1
                head = decode_inode_head(raw)
                if head.kind == Kind.FILE and head.length and not head.flags & Flag.PERSISTED:
                    self._look_at(soft, head, seen)
        return seen

    def _look_at(self, soft: Snapshot, head: InodeHead, seen: _Seen) -> None:
        """One file that no store has."""
        if head.version > self._born:
            return
        state = state_in(soft, head.version)
        holders = [] if state is None else list(state.holders)
        whole = covers(holders, head.length, head.block_size)
        if whole == bool(head.flags & Flag.LOST):
            (seen.here if whole else seen.gone).append(Orphan(head.version, head.id))
        elif whole:
            dirty = dirty_holders(soft, head.version, [each.worker_id for each in holders])
            if not covers([each for each in holders if each.worker_id in dirty], head.length, head.block_size):
                seen.exposed.append(head.id)

    # --- the handler ---

    def lost(self, request: LostRequest, peer: Peer) -> LostReply:
        """The lost files at or below a path that the caller may look up. Raises what looking the path up does."""
        actor = self._core.identity.actor(peer)
        limit = max(1, min(request.limit, LOST_PAGE_FILES_MAX))
        with self._core.reading() as view:
            resolve(view, request.path, actor)
            rows = lost.lost_after(view, request.after, limit)
            files = [file for file_id, record in rows if (file := _file(view, file_id, record, request, actor))]
        return LostReply(files, rows[-1][0] if len(rows) == limit else -1)


def _file(view: View, file_id: FileId, record: LostRecord, request: LostRequest, actor: Actor) -> LostFile | None:
    try:
        path = path_of(view, file_id)
        if not is_within(path, request.path):
            return None
        if not request.recursive and path != request.path and split(path)[0] != request.path:
            return None
        inode = resolve(view, path, actor).inode
    except (FileNotFoundError, PermissionError):
        return None  # removed with a directory above it, or none of the caller's business
    return LostFile(path, inode, record.worker_id, record.host, record.since_ms)


def _nobody(_file_ids: list[FileId]) -> None:
    return
