"""One cached version in memory, and what callers must say of a version to have it cached.

Owns: the fields. Never: changes them: `BlockStore` does, under its lock; plain reads of them need no lock.
"""

import time

import msgspec

from isotach.base.limits import PAGE_BYTES
from isotach.base.types import FileId, Version
from isotach.blockstore.folder import Folder
from isotach.blockstore.index import Header
from isotach.blockstore.pages import PageTable, allocated_bytes, full_bitmap, page_count
from isotach.blockstore.tier import Tier


class VersionMeta(msgspec.Struct, frozen=True, gc=False):
    """What the store must know of a version. Sizes in bytes."""

    version: Version
    file_id: FileId
    length: int
    block_bytes: int
    fingerprint: str | None = None
    pinned: bool = False
    spread: bool = False  # other workers hold blocks of it, and one of them completes it
    tier: str = ""  # the alias of the tier that it is to stand in; empty: any
    memory_only: bool = False  # may never be on a disk, not even its name
    stored_bytes: int = -1  # on the file system, of a file with holes; -1: as many as the length says


class CacheReport(msgspec.Struct, frozen=True, gc=False):
    """What of a version is here."""

    meta: VersionMeta
    in_memory: bool
    cached_bytes: int
    blocks: bytes  # little-endian bitmap of the blocks wholly present
    dirty: bool
    former: bool


class CachedVersion:
    """A version in one folder, as long as it stands there: when it moves, another entry takes its place and this one is
    `dropped`. `pages` is None while the version is complete: then there is nothing to look up.

    `verified` is False for what an earlier process wrote, until its checksums have been compared once. `handed_out`
    means that a client may have a descriptor: such a container is only ever unlinked. `dropped` means that it has left
    the store: whoever still holds the entry must look the version up again. `former` means that an earlier process
    wrote it, and that nobody can complete it if that has not happened by now. `accessed_ns` is compared with the
    access time of the container, which only readers beside the worker set (`container.note_access`).
    """

    __slots__ = (
        "accessed_ns", "complete", "dirty", "dropped", "folder", "former", "handed_out", "held", "meta", "pages",
        "pinned", "tier", "users", "verified",
    )  # fmt: skip

    def __init__(self, meta: VersionMeta, folder: Folder, tier: Tier, accessed_ns: int = 0) -> None:
        self.meta = meta
        self.folder = folder
        self.tier = tier
        self.pages: PageTable | None = None
        self.complete = False
        self.dirty = False
        self.pinned = meta.pinned
        self.handed_out = False
        self.verified = True
        self.dropped = False
        self.former = False
        self.accessed_ns = accessed_ns or time.time_ns()  # the container's access time as last looked at
        self.users = 0  # fills, moves and checks under way: not evicted meanwhile
        self.held: list[tuple[int, int]] | None = None  # page ranges being sent: not punched meanwhile

    @property
    def may_leave(self) -> bool:
        """Whether it may be evicted, as far as the store knows: clients that have it open are another matter."""
        return not (self.dirty or self.pinned or self.users or self.held)

    @property
    def may_sink(self) -> bool:
        """Whether it may be moved to a lower tier: also when it is dirty, but not when it is to stand in this one."""
        if self.users or self.held or self.pinned or self.meta.memory_only:
            return False
        return self.meta.tier != self.tier.alias and not self.is_streaming

    @property
    def is_streaming(self) -> bool:
        """Whether the version is too large to stay: partial, and more than half of its tier. It is served through the
        socket only, so that its container may be punched behind its readers."""
        return not self.complete and not self.handed_out and self.meta.length > self.folder.quota_bytes // 2

    def hold(self, first: int, stop: int) -> None:
        """These pages are not to be punched. Under the store's lock."""
        if self.held is None:
            self.held = []
        self.held.append((first, stop))

    def release(self, first: int, stop: int) -> None:
        """Ends a `hold`. Under the store's lock."""
        if self.held is not None:
            self.held.remove((first, stop))
            self.held = self.held or None

    def has(self, first: int, stop: int) -> bool:
        """Whether all pages of [first, stop) are present. Loaded entries must have their pages loaded first."""
        return self.complete or (self.pages is not None and self.pages.has(first, stop))

    def first_missing(self, first: int, stop: int) -> int:
        """The first page of [first, stop) that is not present; `stop` when all are."""
        if self.complete:
            return stop
        return first if self.pages is None else self.pages.first_missing(first, stop)

    def present_to(self, offset: int) -> int:
        """The end of the bytes present without a gap from `offset` on; `offset` itself when its page is missing."""
        length = self.meta.length
        first = offset // PAGE_BYTES
        missing = self.first_missing(first, page_count(length))
        return max(offset, min(length, missing * PAGE_BYTES))

    def present_bytes(self) -> int:
        """File bytes present."""
        if self.complete:
            return self.meta.length
        return 0 if self.pages is None else self.pages.present_bytes(self.meta.length)

    def allocated(self, first: int, stop: int) -> int:
        """Bytes that the present pages of [first, stop) take on the file system."""
        if self.complete:
            end = min(self.meta.length, stop * PAGE_BYTES)
            return allocated_bytes(max(0, end - first * PAGE_BYTES))
        return 0 if self.pages is None else allocated_bytes(self.pages.bytes_in(first, stop, self.meta.length))

    def allocated_all(self) -> int:
        """Bytes that the version takes on the file system."""
        if self.complete:
            size = allocated_bytes(self.meta.length)
        else:
            size = self.allocated(0, page_count(self.meta.length))
        return size if self.meta.stored_bytes < 0 else min(size, self.meta.stored_bytes)

    def header(self) -> Header:
        """The index's header row as of now."""
        meta = self.meta
        return Header(
            meta.file_id,
            meta.length,
            meta.block_bytes,
            meta.fingerprint,
            self.complete,
            self.dirty,
            self.pinned,
            meta.spread,
            self.folder.incarnation if self.verified else b"",
            meta.tier,
            meta.memory_only,
            meta.stored_bytes,
        )

    def report(self) -> CacheReport:
        """What the master wants to know."""
        length, block = self.meta.length, self.meta.block_bytes
        if self.complete:
            blocks = full_bitmap(length, block)
        else:
            blocks = b"" if self.pages is None else self.pages.block_bitmap(length, block)
        return CacheReport(self.meta, self.tier.is_memory, self.present_bytes(), blocks, self.dirty, self.former)
