"""What the master tells about itself: STATUS, WORKERS, METRICS.

Owns: these replies. Never: changes anything.
"""

import os
from collections.abc import Callable

from isotach.master.core import Core
from isotach.master.mount_set import MountSet
from isotach.master.workers import WorkerRegistry
from isotach.namespace import counters, intents, keys, persist_queue
from isotach.namespace.trees import detached_count
from isotach.net.peer import Peer
from isotach.obs.metrics import Metrics
from isotach.wire.messages import (
    Empty,
    MetricsReply,
    StatusReply,
    WorkersReply,
)


class Status:
    """One per master. `reader_pids` and `where` (address, web port) are asked for at every call."""

    def __init__(
        self,
        core: Core,
        *,
        mounts: MountSet,
        workers: WorkerRegistry,
        metrics: Metrics,
        version: str,
        cluster_id: str,
        directory: str,
        reader_pids: Callable[[], list[int]],
        where: Callable[[], tuple[str, int]],
    ) -> None:
        self._core = core
        self._mounts = mounts
        self._workers = workers
        self._metrics = metrics
        self._version = version
        self._cluster_id = cluster_id
        self._directory = directory
        self._reader_pids = reader_pids
        self._where = where
        self._started_ns = core.clock.now_ns()

    def status(self, _request: Empty, _peer: Peer) -> StatusReply:
        address, web_port = self._where()
        with self._core.reading() as view:
            return StatusReply(
                cluster_id=self._cluster_id,
                version=self._version,
                pid=os.getpid(),
                reader_pids=self._reader_pids(),
                started_ns=self._started_ns,
                address=address,
                inodes=counters.read(view, keys.INODES),
                mounts=len(self._mounts.table),
                persist_queue=persist_queue.length(view),
                open_intents=len(intents.open_intents(view)),
                reclaim_queue=detached_count(view),
                web_port=web_port,
                workers=self._workers.rows(),
                safe_directory=self._directory,
            )

    def workers(self, _request: Empty, _peer: Peer) -> WorkersReply:
        return WorkersReply(self._workers.rows())

    def metrics(self, _request: Empty, _peer: Peer) -> MetricsReply:
        return MetricsReply(self._metrics.render_snapshot())
