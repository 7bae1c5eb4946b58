"""A draft on its way from one folder to another, while it goes on being written.

Owns: what of the old file is still to be copied, and copying it step by step. Never: chooses a folder.

A large file that outgrows memory is not copied at one go, for which its writer would have to wait: from the moment it
moves on, new bytes go to the new file, and each write takes a piece of the old ones along.
"""

import os
from typing import Final

from isotach.base.limits import MOVE_PIECE_BYTES
from isotach.blockstore.container import copy_piece, read_exactly
from isotach.blockstore.folder import Folder
from isotach.blockstore.write_back import WriteBack

Ranges = list[tuple[int, int]]


class Spill:
    """The old file of a draft, with the byte ranges that the new one has not got yet. `taken` bytes are counted in the
    old folder."""

    def __init__(self, folder: Folder, name: str, descriptor: int, taken: int, ranges: Ranges) -> None:
        self.folder: Final = folder
        self.taken: Final = taken
        self._name: Final = name
        self._descriptor: Final = descriptor
        self._pending = ranges

    def is_over(self) -> bool:
        """Whether the new file has everything."""
        return not self._pending

    def overlaps(self, start: int, end: int) -> bool:
        """Whether bytes of [start, end) are still to be copied."""
        return any(first < end and start < stop for first, stop in self._pending)

    def step(self, target: int, size: int, write_back: WriteBack | None) -> None:
        """Copies about `size` bytes. Raises OSError of either file system; what was copied stays copied."""
        while size > 0 and self._pending:
            start, stop = self._pending[-1]
            count = copy_piece(self._descriptor, target, start, min(MOVE_PIECE_BYTES, stop - start))
            if write_back is not None:
                write_back.wrote(target, start, count)
            if count == 0 or start + count >= stop:
                self._pending.pop()
            else:
                self._pending[-1] = (start + count, stop)
            size -= count

    def read(self, target: int, offset: int, length: int) -> bytes:
        """Bytes written before, each from the file that has them."""
        parts: list[bytes] = []
        at, end = offset, offset + length
        for start, stop in sorted(self._pending):
            if stop <= at or start >= end:
                continue
            if start > at:
                parts.append(read_exactly(target, start - at, at))
                at = start
            parts.append(read_exactly(self._descriptor, min(stop, end) - at, at))
            at = min(stop, end)
        if at < end:
            parts.append(read_exactly(target, end - at, at))
        return b"".join(parts)

    def close(self) -> None:
        """Removes the old file. Its bytes are for the caller to give back."""
        self.folder.remove_file(self._name)
        os.close(self._descriptor)
