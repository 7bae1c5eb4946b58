"""The worker's tie to the master: registration, heartbeats, mounts, commands.

Owns: the threads that keep it, and what happens when it breaks: nothing, to those who read. Never: carries out a
command itself (`commands.py`).

A heartbeat that is answered `known=False` (the master restarted, or gave us up) leads to a new registration, and to a
report of everything unless the master still has what we told it; one that shows another epoch of the mount table leads
to fetching it.
"""

import os
import threading
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from isotach.base.errors import IsotachError
from isotach.base.limits import POLL_WAIT_MS, RESULTS_GATHER_S, RESULTS_GATHERED_MAX
from isotach.base.types import BlockHolder, TierInfo, Version
from isotach.net.blocking_channel import BlockingChannel
from isotach.net.retry import RetryPolicy
from isotach.obs.log import get_logger
from isotach.wire.grants import prove
from isotach.wire.messages import (
    HEARTBEAT,
    LOCATIONS,
    POLL,
    REGISTER,
    REPORT,
    WORKER_MOUNTS,
    WORKERS,
    Command,
    CommandResult,
    Empty,
    HeartbeatRequest,
    LocationsRequest,
    PollRequest,
    RegisterRequest,
    ReportReply,
    ReportRequest,
    WorkerMountsRequest,
    WorkerRow,
)
from isotach.worker.metrics import WorkerMetrics
from isotach.worker.mounts import Mounts, UfsLimits

log = get_logger("worker.master")
#: Another one in every process: tells the master that an earlier process of this worker is gone.
_INCARNATION: Final = os.urandom(8).hex()
_CALL_DEADLINE_S: Final = 10.0
_REPORT_DEADLINE_S: Final = 60.0


class Identity(Protocol):
    """Who this worker is; see `RegisterRequest`. Read at every registration."""

    @property
    def worker_id(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def local_socket(self) -> str: ...
    @property
    def host_key(self) -> str: ...
    @property
    def locality(self) -> list[tuple[str, str]]: ...
    @property
    def secret(self) -> bytes: ...


class MasterLink:
    """One per worker. `tiers`, `versions` (how many) and `hot` (see `heat`) are asked at every heartbeat, `reported`
    (up to which report the master was told) at every registration; `registered` (must everything be reported?) and
    `unregistered` tell the reports."""

    def __init__(
        self,
        address: str,
        identity: Identity,
        metrics: WorkerMetrics,
        *,
        heartbeat_s: float,
        tiers: Callable[[], list[TierInfo]],
        registered: Callable[[bool], None],
        unregistered: Callable[[], None],
        take_commands: Callable[[Sequence[Command]], None],
        reported: Callable[[], int],
        versions: Callable[[], int],
        limits: UfsLimits | None = None,
        hot: Callable[[], list[Version]] = list,
    ) -> None:
        self.channel: Final = BlockingChannel(address, client="worker")
        #: For what runs in a loop of its own: one attempt, the loop tries again.
        self._impatient: Final = BlockingChannel(
            address, client="worker", policy=RetryPolicy(total_s=0.0, first_connect_s=0.0)
        )
        self._identity: Final = identity
        self._metrics: Final = metrics
        self._heartbeat_s: Final = heartbeat_s
        self._tiers: Final = tiers
        self._registered: Final = registered
        self._unregistered: Final = unregistered
        self._take_commands: Final = take_commands
        self._reported: Final = reported
        self._versions: Final = versions
        self._hot: Final = hot
        self.mounts: Final = Mounts(self.refresh_mounts, limits=limits)
        self._stop: Final = threading.Event()
        self._hurry: Final = threading.Event()  # the next heartbeat is due now
        self._is_registered = threading.Event()
        self._results: list[CommandResult] = []
        self._is_urgent = False  # one of them is waited for
        self._has_results: Final = threading.Condition()
        self._threads = [
            threading.Thread(target=loop, name=name, daemon=True)
            for name, loop in (("heartbeat", self._beat), ("poll", self._poll), ("results", self._send_results))
        ]

    def start(self) -> None:
        """Begins to register, to beat and to take commands."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Ends the threads (a long poll under way is left to die with its connection)."""
        self._stop.set()
        self._hurry.set()
        with self._has_results:
            self._has_results.notify_all()
        self._is_registered.set()
        if self._threads[0].is_alive():  # not so when the worker could not start
            self._threads[0].join(2.0)
        self.channel.close()
        self._impatient.close()

    @property
    def is_registered(self) -> bool:
        """Whether the master knew us at the last heartbeat."""
        return self._is_registered.is_set() and not self._stop.is_set()

    def lost(self) -> None:
        """Somebody's call failed: look at once whether the master still knows us."""
        self._hurry.set()

    # --- calls ---

    def report(self, request: ReportRequest) -> ReportReply:
        """Sends a report."""
        return self._impatient.call(REPORT, request, deadline_s=_REPORT_DEADLINE_S)[0]

    def holders(self, version: Version) -> tuple[list[BlockHolder], list[WorkerRow]]:
        """Who holds blocks of the version, and how the workers are reached."""
        rows = self.list_workers()
        holders = self.channel.call(LOCATIONS, LocationsRequest([version]), deadline_s=_CALL_DEADLINE_S)[0].holders
        return (holders[0] if holders else []), rows

    def list_workers(self) -> list[WorkerRow]:
        """All workers that the master knows."""
        return self.channel.call(WORKERS, Empty(), deadline_s=_CALL_DEADLINE_S)[0].workers

    def refresh_mounts(self) -> None:
        """Fetches the mount table. Raises UnavailableError."""
        me = self._identity
        request = WorkerMountsRequest(me.worker_id, prove(me.secret, me.worker_id.encode()))
        reply, _ = self.channel.call(WORKER_MOUNTS, request, deadline_s=_CALL_DEADLINE_S)
        self.mounts.update(reply.mounts, reply.mounts_epoch)

    def result(self, result: CommandResult, more_to_come: bool = False) -> None:
        """The outcome of a command, to be told at once; or in a moment, when there is more to be told with it: a load
        of small files would cost an exchange for each of them."""
        with self._has_results:
            self._results.append(result)
            self._is_urgent = self._is_urgent or not more_to_come
            if self._is_urgent or len(self._results) in (1, RESULTS_GATHERED_MAX):
                self._has_results.notify_all()

    # --- loops ---

    def _beat(self) -> None:
        while not self._stop.is_set():
            try:
                self._beat_once()
                self._metrics.heartbeats.add()
            except (IsotachError, OSError) as error:
                self._metrics.heartbeat_failures.add()
                if self._is_registered.is_set() or not self._hurry.is_set():
                    log.warning("master_away", error=error)
                self._is_registered.clear()
                self._unregistered()
            except Exception as error:  # our bug: the loop must live on
                log.error("heartbeat_failed", error=error, exc_info=error)
            self._hurry.clear()
            self._hurry.wait(self._heartbeat_s)

    def _beat_once(self) -> None:
        if not self._is_registered.is_set():
            self._register()
            return
        request = HeartbeatRequest(self._identity.worker_id, self._tiers(), self._versions(), self._hot())
        reply, _ = self._impatient.call(HEARTBEAT, request, deadline_s=_CALL_DEADLINE_S)
        if not reply.known:
            self._unregistered()
            self._register()
        elif reply.mounts_epoch != self.mounts.epoch:
            self.refresh_mounts()

    def _register(self) -> None:
        me = self._identity
        proof = prove(me.secret, me.worker_id.encode(), me.address.encode())
        request = RegisterRequest(
            me.worker_id,
            me.host,
            me.address,
            me.local_socket,
            me.host_key,
            self._tiers(),
            proof,
            _INCARNATION,
            me.locality,
            self._versions(),
            self._reported(),
        )
        reply, _ = self._impatient.call(REGISTER, request, deadline_s=_CALL_DEADLINE_S)
        self.mounts.update(reply.mounts, reply.mounts_epoch)
        self._is_registered.set()
        self._registered(reply.report_all)
        log.info("registered", worker=me.worker_id, mounts=len(reply.mounts), report_all=reply.report_all)

    def _poll(self) -> None:
        while not self._stop.is_set():
            self._is_registered.wait()
            if not self._exchange(POLL_WAIT_MS, []):
                self._stop.wait(self._heartbeat_s)

    def _send_results(self) -> None:
        while True:
            with self._has_results:
                self._has_results.wait_for(lambda: self._results or self._stop.is_set())
                self._has_results.wait_for(self._is_worth_telling, RESULTS_GATHER_S)
                if self._stop.is_set():
                    return
                results, self._results, self._is_urgent = self._results, [], False
            if not self._exchange(0, results):
                with self._has_results:
                    self._results = results + self._results
                self._stop.wait(self._heartbeat_s)

    def _is_worth_telling(self) -> bool:
        return self._is_urgent or self._stop.is_set() or len(self._results) >= RESULTS_GATHERED_MAX

    def _exchange(self, wait_ms: int, done: list[CommandResult]) -> bool:
        """One poll; whether it was answered."""
        request = PollRequest(self._identity.worker_id, wait_ms, done)
        try:
            reply, _ = self._impatient.call(POLL, request, deadline_s=wait_ms / 1000 + _CALL_DEADLINE_S)
            self._take_commands(reply.commands)
        except (IsotachError, OSError) as error:
            if not self._stop.is_set():
                log.debug("poll_failed", error=error)
            return False
        except Exception as error:  # our bug: the loop must live on
            log.error("poll_failed", error=error, exc_info=error)
            return False
        return True
