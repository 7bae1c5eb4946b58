"""Every call of the protocol: its number, its request and reply, who serves it, and whether it may be sent again.

Owns: the message structs (msgpack arrays; fields are only ever appended, so that an older peer ignores them and a
newer one sees the defaults) and the method table. Never: encodes frames (`frames.py`) or serves anything.

Paths are canonical bytes (`base.paths.normalize`). Durations are ms, sizes bytes, times ns since the epoch.
"""

from typing import Any, Final, Generic, TypeVar

import msgspec

from isotach.base.types import BlockHolder, CacheState, FileId, Inode, Mount, MountId, TierInfo, Version, WorkerId


class _Message(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The base of all messages."""


class Empty(_Message, frozen=True):
    """No fields: a request without arguments, or a reply that says only that it is done."""


# --- reads of the namespace: served by reader processes and by the master itself -------------------------------------


class StatRequest(_Message, frozen=True):
    """One path. `access` is a mask of 4 (read), 2 (write), 1 (execute) that the caller must hold on it; 4 on a file
    also asks for `grant`, the capability that a worker wants to see before it gives out bytes."""

    path: bytes
    access: int = 0
    sync_interval_ms: int | None = None  # None: the mount's own; -1 never; 0 always


class StatReply(_Message, frozen=True):
    inode: Inode
    cache: CacheState | None = None
    ufs_uri: str | None = None  # for people; None when the path has no under-storage counterpart
    grant: bytes = b""


class ListRequest(_Message, frozen=True):
    """A page of a directory, in byte order of the names, those above `start_after` only."""

    path: bytes
    start_after: bytes = b""
    limit: int = 5000
    sync_interval_ms: int | None = None


class ListReply(_Message, frozen=True):
    """`more` tells whether a next page follows. The payload is a msgpack array of `ListEntry`. A file path lists
    itself: one entry with the empty name."""

    more: bool
    ufs_uri: str | None = None  # of the directory


class ListEntry(_Message, frozen=True):
    name: bytes
    inode: Inode
    cache: CacheState | None = None


class MountsReply(_Message, frozen=True):
    """The mount table with secrets masked."""

    mounts: list[Mount]


class LocationsRequest(_Message, frozen=True):
    """Who holds which blocks of these versions."""

    versions: list[Version]


class LocationsReply(_Message, frozen=True):
    """Parallel to the request."""

    holders: list[list[BlockHolder]]


class WorkerRow(_Message, frozen=True):
    worker_id: WorkerId
    host: str
    address: str
    local_socket: str
    host_key: str
    live: bool
    heartbeat_age_ms: int
    tiers: list[TierInfo]


class WorkersReply(_Message, frozen=True):
    workers: list[WorkerRow]


class StatusReply(_Message, frozen=True):
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


class PathReply(_Message, frozen=True):
    path: bytes


class ResolveIdRequest(_Message, frozen=True):
    """The current path of a file id (for workers' reports and tools)."""

    id: FileId


# --- changes of the namespace: served by the master's one writer ----------------------------------------------------


class CreateRequest(_Message, frozen=True):
    """Starts a write. Nothing is visible until `CompleteRequest`. `mode` is already umasked; -1 takes the default."""

    path: bytes
    write_type: str
    mode: int = -1
    block_size: int = 0  # 0: the default
    overwrite: bool = True
    parents: bool = True  # make missing parent directories, as Alluxio and object stores do
    ttl_ms: int = -1
    ttl_action: str = "DELETE"
    placement: str = "LOCAL_FIRST"
    host_key: str = ""  # of the client, for LOCAL_FIRST
    pinned: bool = False


class CreateReply(_Message, frozen=True):
    """`write_type` is the effective one. `workers` are placement candidates, best first; block i goes to
    workers[i % len(workers)] under ROUND_ROBIN and HASH, and to workers[0] otherwise."""

    version: Version
    write_type: str
    block_size: int
    workers: list[WorkerRow]
    grant: bytes  # a `WriteGrant`, sealed
    spread: bool = False  # whether blocks go round the workers


class CompleteRequest(_Message, frozen=True):
    """Makes the written version visible under its path, swapped in atomically. Sent by the worker that owns the
    commit, or by the client itself for an empty file that no worker holds. Carries the grant so that it can be
    answered by a master that restarted since the create."""

    grant: bytes
    length: int
    fingerprint: str | None = None  # set when the under storage holds it
    mtime_ns: int = 0  # 0: now
    persisted: bool = False
    persist_later: bool = False
    holder: BlockHolder | None = None
    ufs_mtime_ns: int = 0


class CompleteReply(_Message, frozen=True):
    inode: Inode


class AbortRequest(_Message, frozen=True):
    """Drops a write that was not completed. No error when it is gone already."""

    grant: bytes


class BeginCommitRequest(_Message, frozen=True):
    """Before a worker makes a file visible in the under storage: takes the path's lock, records the intent durably
    and checks that the version may still go there. Refused with StaleVersionError when the write was overtaken."""

    grant: bytes  # of a write, or
    version: Version = 0  # of a file being persisted
    worker_id: WorkerId = ""


class BeginCommitReply(_Message, frozen=True):
    intent_id: int
    mount_id: MountId
    ufs_path: str  # where it must go now: the file may have been renamed


class EndCommitRequest(_Message, frozen=True):
    """After it: for a persisted file (a written one is ended by `CompleteRequest`), or to give up (`failed`)."""

    intent_id: int
    version: Version
    fingerprint: str | None = None
    failed: bool = False


class MkdirRequest(_Message, frozen=True):
    path: bytes
    mode: int = -1
    parents: bool = False
    exist_ok: bool = False


class InodeReply(_Message, frozen=True):
    inode: Inode


class RenameRequest(_Message, frozen=True):
    src: bytes
    dst: bytes
    replace: bool = True


class RemoveRequest(_Message, frozen=True):
    path: bytes
    recursive: bool = False


class SetAttrRequest(_Message, frozen=True):
    """Only fields that are not None change. `recursive` applies to all below. `ttl_ms` -1 removes the time to live."""

    path: bytes
    mode: int | None = None
    owner: str | None = None
    group: str | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None
    pinned: bool | None = None
    ttl_ms: int | None = None
    ttl_action: str | None = None
    set_xattrs: dict[str, bytes] | None = None
    remove_xattrs: list[str] | None = None
    recursive: bool = False


class CountReply(_Message, frozen=True):
    """How many files the call changed, and how many it had to leave alone."""

    count: int
    skipped: int = 0


class MountRequest(_Message, frozen=True):
    path: bytes
    ufs_uri: str
    options: dict[str, str] = {}
    read_only: bool = False
    metadata_sync_interval_ms: int | None = None


class PathRequest(_Message, frozen=True):
    path: bytes
    recursive: bool = False


class PersistRequest(_Message, frozen=True):
    """Queues the file, or every file below, for persistence; with `wait` the reply comes when all are persisted."""

    path: bytes
    wait: bool = True


class SyncRequest(_Message, frozen=True):
    """Brings the namespace up to date with the under storage: the path itself (`children` False), or also the listing
    of the directory. From readers that met a path they cannot answer for."""

    path: bytes
    children: bool
    interval_ms: int | None = None


class SyncReply(_Message, frozen=True):
    changed: int


# --- workers to the master -------------------------------------------------------------------------------------------


class RegisterRequest(_Message, frozen=True):
    """`proof` is the keyed BLAKE2b of worker_id and address under the cluster secret. `incarnation` is another one in
    every process of this worker: what an earlier one had begun is over."""

    worker_id: WorkerId
    host: str
    address: str
    local_socket: str
    host_key: str
    tiers: list[TierInfo]
    proof: bytes
    incarnation: str = ""


class RegisterReply(_Message, frozen=True):
    heartbeat_ms: int
    mounts: list[Mount]  # with secrets
    mounts_epoch: int


class HeartbeatRequest(_Message, frozen=True):
    worker_id: WorkerId
    tiers: list[TierInfo]


class HeartbeatReply(_Message, frozen=True):
    """`known` False: register and report all again. A `mounts_epoch` other than the last seen: fetch the mounts."""

    known: bool
    mounts_epoch: int


class WorkerMountsRequest(_Message, frozen=True):
    worker_id: WorkerId
    proof: bytes


class WorkerMountsReply(_Message, frozen=True):
    mounts: list[Mount]
    mounts_epoch: int


class ReportedVersion(_Message, frozen=True):
    version: Version
    file_id: FileId
    length: int
    block_size: int
    memory_bytes: int
    cached_bytes: int
    blocks: bytes
    dirty: bool = False  # not persisted
    former: bool = False  # found by this process when it started: nobody will complete it any more


class ReportRequest(_Message, frozen=True):
    """What changed in a worker's cache. `full` marks the pages of a registration (the first has `first`)."""

    worker_id: WorkerId
    changed: list[ReportedVersion]
    removed: list[Version] = []
    first: bool = False


class ReportReply(_Message, frozen=True):
    """Versions that no longer exist in the namespace: the worker drops them."""

    obsolete: list[Version] = []


class PollRequest(_Message, frozen=True):
    """Waits (long poll) for commands."""

    worker_id: WorkerId
    wait_ms: int = 10_000
    done: list["CommandResult"] = []


class Command(_Message, frozen=True):
    """One thing a worker must do. kind: FREE (drop the cached pages of `version`; `force` even when dirty because the
    file is gone), PERSIST, MARK_PERSISTED, PIN, UNPIN, LOAD."""

    command_id: int
    kind: str
    version: Version
    grant: bytes = b""
    force: bool = False
    holders: list["WorkerRow"] = []
    fingerprint: str | None = None


class CommandResult(_Message, frozen=True):
    command_id: int
    ok: bool
    error: str = ""


class PollReply(_Message, frozen=True):
    commands: list[Command]


# --- the data path: clients (and workers) to a worker -----------------------------------------------------------------


class ReadGrant(_Message, frozen=True):
    """What a sealed read capability says. Opaque to clients."""

    version: Version
    file_id: FileId
    length: int
    block_size: int
    mount_id: MountId
    ufs_path: str | None  # None when the under storage does not hold the content
    fingerprint: str | None
    pinned: bool
    expires_s: int


class WriteGrant(_Message, frozen=True):
    """What a sealed write capability says: all that is needed to complete the write, even by a new master."""

    version: Version
    file_id: FileId
    path: bytes
    user: str
    groups: list[str]
    superuser: bool
    write_type: str
    mode: int
    block_size: int
    overwrite: bool
    ttl_ms: int
    ttl_action: str
    pinned: bool
    mount_id: MountId
    ufs_path: str
    expires_s: int
    spread: bool = False


class OpenRequest(_Message, frozen=True):
    """Opens a version for reading on this connection. `want_fd` asks for a descriptor (Unix sockets only): passed when
    the container is here and may be handed out; the pages present are told by `present_bytes`."""

    grant: bytes
    read_type: str = "CACHE"
    want_fd: bool = True


class OpenReply(_Message, frozen=True):
    """`handle` 0: the version is complete here and the passed descriptor is all that is needed. Otherwise `handle` is
    for Ensure, Read and CloseHandle on this connection."""

    handle: int
    has_fd: bool
    complete: bool
    present_bytes: int = 0  # a prefix of this many bytes is present


class EnsureRequest(_Message, frozen=True):
    """Waits until [offset, offset + length) is present in the container whose descriptor was passed."""

    handle: int
    offset: int
    length: int


class EnsureReply(_Message, frozen=True):
    """The file is present from `offset` to `present_to`, which is at least the end asked for, or the end of file.
    `present_to` < the end asked for and not the end of file: the cache is full; use Read for this range."""

    present_to: int


class ReadRequest(_Message, frozen=True):
    """Asks for bytes through the socket: the reply's payload. `length` at most PAYLOAD_BYTES_MAX."""

    handle: int
    offset: int
    length: int


class ReadReply(_Message, frozen=True):
    """The payload follows; shorter than asked only at the end of the file."""

    length: int


class HandleRequest(_Message, frozen=True):
    handle: int


class WriteOpenRequest(_Message, frozen=True):
    """Starts receiving a version on this connection. `role` PRIMARY commits; SECONDARY only stores its blocks.
    `store` False: do not cache (THROUGH)."""

    grant: bytes
    primary: bool = True


class WriteOpenReply(_Message, frozen=True):
    handle: int


class WriteRequest(_Message, frozen=True):
    """The payload belongs at `offset`. For the primary, offsets come in order without gaps. `keep` False: pass it
    through, do not cache it here (another worker keeps that block)."""

    handle: int
    offset: int
    keep: bool = True


class CommitRequest(_Message, frozen=True):
    """Ends the write. A secondary answers with its holder record; the primary completes the file with the master
    (through the under storage where the write type says so) and answers when it is visible."""

    handle: int
    length: int
    mtime_ns: int = 0


class CommitReply(_Message, frozen=True):
    inode: Inode | None = None


class PutRequest(_Message, frozen=True):
    """Open, write and commit of a whole small file in one call: the payload is the file."""

    grant: bytes


class LoadRequest(_Message, frozen=True):
    """Brings a whole version into the cache and waits for it. `promote` moves it to the top tier."""

    grant: bytes
    promote: bool = False


class LoadReply(_Message, frozen=True):
    cached_bytes: int


class FetchVersionRequest(_Message, frozen=True):
    """Between workers: read a version that the other one holds. `proof` as in RegisterRequest, over the version."""

    version: Version
    offset: int
    length: int
    proof: bytes


class WorkerStatusReply(_Message, frozen=True):
    worker_id: WorkerId
    pid: int
    web_port: int
    tiers: list[TierInfo]
    versions: int
    fetches_in_flight: int
    persists_in_flight: int


class MetricsReply(_Message, frozen=True):
    values: dict[str, float]


# --- the table ------------------------------------------------------------------------------------------------------


RequestT = TypeVar("RequestT", bound=msgspec.Struct)
ReplyT = TypeVar("ReplyT", bound=msgspec.Struct)


class Method(msgspec.Struct, Generic[RequestT, ReplyT], frozen=True):
    """One row: `idempotent` calls may be sent again after a lost connection, others only when they were never sent.
    Generic, so that a call's reply has the type that its method says."""

    number: int
    name: str
    request: type[RequestT]
    reply: type[ReplyT]
    idempotent: bool


#: A method whatever its messages: for tables and for code that only passes it on.
AnyMethod = Method[Any, Any]


def _row(
    number: int, name: str, request: type[RequestT], reply: type[ReplyT], idempotent: bool = False
) -> Method[RequestT, ReplyT]:
    return Method(number, name, request, reply, idempotent)


STAT: Final = _row(1, "stat", StatRequest, StatReply, True)
LIST: Final = _row(2, "list", ListRequest, ListReply, True)
MOUNTS: Final = _row(3, "mounts", Empty, MountsReply, True)
LOCATIONS: Final = _row(4, "locations", LocationsRequest, LocationsReply, True)
WORKERS: Final = _row(5, "workers", Empty, WorkersReply, True)
STATUS: Final = _row(6, "status", Empty, StatusReply, True)
RESOLVE_ID: Final = _row(7, "resolve_id", ResolveIdRequest, PathReply, True)
METRICS: Final = _row(8, "metrics", Empty, MetricsReply, True)

CREATE: Final = _row(20, "create", CreateRequest, CreateReply, True)
COMPLETE: Final = _row(21, "complete", CompleteRequest, CompleteReply, True)
ABORT: Final = _row(22, "abort", AbortRequest, Empty, True)
MKDIR: Final = _row(23, "mkdir", MkdirRequest, InodeReply)
RENAME: Final = _row(24, "rename", RenameRequest, InodeReply)
REMOVE: Final = _row(25, "remove", RemoveRequest, CountReply)
SET_ATTR: Final = _row(26, "set_attr", SetAttrRequest, CountReply, True)
MOUNT: Final = _row(27, "mount", MountRequest, Empty)
UNMOUNT: Final = _row(28, "unmount", PathRequest, Empty)
FREE: Final = _row(29, "free", PathRequest, CountReply, True)
PERSIST: Final = _row(30, "persist", PersistRequest, CountReply, True)
SYNC: Final = _row(31, "sync", SyncRequest, SyncReply, True)

REGISTER: Final = _row(40, "register", RegisterRequest, RegisterReply, True)
HEARTBEAT: Final = _row(41, "heartbeat", HeartbeatRequest, HeartbeatReply, True)
REPORT: Final = _row(42, "report", ReportRequest, ReportReply, True)
POLL: Final = _row(43, "poll", PollRequest, PollReply, True)
BEGIN_COMMIT: Final = _row(44, "begin_commit", BeginCommitRequest, BeginCommitReply, True)
END_COMMIT: Final = _row(45, "end_commit", EndCommitRequest, Empty, True)
WORKER_MOUNTS: Final = _row(46, "worker_mounts", WorkerMountsRequest, WorkerMountsReply, True)

OPEN: Final = _row(60, "open", OpenRequest, OpenReply, True)
ENSURE: Final = _row(61, "ensure", EnsureRequest, EnsureReply)
READ: Final = _row(62, "read", ReadRequest, ReadReply)
CLOSE_HANDLE: Final = _row(63, "close_handle", HandleRequest, Empty)
WRITE_OPEN: Final = _row(64, "write_open", WriteOpenRequest, WriteOpenReply)
WRITE: Final = _row(65, "write", WriteRequest, Empty)
COMMIT: Final = _row(66, "commit", CommitRequest, CommitReply)
WRITE_ABORT: Final = _row(67, "write_abort", HandleRequest, Empty)
PUT: Final = _row(68, "put", PutRequest, CommitReply)
LOAD: Final = _row(69, "load", LoadRequest, LoadReply, True)
FETCH_VERSION: Final = _row(70, "fetch_version", FetchVersionRequest, ReadReply, True)
WORKER_STATUS: Final = _row(71, "worker_status", Empty, WorkerStatusReply, True)

METHODS: Final[dict[int, AnyMethod]] = {row.number: row for row in list(globals().values()) if isinstance(row, Method)}


class Hello(_Message, frozen=True):
    """The first frame of a client."""

    protocol_min: int
    protocol_max: int
    user: str  # declared; ignored on Unix sockets, where the kernel knows better
    client: str  # program name, for logs
    pid: int
    token: bytes = b""


class Welcome(_Message, frozen=True):
    """The first frame of a server."""

    protocol: int
    role: str  # master, reader, worker
    server_id: str
    host_key: str
    readers: list[str] = []  # addresses that serve reads of the namespace, for a master
    user: str = ""  # who the server takes the caller for
    local_socket: str = ""  # where processes of the same host can reach this server
    address: str = ""
