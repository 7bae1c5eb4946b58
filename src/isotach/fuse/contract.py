"""What the parts of a mount want of one another, so that each can be built, read and tested without the others.

Owns: the interfaces between the session, the tree, the open files, the writing, the locks and the feed of changes.
Never: implements one.

    kernel --> session --Request--> tree    names, attributes, directories, extended attributes
                                    files   open, read, release, passthrough   --> writing  files being written
                                    locks   fcntl and flock, through the master
    master --> feed ----Change----> tree, files --> Notifier --> kernel

Node ids are the ids of inodes of the namespace, with a number of ours above them (`NODE_SHIFT`): a file that must not
share a kernel inode with older opens of itself gets the next number (see `Tree.renew`). Node 1 is the mount's root.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from isotach.base.types import FileId, Inode, ReadBuffer, Version
from isotach.wire.messages import Change, CreateReply, StatReply

#: Bits of a node id that are the inode's own id.
NODE_SHIFT: Final = 48
ROOT_NODE: Final = 1

#: The payload of a successful reply, in one piece or several; None: there is none, or somebody sends it later.
Reply = bytes | Sequence[ReadBuffer] | None


class Channel(Protocol):
    """Where a request came from, and where alone it may be answered: one clone of the device. Any thread."""

    def reply(self, unique: int, *buffers: ReadBuffer) -> None:
        """Success. A request that the kernel has given up is passed over."""

    def fail(self, unique: int, number: int) -> None:
        """An errno, positive."""


class Request:
    """One request of the kernel. `body` is what follows the header: memory of the reading thread, void once the handler
    has returned (`Later.run` copies it)."""

    __slots__ = ("body", "channel", "gid", "node", "opcode", "pid", "uid", "unique")

    def __init__(
        self, opcode: int, unique: int, node: int, uid: int, gid: int, pid: int, body: memoryview, channel: Channel
    ) -> None:
        self.opcode = opcode
        self.unique = unique
        self.node = node
        self.uid = uid
        self.gid = gid
        self.pid = pid
        self.body = body
        self.channel = channel


#: Serves one kind of request, in the thread that read it: quickly. Raises OSError with the errno to answer, or any
#: error of `base.errors` (its table says which errno). What may take long goes through `Later`.
Handler = Callable[[Request], Reply]


class Later(Protocol):
    """Bounded pools of threads for what may wait: `run` returns at once, the result of `work` is sent when it is there,
    its exception as an errno."""

    def run(self, pool: str, request: Request, work: Handler) -> None:
        """`pool` is one of "read" (bytes that are not here), "write" (publishing), "tree" (calls to the master),
        "wait" (blocking locks: `Interrupts` ends these)."""

    def on_interrupt(self, request: Request, callback: Callable[[], None]) -> None:
        """Calls back when the kernel asks to end this request early (a signal); forgotten once it is answered."""


class Notifier(Protocol):
    """What is told to the kernel without being asked. Never raises for what the kernel does not know. Not to be called
    while a request for the same inode is being answered in this thread under the kernel's lock: the feed's thread, or
    `Later`, may always call it."""

    def inval_inode(self, node: int, offset: int = 0, length: int = 0) -> None:
        """Attributes and cached pages from `offset` on (`length` 0: to the end; `offset` -1: attributes only)."""

    def inval_entry(self, parent: int, name: bytes) -> None:
        """The name may mean something else now, or nothing."""

    def expire_entry(self, parent: int, name: bytes) -> None:
        """The name is to be looked up again before it is believed; what is mounted over it stays."""

    def delete_entry(self, parent: int, child: int, name: bytes) -> None:
        """The name is gone: also ends watches (inotify)."""

    def inval_all(self) -> None:
        """Everything the kernel knows may be wrong."""


class Backings(Protocol):
    """Files registered with the kernel for passthrough."""

    @property
    def reason_off(self) -> str:
        """Why there is no passthrough; empty: there is."""

    def register(self, descriptor: int) -> int:
        """The backing id (above 0). The kernel keeps the file (and its lock): the descriptor may be closed. Raises
        OSError."""

    def unregister(self, backing_id: int) -> None:
        """The kernel lets the file go once nobody has it open. Never raises."""


class LiveFile(Protocol):
    """A file being written through this mount: what all its openers here see. Thread-safe. Made by `Writing`."""

    @property
    def file_id(self) -> FileId: ...
    @property
    def length(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...
    @property
    def backing_descriptor(self) -> int:
        """A descriptor for passthrough reads and writes of it; -1: it goes through the daemon."""

    @property
    def is_dirty(self) -> bool:
        """Whether anything is to be published."""

    def at_hand(self, offset: int, size: int, writes: bool) -> bool:
        """Whether reading or writing these bytes takes no call to anybody; else it may take long."""

    def read(self, offset: int, size: int) -> ReadBuffer:
        """Bytes as they are now: written ones, else those of the version below; fewer at the end."""

    def write(self, offset: int, data: memoryview) -> None:
        """Raises OSError: ENOSPC, EFBIG, EIO."""

    def append(self, data: memoryview) -> int:
        """At the end as it is now; the offset."""

    def truncate(self, length: int) -> None: ...

    def allocate(self, mode: int, offset: int, length: int) -> None:
        """fallocate(2) with KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE, or neither."""

    def seek(self, offset: int, hole: bool) -> int:
        """lseek(2) with SEEK_HOLE or SEEK_DATA. Raises OSError(ENXIO)."""

    def copy_in(self, offset: int, length: int, source: int, source_offset: int) -> int:
        """copy_file_range(2) from a descriptor; how many bytes."""

    def lend(self, offset: int, length: int) -> int:
        """A descriptor (the caller's) with these bytes at their offsets, for copying; -1: there is none."""

    def publish_now(self) -> Inode | None:
        """As `flush`, but never later: another mount waits for a lock, and for what was written under it. May take
        long."""

    def rebase(self, inode: Inode) -> bool:
        """Another mount has published this record: what is not written here is of its version from now on. False:
        nothing is done, as something is unpublished here or it is this version already."""

    def set_mtime(self, mtime_ns: int) -> None:
        """utimens on the open file: holds unless it is written to again."""

    def flush(self) -> Inode | None:
        """close(2) of one descriptor: publishes what was written since the last time; None: nothing was, or the file is
        removed. Raises what the publishing raised, once. May take long."""

    def sync(self) -> None:
        """fsync(2): see the table of promises in docs/posix.md. May take long."""

    def before_removal(self) -> None:
        """The last name is about to go: what was not read yet of the version below must be readable afterwards. May
        take long."""

    def removed(self) -> None:
        """The last name is gone: nothing is published any more, the bytes go with the last handle."""

    def close(self) -> Inode | None:
        """The last handle is gone: publishes what is left to publish (errors are logged and counted), and ends."""


class Writing(Protocol):
    """Makes live files."""

    def begin(self, inode: Inode, created: CreateReply | None, truncate: bool) -> LiveFile:
        """Cheap: a draft is begun with the first write. `created`: a grant that is at hand already; `truncate`: begins
        with no bytes."""

    def unpublished(self, file_id: FileId) -> LiveFile | None:
        """The file, if it was closed here and could not be published yet: its bytes are newer than the namespace's, and
        `begin` gives it again."""


class Files(Protocol):
    """The open files of the mount, as the tree sees them."""

    def live(self, file_id: FileId) -> LiveFile | None:
        """The file if it is being written here: its length and mtime go before the namespace's."""

    def as_opened(self, node: int, inode: Inode | None) -> Inode | None:
        """The record whose attributes the node shows, where the newest one is `inode` (None: the file is gone): who has
        an older version open sees its length, who has a removed file open still sees it."""

    def open_created(self, request: Request, node: int, inode: Inode, created: CreateReply | None, flags: int) -> bytes:
        """The `fuse_open_out` of a file that CREATE has just made (or found, and may truncate)."""

    def seen(self, inode: Inode) -> bool:
        """To be called before the kernel is told of this record by name. True: the file has another node now, as its
        present one is open in an older version."""

    def truncate(self, inode: Inode, length: int, handle: int | None, node: int = 0) -> Inode:
        """Sets the length, open here or not; the record afterwards. May take long. `node`: by which it was asked, 0 for
        none; raises OSError(ESTALE) where that node cannot have another length."""

    def before_removal(self, inode: Inode) -> None:
        """The last name is about to go. Sees to it that open handles can read on. May take long."""

    def removed(self, file_id: FileId) -> None:
        """The last name is gone."""

    def changed(self, file_id: FileId, inode: Inode | None) -> bool:
        """From the feed: it has this record now, or is gone. True: its names are to be looked up again."""


class LockedFiles(Protocol):
    """The open files of the mount, as the locks see them: contents go from mount to mount with the locks."""

    def publish_locked(self, file_id: FileId) -> None:
        """Another mount may have the lock next: what was written is published. May take long. Raises what that does."""

    def refresh_locked(self, file_id: FileId, version: Version) -> None:
        """A program has the lock now, and `version` is the file's newest: who has it open for writing sees that. May
        take long. Raises what asking for it does."""

    def is_written(self, file_id: FileId) -> bool:
        """Whether it is open for writing here."""


class Tree(Protocol):
    """The namespace, as the open files see it."""

    def inode(self, file_id: FileId) -> Inode:
        """The newest record. Raises FileNotFoundError when it is gone."""

    def inode_now(self, file_id: FileId) -> Inode | None:
        """The same if it is at hand; None: `inode` must ask the master for it. Raises FileNotFoundError."""

    def granted(self, file_id: FileId) -> StatReply:
        """The record with a grant to read it, from the master. May take long."""

    def note(self, inode: Inode) -> None:
        """Takes in a record that this mount has just made: the feed's word of it is no news, and attributes cached are
        void."""

    def current_node(self, file_id: FileId) -> int:
        """The node that a lookup of the file gives now."""

    def renew(self, file_id: FileId) -> int:
        """From now on the file has another node id, so that the next open gets a kernel inode of its own: for opens
        that must not share one with those before (another version under passthrough). The caller answers ESTALE, upon
        which the kernel looks the name up again (path_openat with LOOKUP_REVAL) and meets the new node."""


class Locks(Protocol):
    """Locks of programs, as the open files see them."""

    def holds(self, file_id: FileId, owner: int) -> bool:
        """Whether `flushed` has anything to do: then it may take long."""

    def any_held(self, file_id: FileId) -> bool:
        """Whether programs of this mount hold record locks on the file: then the close of any descriptor matters."""

    def flushed(self, file_id: FileId, owner: int) -> None:
        """A process closed a descriptor of the file: its record locks on it end. To be called once what it wrote is
        published, so that who gets the lock next sees it."""

    def released(self, file_id: FileId, handle: int, owner: int, flock: bool) -> None:
        """The last descriptor of an open went. Never waits."""


#: Takes what the feed brings.
ChangeListener = Callable[[Sequence[Change]], None]
