"""The records that every layer speaks of: inode, file information, mounts, workers, read and write types.

Owns: their fields, units and flags. Never: stores, sends or computes policy with them.
"""

import enum
import os
from typing import Any, Final

import msgspec

#: What may be written from: anything else (an obstore Bytes, an mmap) is wrapped in a memoryview first.
ReadBuffer = bytes | bytearray | memoryview

FileId = int
#: A content identity: unique in the master's life, never reused. A rewrite of a path gets a new one.
Version = int
MountId = int
WorkerId = str

ROOT_ID: Final[FileId] = 1
#: The directory, in no tree, in which the records of files with several names stand, by their ids.
HARD_LINKS_ID: Final[FileId] = 2


class ReadType(enum.StrEnum):
    """What a read leaves in the cache (Alluxio's terms)."""

    NO_CACHE = "NO_CACHE"
    CACHE = "CACHE"
    CACHE_PROMOTE = "CACHE_PROMOTE"


class WriteType(enum.StrEnum):
    """Where a write goes before close returns (Alluxio's terms)."""

    MUST_CACHE = "MUST_CACHE"
    CACHE_THROUGH = "CACHE_THROUGH"
    THROUGH = "THROUGH"
    ASYNC_THROUGH = "ASYNC_THROUGH"

    @property
    def goes_through(self) -> bool:
        """Whether close waits for the under storage."""
        return self in (WriteType.CACHE_THROUGH, WriteType.THROUGH)


class TtlAction(enum.StrEnum):
    """What happens when a time to live ends."""

    DELETE = "DELETE"
    FREE = "FREE"


class Kind(enum.IntEnum):
    """What an inode is."""

    DIRECTORY = 0
    FILE = 1
    SYMLINK = 2
    FIFO = 3
    SOCKET = 4
    CHARACTER_DEVICE = 5
    BLOCK_DEVICE = 6
    HARD_LINK = 7  # in stored directories only, never sent: a name of the file whose record stands in HARD_LINKS_ID


class Flag(enum.IntFlag):
    """Bits of Inode.flags."""

    PERSISTED = 1  # the under storage holds this content (or this directory)
    TO_PERSIST = 2  # waits in the asynchronous persistence queue
    PINNED = 4  # never evicted
    MOUNT_POINT = 8  # the root directory of a mount
    CHILDREN_LOADED = 16  # the under storage's listing of this directory has been taken in at least once
    LOST = 32  # no worker and no under storage holds the content
    UNSTORED = 64  # nothing was ever on its way to the under storage under this name: there is nothing to undo there


class PathPolicy(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What holds for a file; on a directory, what the entries that are made or discovered in it begin with."""

    replication_min: int = 0  # workers that hold all of it, at least; 0: whoever wants it
    replication_max: int = -1  # and at most; -1: no limit
    tier: str = ""  # alias of the tier in which it is kept; empty: any
    memory_only: bool = False  # no byte of it may reach a disk: neither a tier on disk nor an under storage
    placement: str = ""  # which workers take new blocks (see `master.placement`); empty: as the client says
    read_placement: str = ""  # which worker caches it when it is first read; empty: as the client says
    ttl_ms: int = -1  # of a directory: time to live of what is made in it, from then on; -1: none
    ttl_action: str = TtlAction.DELETE


DEFAULT_POLICY: Final = PathPolicy()


class Inode(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One entry of the namespace, as stored (msgpack array) and as sent. Fields are only ever appended."""

    id: FileId
    kind: int
    mode: int  # permission bits, no file-type bits
    owner: str
    group: str
    length: int  # bytes
    mtime_ns: int
    ctime_ns: int
    atime_ns: int
    version: Version  # 0 for a directory
    block_size: int  # bytes
    flags: int
    mount_id: MountId
    ttl_ms: int = -1  # time to live from the moment it was set; -1: none
    ttl_action: str = TtlAction.DELETE
    expires_ms: int = -1  # wall clock, ms since the epoch
    fingerprint: str | None = None  # the under storage's, of the content that `version` stands for
    xattrs: dict[str, bytes] | None = None
    policy: PathPolicy | None = None
    target: bytes | None = None  # of a symbolic link
    rdev: int = 0  # of a device: its number, as stat(2) tells it
    links: int = 1  # names that lead to it; more than 1 only for files with hard links

    @property
    def is_dir(self) -> bool:
        return self.kind == Kind.DIRECTORY

    @property
    def is_file(self) -> bool:
        return self.kind == Kind.FILE

    @property
    def is_symlink(self) -> bool:
        return self.kind == Kind.SYMLINK

    @property
    def rules(self) -> PathPolicy:
        """The policy; the defaults where nobody set any."""
        return self.policy or DEFAULT_POLICY


class CacheState(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Where one version's bytes are cached, summed over workers: each block counted once at its best tier."""

    memory_bytes: int
    cached_bytes: int
    holders: list["BlockHolder"] = []


class BlockHolder(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One worker's share of a version."""

    worker_id: WorkerId
    memory_bytes: int
    cached_bytes: int
    blocks: bytes  # little-endian bitmap of blocks that are wholly present


class FileInfo:
    """What `stat` and `list` give. A light view over an `Inode`: nothing is computed until asked for.

    Times are seconds since the epoch as floats (`*_ns`: integers); sizes are bytes; `ttl` is seconds or None.
    """

    __slots__ = ("_cache", "_inode", "path", "ufs_path")

    def __init__(self, path: str, inode: Inode, ufs_path: str | None = None, cache: CacheState | None = None) -> None:
        self.path = path
        self.ufs_path = ufs_path
        self._inode = inode
        self._cache = cache

    @property
    def inode(self) -> Inode:
        """The stored record, for layers of Isotach itself."""
        return self._inode

    @property
    def name(self) -> str:
        """The last component; empty for the root."""
        return self.path.rpartition("/")[2]

    @property
    def id(self) -> int:
        return self._inode.id

    @property
    def is_dir(self) -> bool:
        return self._inode.kind == Kind.DIRECTORY

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return self._inode.kind == Kind.FILE

    @property
    def is_symlink(self) -> bool:
        return self._inode.kind == Kind.SYMLINK

    @property
    def kind(self) -> Kind:
        """What it is."""
        return Kind(self._inode.kind)

    @property
    def target(self) -> str | None:
        """Where a symbolic link leads; None for anything else."""
        return None if self._inode.target is None else os.fsdecode(self._inode.target)

    @property
    def links(self) -> int:
        """How many names lead to it."""
        return self._inode.links

    @property
    def length(self) -> int:
        return self._inode.length

    @property
    def mode(self) -> int:
        return self._inode.mode

    @property
    def owner(self) -> str:
        return self._inode.owner

    @property
    def group(self) -> str:
        return self._inode.group

    @property
    def mtime(self) -> float:
        return self._inode.mtime_ns / 1e9

    @property
    def mtime_ns(self) -> int:
        return self._inode.mtime_ns

    @property
    def ctime(self) -> float:
        return self._inode.ctime_ns / 1e9

    @property
    def ctime_ns(self) -> int:
        return self._inode.ctime_ns

    @property
    def persisted(self) -> bool:
        """Whether the under storage holds exactly this content."""
        return bool(self._inode.flags & Flag.PERSISTED)

    @property
    def lost(self) -> bool:
        """Whether the last copy of the content is gone."""
        return bool(self._inode.flags & Flag.LOST)

    @property
    def pinned(self) -> bool:
        return bool(self._inode.flags & Flag.PINNED)

    @property
    def is_mount_point(self) -> bool:
        return bool(self._inode.flags & Flag.MOUNT_POINT)

    @property
    def ttl(self) -> float | None:
        return None if self._inode.ttl_ms < 0 else self._inode.ttl_ms / 1000

    @property
    def ttl_action(self) -> str:
        return self._inode.ttl_action

    @property
    def block_size(self) -> int:
        return self._inode.block_size

    @property
    def version(self) -> int:
        return self._inode.version

    @property
    def xattrs(self) -> dict[str, bytes]:
        return dict(self._inode.xattrs or {})

    @property
    def policy(self) -> PathPolicy:
        """Replication, tier and placement; the defaults where nobody set any."""
        return self._inode.rules

    @property
    def copies(self) -> int:
        """How many workers hold something of the content."""
        return 0 if self._cache is None else len(self._cache.holders)

    @property
    def memory_bytes(self) -> int:
        """How many of the bytes are in MEM tiers."""
        return 0 if self._cache is None else min(self.length, self._cache.memory_bytes)

    @property
    def cached_bytes(self) -> int:
        """How many of the bytes are in any tier."""
        return 0 if self._cache is None else min(self.length, self._cache.cached_bytes)

    @property
    def in_memory_percent(self) -> int:
        """The share of the bytes in MEM tiers, 0 to 100 (an empty file is 100: nothing is missing)."""
        return self._percent(0 if self._cache is None else self._cache.memory_bytes)

    @property
    def cached_percent(self) -> int:
        """The share of the bytes in any tier, 0 to 100."""
        return self._percent(0 if self._cache is None else self._cache.cached_bytes)

    def _percent(self, part: int) -> int:
        if self.is_dir:
            return 0
        return 100 if self.length == 0 else min(100, part * 100 // self.length)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        names = (
            "path", "name", "is_dir", "length", "mode", "owner", "group", "mtime", "ctime", "persisted",
            "in_memory_percent", "cached_percent", "pinned", "ttl", "ttl_action", "block_size", "ufs_path", "version",
            "lost", "id", "copies", "is_symlink", "target", "links",
        )  # fmt: skip
        policy = msgspec.to_builtins(self.policy)
        names_of_policy = msgspec.structs.fields(PathPolicy)
        return {name: getattr(self, name) for name in names} | {
            "policy": {field.name: value for field, value in zip(names_of_policy, policy, strict=True)}
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FileInfo) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.path, self._inode.id, self._inode.version))

    def __repr__(self) -> str:
        kind = "dir" if self.is_dir else f"{self.length} bytes"
        return f"FileInfo({self.path!r}, {kind}, mode={self.mode:04o}, owner={self.owner!r})"

    def __fspath__(self) -> str:
        return self.path


class MountInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the mount table as users see it: secrets are masked."""

    path: str
    ufs_uri: str
    mount_id: MountId
    read_only: bool
    options: dict[str, str]
    metadata_sync_interval_s: float  # -1 never, 0 always


class Mount(msgspec.Struct, array_like=True, frozen=True):
    """One row of the mount table as stored, and as workers get it. Holds secrets: never log it."""

    mount_id: MountId
    inode_id: FileId
    path: bytes
    ufs_uri: str  # no trailing slash
    options: dict[str, str]
    read_only: bool = False
    metadata_sync_interval_ms: int = -1

    def ufs_uri_of(self, relative: bytes) -> str:
        """The full URI, for people."""
        return f"{self.ufs_uri}/{relative.decode(errors='backslashreplace')}" if relative else self.ufs_uri


class FolderInfo(msgspec.Struct, array_like=True, frozen=True):
    """One folder of a tier."""

    path: str
    capacity_bytes: int
    used_bytes: int
    failure: str = ""  # why it is out of service; empty: it serves


class TierInfo(msgspec.Struct, array_like=True, frozen=True):
    """One tier of one worker. Folders that are out of service count neither for capacity nor for use."""

    alias: str  # MEM, SSD, HDD
    capacity_bytes: int
    used_bytes: int
    folders: list[FolderInfo] = []


class WorkerState(enum.StrEnum):
    """What the master makes of a worker."""

    LIVE = "LIVE"
    DECOMMISSIONING = "DECOMMISSIONING"  # serves, takes nothing new, and what only it holds is moved off
    DECOMMISSIONED = "DECOMMISSIONED"  # everything is elsewhere: it may be stopped
    LOST = "LOST"  # silent for too long


class WorkerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One worker as the master knows it."""

    worker_id: WorkerId
    host: str
    address: str  # isotach://host:port of its data server
    local_socket: str | None  # path of its Unix socket, for clients of the same host
    host_key: str  # equal for processes of one running kernel: decides who is local
    live: bool
    seconds_since_heartbeat: float
    tiers: list[TierInfo]
    state: str = WorkerState.LIVE
    locality: list[tuple[str, str]] = []  # nearest first: [("node", "a1"), ("rack", "r7"), ("zone", "eu-1")]
    versions: int = 0  # of which it holds something


class BlockLocation(msgspec.Struct, frozen=True, kw_only=True):
    """One block of a file and the workers that hold all of it."""

    offset: int  # bytes
    length: int  # bytes
    workers: list[WorkerId]
    hosts: list[str]
