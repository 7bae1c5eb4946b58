"""Giving other workers what is cached here: by the kernel, with the checksums that they compare at their end.

Owns: the method FETCH_VERSION, and the page tables of the versions that are being sent. Never: asks another worker for
anything (`peers.py` does).

The bytes go from the container to the socket without passing through this process; the checksums are those of the
index, computed when the bytes first came in. So one comparison, at the receiver, covers the disk or memory here, this
host's and that one's kernel, and the network between (the end-to-end argument: Saltzer, Reed and Clark, 1984).
"""

import errno
import os
import threading
from collections import OrderedDict
from typing import Final

from isotach.base.errors import StaleVersionError
from isotach.base.limits import SHARED_TABLES_MAX
from isotach.base.types import Version
from isotach.blockstore.entry import CachedVersion
from isotach.blockstore.pages import PageTable, page_span
from isotach.blockstore.store import BlockStore
from isotach.net.thread_call import Call
from isotach.wire.grants import check_proof
from isotach.wire.messages import FetchVersionRequest, ReadReply
from isotach.worker.metrics import WorkerMetrics
from isotach.worker.peers import is_page_aligned
from isotach.worker.persist import checked_range


class Sharing:
    """One per worker; called by all connection threads."""

    def __init__(self, store: BlockStore, secret: bytes, metrics: WorkerMetrics) -> None:
        self._store: Final = store
        self._secret: Final = secret
        self._metrics: Final = metrics
        self._lock: Final = threading.Lock()
        self._tables: OrderedDict[Version, tuple[CachedVersion, PageTable]] = OrderedDict()

    def fetch_version(self, call: Call) -> None:
        """The handler. Raises StaleVersionError for what is not here, DataCorruptionError for what is here, bad, and
        nowhere else."""
        request: FetchVersionRequest = call.request
        check_proof(self._secret, request.proof, request.version.to_bytes(8, "little"))
        entry = self._store.reachable(request.version)
        offset, end = request.offset, min(entry.meta.length, request.offset + request.length)
        if request.checked or offset >= end or not is_page_aligned(offset, end, entry.meta.length):
            parts = list(checked_range(self._store, request.version, request.offset, request.length))
            call.reply(ReadReply(sum(len(part) for part in parts)), parts)
            return
        if not entry.verified:
            self._store.verify(entry)
        self._send(call, entry, offset, end)

    def _send(self, call: Call, entry: CachedVersion, offset: int, end: int) -> None:
        first, stop = page_span(offset, end)
        if not self._store.hold(entry, first, stop):
            raise StaleVersionError(errno.ESTALE, f"version {entry.meta.version} is not all here: try another")
        try:
            descriptor = self._store.open_for_sending(entry)
            try:
                crcs = list(self._pages(entry).crcs[first:stop])
                if first == 0:  # one use, in however many ranges
                    self._store.touch(entry.meta.version)
                call.reply_file(ReadReply(end - offset, crcs), descriptor, offset, end - offset)
                self._metrics.shared_bytes.add(end - offset)
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            raise StaleVersionError(errno.ESTALE, f"version {entry.meta.version} has just left: try another") from None
        finally:
            self._store.release(entry, first, stop)

    def _pages(self, entry: CachedVersion) -> PageTable:
        """The table of a complete version is read from the index once, not for every range."""
        if not entry.complete:
            return self._store.pages_of(entry)
        version = entry.meta.version
        with self._lock:
            known = self._tables.get(version)
            if known is not None and known[0] is entry:
                self._tables.move_to_end(version)
                return known[1]
        pages = self._store.pages_of(entry)
        with self._lock:
            self._tables[version] = (entry, pages)
            if len(self._tables) > SHARED_TABLES_MAX:
                self._tables.popitem(last=False)
        return pages
