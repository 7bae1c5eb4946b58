"""Calls that change the namespace: served by the master's one writer.

Owns: the requests and replies. Never: encodes them (`frames.py`) or numbers them (`messages.py`). Paths are canonical
bytes; durations are ms, sizes bytes, times ns since the epoch.
"""

from isotach.base.types import BlockHolder, Inode, MountId, Version, WorkerId
from isotach.wire.message_base import Message
from isotach.wire.messages_namespace_reads import WorkerRow


class CreateRequest(Message, frozen=True):
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
    locality: list[tuple[str, str]] = []  # of the client, nearest first
    placement_host: str = ""  # for SPECIFIC_HOST: a host name or worker id
    memory_only: bool = False
    replication_min: int = -1  # -1: as the directory says
    replication_max: int = -2  # -2: as the directory says; -1: no limit
    write_type_given: bool = True  # False: a default of the client, which gives way to a policy of the path
    by_id: bool = False  # `path` is an id path of a file that exists: its content is replaced wherever it is by then
    renews: bytes = b""  # the grant, expired or not, of a write by id that goes on under this one; `path` is not read


class CreateReply(Message, frozen=True):
    """`write_type` is the effective one. `workers` are placement candidates, best first; block i goes to
    workers[i % len(workers)] under ROUND_ROBIN and HASH, and to workers[0] otherwise."""

    version: Version
    write_type: str
    block_size: int
    workers: list[WorkerRow]
    grant: bytes  # a `WriteGrant`, sealed
    spread: bool = False  # whether blocks go round the workers


class CompleteRequest(Message, frozen=True):
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


class CompleteReply(Message, frozen=True):
    inode: Inode


class AbortRequest(Message, frozen=True):
    """Drops a write that was not completed. No error when it is gone already."""

    grant: bytes


class BeginCommitRequest(Message, frozen=True):
    """Before a worker makes a file visible in the under storage: takes the path's lock, records the intent durably
    and checks that the version may still go there. Refused with StaleVersionError when the write was overtaken."""

    grant: bytes  # of a write, or
    version: Version = 0  # of a file being persisted
    worker_id: WorkerId = ""
    renew: bool = False  # the commit of `version` goes on: it must be open


class BeginCommitReply(Message, frozen=True):
    intent_id: int
    mount_id: MountId
    ufs_path: bytes  # below the root of the mount, any bytes: where it must go now: the file may have been renamed


class EndCommitRequest(Message, frozen=True):
    """After it: for a persisted file (a written one is ended by `CompleteRequest`), or to give up (`failed`)."""

    intent_id: int
    version: Version
    fingerprint: str | None = None
    failed: bool = False


class MkdirRequest(Message, frozen=True):
    path: bytes
    mode: int = -1
    parents: bool = False
    exist_ok: bool = False
    owner: str = ""  # from superusers, who make it for somebody: empty is the caller
    group: str = ""  # the directory's goes before it where that has the setgid bit
    umask: int = -1  # taken from `mode` here, unless the directory has a default ACL; -1: taken already


class InodeReply(Message, frozen=True):
    inode: Inode


class RenameRequest(Message, frozen=True):
    src: bytes
    dst: bytes
    replace: bool = True
    exchange: bool = False  # both exist, of any kinds, and change places


class RemoveRequest(Message, frozen=True):
    path: bytes
    recursive: bool = False
    kind: str = ""  # "directory" (rmdir: ENOTDIR else), "other" (unlink: EISDIR for a directory); empty: whatever it is


class SetAttrRequest(Message, frozen=True):
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
    replication_min: int | None = None
    replication_max: int | None = None
    tier: str | None = None  # for pins: the tier in which it is kept; empty: any
    memory_only: bool | None = None
    placement: str | None = None
    read_placement: str | None = None
    inherited_ttl_ms: int | None = None  # of a directory: what is made in it lives this long; -1: no limit
    inherited_ttl_action: str | None = None
    xattr_rule: str = ""  # "create": EEXIST where it is there; "replace": ENODATA where not; empty: whichever
    atime_now: bool = False  # the master's time
    mtime_now: bool = False
    clear_suid: bool = False  # takes the setuid and setgid bits away, as a chown or a write by others does
    follow: bool = True  # False: of a symbolic link itself. An id path is never followed


class CountReply(Message, frozen=True):
    """How many files the call changed, and how many it had to leave alone; of those that FREE left: how many are not
    persisted, and how many pinned (or kept by a replication minimum). Of REMOVE: the time that it gave the directory
    (ns since the epoch)."""

    count: int
    skipped: int = 0
    unpersisted: int = 0
    pinned: int = 0
    at_ns: int = 0


class MountRequest(Message, frozen=True):
    path: bytes
    ufs_uri: str
    options: dict[str, str] = {}
    read_only: bool = False
    metadata_sync_interval_ms: int | None = None


class PathRequest(Message, frozen=True):
    """`force`: of FREE, also what is pinned, which ends the pin and the replication minimum."""

    path: bytes
    recursive: bool = False
    force: bool = False


class PersistRequest(Message, frozen=True):
    """Queues the file, or every file below, for persistence; with `wait` the reply comes when all are persisted."""

    path: bytes
    wait: bool = True
    ticket: int = 0  # by which PERSIST_STATUS is asked how far it is; chosen at random by the caller; 0: nobody asks


class PersistStatusRequest(Message, frozen=True):
    """Asks how far a PERSIST is that was sent with this ticket."""

    ticket: int


class PersistStatusReply(Message, frozen=True):
    """`total` files were queued, `done` were persisted since. Of `failing` ones the latest try failed; they stay
    queued, and `errors` tells of the first few. Not `known`: there is no such ticket (any more): a master that
    restarted knows none, its queue goes on."""

    known: bool = False
    total: int = 0
    done: int = 0
    failing: int = 0
    errors: list[str] = []
    finished: bool = False


class SyncRequest(Message, frozen=True):
    """Brings the namespace up to date with the under storage: the path itself (`children` False), or also the listing
    of the directory. From readers that met a path they cannot answer for."""

    path: bytes
    children: bool
    interval_ms: int | None = None


class SyncReply(Message, frozen=True):
    changed: int
