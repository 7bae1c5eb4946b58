"""The file objects that `open` gives for reading: standard Python ones, over a descriptor or over a `VersionReader`.

Owns: `VersionRaw` (the raw layer where there is no complete descriptor) and the choice of layers. Never: connects.
"""

import errno
import io
import os
from typing import TYPE_CHECKING, Any

from isotach.base.errors import os_error
from isotach.base.limits import LOCAL_BUFFER_BYTES, REMOTE_BUFFER_BYTES
from isotach.base.types import ReadType
from isotach.client.link import Link
from isotach.client.reading.opening import open_directly, open_file
from isotach.client.reading.version_reader import VersionReader

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class VersionRaw(io.RawIOBase):
    """The raw file over a `VersionReader`; `name` is the path in the namespace."""

    mode = "rb"

    def __init__(self, reader: VersionReader, name: str) -> None:
        super().__init__()
        self.name = name
        self._reader = reader
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._check_open()
        if whence not in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END):
            raise ValueError(f"whence {whence} is not supported: give 0 (start), 1 (present position) or 2 (end)")
        base = (0, self._position, self._reader.length)[whence]
        if base + offset < 0:
            raise os_error(errno.EINVAL, f"cannot seek to {base + offset}, before the start of the file", self.name)
        self._position = base + offset
        return self._position

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        self._check_open()
        with memoryview(buffer) as view, view.cast("B") as raw:
            count = self._reader.read_into(self._position, raw)
        self._position += count
        return count

    def readall(self) -> bytes:
        return self.read_up_to(None)

    def read_up_to(self, length: int | None) -> bytes:
        """`length` bytes (None: all) from the present position on; fewer where the file ends."""
        known, start = self._reader.length, self._position
        data = read_exactly(self, self._available(length))
        self._position = start + len(data)  # small reads are rounded up to a buffer
        if self._reader.length <= known:
            return data
        # Before its first byte was given, the version was found to be replaced by a longer one: the rest of that.
        return data + read_exactly(self, self._available(None if length is None else length - len(data)))

    def _available(self, length: int | None) -> int:
        left = max(0, self._reader.length - self._position)
        return left if length is None else min(length, left)

    def close(self) -> None:
        if not self.closed:
            try:
                self._reader.close()
            finally:
                super().close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on a closed file")


def read_exactly(raw: io.RawIOBase, size: int) -> bytes:
    """Up to `size` bytes from the present position on, received straight into the bytes object that is returned."""
    if size <= 0:
        return b""
    # BufferedReader fills a new bytes object in place, which pure Python cannot do.
    inner = io.BufferedReader(raw)
    try:
        return inner.read(size)
    finally:
        inner.detach()


def _plain_file(descriptor: int, name: str) -> io.BufferedReader:
    """The kernel's own file under Python's own object; it owns the descriptor."""
    plain: Any = io.FileIO(descriptor, "rb")
    plain.name = name
    return io.BufferedReader(plain, LOCAL_BUFFER_BYTES)


def open_for_reading(link: Link, path: bytes, read_type: ReadType) -> io.BufferedReader:
    """A buffered binary file. Raises as `open_file`."""
    name = os.fsdecode(path)
    direct = open_directly(link, path, read_type)
    if direct is not None:
        return _plain_file(direct[0], name)
    found, opened = open_file(link, path, read_type)
    if opened is not None and opened.handle == 0:
        return _plain_file(opened.fd, name)
    buffer_bytes = LOCAL_BUFFER_BYTES if opened is None or opened.fd >= 0 else REMOTE_BUFFER_BYTES
    return io.BufferedReader(VersionRaw(VersionReader(link, path, found, opened, read_type), name), buffer_bytes)
