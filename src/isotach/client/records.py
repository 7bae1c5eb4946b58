"""What the client gives back beyond the records of `base.types`.

Owns: `ClusterStatus`. Never: computes or sends.
"""

import msgspec

from isotach.base.types import WorkerInfo


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
