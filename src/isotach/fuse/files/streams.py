"""Readers of versions that are not whole here, each at its own place in its file, a bounded number at once.

Owns: the order of requests on one reader, and which idle readers give their connection back. Never: decides which
stream a request takes (`content.py`).

The client library's reader serves one thread at a time and keeps requests under way ahead of a sequential one. The
kernel sends its read-ahead of one file in parallel; requests that follow one another take their turns on one reader,
so that it stays sequential and nothing is asked twice.
"""

import threading
from collections import OrderedDict
from typing import Final, Protocol

from isotach.base.limits import FUSE_STREAMS_MAX, FUSE_STREAMS_PER_FILE_MAX
from isotach.base.paths import id_path
from isotach.base.types import ReadType
from isotach.client.link import Link
from isotach.client.reading.opening import Opened
from isotach.client.reading.version_reader import VersionReader
from isotach.fuse.files.memory import ReadMemory
from isotach.wire.messages import StatReply


class Stream:
    """One reader of one version; requests take turns in the order of `queue`."""

    def __init__(self, link: Link, found: StatReply, opened: Opened | None, memory: ReadMemory) -> None:
        self._link: Final = link
        self._found: Final = found
        self._memory: Final = memory
        path = id_path(found.inode.id)
        self._reader: Final = VersionReader(link, path, found, opened, ReadType.CACHE, pinned=True)
        self._turn: Final = threading.Condition()
        self._next_ticket = 0
        self._serving = 0
        self.next_offset = 0

    def another(self) -> "Stream":
        """One more stream of the same version."""
        return Stream(self._link, self._found, None, self._memory)

    @property
    def waiting(self) -> int:
        """Requests queued and not yet answered."""
        return self._next_ticket - self._serving

    def queue(self, offset: int, size: int) -> int:
        """Takes the next turn, for `read`, which must follow. For one thread at a time."""
        ticket = self._next_ticket
        self._next_ticket += 1
        self.next_offset = offset + size
        return ticket

    def read(self, ticket: int, offset: int, size: int) -> memoryview:
        """Exactly these bytes, which exist. Raises OSError, UnavailableError."""
        with self._turn:
            while self._serving != ticket:
                self._turn.wait()
        try:
            with self._memory.taken(size):
                view = memoryview(bytearray(size))
                filled = 0
                while filled < size:
                    filled += self._reader.read_into(offset + filled, view[filled:])
                return view
        finally:
            with self._turn:
                self._serving += 1
                self._turn.notify_all()

    def rest(self) -> None:
        """Gives the connection back if nobody reads; the next read takes another."""
        with self._turn:
            if not self.waiting:
                self._reader.close()

    def close(self) -> None:
        """Ends it once all turns are over."""
        with self._turn:
            while self.waiting:
                self._turn.wait()
            self._reader.close()


class Restable(Protocol):
    """What holds connections that it can do without for a while."""

    def rest(self) -> None:
        """Gives those back that nobody uses at this moment."""


class StreamPool:
    """What reads files that are not whole here: those that were used last keep their connections."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._warm: Final[OrderedDict[Restable, None]] = OrderedDict()
        self.streams_per_file: Final = FUSE_STREAMS_PER_FILE_MAX

    def used(self, stream: Restable) -> None:
        """It was read from just now; the one that rested longest may have to give its connection back."""
        with self._lock:
            self._warm[stream] = None
            self._warm.move_to_end(stream)
            coldest = self._warm.popitem(last=False)[0] if len(self._warm) > FUSE_STREAMS_MAX else None
        if coldest is not None:
            coldest.rest()

    def remove(self, stream: Restable) -> None:
        """It ends."""
        with self._lock:
            self._warm.pop(stream, None)
