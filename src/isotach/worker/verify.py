"""Comparing a cached version with its under storage, byte by byte: what `isotach fs load --verify` asks for.

Owns: the comparison, and dropping a copy that differs. Never: repairs: the master has it loaded again.
"""

import os
from collections.abc import Callable
from typing import Final

from isotach.base.errors import DataCorruptionError, IsotachError
from isotach.base.limits import FETCH_BYTES
from isotach.blockstore.entry import CachedVersion
from isotach.blockstore.store import BlockStore
from isotach.wire.messages import ReadGrant
from isotach.worker.sources import Source


class LoadVerifier:
    """One per worker; any thread. `source_of` gives the under storage's bytes of a granted version."""

    def __init__(self, store: BlockStore, source_of: Callable[[ReadGrant], Source]) -> None:
        self._store: Final = store
        self._source_of: Final = source_of

    def verify(self, grant: ReadGrant) -> int:
        """Bytes that were compared. Raises DataCorruptionError when they differ (the copy is dropped then),
        IsotachError when the version is not whole in the cache, and what the under storage raises."""
        if grant.ufs_path is None:
            raise IsotachError(f"version {grant.version} is not persisted: there is nothing to compare it with")
        entry = self._store.get(grant.version)
        if entry is None or not entry.complete:
            raise IsotachError(f"version {grant.version} is not whole in this cache any more: load it again")
        source = self._source_of(grant)
        at = 0
        while at < grant.length:
            size = min(FETCH_BYTES, grant.length - at)
            wanted = source.read(at, size)
            if self._read(entry, at, size) != memoryview(wanted):
                self._store.free(grant.version)
                raise DataCorruptionError(
                    5, f"the cached bytes from {at} on differ from {os.fsdecode(grant.ufs_path)}: the copy was dropped"
                )
            at += size
        return at

    def _read(self, entry: CachedVersion, offset: int, size: int) -> bytes:
        descriptor = self._store.open_for_sending(entry)
        try:
            return os.pread(descriptor, size, offset)
        finally:
            os.close(descriptor)
