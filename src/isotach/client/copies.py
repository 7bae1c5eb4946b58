"""Comparing all copies of one file: what each worker really holds, and what the under storage holds.

Owns: which copies there are, and whether they agree. Never: reads a byte itself (workers sum what they hold), or
repairs anything.
"""

from typing import Final

import msgspec

from isotach.base.errors import told
from isotach.base.limits import LONG_CALL_DEADLINE_S
from isotach.base.paths import normalize
from isotach.base.types import Flag, WorkerId
from isotach.client.filesystem import FileSystem
from isotach.client.link import Link
from isotach.client.operations import PathLike
from isotach.client.reading.opening import find_file
from isotach.wire.messages import CHECKSUM, ChecksumRequest, WorkerRow

UNDER_STORAGE: Final = "under storage"


class Copy(msgspec.Struct, frozen=True, kw_only=True):
    """One copy, whole or in part."""

    where: str  # the worker's host, or UNDER_STORAGE
    worker_id: WorkerId = ""
    present_bytes: int = 0
    crc32c: int | None = None  # None: not all of the file is there
    bad_pages: int = 0  # that do not match the worker's own checksums
    error: str = ""  # why nothing is known of it


class Copies(msgspec.Struct, frozen=True, kw_only=True):
    """All copies of a file. `agree`: no two of them differ, and no page is damaged."""

    length: int
    agree: bool
    copies: list[Copy]


def compare_copies(fs: FileSystem, path: PathLike) -> Copies:
    """Has every holder read and sum what it has, and a worker what the under storage has, one after the other.

    Raises FileNotFoundError, PermissionError, IsADirectoryError; what cannot be read is told in `Copy.error`.
    """
    link = fs._link
    found = find_file(link, normalize(path), None)
    rows = {row.worker_id: row for row in link.live_workers(refresh=True)}
    copies = []
    for holder in [] if found.cache is None else found.cache.holders:
        row = rows.get(holder.worker_id)
        if row is None:
            copies.append(Copy(where=holder.worker_id, worker_id=holder.worker_id, error="the worker is away"))
        else:
            copies.append(_asked(link, row, ChecksumRequest(found.grant), row.host))
    if found.inode.flags & Flag.PERSISTED and rows:
        request = ChecksumRequest(found.grant, of_store=True)
        copies.append(_asked(link, next(iter(rows.values())), request, UNDER_STORAGE))
    sums = {copy.crc32c for copy in copies if copy.crc32c is not None}
    agree = len(sums) < 2 and not any(copy.bad_pages for copy in copies)
    return Copies(length=found.inode.length, agree=agree, copies=copies)


def _asked(link: Link, row: WorkerRow, request: ChecksumRequest, where: str) -> Copy:
    worker_id = "" if request.of_store else row.worker_id
    try:
        reply, _ = link.worker(row).call(CHECKSUM, request, deadline_s=LONG_CALL_DEADLINE_S)
    except OSError as error:
        return Copy(where=where, worker_id=worker_id, error=told(error))
    return Copy(
        where=where,
        worker_id=worker_id,
        present_bytes=reply.present_bytes,
        crc32c=reply.crc32c,
        bad_pages=reply.bad_pages,
    )
