"""Calls that read the namespace: served by reader processes and by the master itself.

Owns: the requests and replies. Never: encodes them (`frames.py`) or numbers them (`messages.py`). Paths are canonical
bytes; durations are ms, sizes bytes, times ns since the epoch.
"""

from isotach.base.types import BlockHolder, CacheState, FileId, Inode, Mount, TierInfo, Version, WorkerId
from isotach.wire.message_base import Message


class StatRequest(Message, frozen=True):
    """One path. `access` is a mask of 4 (read), 2 (write), 1 (execute) that the caller must hold on it; 4 on a file
    also asks for `grant`, the capability that a worker wants to see before it gives out bytes."""

    path: bytes
    access: int = 0
    sync_interval_ms: int | None = None  # None: the mount's own; -1 never; 0 always
    follow: bool = True  # False: a symbolic link is told of itself. An id path is never followed


class StatReply(Message, frozen=True):
    inode: Inode
    cache: CacheState | None = None
    ufs_uri: str | None = None  # for people; None when the path has no under-storage counterpart
    grant: bytes = b""


class ListRequest(Message, frozen=True):
    """A page of a directory, in byte order of the names, those above `start_after` only."""

    path: bytes
    start_after: bytes = b""
    limit: int = 5000
    sync_interval_ms: int | None = None


class ListReply(Message, frozen=True):
    """`more` tells whether a next page follows. The payload is a msgpack array of `ListEntry`. A file path lists
    itself: one entry with the empty name."""

    more: bool
    ufs_uri: str | None = None  # of the directory


class ListEntry(Message, frozen=True):
    name: bytes
    inode: Inode
    cache: CacheState | None = None


class MountsReply(Message, frozen=True):
    """The mount table with secrets masked."""

    mounts: list[Mount]


class LocationsRequest(Message, frozen=True):
    """Who holds which blocks of these versions."""

    versions: list[Version]


class LocationsReply(Message, frozen=True):
    """Parallel to the request."""

    holders: list[list[BlockHolder]]


class WorkerRow(Message, frozen=True):
    worker_id: WorkerId
    host: str
    address: str
    local_socket: str
    host_key: str
    live: bool
    heartbeat_age_ms: int
    tiers: list[TierInfo]
    state: str = "LIVE"  # a `WorkerState`
    locality: list[tuple[str, str]] = []
    versions: int = 0


class WorkersReply(Message, frozen=True):
    workers: list[WorkerRow]


class StatusReply(Message, frozen=True):
    """What `isotach status` shows of the master."""

    cluster_id: str
    version: str
    pid: int
    reader_pids: list[int]
    started_ns: int
    address: str
    inodes: int
    mounts: int
    persist_queue: int
    open_intents: int
    reclaim_queue: int
    web_port: int
    workers: list[WorkerRow]
    safe_directory: str = ""


class PathReply(Message, frozen=True):
    path: bytes


class ResolveIdRequest(Message, frozen=True):
    """The current path of a file id (for workers' reports and tools)."""

    id: FileId


class LostRequest(Message, frozen=True):
    """A page of the files whose last copy is gone, at or below `path` (directly in it, unless `recursive`), in order of
    their ids."""

    path: bytes
    recursive: bool = True
    after: FileId = 0
    limit: int = 1000


class LostFile(Message, frozen=True):
    """Its last copy was at `worker_id` on `host` (empty: not known) until `since_ms` (since the epoch)."""

    path: bytes
    inode: Inode
    worker_id: WorkerId
    host: str
    since_ms: int


class LostReply(Message, frozen=True):
    """`next_after` -1: that was all."""

    files: list[LostFile]
    next_after: FileId
