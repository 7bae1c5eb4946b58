"""What the client gives back beyond the records of `base.types`.

Owns: `ClusterStatus`, `LeavingWorker`, `LostInfo`. Never: computes or sends.
"""

import msgspec

from isotach.base.types import FileInfo, WorkerId, WorkerInfo


class ClusterStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the master and the workers it knows, as `isotach status` shows it."""

    cluster_id: str
    version: str
    pid: int
    reader_pids: list[int]
    started_ns: int  # since the epoch
    address: str
    inodes: int
    mounts: int
    persist_queue: int  # files that wait for the under storage
    open_intents: int
    reclaim_queue: int
    web_port: int
    workers: list[WorkerInfo]
    safe_directory: str = ""


class LeavingWorker(msgspec.Struct, frozen=True, kw_only=True):
    """How far a worker that is being decommissioned is. At DECOMMISSIONED it may be stopped and nothing is lost."""

    worker_id: WorkerId
    host: str
    state: str  # DECOMMISSIONING, DECOMMISSIONED; LIVE or LOST when it is not leaving
    files_left: int  # that are only there, or not often enough elsewhere
    bytes_left: int
    problem: str  # why it does not get on; empty: it does


class LostInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A file whose last copy is gone before it was persisted."""

    info: FileInfo
    worker_id: WorkerId  # whose copy was the last; empty when nobody knows
    host: str
    since: float  # seconds since the epoch
