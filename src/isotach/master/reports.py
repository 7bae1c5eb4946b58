"""What workers say they hold, and what the master answers.

Owns: REPORT, and which workers need not report everything again. Never: stores locations itself (`locations.py`) or
judges a page (`intake.py`).

A version that no path leads to is obsolete, unless it is being written. After a restart the master does not know which
writes are under way; for as long as a grant of its former life could still be completed, it lets versions be that
could be such writes, and drops them afterwards.

The rows of a worker outlive the master's process. A worker that registers with the incarnation and at the report that
they say it is at is taken at its word and reports nothing; what was removed in the moment of the master's death is
found by going through its rows in the background.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from isotach.base.errors import ProtocolError
from isotach.base.limits import LOCATION_SLICE_ROWS, PENDING_WRITES_MAX
from isotach.base.types import FileId, Version, WorkerId
from isotach.kv.interface import Batch, Snapshot
from isotach.master.core import Core
from isotach.master.intake import Judged, Page, judge, whole
from isotach.master.location_rows import (
    Loss,
    Orphan,
    Told,
    decode_share,
    encode,
    reported_of,
    shares_in,
    told_in,
    told_key,
)
from isotach.master.locations import Locations
from isotach.master.workers import WorkerRegistry
from isotach.master.writes import Writes
from isotach.namespace.lookup import is_current
from isotach.namespace.view import View
from isotach.net.peer import Peer
from isotach.obs.log import get_logger
from isotach.wire.messages import RegisterRequest, ReportedVersion, ReportReply, ReportRequest

log = get_logger("master.reports")
_rows_decoder: Final = msgspec.msgpack.Decoder(list[ReportedVersion])


class Reports:
    """One per master. For the event-loop thread. The hooks tell what others do about a report: versions that are
    whole nowhere any more, lost versions that are here again, files of which perhaps only evictable copies are left,
    and files whose number of copies may have changed."""

    def __init__(
        self, core: Core, locations: Locations, workers: WorkerRegistry, writes: Writes, grace_s: float, settle_s: float
    ) -> None:
        self._core: Final = core
        self._locations: Final = locations
        self._workers: Final = workers
        self._writes: Final = writes
        now = core.clock.monotonic()
        self._grace_ends: Final = now + grace_s
        self._late: Final = now + settle_s  # who did not come by then is lost
        self._settles: Final = now if locations.remembers else self._late
        self._doubtful: dict[Version, tuple[FileId, WorkerId]] = {}
        self._expected: set[WorkerId] = set(locations.workers())  # they have rows, and did not register so far
        self._forgetting: set[WorkerId] = set()
        self.orphaned: Callable[[list[Orphan], WorkerId], None] = _no_orphans
        self.found: Callable[[list[Orphan]], None] = _none_found
        self.exposed: Callable[[list[FileId]], None] = _no_files
        self.copies_changed: Callable[[list[FileId]], None] = _no_files
        locations.suffered = self._suffered

    def _suffered(self, loss: Loss, worker_id: WorkerId) -> None:
        if loss.orphans:
            self.orphaned(loss.orphans, worker_id)
        if loss.exposed:
            self.exposed(loss.exposed)

    # --- registration ---

    def knows_all_of(self, request: RegisterRequest) -> bool:
        """Whether our rows are what the worker has told so far, so that it need not tell everything again."""
        known_before = request.worker_id in self._expected
        self._expected.discard(request.worker_id)
        if request.sequence < 0 or request.worker_id in self._forgetting:
            return False
        told = self._locations.told(request.worker_id)
        if told is None or not told.complete or told.incarnation != request.incarnation:
            return False
        if told.sequence < request.sequence:
            return False
        if known_before:
            self._core.background.spawn("check-rows", self._check_rows(request.worker_id))
        return True

    def is_settled(self) -> bool:
        """Whether what is reported so far is all that there is: every worker known from before had its time, and none
        is in the middle of its report."""
        if self._expected or self._forgetting:
            return False
        return self._core.clock.monotonic() >= self._settles and self._workers.all_reported()

    # --- the handler ---

    async def report(self, request: ReportRequest, peer: Peer) -> ReportReply:
        """A worker's pages are taken in one after the other, those of several workers in turn."""
        worker = self._workers.authorized(request.worker_id, peer)
        async with worker.report_turn:
            incarnation = worker.registration.incarnation

            def prepare(soft: Snapshot) -> tuple[Batch, Judged]:
                page = self._page_of(request)
                batch, judged = self._judge(soft, page)
                if not judged.unfinished:
                    _add_told(soft, batch, request, incarnation)
                return batch, judged

            judged = await self._locations.page(prepare)
            if judged.unfinished:
                judged.obsolete += await self._take_unfinished(request, incarnation, judged.unfinished)
            self._follow(request.worker_id, judged)
            if request.last or (request.first and request.span is None):
                worker.reported = True
                if worker.recheck:
                    worker.recheck = False
                    self._core.background.spawn("check-rows", self._check_rows(request.worker_id))
        return ReportReply(judged.obsolete)

    def _page_of(self, request: ReportRequest) -> Page:
        """In the thread: decoding is a good part of the work."""
        try:
            rows = _rows_decoder.decode(request.changed)
        except msgspec.MsgspecError as error:
            raise ProtocolError(f"the report cannot be read ({error}): upgrade the worker") from error
        span = whole(request.span, request.first)
        return Page(
            worker_id=request.worker_id,
            rows=rows,
            removed=request.removed,
            span=span,
            doubts_max=self._doubts_max(),
        )

    def _judge(self, soft: Snapshot, page: Page) -> tuple[Batch, Judged]:
        # Asked before the snapshot is taken: a write that completes in between is not in the snapshot, and would not be
        # pending any more either. The worker would be told to drop the only copy of a file that was just acknowledged.
        pending = self._writes.pending()
        with self._core.store.snapshot() as names:
            return judge(soft, names, page, pending.__contains__)

    def _doubts_max(self) -> int:
        in_grace = self._core.clock.monotonic() <= self._grace_ends
        return PENDING_WRITES_MAX - len(self._doubtful) if in_grace else 0

    async def _take_unfinished(
        self, request: ReportRequest, incarnation: str, rows: list[ReportedVersion]
    ) -> list[Version]:
        """Of what an earlier process of the worker left: the versions that were never completed. Decided in the order
        of the changes, so that a COMPLETE which that process had sent in time is heard first."""

        def decide(view: View) -> set[Version]:
            gone = {row.version for row in rows if not is_current(view, row.file_id, row.version)}
            for version in gone:
                self._writes.refuse(version)
            return gone

        gone = await self._core.pipeline.submit(decide)
        kept = [msgspec.structs.replace(row, former=False) for row in rows if row.version not in gone]

        def prepare(soft: Snapshot) -> tuple[Batch, Judged]:
            batch, judged = self._judge(soft, Page(worker_id=request.worker_id, rows=kept, removed=sorted(gone)))
            _add_told(soft, batch, request, incarnation)
            return batch, judged

        judged = await self._locations.page(prepare)
        self._follow(request.worker_id, judged)
        return sorted(gone) + judged.obsolete

    def _follow(self, worker_id: WorkerId, judged: Judged) -> None:
        """What comes of a page."""
        for version, fingerprint in judged.persisted:  # it missed the news, and could never evict them
            self._workers.tell(worker_id, "MARK_PERSISTED", version, fingerprint=fingerprint)
        self._doubtful |= {version: (file_id, worker_id) for version, file_id in judged.doubtful}
        self._suffered(judged.loss, worker_id)
        if judged.found:
            self.found(judged.found)
        if judged.ruled:
            self.copies_changed(judged.ruled)

    # --- workers that go, or do not come ---

    def forget_soon(self, worker_id: WorkerId) -> None:
        """A lost worker holds nothing any more, unless it comes back in the meantime."""
        self._forgetting.add(worker_id)
        self._core.background.spawn("forget-worker", self._forget_worker(worker_id))

    async def _forget_worker(self, worker_id: WorkerId) -> None:
        worker = self._workers.get(worker_id)
        try:
            async with asyncio.Lock() if worker is None else worker.report_turn:
                if not self._workers.is_live(worker_id):
                    await self._drop_rows(worker_id)
        finally:
            self._forgetting.discard(worker_id)

    async def _drop_rows(self, worker_id: WorkerId) -> None:
        dropped = 0
        async for file_ids, loss in self._locations.forget_worker(worker_id):
            dropped += len(file_ids)
            self._suffered(loss, worker_id)
            self.copies_changed(file_ids)
        log.info("worker_forgotten", worker=worker_id, versions=dropped)

    async def expect(self) -> None:
        """A round: workers known from before the start that did not come in time are lost."""
        if self._expected and self._core.clock.monotonic() > self._late:
            late, self._expected = self._expected, set()
            for worker_id in late:
                log.warning("worker_did_not_return", worker=worker_id)
                self.forget_soon(worker_id)

    async def _check_rows(self, worker_id: WorkerId) -> None:
        """Goes through the rows that a worker was accepted with: what the master forgot to tell it when it died."""
        start: Version | None = 0
        while start is not None:
            start, judged = await self._locations.page(
                lambda soft, start=start: self._recheck(soft, worker_id, start)  # type: ignore[misc]
            )
            for version in judged.obsolete:
                self._workers.tell(worker_id, "FREE", version, force=True)
            self._follow(worker_id, judged)

    def _recheck(
        self, soft: Snapshot, worker_id: WorkerId, start: Version
    ) -> tuple[Batch, tuple[Version | None, Judged]]:
        """One slice, and where the next one starts."""
        shares = shares_in(soft, worker_id, start, limit=LOCATION_SLICE_ROWS)
        if not shares:
            return [], (None, Judged())
        stop = shares[-1][0] + 1
        rows = [reported_of(version, decode_share(raw)) for version, raw in shares]
        page = Page(worker_id=worker_id, rows=rows, span=(start, stop), check_all=True, doubts_max=self._doubts_max())
        batch, judged = self._judge(soft, page)
        return batch, (stop, judged)

    async def drop_doubtful(self) -> None:
        """When the grace after a start is over: what turned out to be nobody's goes."""
        if self._doubtful and self._core.clock.monotonic() > self._grace_ends:
            doubtful, self._doubtful = self._doubtful, {}
            with self._core.reading() as view:
                gone = [key for key, (file_id, _) in doubtful.items() if not self._is_needed(view, file_id, key)]
            for version in gone:
                self._workers.tell(doubtful[version][1], "FREE", version, force=True)

    def _is_needed(self, view: View, file_id: FileId, version: Version) -> bool:
        return self._writes.is_pending(version) or is_current(view, file_id, version)


def _add_told(soft: Snapshot, batch: Batch, request: ReportRequest, incarnation: str) -> None:
    """Notes, in the batch of the page itself, that the rows are at this report now."""
    before = told_in(soft, request.worker_id)
    goes_on = before is not None and before.complete and before.incarnation == incarnation and not request.first
    told = Told(incarnation, request.sequence, request.last or goes_on)
    batch.append((told_key(request.worker_id), encode(told)))


def _no_orphans(_orphans: list[Orphan], _worker_id: WorkerId) -> None:
    return


def _none_found(_found: list[Orphan]) -> None:
    return


def _no_files(_file_ids: list[FileId]) -> None:
    return
