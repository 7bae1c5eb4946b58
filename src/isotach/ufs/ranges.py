"""Readers of one range of a file, for drivers that do not stream, and for those that may break off in the middle.

Owns: `WholeRange` (one `read_range`, given out in pieces) and `ResumingRange` (goes on where a broken reader stopped).
Never: talks to a store itself.
"""

from collections.abc import Callable
from typing import Final

from isotach.base.types import ReadBuffer
from isotach.ufs.interface import RangeReader


class WholeRange:
    """A range whose bytes are all here already."""

    def __init__(self, data: ReadBuffer) -> None:
        self._left = memoryview(data)

    def read_into(self, view: memoryview) -> int:
        count = min(len(view), len(self._left))
        view[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def close(self) -> None:
        self._left = memoryview(b"")


#: Told how often it failed, and why: returns when it has waited long enough to try again, else raises the error.
Recovery = Callable[[int, Exception], None]


class ResumingRange:
    """Opens the range with `open_at(bytes that are here already)`, again after a failure that `recover` lets pass.
    Failures count from anew with every byte that arrives."""

    def __init__(self, open_at: Callable[[int], RangeReader], recover: Recovery) -> None:
        self._open_at: Final = open_at
        self._recover: Final = recover
        self._reader: RangeReader | None = None
        self._done = 0  # bytes given out
        self._failures = 0
        self._reopen()

    def read_into(self, view: memoryview) -> int:
        while True:
            reader = self._reader
            if reader is None:
                return 0
            try:
                count = reader.read_into(view)
            except Exception as error:  # `recover` raises what must not be tried again
                reader.close()
                self._fail(error)
                self._reopen()
                continue
            if count:
                self._failures = 0
                self._done += count
            return count

    def close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def _reopen(self) -> None:
        self._reader = None
        while self._reader is None:
            try:
                self._reader = self._open_at(self._done)
            except Exception as error:  # as above
                self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._reader = None
        self._failures += 1
        self._recover(self._failures, error)
