"""The worker as a whole: its parts put together, started and stopped in order.

Owns: the composition and the sockets' addresses. Never: the logic of any part.

Threads: one per data connection; fetches; reports, heartbeat, poll and results towards the master; persists and loads.
What they share: the block store (one lock, none on the hot path), the table of fetches (one lock), the set of versions
to report (one lock, innermost). No lock is held across a call to an under storage, the master or a client.
"""

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from isotach.base.errors import UnavailableError
from isotach.base.limits import BUFFER_WRITE_SHARE
from isotach.base.locality import tiers_of
from isotach.base.types import TierInfo, Version
from isotach.blockstore.ownership import cluster_stamp
from isotach.blockstore.store import BlockStore
from isotach.blockstore.tier import Watermarks
from isotach.conf.settings import Settings
from isotach.net.address import Address, host_key
from isotach.net.thread_call import Call
from isotach.net.thread_server import ThreadRpcServer
from isotach.obs.log import get_logger
from isotach.obs.serve import MetricsServer, serve_metrics
from isotach.wire.messages import (
    COMMIT,
    PUT,
    WORKER_STATUS,
    WRITE,
    WRITE_ABORT,
    WRITE_OPEN,
    Command,
    Welcome,
    WorkerStatusReply,
)
from isotach.worker.buffers import BufferBudget
from isotach.worker.commands import Commands
from isotach.worker.committer import Committer
from isotach.worker.draft_publishing import DraftPublisher
from isotach.worker.drafts import DraftService
from isotach.worker.folder import WorkerFolder
from isotach.worker.grant_cache import GrantCache
from isotach.worker.handles import Handles
from isotach.worker.leftovers import Leftovers
from isotach.worker.master_link import MasterLink
from isotach.worker.metrics import WorkerMetrics
from isotach.worker.mounts import UfsLimits
from isotach.worker.persist import Persister
from isotach.worker.read_side import ReadSide
from isotach.worker.reports import Reports
from isotach.worker.verify import LoadVerifier
from isotach.worker.writing import WriteService

log = get_logger("worker")
REGISTER_WAIT_S: Final = 5.0


class Worker:
    """One worker process. Serves from `start` to `stop`; while the master is away, what is cached or in an under
    storage is served on.

    Raises AlreadyRunningError when another worker owns the folder, a tier, or an address.
    """

    def __init__(self, settings: Settings, master_address: str, secret: bytes) -> None:
        worker = settings.worker
        self._settings: Final = settings
        self.secret: Final = secret
        self._folder = WorkerFolder(worker.dir)
        self.worker_id: Final = self._folder.worker_id
        self.host = worker.host or socket.gethostname()
        self.host_key: Final = worker.host_key or host_key()
        self.locality: Final = tiers_of(worker.locality, self.host)
        self.address = self.local_socket = ""
        self._port = 0
        self.metrics: Final = WorkerMetrics()
        self.link: Final = MasterLink(
            master_address,
            self,
            self.metrics,
            heartbeat_s=worker.heartbeat_interval,
            tiers=self._tiers,
            registered=self._registered,
            unregistered=self._unregistered,
            take_commands=self._take_commands,
            reported=lambda: self.reports.sequence,
            versions=self._version_count,
            hot=self._take_hot,
            limits=UfsLimits(worker.ufs_requests_per_mount, worker.ufs_bandwidth),
        )
        self.reports: Final = Reports(self.worker_id, self.link.report, self.link.lost)
        try:
            self.store: Final = BlockStore(
                worker.all_tiers,
                cluster=cluster_stamp(secret),
                eviction=worker.eviction,
                marks=Watermarks(worker.tier_high_watermark, worker.tier_low_watermark),
                move_bandwidth=worker.move_bandwidth,
                on_change=self.reports.note,
            )
        except BaseException:
            self._folder.close()
            raise
        self.metrics.watch_store(self.store)
        grants = GrantCache(secret)
        wait = self.reports.wait
        self._reading: Final = ReadSide(worker, self.store, self.link, self, grants, self.metrics, wait)
        self._committer: Final = Committer(self.link.channel, self.worker_id)
        self._leftovers: Final = Leftovers(worker.dir / "leftovers", self.link.mounts.storage)
        budget = BufferBudget(worker.buffer_memory, BUFFER_WRITE_SHARE)
        self._writes: Final = WriteService(
            self.store, self._leftovers, grants, self._committer, self.metrics, wait, budget
        )
        publisher = DraftPublisher(self._leftovers, self._committer, self.metrics, budget)
        self._drafts: Final = DraftService(self.store, grants, publisher, self.metrics, secret)
        self._persister: Final = Persister(self.store, self._leftovers, self._committer)
        self._commands: Final = Commands(
            self.store,
            grants,
            self._persister,
            self.metrics,
            load=self._reading.loader.load,
            verify=LoadVerifier(self.store, self._reading.source_of).verify,
            others=self._reading.remote_source,
            wait_reported=wait,
            done=self.link.result,
            persist_threads=worker.persist_threads,
        )
        self._server: Final = self._data_server()
        self._web: MetricsServer | None = None

    # --- life ---

    def start(self) -> None:
        """Listens, and begins to register. Serves when this returns, registered or not (REGISTER_WAIT_S at most)."""
        worker = self._settings.worker
        self._drafts.start()
        local = self._server.listen(Address.unix(worker.dir / "worker.sock"))
        remote = self._server.listen(Address.tcp(worker.bind_host, worker.port))
        self.local_socket, self.address = local.path, worker.public_address or str(remote)
        self._port = remote.port
        if worker.web_port >= 0:
            self._web = serve_metrics(self.metrics.registry, worker.bind_host, worker.web_port, self._health)
        self.metrics.registry.watch("connections", lambda: self._server.connection_count)
        self.reports.start(self.store)
        self.store.start()
        self.link.start()
        self._reading.start()
        self._leftovers.start()
        if not self.reports.wait_full(REGISTER_WAIT_S):
            log.warning("not_registered_yet", worker=self.worker_id)

    def stop(self) -> None:
        """Breaks connections, drops unfinished writes, and leaves the cache for the next start."""
        self._drafts.close()
        self._server.close()
        self._commands.close()
        self._committer.close()
        self._reading.close()
        self.reports.close()
        self._leftovers.close()
        self.link.close()
        self.link.mounts.close()
        if self._web is not None:
            self._web.close()
        self.store.close()
        self._folder.close()

    @property
    def port(self) -> int:
        """The TCP port of the data server."""
        return self._port

    @property
    def web_port(self) -> int:
        """The port of `/metrics`; -1 when it is off."""
        return -1 if self._web is None else self._web.port

    # --- what the master link asks and tells (it is made before the parts that answer) ---

    def _tiers(self) -> list[TierInfo]:
        return self.store.tiers()

    def _version_count(self) -> int:
        return self.store.version_count

    def _take_hot(self) -> list[Version]:
        return self._reading.take_hot()

    def _registered(self, report_all: bool) -> None:
        self.reports.registered(report_all)

    def _unregistered(self) -> None:
        self.reports.unregistered()

    def _take_commands(self, commands: Sequence[Command]) -> None:
        self._commands.take(commands)

    def _health(self) -> str | None:
        return None if self.link.is_registered else "the master does not answer: cached data is served on"

    # --- serving ---

    def _data_server(self) -> ThreadRpcServer:
        writes = self._writes
        return ThreadRpcServer(
            {
                **self._reading.handlers(),
                **self._drafts.handlers(),
                WRITE_OPEN: writes.open,
                WRITE: writes.write,
                COMMIT: writes.commit,
                WRITE_ABORT: writes.abort,
                PUT: writes.put,
                WORKER_STATUS: self._status,
            },
            self._welcome,
            on_connection=lambda _connection: Handles(),
            on_close=lambda connection: _close_handles(connection.state),
            direct_folders=self.store.folders_readable_beside(),
            direct_cluster=self.store.cluster,
            name="worker",
        )

    def _welcome(self) -> Welcome:
        return Welcome(
            protocol=0,
            role="worker",
            server_id=self.worker_id,
            host_key=self.host_key,
            local_socket=self.local_socket,
            address=self.address,
        )

    def _status(self, call: Call) -> None:
        call.reply(
            WorkerStatusReply(
                self.worker_id,
                os.getpid(),
                self.web_port,
                self.store.tiers(),
                len(self.store.versions()),
                self._reading.fetches_running,
                self._persister.running,
            )
        )


def _close_handles(state: object) -> None:
    if isinstance(state, Handles):
        state.close()


def master_address_of(settings: Settings, given: str | None) -> str:
    """Where the master is: the argument, the `address` key, or what `<dir>/address` says.

    Raises UnavailableError that says how to give it.
    """
    if given or settings.address:
        return given or settings.address or ""
    path = Path(settings.dir) / "address"
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise UnavailableError(
            f"no master is known ({path}: {error.strerror}): start one, or give --master or ISOTACH_ADDRESS"
        ) from error
