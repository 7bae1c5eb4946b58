"""Which pages of a version are present, and their checksums: pure bookkeeping.

Owns: `PageTable` and the arithmetic between bytes, pages and blocks. Never: touches a file, an index or a lock.

Presence is one byte per page, so that "is this range here" and "what is missing" are one search in C.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from isotach.base.limits import PAGE_BYTES

_ALLOCATION_BYTES: Final = 4096  # what tmpfs, ext4 and xfs round a file's end up to


def page_count(length: int) -> int:
    """Pages of a file of `length` bytes."""
    return (length + PAGE_BYTES - 1) // PAGE_BYTES


def page_span(offset: int, end: int) -> tuple[int, int]:
    """The half-open range of pages that the bytes [offset, end) touch."""
    return offset // PAGE_BYTES, page_count(end)


def page_runs(ranges: Iterable[tuple[int, int]], length: int) -> Iterator[tuple[int, int, bool]]:
    """All pages of a file of `length` bytes as runs (first, stop, whether it is a hole), given the byte ranges in which
    there is data, in rising order. A page with any data is no hole, nor is a short last one."""
    whole, at = length // PAGE_BYTES, 0
    for start, end in [*ranges, (whole * PAGE_BYTES, length)]:
        first, stop = page_span(start, end)
        if first > at:
            yield at, first, True
        if stop > at and end > start:
            yield max(at, first), stop, False
        at = max(at, first, stop)


def allocated_bytes(length: int) -> int:
    """What `length` bytes take on a file system."""
    return (length + _ALLOCATION_BYTES - 1) // _ALLOCATION_BYTES * _ALLOCATION_BYTES


class PageTable:
    """Presence and checksums of one version's pages. Grows with `resize` while the length is still unknown."""

    __slots__ = ("count", "crcs", "marks")

    def __init__(self, pages: int) -> None:
        self.marks = bytearray(pages)
        self.crcs = array("I", bytes(4 * pages))
        self.count = 0

    def __len__(self) -> int:
        return len(self.marks)

    def resize(self, pages: int) -> None:
        """Makes room for at least this many pages."""
        more = pages - len(self.marks)
        if more > 0:
            self.marks.extend(bytes(more))
            self.crcs.frombytes(bytes(4 * more))

    def has(self, first: int, stop: int) -> bool:
        """Whether every page of [first, stop) is present."""
        return self.marks.find(0, first, stop) < 0

    def first_missing(self, first: int, stop: int) -> int:
        """The first page of [first, stop) that is not present; `stop` when all are."""
        found = self.marks.find(0, first, stop)
        return stop if found < 0 else found

    def missing_runs(self, first: int, stop: int) -> Iterator[tuple[int, int]]:
        """The ranges of [first, stop) that are not present, in order."""
        return _runs(self.marks, 0, first, stop)

    def present_runs(self, first: int, stop: int) -> Iterator[tuple[int, int]]:
        """The ranges of [first, stop) that are present, in order."""
        return _runs(self.marks, 1, first, stop)

    def add(self, first: int, crcs: Sequence[int]) -> None:
        """Marks pages from `first` on as present, with these checksums."""
        stop = first + len(crcs)
        self.count += self.marks.count(0, first, stop)
        self.marks[first:stop] = b"\1" * len(crcs)
        self.crcs[first:stop] = array("I", crcs)

    def remove(self, first: int, stop: int) -> None:
        """Marks the pages of [first, stop) as absent."""
        self.count -= self.marks.count(1, first, stop)
        self.marks[first:stop] = bytes(stop - first)

    def bytes_in(self, first: int, stop: int, length: int) -> int:
        """File bytes of the present pages of [first, stop), for a file of `length` bytes."""
        present = self.marks.count(1, first, stop)
        size = present * PAGE_BYTES
        last = len(self.marks) - 1
        if present and first <= last < stop and self.marks[last]:
            size -= (last + 1) * PAGE_BYTES - min(length, (last + 1) * PAGE_BYTES)
        return size

    def present_bytes(self, length: int) -> int:
        """File bytes of all present pages."""
        return self.bytes_in(0, len(self.marks), length)

    def block_bitmap(self, length: int, block_bytes: int) -> bytes:
        """Little-endian bitmap of the blocks that are wholly present."""
        blocks = (length + block_bytes - 1) // block_bytes
        bits = 0
        for block in range(blocks):
            first, stop = page_span(block * block_bytes, min(length, (block + 1) * block_bytes))
            if self.has(first, stop):
                bits |= 1 << block
        return bits.to_bytes((blocks + 7) // 8, "little")


def full_bitmap(length: int, block_bytes: int) -> bytes:
    """The block bitmap of a version that is complete."""
    blocks = (length + block_bytes - 1) // block_bytes
    return ((1 << blocks) - 1).to_bytes((blocks + 7) // 8, "little")


def _runs(marks: bytearray, wanted: int, first: int, stop: int) -> Iterator[tuple[int, int]]:
    while first < stop:
        start = marks.find(wanted, first, stop)
        if start < 0:
            return
        end = marks.find(1 - wanted, start, stop)
        first = stop if end < 0 else end
        yield start, first
