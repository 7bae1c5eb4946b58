"""The master as a whole: opened, served, closed.

Owns: the folder's layout, the order of start and stop, the listening addresses, the reader processes. Never: holds
rules or services' logic.

    <dir>/master/meta   the namespace (LMDB), owned by one master
    <dir>/master/soft   block locations (LMDB), kept from one process to the next on the same boot
    <dir>/secret        the cluster secret
    <dir>/master.sock   the Unix socket
"""

import os
from collections.abc import Callable

from isotach.base.limits import CHANGES_IDLE_S, SNAPSHOT_RENEW_S, STALE_READERS_CHECK_S
from isotach.conf.settings import Settings
from isotach.kv.interface import KeyValueStore
from isotach.kv.lmdb_store import LmdbStore
from isotach.master.background import Background, awaitable
from isotach.master.change_feed import ChangeFeed
from isotach.master.clock import Clock
from isotach.master.core import Core
from isotach.master.former_records import FormerRecords
from isotach.master.identity import Identity
from isotach.master.locations import Locations
from isotach.master.metrics import CallMetrics, CommitMetrics, watch, watch_file_systems, watch_members
from isotach.master.pipeline import CommitPipeline
from isotach.master.reader import ReadService
from isotach.master.readers import Readers
from isotach.master.secret import load_secret
from isotach.master.services import Services
from isotach.master.soft_store import open_soft_store
from isotach.master.status import Status
from isotach.namespace import counters, keys
from isotach.namespace.mounts import ensure_root
from isotach.net.address import Address, host_key
from isotach.net.dispatch import Dispatcher
from isotach.net.peer import current_user
from isotach.net.server import RpcServer
from isotach.obs.log import get_logger
from isotach.obs.metrics import Metrics
from isotach.obs.serve import MetricsServer, serve_metrics
from isotach.ufs.uri import mask_options
from isotach.wire import messages as wire

log = get_logger("master.server")
_READERS_READY_S = 10.0
_READERS_METRICS_S = 5.0


class Master:
    """One master. `start`, then it serves until `stop`. `reader_command` gives the command line of a reader process."""

    def __init__(
        self, settings: Settings, version: str, reader_command: Callable[[int], list[str]], clock: Clock | None = None
    ) -> None:
        self._settings = settings
        self._version = version
        self._clock = Clock() if clock is None else clock
        self._background = Background()
        self._metrics = Metrics("master")
        self._stores: list[LmdbStore] = []
        self._servers: list[RpcServer] = []
        self._web: MetricsServer | None = None
        master = settings.master
        self._readers = Readers(master.readers, reader_command, master.bind_host, self._background)
        self._pipeline: CommitPipeline | None = None
        self._feed: ChangeFeed | None = None
        self._remembers = False  # where the blocks were before this start
        self.services: Services | None = None
        self.address = ""
        self.tcp_address = ""
        self.port = 0

    @property
    def web_port(self) -> int:
        """Of `/metrics`; -1 when it is off."""
        return -1 if self._web is None else self._web.port

    @property
    def reader_pids(self) -> list[int]:
        return self._readers.pids

    async def start(self) -> None:
        """Serves when this returns. Raises AlreadyRunningError when another master owns the folder."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        meta, soft = self._open_stores()
        secret = load_secret(self._settings.dir, self._settings.security.cluster_secret_file)
        security = self._settings.security
        identity = Identity(security.superuser, security.supergroup, enforced=security.permission_enabled)
        former = FormerRecords(meta)
        pipeline = CommitPipeline(meta, former, CommitMetrics(self._metrics))
        await pipeline.start()
        self._pipeline = pipeline
        await self._ensure_root(pipeline)
        self._readers.start()
        core = Core(
            store=meta,
            pipeline=pipeline,
            clock=self._clock,
            identity=identity,
            background=self._background,
            secret=secret,
        )
        services = self.services = Services(core, self._locations(core, soft), self._settings)
        feed = self._feed = ChangeFeed(core, former)
        services.file_locks.position = lambda: feed.position
        reads = self._reads(core, services, soft)
        dispatcher = Dispatcher(before_batch=reads.renew)
        services.serve(dispatcher)
        reads.add_to(dispatcher)
        status = self._status(core, services)
        dispatcher.add(wire.CHANGES, feed.changes)
        dispatcher.add(wire.STATUS, status.status)
        dispatcher.add(wire.WORKERS, status.workers)
        dispatcher.add(wire.METRICS, status.metrics)
        watch(
            self._metrics,
            core,
            workers=services.workers,
            mounts=services.mount_set,
            persistence=services.persistence,
            pool=services.pool,
            syncer=services.syncer,
            expiry=services.expiry,
            jobs=services.jobs,
        )
        watch_members(self._metrics, services.lost, services.replication)
        watch_file_systems(self._metrics, feed, services.file_locks)
        open_intents = await services.recovery.begin()
        services.run()
        self._background.every("readers-metrics", _READERS_METRICS_S, lambda: self._readers.collect(self._metrics))
        self._background.every("changes-idle", CHANGES_IDLE_S, feed.stop_when_idle)
        self._background.every("stale-readers", STALE_READERS_CHECK_S, self._clear_stale_readers)
        await self._listen(dispatcher)
        if self._settings.master.web_port >= 0:
            self._web = serve_metrics(self._metrics, self._settings.master.bind_host, self._settings.master.web_port)
        if not await self._readers.wait_ready(_READERS_READY_S):
            log.warning("readers_not_ready", wanted=self._settings.master.readers, ready=len(self._readers.pids))
        log.info("master_started", address=self.address, tcp=self.tcp_address, open_intents=open_intents)

    async def _clear_stale_readers(self) -> None:
        """The slots of reader processes that died: they would keep old pages from being used again."""
        for store in self._stores:
            store.clear_stale_readers()

    def _open_stores(self) -> tuple[LmdbStore, LmdbStore]:
        directory = self._settings.master.dir
        meta = LmdbStore(directory / "meta", map_bytes=self._settings.master.map_size)
        self._stores.append(meta)
        soft, self._remembers = open_soft_store(directory / "soft")
        self._stores.append(soft)
        return meta, soft

    def _locations(self, core: Core, soft: KeyValueStore) -> Locations:
        """A namespace that holds nothing yet has no locations to be remembered."""
        with core.reading() as view:
            is_new = counters.read(view, keys.INODES) <= 1
        return Locations(soft, remembers=self._remembers or is_new)

    async def _ensure_root(self, pipeline: CommitPipeline) -> None:
        uri = self._settings.master.root_ufs
        default = os.fspath(self._settings.dir / "underFSStorage")
        if uri == default:
            os.makedirs(default, exist_ok=True)
        user = current_user()
        mode = 0o777 & ~self._settings.master.umask
        interval = self._settings.master.metadata_sync_interval
        sync_ms = -1 if interval < 0 else int(interval * 1000)
        await pipeline.submit(lambda view: ensure_root(view, uri, {}, user, user, self._clock.now_ns(), mode, sync_ms))

    def _reads(self, core: Core, services: Services, soft: KeyValueStore) -> ReadService:
        """The master answers reads too: for clients that know of no reader yet, and when it has none."""
        reads = ReadService(
            namespace=core.store.renewable_snapshot(),
            cache_states=soft.renewable_snapshot(),
            secret=core.secret,
            actor_of=core.identity.actor,
            forward=services.syncer.sync,
            mask=mask_options,
            now_s=self._clock.now_s,
        )
        self._background.every("renew-reads", SNAPSHOT_RENEW_S, awaitable(reads.renew))
        return reads

    async def _listen(self, dispatcher: Dispatcher) -> None:
        """One server per transport, because each tells its clients other addresses of the readers."""
        calls = CallMetrics(self._metrics)
        folders = [os.fspath(store.path) for store in self._stores]
        unix = RpcServer(
            dispatcher, lambda: self._welcome(self._readers.unix_addresses()), calls, direct_folders=folders
        )
        tcp = RpcServer(dispatcher, lambda: self._welcome(self._readers.tcp_addresses()), calls)
        self._servers = [unix, tcp]
        self.address = str(await unix.listen(Address.unix(self._settings.dir / "master.sock")))
        bound = await tcp.listen(Address.tcp(self._settings.master.bind_host, self._settings.master.port))
        self.tcp_address, self.port = str(bound), bound.port
        self._metrics.watch("connections", lambda: sum(len(server.connections) for server in self._servers))

    def _welcome(self, readers: list[str]) -> wire.Welcome:
        return wire.Welcome(
            protocol=0,
            role="master",
            server_id=self._cluster_id,
            host_key=host_key(),
            readers=readers,
            local_socket=os.fspath(self._settings.dir / "master.sock"),
            address=self.tcp_address,
        )

    @property
    def _cluster_id(self) -> str:
        return os.fspath(self._settings.master.dir)

    def _status(self, core: Core, services: Services) -> Status:
        return Status(
            core,
            mounts=services.mount_set,
            workers=services.workers,
            metrics=self._metrics,
            version=self._version,
            cluster_id=self._cluster_id,
            directory=os.fspath(self._settings.dir),
            reader_pids=lambda: self._readers.pids,
            where=lambda: (self.address, self.web_port),
        )

    async def stop(self) -> None:
        """Lets calls in flight finish, then closes everything. Safe after a failed start."""
        if self.services is not None:
            self.services.workers.close()
            self.services.file_locks.close()
        if self._feed is not None:
            self._feed.close()
        for server in self._servers:
            await server.close()
        await self._readers.stop()
        await self._background.close()
        if self._pipeline is not None:
            await self._pipeline.close()
        if self.services is not None:
            self.services.close()
        if self._web is not None:
            self._web.close()
        while self._stores:
            self._stores.pop().close()
