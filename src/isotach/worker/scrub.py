"""The scrub: slowly reads everything that is cached, again and again, and compares it with its checksums.

Owns: the thread, its pace, where it has come to (kept over restarts), and what becomes of a bad page. Never: decides
which copy is right (the checksum does), or hides a page that cannot be repaired.

Versions are walked in the order of their numbers, round after round: so the next one is always the one that was looked
at the longest ago. A round is spread over `worker.scrub_interval`, but never faster than `worker.scrub_bandwidth`. (As
ZFS and Ceph do: what nobody reads rots unseen until it is the last copy. Bairavasundaram et al., FAST 2008, measured
such corruption on 0.9 % of nearline disks within 17 months.)
"""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from isotach.base.errors import DataCorruptionError, IsotachError
from isotach.base.limits import PAGE_BYTES, SCRUB_RATE_MIN, SCRUB_SAVE_S, SCRUB_START_S
from isotach.base.types import ReadBuffer, Version
from isotach.blockstore.checksum import extend
from isotach.blockstore.container import write_all
from isotach.blockstore.entry import CachedVersion
from isotach.blockstore.pages import PageTable
from isotach.blockstore.store import BlockStore
from isotach.blockstore.verification import read_page
from isotach.obs.log import get_logger
from isotach.worker.metrics import WorkerMetrics

log = get_logger("worker.scrub")

#: Gives bytes [offset, offset + length) of a version from other workers; raises when none of them can.
OtherCopies = Callable[[CachedVersion, int, int], ReadBuffer]


class _Place(msgspec.Struct):
    """Where the round has come to, as kept in the worker's folder."""

    next_version: Version = 0
    round_began_s: float = 0.0  # wall clock


class Scrubber:
    """One per worker. `bandwidth` in bytes per second (0: no scrub), `interval_s` for a whole round."""

    def __init__(
        self,
        store: BlockStore,
        folder: Path,
        metrics: WorkerMetrics,
        *,
        bandwidth: int,
        interval_s: float,
        others: OtherCopies,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._store: Final = store
        self._path: Final = folder / "scrub"
        self._metrics: Final = metrics
        self._bandwidth: Final = bandwidth
        self._interval_s: Final = interval_s
        self._others: Final = others
        self._now_s: Final = now_s
        self._stop: Final = threading.Event()
        self._thread: threading.Thread | None = None
        self._place = self._load()
        self._saved_s = time.monotonic()

    def start(self) -> None:
        """Begins, a little after the worker did."""
        if self._bandwidth:
            self._thread = threading.Thread(target=self._run, name="scrub", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Ends after the page in hand."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(1.0)

    def round(self) -> int:
        """Goes on with the round, or begins the next one, to its end; bytes that were compared."""
        if not self._place.next_version:
            self._place.round_began_s = self._now_s()
        rate = self._rate()
        total = 0
        try:
            for entry in self._store.scrub_candidates():
                if self._stop.is_set():
                    return total
                if entry.meta.version < self._place.next_version:
                    continue
                total += self._scrub(entry, rate)
                self._place.next_version = entry.meta.version + 1
                if time.monotonic() - self._saved_s >= SCRUB_SAVE_S:
                    self._save()
            self._place.next_version = 0
        finally:
            self._save()
        self._metrics.scrub_rounds.add()
        return total

    # --- the thread ---

    def _run(self) -> None:
        self._stop.wait(SCRUB_START_S)
        while not self._stop.is_set():
            try:
                size = self.round()
                log.info("scrub_round_done", bytes=size)
            except Exception as error:  # the next round may fare better; the loop must live on
                log.error("scrub_failed", error=error, exc_info=error)
            self._stop.wait(max(SCRUB_START_S, self._place.round_began_s + self._interval_s - self._now_s()))

    def _rate(self) -> float:
        """Bytes per second: so that the round takes the whole interval, within the bandwidth."""
        used = sum(tier.used_bytes for tier in self._store.tiers())
        left_s = max(1.0, self._place.round_began_s + self._interval_s - self._now_s())
        return float(min(self._bandwidth, max(SCRUB_RATE_MIN, used / left_s)))

    def _scrub(self, entry: CachedVersion, rate: float) -> int:
        """Every page that is here; bytes that were compared."""
        try:
            pages = self._store.pages_of(entry)
            descriptor = self._store.open_for_sending(entry)
        except OSError:
            return 0  # it has just left
        total = 0
        bad: list[int] = []
        try:
            for first, stop in list(pages.present_runs(0, len(pages))):
                for page in range(first, stop):
                    total += self._look(descriptor, entry, pages, page, bad)
                    if self._stop.wait(PAGE_BYTES / rate if total >= PAGE_BYTES else total / rate):
                        return total
        finally:
            os.close(descriptor)
        self._metrics.scrubbed_bytes.add(total)
        if bad and not entry.dropped:
            self._treat(entry, pages, bad)
        return total

    def _look(self, descriptor: int, entry: CachedVersion, pages: PageTable, page: int, bad: list[int]) -> int:
        try:
            return len(read_page(descriptor, entry, pages, page))
        except OSError:  # DataCorruptionError among them, and a device that gives nothing
            bad.append(page)
            return PAGE_BYTES

    # --- bad pages ---

    def _treat(self, entry: CachedVersion, pages: PageTable, bad: list[int]) -> None:
        """What was read without a lock is looked at again by the store, which drops pages of what is persisted."""
        if entry.dirty:
            for page in bad:
                self._repair(entry, pages, page)
        try:
            dropped = self._store.verify(entry, force=True)
        except DataCorruptionError as error:
            self._metrics.scrub_errors("kept").add()
            entry.verified = False  # so that every read through the worker compares it again, and gets the error
            self._store.set_pinned(entry.meta.version, entry.pinned, entry.meta.tier)  # tells those who read beside us
            log.error("unpersisted_data_is_damaged", version=entry.meta.version, error=error)
            return
        if dropped:
            self._metrics.scrub_errors("dropped").add(dropped)

    def _repair(self, entry: CachedVersion, pages: PageTable, page: int) -> None:
        """Puts the bytes of another worker's copy in place of the damaged ones, if they match the checksum."""
        offset = page * PAGE_BYTES
        length = min(PAGE_BYTES, entry.meta.length - offset)
        try:
            data = self._others(entry, offset, length)
        except (IsotachError, OSError) as error:
            log.error("no_good_copy_elsewhere", version=entry.meta.version, page=page, error=error)
            return
        if extend(0, data) != pages.crcs[page] or entry.dropped:
            log.error("no_good_copy_elsewhere", version=entry.meta.version, page=page)
            return
        try:
            descriptor = entry.folder.open(entry.meta.version, os.O_RDWR)
        except OSError:
            return  # it has just left
        try:
            write_all(descriptor, data, offset)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._metrics.scrub_errors("repaired").add()
        log.warning("page_repaired", version=entry.meta.version, page=page)

    # --- where it has come to ---

    def _load(self) -> _Place:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Place)
        except (OSError, msgspec.MsgspecError):
            return _Place()

    def _save(self) -> None:
        """Now and then, and not durable: what is lost by a crash is looked at twice."""
        self._saved_s = time.monotonic()
        try:
            scratch = self._path.with_suffix(".new")
            scratch.write_bytes(msgspec.json.encode(self._place))
            scratch.replace(self._path)
        except OSError as error:
            log.debug("scrub_place_not_kept", error=error)
