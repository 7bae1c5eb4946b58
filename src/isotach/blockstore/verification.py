"""Checksums compared with what the containers really hold.

Owns: reading pages back and comparing. Never: repairs or drops a page (`BlockStore` does).
"""

import errno
import os

from isotach.base.errors import DataCorruptionError
from isotach.base.limits import PAGE_BYTES
from isotach.blockstore.checksum import extend
from isotach.blockstore.container import read_exactly
from isotach.blockstore.entry import CachedVersion
from isotach.blockstore.pages import PageTable


def verify_pages(entry: CachedVersion, pages: PageTable) -> list[int]:
    """The present pages that are not what was written. Raises DataCorruptionError for a bad page of a dirty version:
    the under storage has no copy to replace it."""
    bad = []
    descriptor = entry.tier.open(entry.meta.version)
    try:
        for first, stop in list(pages.present_runs(0, len(pages))):
            bad += [page for page in range(first, stop) if not _is_good(descriptor, entry, pages, page)]
    finally:
        os.close(descriptor)
    if bad and entry.dirty:
        raise corruption(entry, bad[0])
    return bad


def read_page(descriptor: int, entry: CachedVersion, pages: PageTable, page: int) -> bytes:
    """One present page, compared with its checksum. Raises DataCorruptionError."""
    data = read_exactly(descriptor, _page_bytes(entry, page), page * PAGE_BYTES)
    if extend(0, data) != pages.crcs[page]:
        raise corruption(entry, page)
    return data


def corruption(entry: CachedVersion, page: int) -> DataCorruptionError:
    """The error for a page that is not what was written."""
    where = f"{entry.tier.path}/containers/{entry.meta.version:016x}"
    return DataCorruptionError(
        errno.EIO, f"page {page} of version {entry.meta.version} does not match its checksum: check the device", where
    )


def _is_good(descriptor: int, entry: CachedVersion, pages: PageTable, page: int) -> bool:
    return extend(0, read_exactly(descriptor, _page_bytes(entry, page), page * PAGE_BYTES)) == pages.crcs[page]


def _page_bytes(entry: CachedVersion, page: int) -> int:
    return min(PAGE_BYTES, entry.meta.length - page * PAGE_BYTES)
