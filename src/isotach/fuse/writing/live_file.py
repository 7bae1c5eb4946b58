"""A file being written through this mount, as all its openers here see it: when it is published, and what became of it.

Owns: the times, what is owed to the namespace, what went wrong and who is told, and publishing later what could not be
published at once. Never: holds the bytes (`content.py`).

An error of publishing is told once: to the close or fsync that caused it, or, where it came later, to whichever call
comes next; the bytes stay, and it is tried again.
"""

import errno
import os
import time

from isotach.base.errors import IsotachError, UnavailableError, os_error, told
from isotach.base.failpoints import fail_at
from isotach.base.limits import (
    FUSE_DEFER_BYTES,
    FUSE_DEFER_S,
    FUSE_DEFER_SHARE,
    FUSE_PUBLISH_RETRY_S,
    FUSE_PUBLISH_RETRY_S_MAX,
    FUSE_ROOM_WATCH_S,
    FUSE_UNPUBLISHED_S,
)
from isotach.base.types import FileId, Inode, ReadBuffer, WriteType
from isotach.client.patience import Patience
from isotach.fuse.writing.body import BodyLostError
from isotach.fuse.writing.content import Content
from isotach.fuse.writing.counters import WritingCounters
from isotach.fuse.writing.descriptors import OwnedDescriptor
from isotach.fuse.writing.kernel_errors import as_kernel_errors
from isotach.fuse.writing.publisher import Publisher
from isotach.obs.log import get_logger

log = get_logger("fuse.writing")

KEEP_SIZE = 1
PUNCH_HOLE = 2
ZERO_RANGE = 16


class WrittenFile:
    """Implements `contract.LiveFile`. Made by `MountWriting`."""

    def __init__(self, inode: Inode, content: Content, publisher: Publisher, counters: WritingCounters) -> None:
        self._inode = inode
        self._content = content
        self._lock = content.lock
        self._publisher = publisher
        self._counters = counters
        self._mtime_ns = inode.mtime_ns
        self._dirty = False
        self._synced = False  # what is not published outlives this process
        self._publishing = False
        self._published = False  # at least once
        self._publish_s = 0.0  # that it took the last time
        self._removed = False
        self._closed = False
        self._ended = False
        self._failure: Exception | None = None  # that nobody was told of yet
        self._failures = 0  # in a row
        self._due = False  # the publisher has it
        self._kept_until = 0.0
        self._backing: OwnedDescriptor | None = None

    # --- what it is ---

    @property
    def file_id(self) -> FileId:
        return self._inode.id

    @property
    def length(self) -> int:
        backing = self._backing
        return self._content.length if backing is None else os.fstat(backing.number).st_size

    @property
    def mtime_ns(self) -> int:
        backing = self._backing
        return self._mtime_ns if backing is None else max(self._mtime_ns, os.fstat(backing.number).st_mtime_ns)

    @property
    def backing_descriptor(self) -> int:
        return -1 if self._backing is None else self._backing.number

    @property
    def is_dirty(self) -> bool:
        """Whether anything is to be published."""
        return (self._dirty or self._backing is not None) and not self._removed

    def at_hand(self, offset: int, size: int, writes: bool) -> bool:
        """Whether reading or writing these bytes takes no call to anybody; else it may take long."""
        return not self._publishing and self._content.is_at_hand(offset, size, writes)

    # --- bytes ---

    def read(self, offset: int, size: int) -> ReadBuffer:
        with as_kernel_errors:
            return self._content.read(offset, size)

    def write(self, offset: int, data: memoryview) -> None:
        with self._lock, as_kernel_errors:
            self._tell_failure()
            if not len(data):
                return
            self._content.write(offset, data)
            self._touch()
        self._counters.written_bytes += len(data)

    def append(self, data: memoryview) -> int:
        with self._lock:
            offset = self.length
            self.write(offset, data)
            return offset

    def truncate(self, length: int) -> None:
        with self._lock, as_kernel_errors:
            self._tell_failure()
            self._take_in_backing()
            self._set_length(length)
            self._touch()

    def allocate(self, mode: int, offset: int, length: int) -> None:
        if mode & ~(KEEP_SIZE | PUNCH_HOLE | ZERO_RANGE) or (mode & PUNCH_HOLE and not mode & KEEP_SIZE):
            raise os_error(
                errno.EOPNOTSUPP, "this way of allocating is not offered: only plain, KEEP_SIZE, PUNCH, ZERO"
            )
        with self._lock, as_kernel_errors:
            self._tell_failure()
            self._take_in_backing()
            grows = not mode & KEEP_SIZE and offset + length > self._content.length
            if mode & (PUNCH_HOLE | ZERO_RANGE):
                if grows:
                    self._set_length(offset + length)
                self._content.zero(offset, length)
            else:
                self._content.reserve(offset, length, not mode & KEEP_SIZE)
            if grows or mode & (PUNCH_HOLE | ZERO_RANGE):
                self._touch()

    def seek(self, offset: int, hole: bool) -> int:
        if self._backing is not None:
            with self._lock:
                self._take_in_backing()
        with as_kernel_errors:
            return self._content.seek(offset, hole)

    def copy_in(self, offset: int, length: int, source: int, source_offset: int) -> int:
        """copy_file_range(2) from a descriptor; how many bytes."""
        with self._lock, as_kernel_errors:
            self._tell_failure()
            self._take_in_backing()
            count = self._content.copy_in(offset, length, source, source_offset)
            if count:
                self._touch()
        self._counters.written_bytes += count
        return count

    def lend(self, offset: int, length: int) -> int:
        """A descriptor (the caller's) with these bytes at their offsets, for copying; -1: there is none."""
        with self._lock, as_kernel_errors:
            return self._content.lend(offset, length)

    def set_mtime(self, mtime_ns: int) -> None:
        with self._lock:
            self._mtime_ns = mtime_ns
            if self._backing is not None:
                os.utime(self._backing.number, ns=(mtime_ns, mtime_ns))

    # --- ends ---

    def flush(self) -> Inode | None:
        with self._lock, as_kernel_errors:
            self._tell_failure()
            if not self.is_dirty or self._backing is not None:
                return None
            if self._published and self._content.length >= FUSE_DEFER_BYTES:
                self._later(max(FUSE_DEFER_S, FUSE_DEFER_SHARE * self._publish_s))
                return None
            return self._publish_or_retry(keep=False)

    def publish_now(self) -> Inode | None:
        with self._lock, as_kernel_errors:
            if not self.is_dirty or self._backing is not None:
                return None
            return self._publish_or_retry(keep=True)

    def rebase(self, inode: Inode) -> bool:
        with self._lock:
            if self.is_dirty or self._removed or self._backing is not None or inode.version == self._inode.version:
                return False
            self._content.rebase(inode.length, inode.version)
            self._inode = inode
            self._mtime_ns = inode.mtime_ns
            return True

    def sync(self) -> None:
        with self._lock, as_kernel_errors:
            self._tell_failure()
            self._take_in_backing()
            if not self.is_dirty or self._synced:
                return
            self._publishing = True
            try:
                self._synced = self._content.sync()
                fail_at("fuse.after_sync")
            finally:
                self._publishing = False
            if not self._synced:
                # A copy of what goes on would cost as much as beginning anew, but where only the store takes one.
                # Nor may a draft become a version that the kernel goes on to write to by itself.
                stays = self._backing is not None or self._content.write_type is WriteType.THROUGH
                self._publish_or_retry(keep=stays)

    def before_removal(self) -> None:
        """The last name is about to go: what was not read yet of the version below must be readable afterwards."""
        with self._lock, as_kernel_errors:
            self._content.hold()

    def removed(self) -> None:
        self._removed = True  # without the lock: it may be held for as long as a store does not answer

    def close(self) -> Inode | None:
        with self._lock:
            self._closed = True
            self._take_in_backing()
            self._backing = None
            if not self.is_dirty:
                self._end()
                return None
            self._kept_until = time.monotonic() + FUSE_UNPUBLISHED_S
            try:
                if not self._failures:
                    inode = self._publish(keep=False)
                    self._end()
                    return inode
            except (OSError, IsotachError) as problem:
                self._note_failure(problem)
            if not self._publisher.keep(self.file_id, self, self._retry_delay_s()):
                self._give_up("there are too many such files")
            return None

    # --- for the maker and the publisher ---

    def reopen(self) -> None:
        """Somebody opens it again before it could be published."""
        with self._lock:
            self._closed = False
            self._failures = 0

    def begin_empty(self) -> None:
        """The content is replaced by nothing, which is something to publish."""
        with self._lock:
            self._content.set_length(0)
            self._touch()

    def begin_backed(self, wanted: bool) -> bool:
        """Lets the kernel write to the draft itself where that is `wanted`, or its tier ends by itself."""
        with self._lock:
            self._backing = self._content.begin_backed(self._mtime_ns, wanted)
        return self._backing is not None

    def watch_room(self) -> bool:
        """Keeps room ahead of the kernel's writes; False: no more of them come."""
        with self._lock:
            if self._backing is None:
                return False
            try:
                self._content.watch_room()
            except (BodyLostError, OSError, IsotachError) as problem:
                log.warning("no_room_ahead", file_id=self.file_id, length=self.length, error=problem)
            return True

    def hand_over(self) -> None:
        """The mount ends and this is not published: leaves it to the worker if it can be. Never raises."""
        with self._lock:
            try:
                if self.is_dirty and not self._content.hand_over():
                    self._give_up("the mount ends")
            except (OSError, IsotachError) as problem:
                self._give_up(f"the mount ends: {told(problem)}")

    def late(self) -> float | None:
        """As `publisher.Late` says."""
        with self._lock:
            self._due = False
            if self._ended:
                return None
            inode, delay_s = self._try_late()
            if self._closed and delay_s is None and not self._ended:
                self._publisher.forget(self.file_id, self)
                self._end()
        if inode is not None:  # told without the lock: whoever hears of it may look at this file
            self._counters.published_late += 1
            self._publisher.published(inode)
        return delay_s

    # --- inside ---

    def _try_late(self) -> tuple[Inode | None, float | None]:
        """What was published, and after how many seconds to try again."""
        try:
            if not self.is_dirty or self._backing is not None:
                return None, None
            if self._closed and self._overtaken():
                self._give_up("somebody else wrote the file meanwhile")
                return None, None
            return self._publish(keep=False), None
        except (OSError, IsotachError) as problem:
            self._note_failure(problem)
            if self._closed and time.monotonic() > self._kept_until:
                self._give_up(told(problem))
                return None, None
            if not self._closed and self._failures == 1:  # else it was told already
                self._failure = problem
            self._due = True
            return None, self._retry_delay_s()

    def _set_length(self, length: int) -> None:
        self._content.set_length(length)
        if self._backing is not None:  # the draft itself tells the kernel where the file ends
            os.ftruncate(self._backing.number, length)

    def _touch(self) -> None:
        self._mtime_ns = time.time_ns()
        self._dirty = True
        self._synced = False

    def _publish_or_retry(self, keep: bool) -> Inode | None:
        patience = Patience(self._content.patience_s)
        try:
            while True:
                try:
                    return self._publish(keep)
                except UnavailableError as away:  # a worker or master that is being restarted, as a rule
                    patience.pause_or_raise(away)
        except (OSError, IsotachError) as problem:
            self._note_failure(problem)
            self._later(self._retry_delay_s())
            raise

    def _publish(self, keep: bool) -> Inode | None:
        self._publishing = True
        began_s = time.monotonic()
        try:
            fail_at("fuse.before_publish")
            inode = self._content.publish(self._mtime_ns, keep)
            fail_at("fuse.after_publish")
        finally:
            self._publishing = False
            self._publish_s = time.monotonic() - began_s
        self._dirty = self._synced = False
        self._failures = 0
        self._failure = None
        self._published = True
        if inode is None:
            self._removed = True
            return None
        self._inode = inode
        self._mtime_ns = inode.mtime_ns
        self._counters.published += 1
        return inode

    def _take_in_backing(self) -> None:
        """What the kernel wrote to the draft by itself."""
        if self._backing is None:
            return
        status = os.fstat(self._backing.number)
        if status.st_size != self._content.length or status.st_mtime_ns != self._mtime_ns:
            self._content.length = status.st_size
            self._mtime_ns = status.st_mtime_ns
            self._dirty, self._synced = True, False

    def _overtaken(self) -> bool:
        """Whether the namespace has another content by now than the one that was written upon."""
        try:
            return self._content.current_version() != self._inode.version
        except FileNotFoundError:  # gone: publishing finds that, too
            return False

    def _note_failure(self, problem: Exception) -> None:
        self._failures += 1
        self._counters.publish_failures += 1
        log.warning(
            "not_published", file_id=self.file_id, length=self._content.length, error=problem, times=self._failures
        )

    def _retry_delay_s(self) -> float:
        return min(FUSE_PUBLISH_RETRY_S * float(1 << min(self._failures, 16)) / 2, FUSE_PUBLISH_RETRY_S_MAX)

    def _later(self, delay_s: float) -> None:
        if not self._due:
            self._due = True
            self._publisher.later(self, delay_s)

    def _tell_failure(self) -> None:
        problem, self._failure = self._failure, None
        if problem is not None:
            raise problem

    def _give_up(self, why: str) -> None:
        self._counters.given_up += 1
        log.error("content_given_up", file_id=self.file_id, length=self._content.length, why=why)
        self._publisher.forget(self.file_id, self)
        self._end()

    def _end(self) -> None:
        self._ended = True
        self._dirty = False
        self._content.drop()


class RoomWatch:
    """Sees to it, as long as the kernel writes to a draft by itself, that there is room ahead."""

    def __init__(self, file: WrittenFile) -> None:
        self._file = file

    def late(self) -> float | None:
        return FUSE_ROOM_WATCH_S if self._file.watch_room() else None
