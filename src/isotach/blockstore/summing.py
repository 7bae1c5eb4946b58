"""The checksums of a file that others wrote, taken in one pass that may also pass its bytes on.

Owns: `Summed`, and the walk over data and holes. Never: opens the file, or keeps its bytes: a hole is not read, for the
checksum of zeros is known.
"""

import errno
import os
from array import array
from collections.abc import Callable
from typing import Final

import msgspec

from isotach.base.limits import PAGE_BYTES, WRITE_CHUNK_BYTES
from isotach.blockstore.checksum import extend, zeros_checksum
from isotach.blockstore.container import data_ranges
from isotach.blockstore.pages import PageTable, allocated_bytes, page_count, page_runs

#: Gives memory for the next `size` bytes or fewer, and takes it back filled.
Lend = Callable[[int], memoryview]
Take = Callable[[memoryview], None]


class Summed(msgspec.Struct, frozen=True):
    """Every page present, with its checksum. `stored_bytes`: what the file takes if it has holes, else -1."""

    pages: PageTable
    stored_bytes: int


def sum_pages(descriptor: int, length: int, lend: Lend | None = None, take: Take | None = None) -> Summed:
    """Reads the file once, in order. With `lend` and `take`, every byte (zeros, too) goes through such memory. Raises
    OSError(EIO) when the file is shorter than `length`, and whatever `lend` and `take` raise."""
    pages = PageTable(page_count(length))
    ranges = data_ranges(descriptor, length)
    page = memoryview(bytearray(min(PAGE_BYTES, max(1, length))))
    for first, stop, is_hole in page_runs(ranges, length):
        if is_hole:
            _add_hole(pages, first, stop)
        if lend is not None and take is not None:
            _pass_on(descriptor, first, min(stop * PAGE_BYTES, length), None if is_hole else pages, lend, take)
        elif not is_hole:
            for number in range(first, stop):
                part = page[: min(PAGE_BYTES, length - number * PAGE_BYTES)]
                _read_into(descriptor, part, number * PAGE_BYTES)
                pages.add(number, (extend(0, part),))
    stored = sum(allocated_bytes(end) - start // _BLOCK * _BLOCK for start, end in ranges)
    return Summed(pages, stored if stored < allocated_bytes(length) else -1)


def _add_hole(pages: PageTable, first: int, stop: int) -> None:
    pages.add(first, array("I", [zeros_checksum(PAGE_BYTES)]) * (stop - first))


def _pass_on(descriptor: int, first: int, end: int, pages: PageTable | None, lend: Lend, take: Take) -> None:
    """The bytes from page `first` to `end`, in whatever pieces there is memory for. Without `pages`: zeros, which need
    no checksum."""
    at, crc = first * PAGE_BYTES, 0
    while at < end:
        view = lend(min(WRITE_CHUNK_BYTES, end - at))
        if pages is None:
            view[:] = bytes(view.nbytes)
        else:
            _read_into(descriptor, view, at)
            crc = _carry_on(pages, at, end, crc, view)
        at += view.nbytes
        take(view)


def _carry_on(pages: PageTable, at: int, end: int, crc: int, view: memoryview) -> int:
    """Adds the pages that end in this piece; the checksum so far of the one that does not."""
    start = 0
    while start < view.nbytes:
        page, inside = divmod(at + start, PAGE_BYTES)
        part = view[start : start + PAGE_BYTES - inside]
        crc = extend(crc, part)
        start += part.nbytes
        if at + start == min(end, (page + 1) * PAGE_BYTES):
            pages.add(page, (crc,))
            crc = 0
    return crc


def _read_into(descriptor: int, view: memoryview, offset: int) -> None:
    got = 0
    while got < view.nbytes:
        size = os.preadv(descriptor, [view[got:]], offset + got)
        if not size:
            raise OSError(errno.EIO, f"the file ends at {offset + got}: somebody shortened it while it was published")
        got += size


_BLOCK: Final = 4096  # what file systems count in
