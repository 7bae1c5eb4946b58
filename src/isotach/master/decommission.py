"""Workers that leave: what only they hold moves off, reads from them go on, and then they may be stopped.

Owns: DECOMMISSION, who is leaving (durably), and how far each is. Never: moves a file (`replication.py` does: a leaving
worker does not count as a holder there), or stops a process.

A leaving worker gets nothing new. What must move is what no under storage has and what has fewer copies elsewhere than
its policy says; the rest of its cache may go with it. A write that was given to it before goes on there, and its file
moves afterwards: a worker that is called DECOMMISSIONED is looked at for as long as it runs.
"""

import time
from typing import Final

import msgspec

from isotach.base.errors import InvalidArgumentError
from isotach.base.limits import LEAVERS_CHECK_S
from isotach.base.placement import is_called
from isotach.base.types import FileId, Version, WorkerId, WorkerState
from isotach.master.core import Core
from isotach.master.location_rows import Share
from isotach.master.locations import Locations
from isotach.master.replication import Replication
from isotach.master.workers import WorkerRegistry
from isotach.namespace import keys, leaving
from isotach.namespace.leaving import Leaving
from isotach.net.peer import Peer
from isotach.obs.log import get_logger
from isotach.wire.messages import DecommissionReply, DecommissionRequest, Leaver, WorkerRow

log = get_logger("master.decommission")
#: Looking through a worker's rows takes at most this share of the time.
_DUTY: Final = 0.1


class _Left(msgspec.Struct):
    """What was only at one worker when its rows were last gone through."""

    files: int = 0
    bytes: int = 0
    problem: str = ""
    seen: bool = False  # whether they ever were


class Decommission:
    """One per master. For the event-loop thread."""

    def __init__(self, core: Core, locations: Locations, workers: WorkerRegistry, replication: Replication) -> None:
        self._core: Final = core
        self._locations: Final = locations
        self._workers: Final = workers
        self._replication: Final = replication
        with core.reading() as view:
            self._leaving: dict[WorkerId, Leaving] = leaving.all_leaving(view)
        self._left: dict[WorkerId, _Left] = {}
        self._next_look: dict[WorkerId, float] = {}

    def state_of(self, worker_id: WorkerId) -> str:
        """What a leaving worker is called; empty for all others."""
        known = self._leaving.get(worker_id)
        if known is None:
            return ""
        return WorkerState.DECOMMISSIONED if known.done else WorkerState.DECOMMISSIONING

    # --- the handler ---

    async def decommission(self, request: DecommissionRequest, peer: Peer) -> DecommissionReply:
        """Raises PermissionError for all but superusers, InvalidArgumentError when no such worker is known."""
        if request.action != "ASK" and not self._core.identity.actor(peer).superuser:
            raise PermissionError(1, "only a superuser may send workers away: ask the one who runs the master")
        rows = self._rows_called(request.worker)
        if request.action == "START":
            for row in rows:
                await self._begin(row.worker_id)
        elif request.action == "CANCEL":
            for row in rows:
                await self._cancel(row.worker_id)
        elif request.action != "ASK":
            raise InvalidArgumentError(f"there is no action {request.action!r}: give START, CANCEL or ASK")
        return DecommissionReply([self._leaver(row) for row in self._rows_called(request.worker)])

    def _rows_called(self, name: str) -> list[WorkerRow]:
        rows = self._workers.rows()
        found = [row for row in rows if row.worker_id == name] or [row for row in rows if is_called(row, name)]
        if not found:
            known = ", ".join(sorted(f"{row.worker_id} on {row.host}" for row in rows)) or "none"
            raise InvalidArgumentError(f"there is no worker {name!r}: the workers are {known}")
        return found

    def _leaver(self, row: WorkerRow) -> Leaver:
        left = self._left.get(row.worker_id, _Left())
        problem = left.problem
        if row.state == WorkerState.DECOMMISSIONING and not row.live:
            problem = "the worker is away: start it, so that what it holds can move off"
        return Leaver(row.worker_id, row.host, row.state, left.files, left.bytes, problem)

    async def _begin(self, worker_id: WorkerId) -> None:
        if worker_id not in self._leaving:
            entry = Leaving(self._core.clock.now_ms())
            await self._core.pipeline.submit(lambda view: leaving.put(view, worker_id, entry))
            self._leaving[worker_id] = entry
            log.info("worker_leaves", worker=worker_id)
        self._show(worker_id)
        worker = self._workers.get(worker_id)
        if worker is not None and worker.live:
            await self._look(worker_id)

    async def _cancel(self, worker_id: WorkerId) -> None:
        if worker_id in self._leaving:
            await self._core.pipeline.submit(lambda view: leaving.drop(view, worker_id))
            self._leaving.pop(worker_id, None)
            self._left.pop(worker_id, None)
            log.info("worker_stays", worker=worker_id)
        self._show(worker_id)

    def _show(self, worker_id: WorkerId) -> None:
        worker = self._workers.get(worker_id)
        if worker is not None:
            worker.leaving = self.state_of(worker_id)

    # --- the round ---

    async def round(self) -> None:
        """Looks at the leaving workers that run, each as often as its size allows."""
        for worker_id in list(self._leaving):
            worker = self._workers.get(worker_id)
            if worker is None or not worker.live or not worker.reported:
                continue
            if self._core.clock.monotonic() >= self._next_look.get(worker_id, 0.0):
                await self._look(worker_id)

    async def _look(self, worker_id: WorkerId) -> None:
        """Goes through what it holds, and has moved off what is only there."""
        started = time.monotonic()
        left = _Left(seen=True)
        async for shares in self._locations.shares(worker_id):
            wanted = self._only_there(shares, left)
            self._replication.want(wanted)
            if not left.problem:
                left.problem = next((text for text in map(self._replication.problem_of, wanted) if text), "")
        if worker_id not in self._leaving:
            return  # cancelled meanwhile
        self._left[worker_id] = left
        took_s = time.monotonic() - started
        self._next_look[worker_id] = self._core.clock.monotonic() + max(LEAVERS_CHECK_S, took_s / _DUTY)
        await self._set_done(worker_id, left.files == 0)

    def _only_there(self, shares: list[tuple[Version, Share]], left: _Left) -> list[FileId]:
        live = self._workers.live_rows()
        found: list[FileId] = []
        with self._core.reading() as view:
            for version, share in shares:
                if not share.dirty and view.get(keys.replicated(share.file_id)) is None:
                    continue
                planned = self._replication.plan(view, share.file_id, live)
                if planned is None or planned[0].version != version or not planned[1].missing:
                    continue
                left.files += 1
                left.bytes += share.cached_bytes
                found.append(share.file_id)
        return found

    async def _set_done(self, worker_id: WorkerId, done: bool) -> None:
        before = self._leaving[worker_id]
        worker = self._workers.get(worker_id)
        if before.done == done or worker is None or not worker.reported:
            return
        after = msgspec.structs.replace(before, done=done)
        await self._core.pipeline.submit(lambda view: leaving.put(view, worker_id, after))
        if worker_id in self._leaving:
            self._leaving[worker_id] = after
            self._show(worker_id)
            log.info("worker_may_be_stopped" if done else "worker_holds_something_again", worker=worker_id)
