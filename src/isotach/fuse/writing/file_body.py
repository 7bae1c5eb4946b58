"""Bodies that are files: drafts of the local worker, and spool files of the daemon where there is none.

Owns: reading and writing them at the speed of their file system, room asked for ahead, and what is noticed of a
worker that went away. Never: decides what is done about it (`live_file.py`).
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from isotach.base.errors import IsotachError, UfsError, os_error
from isotach.base.limits import FUSE_COPY_BYTES, FUSE_ROOM_STEP_MAX, FUSE_ROOM_STEP_MIN
from isotach.base.types import Inode, WriteType
from isotach.blockstore.container import punch, write_all
from isotach.fuse.writing.body import BodyLostError
from isotach.fuse.writing.descriptors import OwnedDescriptor, copy_data
from isotach.fuse.writing.draft_session import DraftSession
from isotach.fuse.writing.grants import Grants
from isotach.wire.messages import CreateReply, DraftRoomReply

#: What a write may allocate beyond its own bytes: the rest of a block at each end.
_BLOCK_ENDS = 2 * 4096
_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))


class FileBody:
    """What both have in common."""

    is_frozen = False

    def __init__(self, number: int, grants: Grants) -> None:
        self._held = OwnedDescriptor(number)
        self._grants = grants

    @property
    def descriptor(self) -> OwnedDescriptor:
        return self._held

    def read(self, offset: int, size: int) -> bytes:
        held = self._held
        found = os.pread(held.number, size, offset)
        while len(found) < size:
            more = os.pread(held.number, size - len(found), offset + len(found))
            if not more:
                return found.ljust(size, b"\0")
            found += more
        return found

    def write(self, offset: int, data: memoryview) -> None:
        write_all(self._held.number, data, offset)

    def set_length(self, length: int) -> None:
        os.ftruncate(self._held.number, length)

    def punch(self, offset: int, length: int) -> None:
        punch(self._held.number, offset, length)


class SpoolBody(FileBody):
    """A nameless file in the daemon's folder, sent to a worker when it is published."""

    lasts = True

    def __init__(self, folder: Path, grants: Grants) -> None:
        """Raises OSError."""
        super().__init__(os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600), grants)

    def has_room(self, end: int, size: int) -> bool:
        return True

    def prepare(self, end: int, size: int) -> None:
        """Nothing: the file system itself says when it is full."""

    def publish(self, length: int, mtime_ns: int, keep: bool) -> Inode | None:
        if not length:
            return self._grants.publish_bytes(memoryview(b""), mtime_ns)
        return self._grants.publish_pieces(lambda: self._pieces(length), length, mtime_ns)

    def sync(self, length: int) -> bool:
        return False

    def drop(self) -> None:
        """Nothing: the file ends with its descriptor."""

    def _pieces(self, length: int) -> Iterator[bytes]:
        for offset in range(0, length, FUSE_COPY_BYTES):
            yield self.read(offset, min(FUSE_COPY_BYTES, length - offset))


class DraftBody(FileBody):
    """A draft of the worker of this host, which this process writes itself."""

    def __init__(self, session: DraftSession, grants: Grants, room: int) -> None:
        """Begins one. Raises OSError(ENOSPC), UnavailableError."""
        reply, number = session.open(grants.current().grant, room)
        super().__init__(number, grants)
        self._session = session
        self._epoch = session.epoch
        self._draft = reply.draft
        self._room = reply.room
        self._charged = 0  # bytes that may have been allocated: an upper bound, made exact when it meets the room
        self._step = FUSE_ROOM_STEP_MIN
        self._doubtful = False  # whether the worker still knows it
        self.is_frozen = False  # it may be a version by now: no byte of it may change
        self._ended = False
        self.lasts = False
        self.hard_limit = reply.hard_limit
        self._pinned = False
        self._moved_to: OwnedDescriptor | None = None  # where a pinned draft is to be published from

    def has_room(self, end: int, size: int) -> bool:
        return self._charged + size + _BLOCK_ENDS <= self._room and not self._doubtful and not self.is_frozen

    def prepare(self, end: int, size: int) -> None:
        if self.is_frozen:
            raise BodyLostError
        if self._doubtful or self._epoch != self._session.epoch:
            self._confirm()
        wanted = self._charged + size + _BLOCK_ENDS
        if wanted > self._room:
            self._charged = os.fstat(self._held.number).st_blocks * 512
            wanted = self._charged + size + _BLOCK_ENDS
            if wanted > self._room:
                self._ask(wanted)
        self._charged = wanted - _BLOCK_ENDS + min(size, _BLOCK_ENDS)

    def write(self, offset: int, data: memoryview) -> None:
        try:
            write_all(self._held.number, data, offset)
        except OSError as problem:
            if problem.errno not in _FULL:
                raise
            self._ask(self._charged + len(data) + FUSE_ROOM_STEP_MIN)  # the file system is fuller than it was thought
            write_all(self._held.number, data, offset)

    def publish(self, length: int, mtime_ns: int, keep: bool) -> Inode | None:
        if not self.is_frozen:  # else only the worker's answer to the same call tells what it is
            self._check()
            self._settle(length)
        self._grants.find_master()

        def send(created: CreateReply) -> Inode | None:
            return self._session.publish(self._draft, created.grant, length, mtime_ns, keep)

        try:
            inode = self._grants.publish(send, keep_in_doubt=True)
        except (ConnectionError, TimeoutError):
            self._doubtful = self.is_frozen = True
            raise
        except FileNotFoundError as problem:
            if isinstance(problem, UfsError):
                raise
            self._ended = True  # the worker does not know this draft
            raise BodyLostError from problem
        except BaseException:
            self._doubtful = True
            raise
        self._ended = not keep
        self.is_frozen = False
        return inode

    def sync(self, length: int) -> bool:
        created = self._grants.current()
        if WriteType(created.write_type).goes_through:
            return False
        self._leave_to_worker(created, length)
        return True

    def hand_over(self, length: int) -> None:
        """Leaves it to the worker to publish: for the end of the mount. Raises BodyLostError, OSError."""
        self._leave_to_worker(self._grants.current(), length)
        self._ended = True

    def pin(self) -> OwnedDescriptor:
        """From now on the kernel writes to this very file, wherever the worker keeps the draft."""
        self._pinned = True
        return self._held

    def watch_room(self) -> None:
        """Keeps room ahead of what the kernel writes. Raises BodyLostError, OSError(ENOSPC)."""
        self._charged = os.fstat(self._held.number).st_blocks * 512
        if self._charged + self._step // 2 > self._room:
            self._ask(self._charged + self._step)

    def drop(self) -> None:
        if not self._ended:
            self._ended = True
            self._session.drop(self._draft)

    # --- inside ---

    def _check(self) -> None:
        """Sees to it that it is a draft of ours. Raises BodyLostError."""
        if self._doubtful or self._epoch != self._session.epoch:
            self._confirm()

    def _confirm(self) -> None:
        """Asks whether it still is a draft, after whatever made that doubtful. Raises BodyLostError."""
        if self._ended:
            raise BodyLostError
        try:
            self._session.connect()
            epoch = self._session.epoch
            self._take(*self._session.room(self._draft, self._room))
        except (OSError, IsotachError) as problem:
            if isinstance(problem, OSError) and problem.errno in _FULL:
                raise
            self._ended = True
            raise BodyLostError from problem
        self._epoch = epoch
        self._doubtful = False

    def _leave_to_worker(self, created: CreateReply, length: int) -> None:
        self._check()
        self._settle(length)
        os.fsync(self._held.number)
        self._session.sync(self._draft, created.grant, length)

    def _settle(self, length: int) -> None:
        """The file is as long as it is to be, and where the worker expects it."""
        self.set_length(length)
        if self._moved_to is not None:
            os.ftruncate(self._moved_to.number, 0)
            os.ftruncate(self._moved_to.number, length)
            copy_data(self._held.number, self._moved_to.number, 0, length)

    def _ask(self, wanted: int) -> None:
        """More room: a step ahead where there is so much, else what is needed."""
        try:
            try:
                self._take(*self._session.room(self._draft, wanted + self._step))
            except OSError as problem:
                if problem.errno not in _FULL:
                    raise
                self._take(*self._session.room(self._draft, wanted))
        except (OSError, IsotachError) as problem:
            if isinstance(problem, OSError) and problem.errno in _FULL:
                raise
            self._doubtful = True
            raise BodyLostError from problem
        self._step = min(2 * self._step, FUSE_ROOM_STEP_MAX)
        if self._room < wanted:
            raise os_error(errno.ENOSPC, "no tier of the worker has room for more of this file: free some, or add some")

    def _take(self, reply: DraftRoomReply, number: int) -> None:
        self._room = reply.room
        if number >= 0:
            if reply.moved and self._pinned:
                self._moved_to = OwnedDescriptor(number)
            elif reply.moved:
                self._held = OwnedDescriptor(number)
            else:
                with contextlib.suppress(OSError):
                    os.close(number)
