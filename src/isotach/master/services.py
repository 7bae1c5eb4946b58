"""The master's services, made and tied together.

Owns: which service needs which, and which method each serves. Never: opens a store or a socket (`server.py` does).
"""

from isotach.base.limits import LOCK_LEASES_CHECK_S
from isotach.base.types import FileId
from isotach.conf.settings import Settings
from isotach.master.attributes import Attributes
from isotach.master.commits import Commits
from isotach.master.core import Core
from isotach.master.decommission import Decommission
from isotach.master.exchange import Exchange
from isotach.master.expiry import Expiry
from isotach.master.file_locks import FileLocks
from isotach.master.freeing import Freeing
from isotach.master.hard_links import HardLinks
from isotach.master.jobs.service import Jobs
from isotach.master.locations import Locations
from isotach.master.lock_sessions import LockSessions
from isotach.master.lost import Lost
from isotach.master.making import Making
from isotach.master.mount_set import MountSet
from isotach.master.mounts import Mounts
from isotach.master.named_paths import NamedPaths
from isotach.master.path_locks import PathLocks
from isotach.master.persist_requests import PersistRequests
from isotach.master.persistence import Persistence
from isotach.master.reclaim import Reclaim
from isotach.master.recovery import Recovery
from isotach.master.replication import Replication
from isotach.master.reports import Reports
from isotach.master.residency import Residency
from isotach.master.store_operations import StoreOperations
from isotach.master.sync import Syncer
from isotach.master.ufs_pool import UfsPool
from isotach.master.workers import WorkerRegistry
from isotach.master.writes import Writes
from isotach.net.dispatch import Dispatcher
from isotach.wire import messages as wire

_CHECK_LOST_S = 1.0
_EXPIRE_WRITES_S = 5.0
_DOUBTFUL_S = 30.0
_WORKER_HEARTBEATS_PER_TIMEOUT = 10
_HEARTBEAT_S_MAX = 1.0
_LEAVERS_S = 0.25


class Services:
    """Everything that serves a call or runs in the background, over one `Core`."""

    def __init__(self, core: Core, soft_locations: Locations, settings: Settings) -> None:
        self.core = core
        self.locations = soft_locations
        master = settings.master
        self.pool = UfsPool()
        self.locks = PathLocks()
        self.mount_set = MountSet(core, self.pool)
        heartbeat_s = min(_HEARTBEAT_S_MAX, master.worker_timeout / _WORKER_HEARTBEATS_PER_TIMEOUT)
        self.workers = WorkerRegistry(
            core.secret, core.clock, master.worker_timeout, heartbeat_s, self.mount_set.for_workers
        )
        self.freeing = Freeing(self.locations, self.workers, core.background)
        self.syncer = Syncer(core, self.mount_set, self.pool, self.locks, self.freeing, master.absent_cache_ttl)
        self.commits = Commits(core, self.locks, self.syncer)
        self.writes = Writes(
            core,
            mounts=self.mount_set,
            pool=self.pool,
            syncer=self.syncer,
            commits=self.commits,
            locations=self.locations,
            workers=self.workers,
            freeing=self.freeing,
            timeout_s=master.pending_write_timeout,
        )
        self.making = Making(core, syncer=self.syncer, commits=self.commits, writes=self.writes)
        self.operations = StoreOperations(
            core,
            mounts=self.mount_set,
            pool=self.pool,
            locks=self.locks,
            syncer=self.syncer,
            freeing=self.freeing,
        )
        self.links = HardLinks(
            core, locks=self.locks, commits=self.commits, syncer=self.syncer, operations=self.operations
        )
        self.exchange = Exchange(
            core,
            mounts=self.mount_set,
            pool=self.pool,
            locks=self.locks,
            syncer=self.syncer,
            operations=self.operations,
        )
        self._make_background_services(settings)
        self._make_member_services()
        self._make_user_services(settings)
        self.jobs = self._make_jobs()
        self.file_locks = FileLocks(core, LockSessions(core))
        self._tie()

    def _make_background_services(self, settings: Settings) -> None:
        """What works on its own, besides what it serves."""
        core, master = self.core, settings.master
        self.residency = Residency(core, self.syncer, self.locations, self.workers)
        self.persistence = Persistence(
            core,
            mounts=self.mount_set,
            pool=self.pool,
            commits=self.commits,
            locations=self.locations,
            workers=self.workers,
            retry_s=master.persist_retry_initial,
            retry_s_max=master.persist_retry_max,
        )
        self.persist_requests = PersistRequests(core, self.persistence, self.residency, self.syncer)
        self.reclaim = Reclaim(core, self.freeing)
        self.expiry = Expiry(core, self.operations, self.residency, master.ttl_check_interval)
        self.reports = Reports(
            core, self.locations, self.workers, self.writes, master.pending_write_timeout, master.worker_timeout
        )
        self.recovery = Recovery(
            core,
            mounts=self.mount_set,
            pool=self.pool,
            locks=self.locks,
            commits=self.commits,
            operations=self.operations,
            syncer=self.syncer,
            exchange=self.exchange,
        )

    def _make_member_services(self) -> None:
        """What keeps the files safe while workers come and go."""
        core, settled = self.core, self.reports.is_settled
        self.lost = Lost(core, self.locations, self.workers, settled)
        self.replication = Replication(core, self.locations, self.workers, settled)
        self.decommission = Decommission(core, self.locations, self.workers, self.replication)

    def _make_user_services(self, settings: Settings) -> None:
        """What only answers calls."""
        core = self.core
        self.attributes = Attributes(
            core,
            mounts=self.mount_set,
            pool=self.pool,
            syncer=self.syncer,
            locations=self.locations,
            workers=self.workers,
        )
        self.mounts = Mounts(
            core,
            mount_set=self.mount_set,
            pool=self.pool,
            locks=self.locks,
            syncer=self.syncer,
            reclaim=self.reclaim,
            default_sync_ms=_milliseconds(settings.master.metadata_sync_interval),
        )

    def _make_jobs(self) -> Jobs:
        return Jobs(
            self.core,
            syncer=self.syncer,
            locations=self.locations,
            workers=self.workers,
            persistence=self.persistence,
        )

    def _tie(self) -> None:
        """Who must hear of what; the services do not know each other for it."""
        self.writes.wake_persistence = self.persistence.wake
        self.making.wake_persistence = self.persistence.wake
        self.operations.wake_reclaim = self.reclaim.wake
        self.operations.finish_later = self.recovery.take_over
        self.mounts.let_go = self.recovery.let_go
        self.residency.persist_soon = self.persistence.queue
        self.workers.on_joined.append(lambda _worker_id: self.persistence.wake())
        self.workers.on_new_process.append(self.commits.give_up)
        self.workers.on_lost.append(self.reports.forget_soon)
        self.workers.on_joined.append(lambda _worker_id: self.replication.hurry())
        self.workers.knows_all_of = self.reports.knows_all_of
        self.workers.on_hot = self.replication.heat
        self.workers.leaving_state = self.decommission.state_of
        self.reports.orphaned = self.lost.mark_soon
        self.reports.exposed = self.replication.want
        self.replication.gone = self.lost.mark_soon
        self.reports.found = self.lost.find_soon
        self.reports.copies_changed = self.replication.check
        self.lost.exposed = self.replication.want
        self.lost.found_again = self._found_again

    def _found_again(self, file_ids: list[FileId]) -> None:
        self.persistence.wake()
        self.replication.check(file_ids)

    def serve(self, dispatcher: Dispatcher) -> None:
        """Adds every method but the reads (`ReadService` does). Changes are finished even if the caller leaves."""
        add = dispatcher.add
        named = NamedPaths(self.core).named
        add(wire.CREATE, named(self.writes.create))
        add(wire.MAKE, named(self.making.make), detach=True)
        add(wire.COMPLETE, self.writes.complete, detach=True)
        add(wire.ABORT, self.writes.abort, detach=True)
        add(wire.LINK, named(self.links.link), detach=True)
        add(wire.MKDIR, named(self.operations.mkdir), detach=True)
        add(wire.RENAME, named(self.operations.rename), detach=True)
        add(wire.REMOVE, named(self.operations.remove), detach=True)
        add(wire.SET_ATTR, named(self.attributes.set_attr), detach=True)
        add(wire.MOUNT, named(self.mounts.mount), detach=True)
        add(wire.UNMOUNT, named(self.mounts.unmount), detach=True)
        add(wire.FREE, named(self.residency.free))
        add(wire.PERSIST, named(self.persist_requests.persist))
        add(wire.PERSIST_STATUS, self.persist_requests.status)
        add(wire.DECOMMISSION, self.decommission.decommission, detach=True)
        add(wire.LOST, named(self.lost.lost))
        add(wire.SYNC, named(self.syncer.sync))
        add(wire.JOB_SUBMIT, named(self.jobs.submit), detach=True)
        add(wire.JOB_STATUS, self.jobs.status)
        add(wire.JOB_CANCEL, self.jobs.cancel, detach=True)
        add(wire.JOB_LIST, self.jobs.list)
        add(wire.REGISTER, self.workers.register)
        add(wire.HEARTBEAT, self.workers.heartbeat)
        add(wire.WORKER_MOUNTS, self.workers.worker_mounts)
        add(wire.POLL, self.workers.poll)
        add(wire.REPORT, self.reports.report, detach=True)
        add(wire.LOCK, self.file_locks.lock)
        add(wire.LOCK_TEST, self.file_locks.test)
        add(wire.LOCK_SESSION, self.file_locks.session)
        add(wire.BEGIN_COMMIT, self.commits.begin, detach=True)
        add(wire.END_COMMIT, self.commits.end, detach=True)

    def run(self) -> None:
        """Starts the rounds and loops."""
        background = self.core.background
        background.spawn("persist-loop", self.persistence.run())
        background.spawn("reclaim-loop", self.reclaim.run())
        background.spawn("lost-sweep", self.lost.sweep())
        background.spawn("replication", self.replication.run())
        background.spawn("replication-sweep", self.replication.sweep())
        background.every("leavers", _LEAVERS_S, self.decommission.round)
        background.every("workers-lost", _CHECK_LOST_S, self.workers.check_lost)
        background.every("workers-expected", _CHECK_LOST_S, self.reports.expect)
        background.every("writes-expire", _EXPIRE_WRITES_S, self.writes.expire)
        background.every("doubtful-versions", _DOUBTFUL_S, self.reports.drop_doubtful)
        background.every("lock-leases", LOCK_LEASES_CHECK_S, self.file_locks.check_leases)
        background.spawn("ttl-loop", self.expiry.run())
        self.file_locks.sessions.begin()
        self.jobs.resume()

    def close(self) -> None:
        """After the background tasks have ended."""
        self.pool.close()
        self.locations.close()
        self.mount_set.close()


def _milliseconds(seconds: float) -> int:
    return -1 if seconds < 0 else int(seconds * 1000)
