"""What workers say they hold, and what the master answers.

Owns: REPORT. Never: stores locations itself (`locations.py`).

A version that no path leads to is obsolete, unless it is being written. After a restart the master does not know which
writes are under way; for as long as a grant of its former life could still be completed, it lets versions be that
could be such writes, and drops them afterwards.
"""

import asyncio

from isotach.base.limits import PENDING_WRITES_MAX
from isotach.base.types import FileId, Flag, Version, WorkerId
from isotach.master.core import Core
from isotach.master.locations import Locations
from isotach.master.workers import WorkerRegistry
from isotach.master.writes import Writes
from isotach.namespace.lookup import inode_of
from isotach.namespace.view import View
from isotach.net.peer import Peer
from isotach.obs.log import get_logger
from isotach.wire.messages import ReportedVersion, ReportReply, ReportRequest

log = get_logger("master.reports")
_SLICE = 100


class Reports:
    """One per master. For the event-loop thread."""

    def __init__(
        self, core: Core, locations: Locations, workers: WorkerRegistry, writes: Writes, grace_s: float
    ) -> None:
        self._core = core
        self._locations = locations
        self._workers = workers
        self._writes = writes
        self._grace_ends = core.clock.monotonic() + grace_s
        self._doubtful: dict[Version, tuple[FileId, WorkerId]] = {}

    async def report(self, request: ReportRequest, peer: Peer) -> ReportReply:
        """The handler. A worker's pages are taken in one after the other."""
        worker = self._workers.authorized(request.worker_id, peer)
        async with worker.report_turn:
            if request.first:
                await self._locations.forget_worker(request.worker_id)
            obsolete: list[Version] = []
            for start in range(0, len(request.changed), _SLICE):
                rows = request.changed[start : start + _SLICE]
                overtaken = await self._refuse_unfinished([row for row in rows if row.former])
                obsolete += overtaken
                obsolete += await self._take(request.worker_id, [row for row in rows if row.version not in overtaken])
                await asyncio.sleep(0)
            if request.removed:
                await self._locations.report(request.worker_id, [], request.removed)
        return ReportReply(obsolete)

    async def forget_worker(self, worker_id: WorkerId) -> None:
        """A lost worker holds nothing any more, unless it came back in the meantime."""
        worker = self._workers.get(worker_id)
        if worker is not None:
            async with worker.report_turn:
                if not self._workers.is_live(worker_id):
                    dropped = await self._locations.forget_worker(worker_id)
                    log.info("worker_forgotten", worker=worker_id, versions=dropped)

    async def drop_doubtful(self) -> None:
        """When the grace after a start is over: what turned out to be nobody's goes."""
        if self._doubtful and self._core.clock.monotonic() > self._grace_ends:
            doubtful, self._doubtful = self._doubtful, {}
            with self._core.reading() as view:
                gone = [key for key, (file_id, _) in doubtful.items() if not self._is_needed(view, file_id, key)]
            for version in gone:
                self._workers.tell(doubtful[version][1], "FREE", version, force=True)

    async def _refuse_unfinished(self, former: list[ReportedVersion]) -> list[Version]:
        """Of what an earlier process of the worker left: the versions that were never completed. Decided in the order
        of the changes, so that a COMPLETE which that process had sent in time is heard first."""
        if not former:
            return []

        def decide(view: View) -> list[Version]:
            gone = [row.version for row in former if not _is_current(view, row.file_id, row.version)]
            for version in gone:
                self._writes.refuse(version)
            return gone

        return await self._core.pipeline.submit(decide)

    async def _take(self, worker_id: WorkerId, rows: list[ReportedVersion]) -> list[Version]:
        obsolete, current = [], []
        with self._core.reading() as view:
            for row in rows:
                if self._is_needed(view, row.file_id, row.version):
                    current.append(row)
                    self._correct(view, worker_id, row)
                elif row.dirty and self._may_be_written(row, worker_id):
                    current.append(row)
                else:
                    obsolete.append(row.version)
        await self._locations.report(worker_id, current, obsolete)
        return obsolete

    def _is_needed(self, view: View, file_id: FileId, version: Version) -> bool:
        return self._writes.is_pending(version) or _is_current(view, file_id, version)

    def _correct(self, view: View, worker_id: WorkerId, row: ReportedVersion) -> None:
        """A worker that missed the news that a file is persisted hears it again: else it could never evict it."""
        if row.dirty and not self._writes.is_pending(row.version):
            inode = inode_of(view, row.file_id)
            if inode.flags & Flag.PERSISTED:
                self._workers.tell(worker_id, "MARK_PERSISTED", row.version, fingerprint=inode.fingerprint)

    def _may_be_written(self, row: ReportedVersion, worker_id: WorkerId) -> bool:
        in_grace = self._core.clock.monotonic() <= self._grace_ends
        if not in_grace or len(self._doubtful) >= PENDING_WRITES_MAX:
            return False
        self._doubtful[row.version] = (row.file_id, worker_id)
        return True


def _is_current(view: View, file_id: FileId, version: Version) -> bool:
    try:
        return inode_of(view, file_id).version == version
    except FileNotFoundError:
        return False
