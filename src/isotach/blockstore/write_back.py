"""Handing written bytes to the disk steadily, so that the fsync at the end has little left to do.

Owns: the windows of one file being written. Never: promises durability (fsync does).

Without it the kernel gathers gigabytes and then stops every writer at once, and the fsync of a commit takes seconds.
Each window's write-back is begun when the window is full, and waited for when the next one is: the disk is always busy,
and at most two windows are outstanding (the advice of Linus Torvalds for streaming writes, linux-kernel, 2010-05-20).
"""

from typing import Final

from isotach.base.limits import WRITE_BACK_BYTES
from isotach.blockstore.container import await_write_back, begin_write_back

_WINDOW: Final = WRITE_BACK_BYTES // 2


class WriteBack:
    """For one file on a disk, and one thread."""

    __slots__ = ("_before", "_first", "_size", "_stop")

    def __init__(self) -> None:
        self._first, self._stop, self._size = 0, 0, 0
        self._before: tuple[int, int] | None = None

    def wrote(self, descriptor: int, offset: int, size: int) -> None:
        """`size` bytes were written at `offset`. May wait for the disk."""
        if not self._size:
            self._first, self._stop = offset, offset + size
        self._first, self._stop = min(self._first, offset), max(self._stop, offset + size)
        self._size += size
        if self._size < _WINDOW:
            return
        span = (self._first, self._stop - self._first)
        begin_write_back(descriptor, *span)
        if self._before is not None:
            await_write_back(descriptor, *self._before)
        self._before, self._size = span, 0
