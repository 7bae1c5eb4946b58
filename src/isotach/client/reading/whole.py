"""Reading a range of a file in one call, on the shortest path: no file object when the container is complete.

Owns: `read_range` and `read_view`. Never: caches.
"""

import contextlib
import mmap
import os
from collections.abc import Iterator

from isotach.base.errors import InvalidArgumentError
from isotach.base.limits import LONG_CALL_DEADLINE_S
from isotach.base.types import ReadType
from isotach.client.link import Link
from isotach.client.reading.files import VersionRaw
from isotach.client.reading.opening import Opened, open_file, open_version
from isotach.client.reading.version_reader import VersionReader, stale_error
from isotach.wire.messages import LOAD, LoadRequest, StatReply


def read_range(link: Link, path: bytes, offset: int, length: int | None, read_type: ReadType) -> bytes:
    """`length` bytes (None: all) from `offset`; fewer where the file ends. Raises as `open_file`."""
    if offset < 0 or (length is not None and length < 0):
        raise InvalidArgumentError(f"offset {offset} and length {length} must not be negative")
    found, opened = open_file(link, path, read_type)
    offset = min(offset, found.inode.length)  # beyond the end there is nothing, however far beyond
    left = found.inode.length - offset
    size = left if length is None else min(length, left)
    if opened is not None and opened.handle == 0:
        try:
            data = os.pread(opened.fd, size, offset)
        finally:
            os.close(opened.fd)
            opened.fd = -1
        if len(data) == size:
            return data
        # More than one system call can give, which is nearly 2 GiB: the general way.
        found, opened = open_file(link, path, read_type)
    return _read_slowly(link, path, found, opened, read_type, offset, length)


def _read_slowly(
    link: Link,
    path: bytes,
    found: StatReply,
    opened: Opened | None,
    read_type: ReadType,
    offset: int,
    length: int | None,
) -> bytes:
    with VersionRaw(VersionReader(link, path, found, opened, read_type), os.fsdecode(path)) as raw:
        raw.seek(offset)
        return raw.read_up_to(length)


@contextlib.contextmanager
def read_view(link: Link, path: bytes, read_type: ReadType) -> Iterator[memoryview]:
    """The whole file as a read-only memoryview: of the worker's own pages where a descriptor can be passed, else of
    private memory that the file is read into.

    Slices (and NumPy arrays) that outlive the block keep the memory until they are gone.
    """
    found, opened = open_file(link, path, read_type)
    if not found.inode.length:
        yield memoryview(b"")
        return
    mapping = _map(link, path, found, opened, read_type)
    whole = memoryview(mapping)
    view = whole.toreadonly()
    try:
        yield view
    finally:
        for part in (view, whole, mapping):
            with contextlib.suppress(BufferError):  # somebody still looks: the memory lives until they are done
                part.close() if isinstance(part, mmap.mmap) else part.release()


def _map(link: Link, path: bytes, found: StatReply, opened: Opened | None, read_type: ReadType) -> mmap.mmap:
    if opened is not None and opened.handle != 0 and opened.fd >= 0 and read_type is not ReadType.NO_CACHE:
        opened = _completed(link, found, opened, read_type)
    if opened is not None and opened.handle == 0:
        try:
            return mmap.mmap(opened.fd, found.inode.length, mmap.MAP_SHARED, mmap.PROT_READ)
        finally:
            opened.close()
    return _copy_to_memory(VersionReader(link, path, found, opened, read_type), path)


def _completed(link: Link, found: StatReply, opened: Opened, read_type: ReadType) -> Opened:
    """The same version, opened again after the worker brought all of it in; partial as before if that is impossible."""
    assert opened.connection is not None
    try:
        opened.connection.call(LOAD, LoadRequest(found.grant), deadline_s=LONG_CALL_DEADLINE_S)
    except OSError:
        return opened  # it does not fit into the cache, or fails again when the bytes are read: then with the reason
    opened.close()
    return open_version(link, found, read_type)


def _copy_to_memory(reader: VersionReader, path: bytes) -> mmap.mmap:
    try:
        private = mmap.mmap(-1, reader.length)
        filled = 0
        with memoryview(private) as target:
            while filled < len(target):
                with target[filled:] as rest:
                    count = reader.read_into(filled, rest)
                if not count or reader.length != len(target):
                    raise stale_error(path)
                filled += count
        return private
    finally:
        reader.close()
