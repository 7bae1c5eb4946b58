"""Bringing whole versions into the cache ahead of their use, for LOAD calls and for the master's LOAD commands.

Owns: what "loaded" means, and the paces that loads of one limit share. Never: chooses what is loaded (the master's jobs
and clients do), or holds up a load until the master knows of it: its outcome says so.

A small file is fetched in the thread that loads it, so many of them cost one hand-over each, not three.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from isotach.base.limits import LOAD_PACES_MAX, PAGE_BYTES
from isotach.base.types import ReadType, WorkerId
from isotach.blockstore.entry import CachedVersion, VersionMeta
from isotach.blockstore.store import BlockStore
from isotach.ufs.pace import Pace
from isotach.wire.messages import ReadGrant, WorkerRow
from isotach.worker.fetch import Fetcher, Wanted
from isotach.worker.reader import VersionReader
from isotach.worker.sources import PeerCopies, Source

_LOAD_STEP_BYTES: Final = 64 * PAGE_BYTES
_NO_CACHE: Final = ReadType.NO_CACHE.value

#: Where the bytes of a granted version come from.
SourceOf = Callable[[ReadGrant], Source]
#: Other workers' copies of it: given who holds something of it, and how they are reached if that is known.
PeersOf = Callable[[ReadGrant, Sequence[WorkerId], Sequence[WorkerRow]], PeerCopies | None]


class Wanting:
    """From a capability to what the fetcher takes. One per worker; any thread."""

    def __init__(self, source_of: SourceOf, peers_of: PeersOf) -> None:
        self._source_of: Final = source_of
        self._peers_of: Final = peers_of

    def wanted(
        self,
        grant: ReadGrant,
        read_type: str,
        *,
        fills: bool,
        holders: Sequence[WorkerId] = (),
        rows: Sequence[WorkerRow] = (),
    ) -> Wanted:
        """`fills`: it is the container that is wanted. `holders`: who has something of it, as far as is known."""
        meta = VersionMeta(
            grant.version,
            grant.file_id,
            grant.length,
            grant.block_size,
            grant.fingerprint,
            grant.pinned,
            tier=grant.tier,
            memory_only=grant.memory_only,
        )
        keep = read_type != _NO_CACHE
        peers = self._peers_of(grant, holders, rows) if holders else None
        return Wanted(meta, self._source_of(grant), keep, fills and keep, peers, grant.user, grant.mount_id)


class Loader:
    """One per worker; any thread."""

    def __init__(self, store: BlockStore, fetcher: Fetcher, wanting: Wanting) -> None:
        self._store: Final = store
        self._fetcher: Final = fetcher
        self._wanting: Final = wanting
        self._lock: Final = threading.Lock()
        self._paces: dict[int, Pace] = {}

    def load(
        self,
        grant: ReadGrant,
        *,
        holders: Sequence[WorkerId] = (),
        rows: Sequence[WorkerRow] = (),
        bandwidth: int = 0,
        promote: bool = False,
    ) -> int:
        """Brings the whole version in, as far as there is room; bytes cached afterwards. Raises what the source
        raised."""
        if not grant.length:
            return 0
        wanted = self._wanting.wanted(grant, ReadType.CACHE.value, fills=True, holders=holders, rows=rows)
        if bandwidth:
            wanted = msgspec.structs.replace(wanted, pace=self._pace(bandwidth))
        entry = self._store.get(grant.version)
        self._store.touch(grant.version)  # before it comes in: to arrive is no use
        prepared = self._store.prepare(wanted.meta, insist=True)
        if entry is None:
            self._bring(wanted, prepared, is_new=True)
        elif not (entry.complete and entry.verified):
            self._bring(wanted, prepared, is_new=False)
        if promote:
            self._store.promote(grant.version)
        kept = self._store.get(grant.version)
        return 0 if kept is None else kept.present_bytes()

    def _bring(self, wanted: Wanted, prepared: CachedVersion | None, *, is_new: bool) -> None:
        length = wanted.meta.length
        if length <= self._fetcher.unit_bytes and is_new:
            self._fetcher.bring(wanted)
            return
        reader = VersionReader(self._store, self._fetcher, wanted)
        entry = reader.entry() or prepared
        at = 0
        while entry is not None and at < length and not entry.complete:
            end = min(length, at + _LOAD_STEP_BYTES)
            if reader.ensure(entry, at, end) < end:
                return
            at = end

    def _pace(self, bandwidth: int) -> Pace:
        """Loads with the same limit share it."""
        with self._lock:
            pace = self._paces.get(bandwidth)
            if pace is None:
                if len(self._paces) >= LOAD_PACES_MAX:
                    self._paces.clear()
                pace = self._paces[bandwidth] = Pace(bandwidth)
            return pace
