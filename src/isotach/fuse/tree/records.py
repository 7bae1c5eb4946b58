"""Reading records for the mount: from the master's store on this host, or by calls.

Owns: the choice between the two, and what is known of mounts of the namespace for it. Never: changes anything, or
remembers records: the kernel does.

`*_now` answers without waiting, or says None: then `*_asked` waits for the master (and it for the under storage).
"""

import errno
import threading
import time
from typing import Final

import msgspec

from isotach.base.errors import DeadlineExceededError, UnavailableError, os_error
from isotach.base.limits import LIST_PAGE_ENTRIES, MOUNT_TABLE_AGE_S, WHOLE_DIRECTORIES_MAX
from isotach.base.paths import id_path
from isotach.base.types import FileId, Inode, MountId
from isotach.client.direct.entries import DirectEntries, Page, Sight
from isotach.client.link import Link
from isotach.client.operations import Operation, Where
from isotach.wire import messages
from isotach.wire.messages import AnyMethod, ListEntry, ListRequest, StatReply, StatRequest

_NEVER_MS: Final = -1
_ABSENT: Final = Sight(None)
_decode_entries: Final = msgspec.msgpack.Decoder(list[ListEntry]).decode


class Calls:
    """Calls to the master with the patience of a mount."""

    def __init__(self, link: Link, timeout_s: float) -> None:
        self.link: Final = link
        self._timeout_s: Final = timeout_s

    def run(self, method: AnyMethod, request: msgspec.Struct, where: Where = Where.MASTER) -> msgspec.Struct:
        """The reply. Raises what the server raised; OSError(EIO) when nobody answered in `fuse.server_timeout`."""
        return self.run_raw(method, request, where)[0]

    def run_raw(
        self, method: AnyMethod, request: msgspec.Struct, where: Where = Where.MASTER
    ) -> tuple[msgspec.Struct, bytes | bytearray | memoryview]:
        """The reply and its payload."""
        operation = Operation(method, request, where, lambda reply, payload: (reply, payload), self._timeout_s)
        try:
            return self.link.run(operation)
        except (UnavailableError, DeadlineExceededError) as problem:
            text = f"the master did not answer within {self._timeout_s:g} s: is it running? ({problem})"
            raise os_error(errno.EIO, text) from problem


class Records:
    """For many threads."""

    def __init__(self, calls: Calls) -> None:
        self._calls: Final = calls
        self._link: Final = calls.link
        self._direct: Final = calls.link.direct
        self._lock: Final = threading.Lock()
        self._whole: dict[FileId, None] = {}
        self._intervals: dict[MountId, int] = {}
        self._intervals_until_s = -1.0

    # --- at once ---

    def entry_now(self, directory_id: FileId, name: bytes) -> Sight | None:
        """What the directory has under that name; None: ask."""
        direct = self._direct
        if direct is None:
            return None
        sight = direct.look(DirectEntries.entry, directory_id, name)
        if sight is None or sight.is_certain:
            return sight
        is_here = sight.inode is None and sight.interval_ms == _NEVER_MS and directory_id in self._whole
        return _ABSENT if is_here else None

    def inode_now(self, file_id: FileId) -> Sight | None:
        """The record of that id; None: ask."""
        direct = self._direct
        sight = None if direct is None else direct.look(DirectEntries.inode, file_id)
        return sight if sight is not None and sight.is_certain else None

    def page_now(self, directory_id: FileId, start_after: bytes, limit: int) -> Page | None:
        """The entries with names above `start_after`; None: ask, or there is no such directory. The first page is given
        only where the store's listing is known, later ones always: the first was asked for."""
        direct = self._direct
        page = None if direct is None else direct.look(DirectEntries.page, directory_id, start_after, limit)
        if page is None or page.is_certain or start_after:
            return page
        return page if page.interval_ms == _NEVER_MS and directory_id in self._whole else None

    def parent_now(self, directory_id: FileId) -> FileId:
        """The directory above; the directory itself where that is not known at once."""
        direct = self._direct
        found = None if direct is None else direct.look(DirectEntries.parent_of, directory_id)
        return directory_id if found is None else found

    def inodes_now(self) -> int | None:
        """How many inodes there are; None: ask."""
        return None if self._direct is None else self._direct.look(DirectEntries.inodes)

    # --- by call ---

    def entry_asked(self, directory_id: FileId, name: bytes) -> Sight:
        """As `entry_now`, from the master. Raises OSError(ENOTDIR, EACCES, EIO, ...)."""
        sight = self._stat(id_path(directory_id, name))
        if sight.inode is None and self._direct is not None:
            known = self._direct.look(DirectEntries.entry, directory_id, name)
            return Sight(None, 0 if known is None else known.interval_ms)
        return sight

    def inode_asked(self, file_id: FileId) -> Sight:
        """As `inode_now`, from the master."""
        return self._stat(id_path(file_id))

    def granted(self, file_id: FileId, access: int) -> StatReply:
        """The record with a grant. Raises FileNotFoundError, PermissionError."""
        reply = self._calls.run(messages.STAT, StatRequest(id_path(file_id), access), Where.READER)
        assert isinstance(reply, StatReply)
        return reply

    def page_asked(self, directory_id: FileId, start_after: bytes) -> Page:
        """As `page_now`, from the master, of its own size. Raises FileNotFoundError."""
        request = ListRequest(id_path(directory_id), start_after, LIST_PAGE_ENTRIES)
        reply, payload = self._calls.run_raw(messages.LIST, request, Where.READER)
        assert isinstance(reply, messages.ListReply)
        entries = [(entry.name, entry.inode) for entry in _decode_entries(payload)]
        interval_ms = self._interval_of(entries[0][1].mount_id) if entries else 0
        return Page(entries, reply.more, interval_ms)

    def _stat(self, path: bytes) -> Sight:
        try:
            reply = self._calls.run(messages.STAT, StatRequest(path), Where.READER)
        except FileNotFoundError:
            return Sight(None, 0)
        assert isinstance(reply, StatReply)
        return Sight(reply.inode, self._interval_of(reply.inode.mount_id))

    # --- what holds for whole directories and mounts ---

    def note_whole(self, directory: Inode) -> None:
        """A directory that has just been made here: no store has names in it that the namespace does not know."""
        with self._lock:
            if len(self._whole) >= WHOLE_DIRECTORIES_MAX:
                del self._whole[next(iter(self._whole))]
            self._whole[directory.id] = None

    def forget_whole(self) -> None:
        """After the feed missed changes: mounts may be others."""
        with self._lock:
            self._whole = {}

    def _interval_of(self, mount_id: MountId) -> int:
        """0 (never to be kept) for a mount that is not known."""
        found = self._intervals.get(mount_id)
        if found is None or time.monotonic() >= self._intervals_until_s:
            reply = self._calls.run(messages.MOUNTS, messages.Empty(), Where.READER)
            assert isinstance(reply, messages.MountsReply)
            self._intervals = {mount.mount_id: mount.metadata_sync_interval_ms for mount in reply.mounts}
            self._intervals_until_s = time.monotonic() + MOUNT_TABLE_AGE_S
            found = self._intervals.get(mount_id)
        return 0 if found is None else found
