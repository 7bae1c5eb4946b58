"""The version that lies below a file being written: what its unwritten bytes are read and copied from.

Owns: opening that very version when it is first needed, and keeping it readable from then on. Never: another version:
when it is gone before it was opened, that is an error.
"""

import errno
import os
import threading
from collections.abc import Callable

from isotach.base.errors import os_error
from isotach.base.limits import FUSE_COPY_BYTES
from isotach.base.paths import id_path
from isotach.base.types import FileId, ReadType, Version
from isotach.client.link import Link
from isotach.client.reading.opening import open_version, wants_spread
from isotach.client.reading.version_reader import VersionReader
from isotach.fuse.writing.descriptors import OwnedDescriptor
from isotach.wire.messages import StatReply

#: Gives a file's record with a grant to read it, by its id.
Granted = Callable[[FileId], StatReply]


class Below:
    """One version of one file; for many threads."""

    def __init__(
        self, link: Link, granted: Granted, file_id: FileId, version: Version, held: OwnedDescriptor | None = None
    ) -> None:
        """`held`: its bytes are at hand."""
        self._link = link
        self._granted = granted
        self._file_id = file_id
        self._version = version
        self._held = held
        self._reader: VersionReader | None = None
        self._lock = threading.Lock()

    @property
    def is_at_hand(self) -> bool:
        """Whether reading is reading a file of this host."""
        return self._held is not None

    def held(self) -> OwnedDescriptor | None:
        """A descriptor of all of it; None: it is not whole here. Raises what forbids reading it."""
        if self._held is None and self._reader is None:
            with self._lock:
                self._open()
        return self._held

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fills `view`. Raises what forbids reading; StaleVersionError when the version is gone."""
        filled = 0
        while filled < len(view):
            count = self._read_some(offset + filled, view[filled : filled + FUSE_COPY_BYTES])
            if not count:
                raise os_error(errno.EIO, "the version below a file being written ended before its length")
            filled += count

    def close(self) -> None:
        """Gives back what is held at a worker."""
        with self._lock:
            reader, self._reader = self._reader, None
            if reader is not None:
                reader.close()

    def _read_some(self, offset: int, view: memoryview) -> int:
        held = self.held()
        if held is not None:
            return os.preadv(held.number, [view], offset)
        with self._lock:
            if self._reader is None:
                self._open()
            assert self._reader is not None
            return self._reader.read_into(offset, view)

    def _open(self) -> None:
        if self._held is not None or self._reader is not None:
            return
        found = self._granted(self._file_id)
        if found.inode.version != self._version:
            raise os_error(errno.ESTALE, "the file was replaced before its old content was needed: open it again")
        opened = None if wants_spread(self._link, found) else open_version(self._link, found, ReadType.CACHE)
        if opened is not None and opened.handle == 0:
            self._held = OwnedDescriptor(opened.fd)
            return
        path = id_path(self._file_id)
        self._reader = VersionReader(self._link, path, found, opened, ReadType.CACHE, pinned=True)
