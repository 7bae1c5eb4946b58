"""Reading around a slow tier: the measurements, and who goes around.

Owns: the lock around `detour.py`, the timing of reads, and the thread that looks now and then whether the tier has
recovered. Never: decides (`detour.py` does), or touches the hot reads of memory, which are never asked about.

A timed read is one that the reader needs anyway: its first page is read here, and then comes to him out of the kernel's
page cache. Only where a tier is read around, pages are read for the measurement alone, one each DETOUR_RETRY_S.
"""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from isotach.base.limits import PAGE_BYTES
from isotach.blockstore.entry import CachedVersion
from isotach.blockstore.store import BlockStore
from isotach.obs.log import get_logger
from isotach.worker.detour import Detour
from isotach.worker.fetch_pages import Wanted

log = get_logger("worker.bypass")


class Bypass:
    """One per worker; any thread. With `enabled` False nothing is measured and nothing goes around."""

    def __init__(self, store: BlockStore, *, enabled: bool, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._store: Final = store
        self._enabled: Final = enabled
        self._monotonic_s: Final = monotonic_s
        self._lock: Final = threading.Lock()
        self._detour: Final = Detour()
        self._probes: Final = ThreadPoolExecutor(1, "bypass-probe")
        self._probing = False

    def close(self) -> None:
        """Takes no more measurements."""
        self._probes.shutdown(wait=False, cancel_futures=True)

    def tiers_around(self) -> dict[tuple[str, ...], float]:
        """For metrics: 1 for each tier that is read around."""
        with self._lock:
            return {(alias,): 1.0 for alias in self._detour.around()}

    def fetched(self, mount: int, size: int, seconds: float) -> None:
        """The fetcher read an under storage."""
        if self._enabled:
            with self._lock:
                self._detour.note_store(mount, size, seconds)

    def goes_around(self, entry: CachedVersion, wanted: Wanted, offset: int) -> bool:
        """Whether this read is to be served from the under storage although it is cached. To be asked for every read
        of a tier that is not memory: some of them are timed. Raises nothing."""
        if not self._enabled or entry.tier.is_memory or entry.dirty or wanted.source.name != "ufs":
            return False
        alias, now_s = entry.tier.alias, self._monotonic_s()
        with self._lock:
            is_around = self._detour.goes_around(alias, wanted.mount)
            is_due = self._detour.tier_is_due(alias, now_s)
            store_is_due = self._detour.store_is_due(alias, wanted.mount, now_s)
        if is_due and not is_around:
            self._time_tier(entry, offset)
        elif is_due:
            self._in_background(lambda: self._time_tier(entry, offset))
        if store_is_due:
            self._in_background(lambda: self._time_store(wanted, offset))
        return is_around

    def spares_cache(self, wanted: Wanted) -> bool:
        """Whether what is not cached is not to be cached either, for every tier is slower than its store."""
        if not self._enabled or not self._detour.has_slow_tier() or wanted.source.name != "ufs":
            return False
        aliases = [tier.alias for tier in self._store.tiers()]
        with self._lock:
            return all(self._detour.goes_around(alias, wanted.mount) for alias in aliases)

    def _in_background(self, probe: Callable[[], None]) -> None:
        """One at a time: while one is under way, others are left out."""
        with self._lock:
            if self._probing:
                return
            self._probing = True

        def run() -> None:
            try:
                probe()
            finally:
                self._probing = False

        try:
            self._probes.submit(run)
        except RuntimeError:
            self._probing = False  # the worker is stopping

    def _time_tier(self, entry: CachedVersion, offset: int) -> None:
        size = min(PAGE_BYTES, entry.meta.length - offset)
        if size <= 0:
            return
        try:
            descriptor = self._store.open_for_sending(entry)
        except OSError:
            return
        try:
            started_s = self._monotonic_s()
            got = len(os.pread(descriptor, size, offset))
            seconds = self._monotonic_s() - started_s
        except OSError as error:
            log.debug("probe_failed", tier=entry.tier.alias, error=error)
            return
        finally:
            os.close(descriptor)
        with self._lock:
            before = self._detour.around()
            self._detour.note_tier(entry.tier.alias, got, seconds)
            after = self._detour.around()
        if before != after:
            log.info("tier_is_used_again", tier=entry.tier.alias)

    def _time_store(self, wanted: Wanted, offset: int) -> None:
        size = min(PAGE_BYTES, wanted.meta.length - offset)
        if size <= 0:
            return
        started_s = self._monotonic_s()
        try:
            wanted.source.read(offset, size)
        except Exception as error:  # a store that fails is no way around anything
            log.debug("probe_failed", mount=wanted.mount, error=error)
            return
        self.fetched(wanted.mount, size, self._monotonic_s() - started_s)
