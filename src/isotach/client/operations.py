"""Every call that the client makes to the namespace, as a value: which method, with what request, served by whom.

Owns: checking and translating arguments into requests, and replies into results, once for the blocking and the
asynchronous file system alike. Never: sends anything, waits, or reads a clock.

Times are seconds (floats), sizes bytes. A path is absolute, `str`, `bytes` or `os.PathLike`.
"""

import enum
import errno
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec

from isotach.base.errors import InvalidArgumentError, os_error
from isotach.base.limits import BLOCK_BYTES_MAX, LIST_PAGE_ENTRIES, LONG_CALL_DEADLINE_S, PAGE_BYTES
from isotach.base.paths import normalize
from isotach.base.placement import PLACEMENTS
from isotach.base.types import FileInfo, Mount, MountInfo, ReadType, TtlAction, WorkerInfo, WriteType
from isotach.client.records import ClusterStatus
from isotach.wire import messages
from isotach.wire.messages import AnyMethod, Empty, ListEntry, SetAttrRequest, StatReply, WorkerRow

PathLike = str | bytes | os.PathLike[str]
R = TypeVar("R")

#: Bits of `StatRequest.access`.
READ_ACCESS: Final = 4

_entries_decoder = msgspec.msgpack.Decoder(list[ListEntry])


class Where(enum.Enum):
    """Who may serve an operation."""

    READER = 0  # a reader process, or the master when none answers
    MASTER = 1


class Operation(Generic[R]):
    """One call. `decode` takes the reply (of `method.reply`) and the payload."""

    __slots__ = ("deadline_s", "decode", "method", "request", "where")

    def __init__(
        self,
        method: AnyMethod,
        request: msgspec.Struct,
        where: Where,
        decode: Callable[[Any, Any], R],
        deadline_s: float | None = None,  # None: the client's own
    ) -> None:
        self.method = method
        self.request = request
        self.where = where
        self.decode = decode
        self.deadline_s = deadline_s


class ListPage(msgspec.Struct, frozen=True):
    """Entries of one directory in byte order of their names, and the name to go on after (None: that was all)."""

    infos: list[FileInfo]
    next_after: bytes | None


# --- reads -----------------------------------------------------------------------------------------------------------


def stat(path: PathLike, sync_interval_s: float | None, follow: bool = True) -> Operation[FileInfo]:
    """Raises FileNotFoundError, NotADirectoryError or PermissionError when it runs, as all below."""
    raw = normalize(path)

    def decode(reply: StatReply, _payload: object) -> FileInfo:
        return FileInfo(os.fsdecode(raw), reply.inode, reply.ufs_uri, reply.cache)

    request = messages.StatRequest(raw, 0, interval_ms(sync_interval_s), follow)
    return Operation(messages.STAT, request, Where.READER, decode)


def grant_read(path: bytes, sync_interval_s: float | None) -> Operation[StatReply]:
    """What is needed to read a file: its inode, its holders, and the capability for the workers."""
    request = messages.StatRequest(path, READ_ACCESS, interval_ms(sync_interval_s))
    return Operation(messages.STAT, request, Where.READER, _reply)


def list_page(path: bytes, start_after: bytes, sync_interval_s: float | None) -> Operation[ListPage]:
    """One page of a directory; a file lists itself."""
    directory = os.fsdecode(path)
    prefix = directory if directory == "/" else directory + "/"

    def decode(reply: messages.ListReply, payload: Any) -> ListPage:
        entries = _entries_decoder.decode(payload)
        if len(entries) == 1 and not entries[0].name:
            only = entries[0]
            return ListPage([FileInfo(directory, only.inode, reply.ufs_uri, only.cache)], None)
        infos = _file_infos(entries, prefix, reply.ufs_uri)
        return ListPage(infos, entries[-1].name if reply.more and entries else None)

    request = messages.ListRequest(path, start_after, LIST_PAGE_ENTRIES, interval_ms(sync_interval_s))
    return Operation(messages.LIST, request, Where.READER, decode)


def _file_infos(entries: list[ListEntry], prefix: str, ufs_uri: str | None) -> list[FileInfo]:
    # A million entries pass here: one comprehension, nothing per entry that is not needed.
    fsdecode = os.fsdecode
    if ufs_uri is None:
        return [FileInfo(prefix + fsdecode(entry.name), entry.inode, None, entry.cache) for entry in entries]
    ufs_prefix = ufs_uri if ufs_uri.endswith("/") else ufs_uri + "/"
    named = [(fsdecode(entry.name), entry) for entry in entries]
    return [FileInfo(prefix + name, entry.inode, ufs_prefix + name, entry.cache) for name, entry in named]


def mounts() -> Operation[list[MountInfo]]:
    """The mount table, secrets masked by the master."""
    return Operation(
        messages.MOUNTS, Empty(), Where.READER, lambda reply, _: [_mount_info(mount) for mount in reply.mounts]
    )


def _mount_info(mount: Mount) -> MountInfo:
    return MountInfo(
        path=os.fsdecode(mount.path),
        ufs_uri=mount.ufs_uri,
        mount_id=mount.mount_id,
        read_only=mount.read_only,
        options=dict(mount.options),
        metadata_sync_interval_s=interval_s(mount.metadata_sync_interval_ms),
    )


def locations(info: FileInfo) -> Operation[messages.LocationsReply]:
    """Who holds which blocks of one version."""
    if info.is_dir:
        raise os_error(errno.EISDIR, "a directory has no blocks: give a file", info.path)
    return Operation(messages.LOCATIONS, messages.LocationsRequest([info.version]), Where.MASTER, _reply)


def worker_rows() -> Operation[Sequence[WorkerRow]]:
    """All workers that the master knows, live or lost."""
    return Operation(messages.WORKERS, Empty(), Where.MASTER, lambda reply, _: reply.workers)


def status() -> Operation[ClusterStatus]:
    """The state of the master, with its workers."""
    return Operation(messages.STATUS, Empty(), Where.MASTER, lambda reply, _: _cluster_status(reply))


def _cluster_status(reply: messages.StatusReply) -> ClusterStatus:
    values = {name: getattr(reply, name) for name in reply.__struct_fields__ if name != "workers"}
    return ClusterStatus(**values, workers=[worker_info(row) for row in reply.workers])


def worker_info(row: WorkerRow) -> WorkerInfo:
    """A worker as users see it."""
    return WorkerInfo(
        worker_id=row.worker_id,
        host=row.host,
        address=row.address,
        local_socket=row.local_socket or None,
        host_key=row.host_key,
        live=row.live,
        seconds_since_heartbeat=row.heartbeat_age_ms / 1000,
        tiers=row.tiers,
        state=row.state,
        locality=row.locality,
        versions=row.versions,
    )


# --- changes ---------------------------------------------------------------------------------------------------------


def mkdir(path: PathLike, parents: bool, exist_ok: bool, mode: int | None) -> Operation[None]:
    request = messages.MkdirRequest(normalize(path), mode_bits(mode), parents, exist_ok)
    return Operation(messages.MKDIR, request, Where.MASTER, _nothing)


def rename(src: PathLike, dst: PathLike, replace: bool, exchange: bool) -> Operation[None]:
    request = messages.RenameRequest(normalize(src), normalize(dst), replace, exchange)
    return Operation(messages.RENAME, request, Where.MASTER, _nothing, LONG_CALL_DEADLINE_S)


def remove(path: PathLike, recursive: bool) -> Operation[None]:
    request = messages.RemoveRequest(normalize(path), recursive)
    return Operation(messages.REMOVE, request, Where.MASTER, _nothing, LONG_CALL_DEADLINE_S)


def chmod(path: PathLike, mode: int, recursive: bool) -> Operation[None]:
    return _set(SetAttrRequest(normalize(path), mode=mode_bits(mode), recursive=recursive))


def chown(path: PathLike, owner: str | None, group: str | None, recursive: bool) -> Operation[None]:
    if owner is None and group is None:
        raise InvalidArgumentError("chown needs an owner, a group, or both")
    return _set(SetAttrRequest(normalize(path), owner=owner, group=group, recursive=recursive))


def utime(path: PathLike, atime_s: float | None, mtime_s: float | None) -> Operation[None]:
    return _set(SetAttrRequest(normalize(path), atime_ns=_ns(atime_s), mtime_ns=_ns(mtime_s)))


def touch(path: PathLike) -> Operation[None]:
    """Sets the times to the master's now, which who may write may do, as well as the owner."""
    return _set(SetAttrRequest(normalize(path), atime_now=True, mtime_now=True))


def set_xattr(path: PathLike, name: str, value: bytes) -> Operation[None]:
    return _set(SetAttrRequest(normalize(path), set_xattrs={name: bytes(value)}))


def remove_xattr(path: PathLike, name: str) -> Operation[None]:
    return _set(SetAttrRequest(normalize(path), remove_xattrs=[name]))


def _set(request: SetAttrRequest) -> Operation[None]:
    deadline_s = LONG_CALL_DEADLINE_S if request.recursive else None
    return Operation(messages.SET_ATTR, request, Where.MASTER, _nothing, deadline_s)


def persist(path: PathLike, wait: bool) -> Operation[int]:
    """Gives the number of files that were queued (or, with `wait`, persisted)."""
    request = messages.PersistRequest(normalize(path), wait)
    return Operation(messages.PERSIST, request, Where.MASTER, _count, LONG_CALL_DEADLINE_S)


def mount(
    path: PathLike,
    uri: str,
    options: Mapping[str, object] | None,
    read_only: bool,
    metadata_sync_interval_s: float | None,
) -> Operation[None]:
    texts = {name: _option_text(value) for name, value in (options or {}).items() if value is not None}
    request = messages.MountRequest(normalize(path), uri, texts, read_only, interval_ms(metadata_sync_interval_s))
    return Operation(messages.MOUNT, request, Where.MASTER, _nothing)


def unmount(path: PathLike) -> Operation[None]:
    return Operation(messages.UNMOUNT, messages.PathRequest(normalize(path)), Where.MASTER, _nothing)


def create(request: messages.CreateRequest) -> Operation[messages.CreateReply]:
    """Starts a write."""
    return Operation(messages.CREATE, request, Where.MASTER, _reply)


def complete_empty(grant: bytes, persist_later: bool) -> Operation[messages.CompleteReply]:
    """Completes a write without bytes, which needs no worker."""
    request = messages.CompleteRequest(grant, 0, persist_later=persist_later)
    return Operation(messages.COMPLETE, request, Where.MASTER, _reply)


def abort(grant: bytes) -> Operation[None]:
    return Operation(messages.ABORT, messages.AbortRequest(grant), Where.MASTER, _nothing)


# --- arguments -------------------------------------------------------------------------------------------------------


def interval_ms(seconds: float | None) -> int | None:
    """A metadata sync interval as sent: -1 never, 0 always, None the mount's own."""
    if seconds is None:
        return None
    return -1 if seconds < 0 else int(seconds * 1000)


def interval_s(milliseconds: int) -> float:
    return -1.0 if milliseconds < 0 else milliseconds / 1000


def ttl_ms(seconds: float | None) -> int:
    """A time to live as sent; None removes it. Raises InvalidArgumentError unless positive."""
    if seconds is None:
        return -1
    if not seconds > 0:
        raise InvalidArgumentError(
            f"a time to live of {seconds!r} s is not possible: give seconds > 0, or None for none"
        )
    return max(1, int(seconds * 1000))


def ttl_action(action: str) -> str:
    """The canonical name of a TTL action. Raises InvalidArgumentError for any but DELETE and FREE."""
    return _member(TtlAction, action, "TTL action").value


def read_type(value: str) -> ReadType:
    """Raises InvalidArgumentError for an unknown read type."""
    return _member(ReadType, value, "read type")


def write_type(value: str) -> WriteType:
    """Raises InvalidArgumentError for an unknown write type."""
    return _member(WriteType, value, "write type")


def placement(value: str) -> str:
    """The canonical name of a location policy of writes. Raises InvalidArgumentError for an unknown one."""
    if value.upper() not in PLACEMENTS:
        raise InvalidArgumentError(f"{value!r} is no location policy: give one of {', '.join(PLACEMENTS)}")
    return value.upper()


E = TypeVar("E", bound=enum.StrEnum)


def _member(kind: type[E], value: str, what: str) -> E:
    try:
        return kind(value.upper())
    except (ValueError, AttributeError):
        known = ", ".join(member.value for member in kind)
        raise InvalidArgumentError(f"{value!r} is no {what}: give one of {known}") from None


def mode_bits(mode: int | None) -> int:
    """Permission bits as sent; None: the master's default. Raises InvalidArgumentError for more than 0o7777."""
    if mode is None:
        return -1
    if not 0 <= mode <= 0o7777:
        raise InvalidArgumentError(f"{mode!r} is no mode: give permission bits, for example 0o644")
    return mode


def block_bytes(value: int | None) -> int:
    """A block size as sent; None or 0: the default. Raises InvalidArgumentError unless it is whole pages."""
    if not value:
        return 0
    if value < PAGE_BYTES or value > BLOCK_BYTES_MAX or value % PAGE_BYTES:
        message = (
            f"a block size of {value} bytes is not possible: give a multiple of {PAGE_BYTES}, at most {BLOCK_BYTES_MAX}"
        )
        raise InvalidArgumentError(message)
    return value


def xattr_of(info: FileInfo, name: str) -> bytes:
    """Raises OSError (ENODATA) when there is no such extended attribute."""
    value = (info.inode.xattrs or {}).get(name)
    if value is None:
        raise os_error(errno.ENODATA, f"the path has no extended attribute {name!r}", info.path)
    return value


def _option_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _ns(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1_000_000_000)


def _reply(reply: Any, _payload: object) -> Any:
    return reply


def _nothing(_reply: object, _payload: object) -> None:
    return None


def _count(reply: messages.CountReply, _payload: object) -> int:
    return reply.count
