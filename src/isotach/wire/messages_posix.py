"""Calls that only POSIX programs need: entries of all kinds, hard links, locks, and the feed of changes.

Owns: the requests and replies. Never: encodes them (`frames.py`) or numbers them (`messages.py`). Paths are canonical
bytes or id paths (`base.paths.id_path`); durations are ms, sizes bytes.
"""

from isotach.base.lock_ranges import LOCK_END_MAX
from isotach.base.types import FileId, Inode, Version
from isotach.wire.message_base import Message
from isotach.wire.messages_namespace_changes import CreateReply


class MakeRequest(Message, frozen=True):
    """Makes an entry at once: an empty file, a symbolic link, a FIFO, a socket, a device. Never a directory.

    An existing entry of that name is an error when `exclusive`, else the reply is about it. With `write`, for a file
    (new or not): the reply brings the grant to replace its content too (`CreateRequest.by_id`), for this write type.
    A new file that is to be stored but never gets content is persisted a while later, as an empty one."""

    path: bytes
    kind: int  # a `Kind`
    mode: int = 0o644
    umask: int = -1  # as in `MkdirRequest`
    owner: str = ""  # as in `MkdirRequest`
    group: str = ""
    exclusive: bool = False
    target: bytes | None = None
    rdev: int = 0
    write: bool = False
    write_type: str = ""
    write_type_given: bool = True
    placement: str = "LOCAL_FIRST"
    host_key: str = ""


class MakeReply(Message, frozen=True):
    """`made`: whether it is new. `created`: the write that was asked for."""

    inode: Inode
    made: bool
    created: CreateReply | None = None


class LinkRequest(Message, frozen=True):
    """A further name for a file (no directory). Kept in the namespace; under storages have the content under the first
    name only. Replied by `InodeReply`."""

    src: bytes
    dst: bytes


# --- locks: POSIX record locks and flock, across mounts; kinds as in `base.lock_ranges` ---


class LockRow(Message, frozen=True):
    """A lock on [start, end], both inclusive, of the owner `owner` of a session. `flock`: of the whole file, unknown to
    the others."""

    file_id: FileId
    flock: bool
    kind: int  # LOCK_READ, LOCK_WRITE, LOCK_NONE (unlocks)
    owner: int
    start: int = 0
    end: int = LOCK_END_MAX
    pid: int = 0
    session: bytes = b""


class LockRequest(Message, frozen=True):
    """Takes, changes or gives up a lock. Refused with OSError(EAGAIN) when others hold it; with `wait_ms`, after so
    long (the caller asks again until it is interrupted). EDEADLK where waiting would be for ever."""

    session: bytes  # random, 16 bytes
    lock: LockRow
    wait_ms: int = 0


class LockReply(Message, frozen=True):
    """`shared`: another mount uses locks on this file too, so that what is written under a lock must be published
    before the lock is given up. `version`: of the file's content now, if it has any. `feed` and `after`: what the feed
    of changes had told by then: names under a lock are as certain as the content."""

    shared: bool = False
    version: Version = 0
    feed: int = 0
    after: int = 0


class LockTestRequest(Message, frozen=True):
    """Who is in the way of this lock, if anybody."""

    session: bytes
    lock: LockRow


class LockTestReply(Message, frozen=True):
    blocker: LockRow | None = None


class LockSessionRequest(Message, frozen=True):
    """Keeps a session's locks alive (they go `lease_ms` after the last word), and after a restart of the master brings
    them back: `held` is all that the session holds. `end`: all of them go now. `recall`: the mount has restarted, and
    wants to know what it held."""

    session: bytes
    held: list[LockRow] | None = None  # None: only a sign of life
    end: bool = False
    recall: bool = False
    published: list[FileId] = []  # what was asked for by `LockSessionReply.wanted`
    left: list[FileId] = []  # files on which this mount uses locks no longer, with nothing unpublished


class LockSessionReply(Message, frozen=True):
    """`known` False: the master does not know the session (any more): send what it held. `lost`: which of `held` are
    others' by now."""

    known: bool
    lease_ms: int
    lost: list[LockRow] = []
    held: list[LockRow] = []  # what was recalled
    wanted: list[FileId] = []  # another mount wants to lock these: publish what was written, and say so


# --- the feed of changes ---


class ChangesRequest(Message, frozen=True):
    """Waits up to `wait_ms` for changes after `after`, of the feed `feed` (both 0 at first: where it stands now)."""

    feed: int = 0
    after: int = 0
    wait_ms: int = 10_000


class Change(Message, frozen=True):
    """One entry that changed: it is `inode` now, or gone. For a file with hard links `directory_id` may be that of
    none: then only the inode changed."""

    directory_id: FileId
    name: bytes
    inode: Inode | None
    gone_id: FileId = 0  # what the entry was before, when it is gone or another one by now


class ChangesReply(Message, frozen=True):
    """`feed` and `after` are for the next request. `missed`: more happened than is remembered, or the master restarted:
    whatever was known may be wrong."""

    feed: int
    after: int
    missed: bool = False
    changes: list[Change] = []
