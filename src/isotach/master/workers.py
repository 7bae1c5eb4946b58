"""The workers as the master knows them: who they are, whether they live, and what they are told.

Owns: registration, heartbeats, the loss of silent workers, and each worker's command queue. Never: knows which blocks a
worker holds (`locations.py`) or what a command is for.

All of it but who is leaving is soft state: after a restart of the master the workers' next heartbeat is answered
`known=False`, and they register again.
"""

import asyncio
import time
from collections.abc import Callable

from isotach.base.errors import AuthenticationError, UnavailableError
from isotach.base.types import Mount, TierInfo, Version, WorkerId, WorkerState
from isotach.master.clock import Clock
from isotach.master.commands import CommandQueue
from isotach.net.peer import Peer
from isotach.obs.log import get_logger
from isotach.wire.grants import check_proof
from isotach.wire.messages import (
    Command,
    CommandResult,
    HeartbeatReply,
    HeartbeatRequest,
    PollReply,
    PollRequest,
    RegisterReply,
    RegisterRequest,
    WorkerMountsReply,
    WorkerMountsRequest,
    WorkerRow,
)

log = get_logger("master.workers")
_LATE_ROUND_S = 1.5
_UNKNOWN_POLL_PAUSE_S = 0.2


class Worker:
    """One worker. `report_turn` puts its reports, and its removal, in order; `reported` tells that all it has is known;
    `leaving` is what it is called while it is decommissioned, and empty otherwise."""

    __slots__ = (
        "leaving",
        "live",
        "queue",
        "recheck",
        "registration",
        "report_turn",
        "reported",
        "seen_mono",
        "tiers",
        "user",
        "versions",
    )

    def __init__(self, registration: RegisterRequest, user: str, now_mono: float) -> None:
        self.registration = registration
        self.user = user
        self.tiers: list[TierInfo] = registration.tiers
        self.seen_mono = now_mono
        self.live = True
        self.recheck = False  # whether its rows must be gone through once it has reported everything
        self.queue = CommandQueue()
        self.report_turn = asyncio.Lock()
        self.reported = False
        self.leaving = ""
        self.versions = registration.versions

    @property
    def state(self) -> str:
        """A `WorkerState`."""
        return self.leaving or (WorkerState.LIVE if self.live else WorkerState.LOST)

    def row(self, now_mono: float) -> WorkerRow:
        known = self.registration
        age_ms = int((now_mono - self.seen_mono) * 1000)
        return WorkerRow(
            known.worker_id,
            known.host,
            known.address,
            known.local_socket,
            known.host_key,
            self.live,
            age_ms,
            self.tiers,
            self.state,
            known.locality,
            self.versions,
        )


class WorkerRegistry:
    """All workers. For the event-loop thread only."""

    def __init__(
        self,
        secret: bytes,
        clock: Clock,
        timeout_s: float,
        heartbeat_s: float,
        mounts: Callable[[], tuple[list[Mount], int]],
    ) -> None:
        self._secret = secret
        self._clock = clock
        self._timeout_s = timeout_s
        self._heartbeat_ms = int(heartbeat_s * 1000)
        self._mounts = mounts
        self._workers: dict[WorkerId, Worker] = {}
        self._round_mono = time.monotonic()
        self._next_command = 0
        self.on_lost: list[Callable[[WorkerId], None]] = []
        self.on_joined: list[Callable[[WorkerId], None]] = []
        #: Called before the new process of a worker is answered: what the old one was doing is over.
        self.on_new_process: list[Callable[[WorkerId], None]] = []
        #: Whether a worker that registers need not report what it holds.
        self.knows_all_of: Callable[[RegisterRequest], bool] = lambda _request: False
        #: Called with what clients open very often at a worker.
        self.on_hot: Callable[[WorkerId, list[Version]], None] = lambda _worker_id, _versions: None
        #: What a worker is called that is being decommissioned; empty for all others.
        self.leaving_state: Callable[[WorkerId], str] = lambda _worker_id: ""

    # --- what the rest of the master asks ---

    def rows(self) -> list[WorkerRow]:
        """Every worker ever seen since the start, lost ones included."""
        now = self._clock.monotonic()
        return [worker.row(now) for worker in self._workers.values()]

    def live_rows(self) -> list[WorkerRow]:
        now = self._clock.monotonic()
        return [worker.row(now) for worker in self._workers.values() if worker.live]

    def all_reported(self) -> bool:
        """Whether no live worker is still in the middle of telling what it has."""
        return all(worker.reported for worker in self._workers.values() if worker.live)

    def is_live(self, worker_id: WorkerId) -> bool:
        worker = self._workers.get(worker_id)
        return worker is not None and worker.live

    def get(self, worker_id: WorkerId) -> Worker | None:
        return self._workers.get(worker_id)

    def row_of(self, worker_id: WorkerId) -> WorkerRow | None:
        worker = self._workers.get(worker_id)
        return None if worker is None else worker.row(self._clock.monotonic())

    def authorized(self, worker_id: WorkerId, peer: Peer) -> Worker:
        """The live worker that `peer` registered as.

        Raises UnavailableError when it must register first, AuthenticationError when somebody else speaks.
        """
        worker = self._workers.get(worker_id)
        if worker is None or not worker.live:
            raise UnavailableError(f"the master does not know the worker {worker_id}: it must register first")
        if worker.user != peer.user:
            raise AuthenticationError(f"the worker {worker_id} belongs to another user: run it as {worker.user}")
        return worker

    def tell(
        self,
        worker_id: WorkerId,
        kind: str,
        version: Version,
        *,
        force: bool = False,
        fingerprint: str | None = None,
        tier: str = "",
    ) -> None:
        """Sends a command whose answer nobody needs; nothing happens when the worker is gone."""
        worker = self._workers.get(worker_id)
        if worker is not None and worker.live:
            worker.queue.push(
                Command(self._command_id(), kind, version, force=force, fingerprint=fingerprint, tier=tier)
            )

    async def ask(
        self,
        worker_id: WorkerId,
        kind: str,
        version: Version,
        timeout_s: float,
        *,
        grant: bytes = b"",
        holders: list[WorkerRow] | None = None,
        force: bool = False,
        dirty: bool = False,
    ) -> CommandResult:
        """Sends a command and waits for its result. Raises UnavailableError when the worker is lost, TimeoutError."""
        answer = self.post(worker_id, kind, version, grant=grant, holders=holders, force=force, dirty=dirty)
        async with asyncio.timeout(timeout_s):
            return await answer

    def post(
        self,
        worker_id: WorkerId,
        kind: str,
        version: Version,
        *,
        grant: bytes = b"",
        holders: list[WorkerRow] | None = None,
        bandwidth: int = 0,
        force: bool = False,
        dirty: bool = False,
    ) -> asyncio.Future[CommandResult]:
        """Sends a command without a task or a timer of its own: for thousands at a time. The future gets the result,
        or UnavailableError when the worker is lost; whoever cancels it does not want the command any more."""
        answer: asyncio.Future[CommandResult] = asyncio.get_running_loop().create_future()
        worker = self._workers.get(worker_id)
        if worker is None or not worker.live:
            answer.set_exception(UnavailableError(f"the worker {worker_id} is lost"))
            return answer
        command = Command(
            self._command_id(),
            kind,
            version,
            grant,
            force=force,
            holders=holders or [],
            dirty=dirty,
            bandwidth=bandwidth,
        )
        worker.queue.push(command, answer)
        return answer

    # --- handlers ---

    def register(self, request: RegisterRequest, peer: Peer) -> RegisterReply:
        """A worker introduces itself. One that is known already starts anew: its old commands are dropped."""
        check_proof(self._secret, request.proof, request.worker_id.encode(), request.address.encode())
        before = self._workers.get(request.worker_id)
        worker = Worker(request, peer.user, self._clock.monotonic())
        worker.reported = self.knows_all_of(request)
        worker.leaving = self.leaving_state(request.worker_id)
        if before is not None:
            self._take_over(before, worker)
        self._workers[request.worker_id] = worker
        log.info(
            "worker_registered",
            worker=request.worker_id,
            address=request.address,
            again=before is not None,
            report_all=not worker.reported,
        )
        for callback in self.on_joined:
            callback(request.worker_id)
        mounts, epoch = self._mounts()
        return RegisterReply(self._heartbeat_ms, mounts, epoch, not worker.reported)

    def _take_over(self, before: Worker, worker: Worker) -> None:
        """What the former registration leaves to the next one."""
        worker_id = worker.registration.worker_id
        worker.report_turn = before.report_turn
        same_process = before.registration.incarnation == worker.registration.incarnation
        if same_process and before.live and not before.queue.overflowed and worker.reported:
            worker.queue = before.queue  # it reports nothing anew, so no answer would tell it what it must drop
            return
        worker.reported = False
        worker.recheck = same_process  # it may have been told to drop what it is about to report as before
        before.queue.drop_all(UnavailableError(f"the worker {worker_id} started anew"))
        if not same_process:
            for callback in self.on_new_process:
                callback(worker_id)

    def heartbeat(self, request: HeartbeatRequest, peer: Peer) -> HeartbeatReply:
        epoch = self._mounts()[1]
        worker = self._workers.get(request.worker_id)
        if worker is None or not worker.live or worker.queue.overflowed or worker.user != peer.user:
            return HeartbeatReply(False, epoch)
        worker.seen_mono = self._clock.monotonic()
        worker.tiers = request.tiers
        worker.versions = request.versions
        if request.hot:
            self.on_hot(request.worker_id, request.hot)
        return HeartbeatReply(True, epoch)

    def worker_mounts(self, request: WorkerMountsRequest, _peer: Peer) -> WorkerMountsReply:
        """The mount table with its secrets, for who knows the cluster's secret."""
        check_proof(self._secret, request.proof, request.worker_id.encode())
        return WorkerMountsReply(*self._mounts())

    async def poll(self, request: PollRequest, peer: Peer) -> PollReply:
        try:
            worker = self.authorized(request.worker_id, peer)
        except UnavailableError:
            await asyncio.sleep(min(_UNKNOWN_POLL_PAUSE_S, request.wait_ms / 1000))
            return PollReply([])
        worker.queue.settle(request.done)
        return PollReply(await worker.queue.take(request.wait_ms / 1000, self._clock.monotonic()))

    def close(self) -> None:
        """Ends all long polls, so that the server may close."""
        for worker in self._workers.values():
            worker.queue.close()

    # --- rounds ---

    async def check_lost(self) -> None:
        """Declares lost whoever has been silent for too long.

        A round that comes very late says that this process was frozen (a paused machine, a suspended container): the
        heartbeats of that time are still in the sockets, and one more round lets them be heard.
        """
        late_s = time.monotonic() - self._round_mono
        self._round_mono = time.monotonic()  # not the clock of the rules: what counts is whether we could listen
        if late_s > max(_LATE_ROUND_S, self._timeout_s / 2):
            return
        now = self._clock.monotonic()
        for worker_id, worker in self._workers.items():
            if worker.live and now - worker.seen_mono > self._timeout_s:
                worker.live = False
                worker.queue.drop_all(UnavailableError(f"the worker {worker_id} is lost"))
                log.warning("worker_lost", worker=worker_id, silent_s=round(now - worker.seen_mono, 1))
                worker.reported = False
                for callback in self.on_lost:
                    callback(worker_id)

    def _command_id(self) -> int:
        self._next_command += 1
        return self._next_command
