"""The reading half of a worker: whatever gives out bytes or brings them in, put together.

Owns: the composition, and where the bytes of a granted version come from. Never: the logic of any part, and no write.
"""

import os
from collections.abc import Sequence
from typing import Final

from isotach.base.types import ReadBuffer, Version, WorkerId
from isotach.blockstore.entry import CachedVersion
from isotach.blockstore.store import BlockStore
from isotach.conf.settings import WorkerSettings
from isotach.net.thread_server import Handler
from isotach.wire.messages import (
    CHECKSUM,
    CLOSE_HANDLE,
    ENSURE,
    FETCH_VERSION,
    LOAD,
    OPEN,
    READ,
    AnyMethod,
    ReadGrant,
    WorkerRow,
)
from isotach.worker.buffers import BufferBudget
from isotach.worker.bypass import Bypass
from isotach.worker.checksums import Checksums
from isotach.worker.fetch import Fetcher
from isotach.worker.grant_cache import GrantCache
from isotach.worker.loading import Loader, Wanting
from isotach.worker.master_link import Identity, MasterLink
from isotach.worker.metrics import WorkerMetrics
from isotach.worker.peers import CopiesElsewhere, PeerWorkers, RemoteSource
from isotach.worker.reading import ReadService, WaitReported
from isotach.worker.scrub import Scrubber
from isotach.worker.sharing import Sharing
from isotach.worker.sources import PeerCopies, Source, UfsSource


class ReadSide:
    """One per worker. `start` begins the scrub; all else works at once."""

    def __init__(
        self,
        worker: WorkerSettings,
        store: BlockStore,
        link: MasterLink,
        identity: Identity,
        grants: GrantCache,
        metrics: WorkerMetrics,
        wait_reported: WaitReported,
    ) -> None:
        self._link: Final = link
        self._own_id: Final = identity.worker_id
        self._peers: Final = PeerWorkers(
            identity.secret, identity.worker_id, identity.host_key, link.list_workers, metrics
        )
        self._buffers: Final = BufferBudget(worker.buffer_memory)
        self.bypass: Final = Bypass(store, enabled=worker.bypass == "auto")
        self._fetcher: Final = Fetcher(
            store,
            metrics,
            threads=min(worker.fetch_threads, worker.ufs_requests_per_mount),
            unit_bytes=worker.fetch_size,
            read_ahead_max=worker.read_ahead_max,
            budget=self._buffers,
            measured=self.bypass.fetched,
        )
        wanting = Wanting(self.source_of, self._copies_elsewhere)
        self.loader: Final = Loader(store, self._fetcher, wanting)
        self._reads: Final = ReadService(
            store, self._fetcher, grants, metrics, wanting, self.loader, self.bypass, wait_reported
        )
        self._sharing: Final = Sharing(store, identity.secret, metrics)
        self._checksums: Final = Checksums(store, grants, self.source_of)
        self._scrubber: Final = Scrubber(
            store,
            worker.dir,
            metrics,
            bandwidth=worker.scrub_bandwidth,
            interval_s=worker.scrub_interval,
            others=self._other_copies,
        )
        metrics.registry.watch("fetches_in_flight", lambda: self._fetcher.running)
        metrics.registry.watch("buffer_bytes", lambda: self._buffers.used_bytes)
        metrics.registry.watch_labelled("tiers_read_around", self.bypass.tiers_around)

    def start(self) -> None:
        """Begins what runs by itself."""
        self._scrubber.start()

    def close(self) -> None:
        """Ends every thread; who waits for a fetch gets an error."""
        self._scrubber.close()
        self.bypass.close()
        self._fetcher.close()
        self._peers.close()

    @property
    def fetches_running(self) -> int:
        """Fetches under way."""
        return self._fetcher.running

    def handlers(self) -> dict[AnyMethod, Handler]:
        """The methods that it serves."""
        reads = self._reads
        return {
            OPEN: reads.open,
            ENSURE: reads.ensure,
            READ: reads.read,
            CLOSE_HANDLE: reads.close_handle,
            LOAD: reads.load,
            FETCH_VERSION: self._sharing.fetch_version,
            CHECKSUM: self._checksums.checksum,
        }

    # --- where bytes come from ---

    def take_hot(self) -> list[Version]:
        """What clients of other hosts opened very often lately."""
        return self._reads.heat.take()

    def source_of(self, grant: ReadGrant) -> Source:
        """The under storage, or the other workers for what is in none. Raises UnavailableError for an unknown mount."""
        if grant.ufs_path is None:
            return self.remote_source(grant)
        return UfsSource(self._link.mounts.storage(grant.mount_id), os.fsdecode(grant.ufs_path), grant.fingerprint)

    def remote_source(self, grant: ReadGrant) -> Source:
        """The other workers alone."""
        return RemoteSource(self._peers, grant.version, grant.block_size, self._link.holders)

    def _other_copies(self, entry: CachedVersion, offset: int, length: int) -> ReadBuffer:
        meta = entry.meta
        return RemoteSource(self._peers, meta.version, meta.block_bytes, self._link.holders).read(offset, length)

    def _copies_elsewhere(
        self, grant: ReadGrant, holders: Sequence[WorkerId], rows: Sequence[WorkerRow]
    ) -> PeerCopies | None:
        others = [worker_id for worker_id in holders if worker_id != self._own_id]
        if grant.ufs_path is None or not others:
            return None
        find = self._link.holders
        return CopiesElsewhere(self._peers, grant.version, grant.length, grant.block_size, others, find, rows)
