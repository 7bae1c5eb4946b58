"""Calls of mounts to the worker of their host: files being written as drafts that the mount has open itself.

Owns: the requests and replies. Never: encodes them (`frames.py`) or numbers them (`messages.py`). All but the first
may come on any connection: a draft belongs to a session, which ends when the connection that opened it does.
"""

from isotach.base.types import Inode
from isotach.wire.message_base import Message


class DraftSessionRequest(Message, frozen=True):
    """Opens a session on this connection, or (the same `session` again, after a lost connection) takes it over. When
    the connection ends and nobody takes it over for a moment, drafts that were synced are published as they stand, and
    the others dropped."""

    session: bytes  # random, 16 bytes


class DraftOpenRequest(Message, frozen=True):
    """Begins an empty draft. `grant`: a sealed `WriteGrant` with `by_id`. The descriptor, for reading and writing, is
    passed. `room`: bytes that will be written soon; the reply says how many there is room for."""

    session: bytes
    grant: bytes
    room: int = 0


class DraftOpenReply(Message, frozen=True):
    """`room` bytes may be written in all before DRAFT_ROOM is asked. `hard_limit`: the folder's file system itself
    ends where the tier does, so that the kernel may write without asking."""

    draft: int
    room: int
    tier: str
    hard_limit: bool = False


class DraftRequest(Message, frozen=True):
    """CLOSE: drops the draft."""

    session: bytes
    draft: int


class DraftRoomRequest(Message, frozen=True):
    """Asks for room for `room` bytes in all. Raises OSError(ENOSPC) when no tier has it."""

    session: bytes
    draft: int
    room: int


class DraftRoomReply(Message, frozen=True):
    """`moved`: the draft is another file now, in another tier: its descriptor is passed, the old one is void."""

    room: int
    moved: bool
    tier: str


class DraftSyncRequest(Message, frozen=True):
    """fsync: what was written so far outlives the mount and the worker's process (and, on a disk tier, the machine):
    when either dies, the draft is published as it stands, at `length` bytes."""

    session: bytes
    draft: int
    grant: bytes  # by which it would be published
    length: int


class DraftPublishRequest(Message, frozen=True):
    """Makes the draft the file's content, by the grant's write type, whole: nobody writes to it meanwhile. `keep`:
    a copy of it is published, and the draft goes on (fsync under CACHE_THROUGH and THROUGH); else the draft is gone
    afterwards. After an error it is still there, for another try, by a grant that was not used before (the worker gets
    itself one where the same is given): StaleVersionError, of a write that was overtaken or a grant that the master
    gave up, needs a new one."""

    session: bytes
    draft: int
    grant: bytes
    length: int
    mtime_ns: int = 0
    keep: bool = False


class DraftPublishReply(Message, frozen=True):
    """None: the file was removed meanwhile, the content is dropped."""

    inode: Inode | None = None
