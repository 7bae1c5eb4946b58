"""Whole-file checksums of what a worker really holds, and of what its under storage holds: the method CHECKSUM.

Owns: reading every page again and summing. Never: drops or repairs anything (the scrub does), or believes the index: it
says whether the index agrees.
"""

import os
from typing import Final

from isotach.base.errors import InvalidArgumentError
from isotach.base.limits import PAGE_BYTES
from isotach.blockstore.checksum import extend
from isotach.blockstore.container import read_exactly
from isotach.blockstore.entry import CachedVersion
from isotach.blockstore.store import BlockStore
from isotach.net.thread_call import Call
from isotach.wire.messages import ChecksumReply, ChecksumRequest, ReadGrant
from isotach.worker.grant_cache import GrantCache
from isotach.worker.loading import SourceOf

_STEP_BYTES: Final = 4 * PAGE_BYTES


class Checksums:
    """One per worker; called by all connection threads."""

    def __init__(self, store: BlockStore, grants: GrantCache, source_of: SourceOf) -> None:
        self._store: Final = store
        self._grants: Final = grants
        self._source_of: Final = source_of

    def checksum(self, call: Call) -> None:
        """The handler. Raises AuthenticationError, and what the under storage raises."""
        request: ChecksumRequest = call.request
        grant = self._grants.read(request.grant)
        call.reply(self._of_store(grant) if request.of_store else self._of_cache(grant))

    def _of_store(self, grant: ReadGrant) -> ChecksumReply:
        if grant.ufs_path is None:
            raise InvalidArgumentError(f"version {grant.version} is in no under storage: persist it first")
        source = self._source_of(grant)
        crc = 0
        for at in range(0, grant.length, _STEP_BYTES):
            crc = extend(crc, source.read(at, min(_STEP_BYTES, grant.length - at)))
        return ChecksumReply(grant.length, crc)

    def _of_cache(self, grant: ReadGrant) -> ChecksumReply:
        entry = self._store.get(grant.version)
        if entry is None:
            return ChecksumReply(0)
        try:
            return self._sum(entry)
        except FileNotFoundError:
            return ChecksumReply(0)  # it has just left

    def _sum(self, entry: CachedVersion) -> ChecksumReply:
        pages = self._store.pages_of(entry)
        descriptor = self._store.open_for_sending(entry)
        crc, size, bad = 0, 0, 0
        try:
            for first, stop in list(pages.present_runs(0, len(pages))):
                for page in range(first, stop):
                    length = min(PAGE_BYTES, entry.meta.length - page * PAGE_BYTES)
                    data = read_exactly(descriptor, length, page * PAGE_BYTES)
                    bad += extend(0, data) != pages.crcs[page]
                    crc = extend(crc, data)
                    size += len(data)
        finally:
            os.close(descriptor)
        whole = size == entry.meta.length
        return ChecksumReply(size, crc if whole else None, bad, entry.dirty)
