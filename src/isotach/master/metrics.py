"""What the master counts.

Owns: the cells of its metrics, and which service each gauge is read from. Never: serves them (`obs.serve`).
"""

from isotach.master.change_feed import ChangeFeed
from isotach.master.core import Core
from isotach.master.expiry import Expiry
from isotach.master.file_locks import FileLocks
from isotach.master.jobs.service import Jobs
from isotach.master.lost import Lost
from isotach.master.mount_set import MountSet
from isotach.master.persistence import Persistence
from isotach.master.replication import Replication
from isotach.master.sync import Syncer
from isotach.master.ufs_pool import UfsPool
from isotach.master.workers import WorkerRegistry
from isotach.namespace import counters, keys
from isotach.obs.metrics import Counter, Metrics


class CallMetrics:
    """Calls by method, as `net.server` reports them."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._calls: dict[str, Counter] = {}
        self._seconds = metrics.histogram("rpc_seconds")

    def observe_call(self, method: str, seconds: float, ok: bool) -> None:
        cell = self._calls.get(method)
        if cell is None:
            cell = self._calls[method] = self._metrics.counter("rpc_calls", method=method)
        cell.value += 1
        self._seconds.observe(seconds)
        if not ok:
            self._metrics.counter("rpc_errors", method=method, code="any").value += 1


class CommitMetrics:
    """Batches, as the pipeline reports them."""

    def __init__(self, metrics: Metrics) -> None:
        self._batches = metrics.counter("batches")
        self._mutations = metrics.counter("mutations")
        self._sizes = metrics.histogram("batch_mutations")
        self._seconds = metrics.histogram("commit_seconds")

    def committed(self, handlers: int, rows: int, seconds: float, failed: bool) -> None:
        if failed:
            return
        self._batches.value += 1
        self._mutations.value += handlers
        self._sizes.observe(handlers)
        self._seconds.observe(seconds)


def watch(
    metrics: Metrics,
    core: Core,
    *,
    workers: WorkerRegistry,
    mounts: MountSet,
    persistence: Persistence,
    pool: UfsPool,
    syncer: Syncer,
    expiry: Expiry,
    jobs: Jobs,
) -> None:
    """Lets the gauges and the services' own counts be read when they are collected, in a thread of its own: a store may
    be read in any."""

    def counted(key: bytes) -> int:
        with core.reading() as view:
            return counters.read(view, key)

    metrics.watch("inodes", lambda: counted(keys.INODES))
    metrics.watch("persist_queue", lambda: counted(keys.PERSIST_LENGTH))
    metrics.watch("store_used_bytes", core.store.size_bytes)
    metrics.watch("workers", lambda: sum(row.live for row in workers.rows()), state="live")
    metrics.watch("workers", lambda: sum(not row.live for row in workers.rows()), state="lost")
    metrics.watch("mounts", lambda: len(mounts.table))
    metrics.watch("persist_done", lambda: persistence.done)
    metrics.watch("persist_failed", lambda: persistence.failed)
    metrics.watch("syncs", lambda: syncer.asked, outcome="asked")
    metrics.watch_labelled("ufs_calls", lambda: {(op,): float(count) for op, count in dict(pool.calls).items()})
    metrics.watch_labelled("ufs_errors", lambda: {(op,): float(count) for op, count in dict(pool.errors).items()})
    metrics.watch("jobs_running", lambda: jobs.running)
    metrics.watch_labelled("job_files", lambda: {(name,): float(count) for name, count in jobs.files.items()})
    metrics.watch_labelled("ttl_expired", lambda: {(action,): float(count) for action, count in expiry.fired.items()})
    metrics.watch_labelled("cache_capacity_bytes", lambda: _by_tier(workers, used=False))
    metrics.watch_labelled("cache_used_bytes", lambda: _by_tier(workers, used=True))


def watch_members(metrics: Metrics, lost: Lost, replication: Replication) -> None:
    """The same for what keeps files safe while workers come and go."""
    metrics.watch("replication_waiting", lambda: replication.waiting)
    metrics.watch("replications", lambda: replication.copied, outcome="copied")
    metrics.watch("replications", lambda: replication.trimmed, outcome="trimmed")
    metrics.watch("replications", lambda: replication.failed, outcome="failed")
    metrics.watch("files_lost", lambda: lost.lost_files)


def watch_file_systems(metrics: Metrics, feed: ChangeFeed, locks: FileLocks) -> None:
    """The same for what only mounted file systems ask for."""
    metrics.watch("change_listeners", lambda: feed.waiting)
    metrics.watch("changes_sent", lambda: feed.sent)
    metrics.watch("changes_missed", lambda: feed.missed)
    metrics.watch("locks", lambda: locks.table.count)
    metrics.watch("lock_sessions", lambda: locks.sessions.count)
    metrics.watch("lock_waiters", lambda: locks.table.waiters)
    metrics.watch("lock_requests", lambda: locks.granted, outcome="granted")
    metrics.watch("lock_requests", lambda: locks.refused, outcome="refused")


def _by_tier(workers: WorkerRegistry, *, used: bool) -> dict[tuple[str, ...], float]:
    sums: dict[tuple[str, ...], float] = {}
    for row in workers.live_rows():
        for tier in row.tiers:
            key = (tier.alias,)
            sums[key] = sums.get(key, 0.0) + (tier.used_bytes if used else tier.capacity_bytes)
    return sums
