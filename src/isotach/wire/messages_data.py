"""Calls of clients, and of other workers, to a worker: the data path, and the sealed grants that it asks for.

Owns: the requests and replies. Never: encodes them (`frames.py`) or numbers them (`messages.py`). Paths are canonical
bytes; durations are ms, sizes bytes, times ns since the epoch.
"""

from isotach.base.types import FileId, Inode, MountId, PathPolicy, TierInfo, Version, WorkerId
from isotach.wire.message_base import Message


class ReadGrant(Message, frozen=True):
    """What a sealed read capability says. Opaque to clients."""

    version: Version
    file_id: FileId
    length: int
    block_size: int
    mount_id: MountId
    ufs_path: bytes | None  # None when the under storage does not hold the content
    fingerprint: str | None
    pinned: bool
    expires_s: int
    user: str = ""  # who reads, for fair shares
    tier: str = ""  # where it is kept; empty: any
    memory_only: bool = False


class WriteGrant(Message, frozen=True):
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
    ufs_path: bytes
    expires_s: int
    spread: bool = False
    policy: PathPolicy | None = None  # what the new file begins with
    by_id: bool = False  # the content goes to the file of that id, wherever it is by then; dropped if it is nowhere


class OpenRequest(Message, frozen=True):
    """Opens a version for reading on this connection. `want_fd` asks for a descriptor (Unix sockets only): passed when
    the container is here and may be handed out; the pages present are told by `present_bytes`."""

    grant: bytes
    read_type: str = "CACHE"
    want_fd: bool = True
    holders: list[WorkerId] = []  # workers that hold something of it, as far as the caller was told


class OpenReply(Message, frozen=True):
    """`handle` 0: the version is complete here and the passed descriptor is all that is needed. Otherwise `handle` is
    for Ensure, Read and CloseHandle on this connection."""

    handle: int
    has_fd: bool
    complete: bool
    present_bytes: int = 0  # a prefix of this many bytes is present


class EnsureRequest(Message, frozen=True):
    """Waits until [offset, offset + length) is present in the container whose descriptor was passed."""

    handle: int
    offset: int
    length: int


class EnsureReply(Message, frozen=True):
    """The file is present from `offset` to `present_to`, which is at least the end asked for, or the end of file.
    `present_to` < the end asked for and not the end of file: the cache is full; use Read for this range."""

    present_to: int


class ReadRequest(Message, frozen=True):
    """Asks for bytes through the socket: the reply's payload. `length` at most PAYLOAD_BYTES_MAX."""

    handle: int
    offset: int
    length: int


class ReadReply(Message, frozen=True):
    """The payload follows; shorter than asked only at the end of the file. `crcs` (between workers): the CRC32C of each
    page of it."""

    length: int
    crcs: list[int] = []


class HandleRequest(Message, frozen=True):
    handle: int


class WriteOpenRequest(Message, frozen=True):
    """Starts receiving a version on this connection. `role` PRIMARY commits; SECONDARY only stores its blocks.
    `store` False: do not cache (THROUGH)."""

    grant: bytes
    primary: bool = True


class WriteOpenReply(Message, frozen=True):
    handle: int


class WriteRequest(Message, frozen=True):
    """The payload belongs at `offset`. For the primary, offsets come in order without gaps. `keep` False: pass it
    through, do not cache it here (another worker keeps that block)."""

    handle: int
    offset: int
    keep: bool = True


class CommitRequest(Message, frozen=True):
    """Ends the write. A secondary answers with its holder record; the primary completes the file with the master
    (through the under storage where the write type says so) and answers when it is visible."""

    handle: int
    length: int
    mtime_ns: int = 0


class CommitReply(Message, frozen=True):
    inode: Inode | None = None


class PutRequest(Message, frozen=True):
    """Open, write and commit of a whole small file in one call: the payload is the file."""

    grant: bytes
    mtime_ns: int = 0  # 0: now


class LoadRequest(Message, frozen=True):
    """Brings a whole version into the cache and waits for it. `promote` moves it to the top tier. `bandwidth`: bytes
    per second at most, together with all other loads under way at this worker with the same limit; 0: no limit."""

    grant: bytes
    promote: bool = False
    holders: list[WorkerId] = []
    bandwidth: int = 0


class LoadReply(Message, frozen=True):
    cached_bytes: int


class FetchVersionRequest(Message, frozen=True):
    """Between workers: read a version that the other one holds. `proof` as in RegisterRequest, over the version.
    `checked`: compare the pages before they are sent, for they arrived with wrong checksums."""

    version: Version
    offset: int
    length: int
    proof: bytes
    checked: bool = False


class ChecksumRequest(Message, frozen=True):
    """Reads all that the worker holds of a version, or (`of_store`) all that the under storage holds, and sums it."""

    grant: bytes
    of_store: bool = False


class ChecksumReply(Message, frozen=True):
    """`crc32c` of the whole content; None when not all of it is here. `bad_pages` do not match the worker's index."""

    present_bytes: int
    crc32c: int | None = None
    bad_pages: int = 0
    dirty: bool = False


class WorkerStatusReply(Message, frozen=True):
    worker_id: WorkerId
    pid: int
    web_port: int
    tiers: list[TierInfo]
    versions: int
    fetches_in_flight: int
    persists_in_flight: int


class MetricsReply(Message, frozen=True):
    values: dict[str, float]
