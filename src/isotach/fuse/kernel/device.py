"""The device /dev/fuse: opening, cloning, reading requests, writing replies.

Owns: what one descriptor of the device is asked to do. Never: knows what a request means. A request that was read from
one clone can be answered there only; several threads may share one.
"""

import contextlib
import fcntl
import os
from collections.abc import MutableMapping, Sequence
from errno import ENODEV, ENOENT
from typing import Final

from isotach.base.errors import os_error
from isotach.base.limits import FUSE_REPLY_JOINED_BYTES_MAX
from isotach.base.types import ReadBuffer
from isotach.fuse.protocol import layouts
from isotach.fuse.protocol.constants import IOC_CLONE

PATH: Final = "/dev/fuse"

_HEADER_BYTES: Final = layouts.OUT_HEADER.size
#: One call of writev takes fewer pieces than these, the header among them.
_PIECES_END: Final = 1024
_pack_header = layouts.OUT_HEADER.pack
_write = os.write
#: The kernel has given the request up (a signal, an abort), or is unmounted: nobody waits for the answer.
_NOBODY_WAITS: Final = frozenset({ENOENT, ENODEV})


def open_device(path: str = PATH) -> int:
    """A new descriptor, to be mounted. Raises OSError that says what to do."""
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise os_error(
            error.errno or ENODEV,
            "it cannot be opened: load its module (modprobe fuse), or give the container --device /dev/fuse",
            path,
        ) from error


def clone_device(descriptor: int, path: str = PATH) -> int:
    """A further descriptor of the same mount, with a queue of its own for what it has read. Raises OSError."""
    clone = open_device(path)
    try:
        fcntl.ioctl(clone, IOC_CLONE, layouts.UINT32.pack(descriptor))
    except BaseException:
        os.close(clone)
        raise
    return clone


class DeviceChannel:
    """One descriptor as the place to answer at (`contract.Channel`). Any thread.

    `pending` are what is kept for requests under way, by their `unique`: an answer ends it.
    """

    __slots__ = ("_pending", "descriptor")

    def __init__(self, descriptor: int, pending: Sequence[MutableMapping[int, object]] = ()) -> None:
        self.descriptor = descriptor
        self._pending = tuple(pending)

    def reply(self, unique: int, *buffers: ReadBuffer) -> None:
        """Success, with what is given, in pieces. Raises OSError only for an answer that the kernel does not take."""
        self._forget(unique)
        if len(buffers) == 1:
            buffer = buffers[0]
            size = _HEADER_BYTES + len(buffer)
            if size <= FUSE_REPLY_JOINED_BYTES_MAX:
                self._send(_pack_header(size, 0, unique) + buffer)
                return
        if len(buffers) >= _PIECES_END:
            buffers = (b"".join(buffers),)
        size = _HEADER_BYTES + sum([memoryview(buffer).nbytes for buffer in buffers])
        try:
            os.writev(self.descriptor, (_pack_header(size, 0, unique), *buffers))
        except OSError as error:
            if error.errno not in _NOBODY_WAITS:
                raise

    def fail(self, unique: int, number: int) -> None:
        """An errno, positive."""
        self._forget(unique)
        self._send(_pack_header(_HEADER_BYTES, -number, unique))

    def _forget(self, unique: int) -> None:
        for kept in self._pending:
            if kept:
                kept.pop(unique, None)

    def _send(self, message: bytes) -> None:
        try:
            _write(self.descriptor, message)
        except OSError as error:
            if error.errno not in _NOBODY_WAITS:
                raise

    def close(self) -> None:
        """Closes the descriptor. The mount lives as long as one of its clones, or another process, has it."""
        with contextlib.suppress(OSError):
            os.close(self.descriptor)
