"""The worker's metrics: cells looked up once, and gauges read from the store when asked for.

Owns: which event adds to which cell. Never: serves them (`obs.serve`).
"""

from typing import Final

from isotach.blockstore.store import BlockStore
from isotach.obs.metrics import Counter, Metrics


class WorkerMetrics:
    """The cells that hot paths add to."""

    def __init__(self) -> None:
        metrics = Metrics("worker")
        self.registry: Final = metrics
        self.read_memory: Final = metrics.counter("read_bytes", source="memory")
        self.read_disk: Final = metrics.counter("read_bytes", source="disk")
        self._fetched: Final = {
            "ufs": metrics.counter("read_bytes", source="ufs"),
            "remote": metrics.counter("read_bytes", source="remote"),
        }
        self.page_hits: Final = metrics.counter("page_hits")
        self.page_misses: Final = metrics.counter("page_misses")
        self.descriptors_passed: Final = metrics.counter("descriptors_passed")
        self._fetches: Final = metrics.counter("fetches")
        self.fetch_failures: Final = metrics.counter("fetch_failures")
        self._fetch_seconds: Final = metrics.histogram("fetch_seconds")
        self._read_ahead_bytes: Final = metrics.counter("read_ahead_bytes")
        self.full_fallbacks: Final = metrics.counter("full_fallbacks")
        self.drafts_published: Final = metrics.counter("drafts_published")
        self.drafts_salvaged: Final = metrics.counter("drafts_salvaged")
        self.drafts_dropped: Final = metrics.counter("drafts_dropped")
        self.drafts_moved: Final = metrics.counter("drafts_moved")
        self.persist_done: Final = metrics.counter("persist_done")
        self.persist_failed: Final = metrics.counter("persist_failed")
        self.heartbeats: Final = metrics.counter("heartbeats")
        self.heartbeat_failures: Final = metrics.counter("heartbeat_failures")
        self.bypassed_bytes: Final = metrics.counter("bypassed_bytes")
        self.scrubbed_bytes: Final = metrics.counter("scrubbed_bytes")
        self.scrub_rounds: Final = metrics.counter("scrub_rounds")
        self.transfer_errors: Final = metrics.counter("transfer_crc_errors")
        self.shared_bytes: Final = metrics.counter("shared_bytes")
        self.written_through: Final = metrics.counter("written_bytes", tier="through")

    def written(self, tier: str, size: int) -> None:
        """Bytes taken in by a tier."""
        self.registry.counter("written_bytes", tier=tier).add(size)

    def scrub_errors(self, outcome: str) -> Counter:
        """Damaged pages, by what became of them: dropped, repaired or kept."""
        return self.registry.counter("scrub_errors", outcome=outcome)

    def fetched(self, source: str, size: int, seconds: float, is_ahead: bool) -> None:
        """A range came from an under storage or another worker."""
        self._fetched[source].add(size)
        self._fetches.add()
        self._fetch_seconds.observe(seconds)
        if is_ahead:
            self._read_ahead_bytes.add(size)

    def watch_store(self, store: BlockStore) -> None:
        """Capacity and use of the tiers, read when asked for."""
        metrics = self.registry
        metrics.watch_labelled("capacity_bytes", lambda: {(tier.alias,): tier.capacity_bytes for tier in store.tiers()})
        metrics.watch_labelled("used_bytes", lambda: {(tier.alias,): tier.used_bytes for tier in store.tiers()})
        metrics.watch_labelled("files", store.files_by_tier)
        metrics.watch_labelled("crc_errors", lambda: store.counts_by_tier("checksum_errors"))
        metrics.watch_labelled("evicted_files", lambda: store.counts_by_tier("evicted_files"))
        metrics.watch_labelled("evicted_bytes", lambda: store.counts_by_tier("evicted_bytes"))
        metrics.watch_labelled("demoted_bytes", lambda: store.counts_by_tier("demoted_bytes"))
        metrics.watch("promoted_bytes", lambda: sum(store.counts_by_tier("promoted_bytes").values()))
        metrics.watch_labelled("failed_folders", store.failed_folders_by_tier)
