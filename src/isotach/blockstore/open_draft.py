"""A version that somebody else writes: a sparse file of ours that a mount has open itself.

Owns: the file, the count of its room, its note, and the moment it becomes a container (and is taken back from that).
Never: sees a byte on its way in: checksums are taken when it is published. Holds no descriptor while nothing is asked.

    begin -> make_room, note ... -> seal -> finish        the version is cached and completed
                                         -> unseal        completing failed: a draft again, for another try
                                 -> drop

Sealing gives the file a second name, so that a crash before the version is completed leaves the draft as it was.
"""

import errno
import os
from typing import Final

import msgspec

from isotach.base.failpoints import fail_at
from isotach.blockstore.choice import may_hold
from isotach.blockstore.container import FULL_ERRNOS, copy_ranges, data_ranges, is_open_for_writing
from isotach.blockstore.draft_room import TierFullError, another_folder, first_file, full_text, give_back
from isotach.blockstore.entry import CachedVersion, VersionMeta
from isotach.blockstore.folder import DRAFT_SUFFIX, NOTE_SUFFIX, Folder
from isotach.blockstore.index import header_row, page_rows
from isotach.blockstore.pages import allocated_bytes
from isotach.blockstore.shelves import Shelves
from isotach.blockstore.summing import Summed
from isotach.obs.log import get_logger

log = get_logger("blockstore.open_draft")
_TOKEN_BYTES: Final = 8


class OpenDraft:
    """Used by one thread at a time. `meta` says where it may stand; the version is that of the next publishing."""

    def __init__(self, shelves: Shelves, meta: VersionMeta, folder: Folder, name: str, taken: int) -> None:
        self.meta = meta
        self._shelves: Final = shelves
        self._folder = folder
        self._name = name
        self._taken = taken  # bytes counted in the folder
        self._unseen = taken  # of them, those that statvfs does not see yet
        self._note = b""
        self._sealed: CachedVersion | None = None

    @property
    def tier_alias(self) -> str:
        """The present tier."""
        return self._folder.alias

    @property
    def is_on_disk(self) -> bool:
        """Whether the present tier outlives the machine's memory."""
        return not self._folder.is_memory

    @property
    def room_bytes(self) -> int:
        """Bytes that may be written in all."""
        return self._taken

    @property
    def hard_limit(self) -> bool:
        """Whether the file system itself ends where the tier does."""
        return self._folder.is_limited_by_its_file_system

    @property
    def is_lost(self) -> bool:
        """Whether its folder is out of service; when that comes back, its file is found again."""
        return bool(self._folder.failure)

    def may_stay(self) -> bool:
        """Whether it may stand where it was found: what is to be in memory only may not be on a disk."""
        return may_hold(self._folder, self.meta)

    def open(self, flags: int = os.O_RDWR) -> int:
        """A descriptor of its own. Raises OSError(EIO) while the folder is out of service."""
        folder = self._folder
        if folder.failure:
            raise OSError(errno.EIO, f"the draft's folder is out of service ({folder.failure}): write the file again")
        return folder.open_file(self._name, flags)

    # --- room ---

    def make_room(self, total: int) -> bool:
        """Counts `total` bytes, or what is there if that is more. Whether the draft is another file now: then the
        folder was full. Raises TierFullError when no folder has room; what was counted before stays."""
        self._settle()
        total = max(allocated_bytes(total), self._stored())
        more = total - self._taken
        if more <= 0:
            return False
        with self._shelves.lock:
            if self._shelves.make_room(self._folder, more):
                self._shelves.take(self._folder, more)
                self._taken += more
                self._unseen += more
                return False
            self._shelves.turned_away(self._folder)
        self._relocate(total)
        return True

    def recount(self) -> None:
        """Counts what was written without being asked for. Never refused: the bytes are there."""
        self._settle()
        more = self._stored() - self._taken
        if more > 0:
            with self._shelves.lock:
                self._shelves.take(self._folder, more)
                self._folder.written(more)
                self._taken += more

    def _stored(self) -> int:
        try:
            return self._folder.stored_bytes(self._name)
        except FileNotFoundError as gone:
            raise OSError(errno.EIO, "the draft was removed behind our back: write the file again") from gone

    def _settle(self) -> None:
        """What is written by now is seen by statvfs."""
        seen = self._unseen - max(0, self._taken - self._stored())
        if seen > 0:
            with self._shelves.lock:
                self._folder.written(seen)
            self._unseen -= seen

    def _relocate(self, needed: int) -> None:
        while True:
            target = self._another(needed, below=True) or self._another(needed, below=False)
            if target is None:
                raise TierFullError(errno.ENOSPC, full_text(self._shelves, self.meta, needed - self._taken))
            if self._move_to(target, needed):
                return

    def _another(self, needed: int, *, below: bool) -> Folder | None:
        return another_folder(self._shelves, self._folder, self.meta, needed, below=below)

    def _move_to(self, target: Folder, needed: int) -> bool:
        """Copies it to `target`, in which `needed` bytes are counted. False when the new folder does not take it."""
        name = new_name()
        try:
            self._copy_to(target, name)
            if self._note:
                target.write_file(name + NOTE_SUFFIX, self._note, durable=not target.is_memory)
        except OSError as error:
            target.remove_file(name)
            give_back(self._shelves, target, needed, needed)
            if error.errno not in FULL_ERRNOS and not self._shelves.blame(target, error):
                raise
            return False
        fail_at("worker.after_draft_moved")
        self._remove_files()
        give_back(self._shelves, self._folder, self._taken, self._unseen)
        self._folder, self._name = target, name
        self._taken = self._unseen = needed
        self._settle()
        return True

    def _copy_to(self, target: Folder, name: str) -> None:
        source = self.open(os.O_RDONLY)
        try:
            descriptor = target.create_draft(name)
            try:
                length = os.fstat(source).st_size
                os.ftruncate(descriptor, length)
                copy_ranges(source, descriptor, data_ranges(source, length))
                if self._note and not target.is_memory:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
        finally:
            os.close(source)

    def copy(self) -> "OpenDraft":
        """A second draft with the same bytes (shared with this one where the file system can), without a note. Raises
        TierFullError."""
        size = self._stored()
        twin = begin(self._shelves, self.meta, size)
        try:
            twin.make_room(size)
            twin._folder.remove_file(twin._name)
            self._copy_to(twin._folder, twin._name)
        except OSError as error:
            twin.drop()
            if error.errno in FULL_ERRNOS and not isinstance(error, TierFullError):
                raise TierFullError(errno.ENOSPC, full_text(self._shelves, self.meta, size)) from error
            raise
        return twin

    # --- the note ---

    @property
    def note(self) -> bytes:
        """What stands beside the draft."""
        return self._note

    def write_note(self, note: bytes, *, durable: bool) -> None:
        """Puts a note beside the draft, by which a later process finds it. `durable`: note and bytes outlive this
        process, and on a disk tier the machine."""
        to_disk = durable and self.is_on_disk
        if to_disk:
            descriptor = self.open()
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        if durable:
            fail_at("worker.before_draft_note")
        self._folder.write_file(self._name + NOTE_SUFFIX, note, durable=to_disk)
        self._note = note
        if durable:
            fail_at("worker.after_draft_note")

    def is_being_written(self) -> bool:
        """Whether anybody still has it open for writing."""
        descriptor = self.open(os.O_RDONLY)
        try:
            return is_open_for_writing(descriptor)
        finally:
            os.close(descriptor)

    # --- the end ---

    def seal(self, meta: VersionMeta, summed: Summed, *, dirty: bool) -> CachedVersion:
        """Makes it a cached, complete version; the draft's own name stays until `finish`. Its length must be
        `meta.length` already, and nobody may write to it any more. A dirty one on a disk tier is on the disk on return.
        Raises OSError; then it is a draft as before."""
        shelves, folder = self._shelves, self._folder
        if not may_hold(folder, meta):
            raise OSError(errno.EXDEV, "the file became memory-only, and its bytes are on a disk: write it again")
        if dirty and self.is_on_disk:
            self._fsync()
        self.recount()
        meta = msgspec.structs.replace(meta, stored_bytes=summed.stored_bytes)
        rows = page_rows(meta.version, summed.pages, 0, len(summed.pages))
        fail_at("worker.before_seal")
        with shelves.lock:
            shelves.await_arrival(folder, meta.version)
            if folder.failure:
                raise OSError(errno.EIO, folder.failure, str(folder.path))
            entry = CachedVersion(meta, folder, shelves.tier_of(folder))
            entry.dirty, entry.complete = dirty, True
            before = shelves.entries.get(meta.version)
            if before is not None:
                shelves.drop(before)
            folder.link_draft(self._name, meta.version)
            try:
                folder.commit([header_row(meta.version, entry.header()), *rows])
            except BaseException:
                folder.unlink(meta.version)
                raise
            folder.written(self._unseen)
            folder.used_bytes += entry.allocated_all() - self._taken
            self._taken = self._unseen = 0
            self._sealed = entry
            shelves.add(entry)
            shelves.on_change(meta.version)
        return entry

    def _fsync(self) -> None:
        descriptor = self.open()
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def unseal(self) -> None:
        """The version is not to be: it leaves the cache, and this is a draft again."""
        sealed, self._sealed = self._sealed, None
        if sealed is None:
            return
        shelves = self._shelves
        with shelves.lock:
            entry = shelves.entries.get(sealed.meta.version)
            if entry is not None:
                shelves.drop(entry)
        self.recount()

    def finish(self) -> None:
        """The version is completed, or others decide about it: the draft's own name and note go."""
        self._sealed = None
        self._remove_files()
        give_back(self._shelves, self._folder, self._taken, self._unseen)
        self._taken = self._unseen = 0

    def drop(self) -> None:
        """It is not wanted any more; a version that it was sealed as stays. Safe to call twice."""
        self.finish()

    def _remove_files(self) -> None:
        self._folder.remove_file(self._name + NOTE_SUFFIX)  # first: a draft without a note is nobody's
        self._folder.remove_file(self._name)


def begin(shelves: Shelves, meta: VersionMeta, room: int) -> OpenDraft:
    """An empty draft with no room yet, where `room` bytes would go. Raises TierFullError."""
    folder, name, descriptor = first_file(shelves, meta, allocated_bytes(max(room, 1)), new_name)
    os.close(descriptor)
    return OpenDraft(shelves, meta, folder, name, 0)


def found(shelves: Shelves, folder: Folder, name: str) -> OpenDraft:
    """One that an earlier process left with a note. Under the lock: its bytes are counted."""
    note, size = folder.read_file(name + NOTE_SUFFIX), folder.stored_bytes(name)
    folder.used_bytes += size
    draft = OpenDraft(shelves, VersionMeta(0, 0, 0, 0), folder, name, size)
    draft._unseen = 0
    draft._note = note
    return draft


def new_name() -> str:
    """A name that no other draft has, of this process or an earlier one."""
    return f"open-{os.urandom(_TOKEN_BYTES).hex()}{DRAFT_SUFFIX}"
