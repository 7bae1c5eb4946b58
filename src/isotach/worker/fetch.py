"""Cold bytes: one fetch per range however many readers want it, reading ahead of streams, delivery as it arrives.

Owns: the table of fetches in flight, their queue (demand before read-ahead) and the threads that carry them out. Never:
retries (the under storage's wrapper does) and never sends to a client.

A fetch covers a run of missing pages, at most `unit_bytes`. Its bytes go to the cache if there is room, and stay with
the `Fetch` for those who wait for it, so that a full cache costs nobody a second request.

Where a client has the container already and the store streams, the bytes go into the container as they arrive
(`fetch_pages.py`): each page is there for its readers before the rest of the unit is.
"""

import itertools
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from isotach.base.limits import PAGE_BYTES, READ_STREAM_VERSIONS_MAX
from isotach.base.types import Version
from isotach.blockstore.entry import VersionMeta
from isotach.blockstore.pages import page_count, page_span
from isotach.blockstore.store import BlockStore
from isotach.obs.log import get_logger
from isotach.worker.fetch_pages import Fetch, Wanted, fetch_pages
from isotach.worker.metrics import WorkerMetrics
from isotach.worker.streams import Streams

__all__ = ["Fetch", "Fetcher", "Wanted"]
log = get_logger("worker.fetch")

_DEMAND: Final = 0
_AHEAD: Final = 1
_STOP: Final = 2


class Fetcher:
    """One per worker. Threads start with the first fetch."""

    def __init__(
        self,
        store: BlockStore,
        metrics: WorkerMetrics,
        *,
        threads: int,
        unit_bytes: int,
        read_ahead_max: int,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store: Final = store
        self._metrics: Final = metrics
        self._threads_max: Final = threads
        self._unit_pages: Final = unit_bytes // PAGE_BYTES
        self._unit_bytes: Final = unit_bytes
        self._read_ahead_max: Final = read_ahead_max
        self._ahead_pages_max: Final = max(threads * self._unit_pages, 2 * read_ahead_max // PAGE_BYTES)
        self._monotonic_s: Final = monotonic_s
        self._lock: Final = threading.Lock()
        self._in_flight: dict[tuple[Version, int], Fetch] = {}  # by version and page
        self._ahead_pages = 0  # in flight for nobody yet
        self._streams: OrderedDict[Version, Streams] = OrderedDict()
        self._queue: Final[queue.PriorityQueue[tuple[int, int, Fetch | None]]] = queue.PriorityQueue()
        self._serial: Final = itertools.count()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self.running = 0

    # --- what readers call ---

    def want(self, wanted: Wanted, offset: int, end: int) -> tuple[list[Fetch], list[Fetch]]:
        """Starts (or joins) the fetches of what is missing in [offset, end), and reads ahead of a sequential stream.
        Gives those that overlap [offset, end), in order (none when all is here), and those ahead. To be called for what
        is here already, too: it is how a stream is followed."""
        meta = wanted.meta
        first, stop = page_span(offset, end)
        with self._lock:
            ahead_end = self._look_ahead(meta, offset, end)
            if meta.length <= self._unit_bytes:
                first, stop = 0, page_count(meta.length)  # a small file is one request
            fetches = self._start(wanted, first, stop, _DEMAND)
            ahead_stop = page_count(min(ahead_end, meta.length))
            ahead = self._start(wanted, stop, ahead_stop, _AHEAD) if ahead_stop > stop else []
        return fetches, ahead

    def settle(self, version: Version) -> None:
        """Waits for the fetches of this version that are under way: what has arrived of them is in the index then."""
        with self._lock:
            under_way = {fetch for (owner, _), fetch in self._in_flight.items() if owner == version}
        for fetch in under_way:
            fetch.done.wait()

    def close(self) -> None:
        """Ends the threads after what they are doing; whoever waits for a queued fetch is released by its error."""
        for _ in self._threads:
            self._queue.put((_STOP, next(self._serial), None))
        for thread in self._threads:
            thread.join(1.0)

    # --- planning; under the lock ---

    def _look_ahead(self, meta: VersionMeta, offset: int, end: int) -> int:
        streams = self._streams.get(meta.version)
        if streams is None:
            streams = self._streams[meta.version] = Streams()
            if len(self._streams) > READ_STREAM_VERSIONS_MAX:
                self._streams.popitem(last=False)
        else:
            self._streams.move_to_end(meta.version)
        return streams.note(offset, end, meta.length, self._read_ahead_max, self._unit_bytes)

    def _start(self, wanted: Wanted, first: int, stop: int, priority: int) -> list[Fetch]:
        version = wanted.meta.version
        entry = self._store.get(version)
        found: list[Fetch] = []
        page = first
        while page < stop:
            page = page if entry is None else entry.first_missing(page, stop)
            if page >= stop:
                break
            fetch = self._in_flight.get((version, page))
            if fetch is None:
                if priority == _AHEAD and self._ahead_pages >= self._ahead_pages_max:
                    break
                fetch = self._launch(wanted, page, self._end_of_run(wanted, page, stop), priority)
            elif priority == _DEMAND:
                self._join(fetch, wanted)
            found.append(fetch)
            page = fetch.stop
        return found

    def _end_of_run(self, wanted: Wanted, page: int, stop: int) -> int:
        """Up to where one request goes from `page`: not over a unit's border, a present page, or one under way."""
        border = (page // self._unit_pages + 1) * self._unit_pages
        version, entry = wanted.meta.version, self._store.get(wanted.meta.version)
        end = page + 1
        while end < min(stop, border) and (version, end) not in self._in_flight:
            if entry is not None and entry.has(end, end + 1):
                break
            end += 1
        return end

    def _launch(self, wanted: Wanted, first: int, stop: int, priority: int) -> Fetch:
        fetch = Fetch(wanted, first, stop, priority == _AHEAD)
        for page in range(first, stop):
            self._in_flight[wanted.meta.version, page] = fetch
        if fetch.is_ahead:
            self._ahead_pages += stop - first
        self._enqueue(fetch, priority)
        return fetch

    def _join(self, fetch: Fetch, wanted: Wanted) -> None:
        """A reader waits for a fetch that is under way already: it moves up in the queue, and keeps if he keeps."""
        fetch.keep = fetch.keep or wanted.keep
        if fetch.is_ahead:
            fetch.is_ahead = False
            self._ahead_pages -= fetch.stop - fetch.first
            if not fetch.started:
                self._enqueue(fetch, _DEMAND)

    def _enqueue(self, fetch: Fetch, priority: int) -> None:
        self._queue.put((priority, next(self._serial), fetch))
        if not self._idle and len(self._threads) < self._threads_max:
            thread = threading.Thread(target=self._work, name=f"fetch-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    # --- carrying out ---

    def _work(self) -> None:
        while True:
            self._idle += 1
            _, _, fetch = self._queue.get()
            self._idle -= 1
            if fetch is None:
                return
            with self._lock:
                if fetch.started:
                    continue  # it moved up, and another thread has it
                fetch.started = True
                self.running += 1
            try:
                self._carry_out(fetch)
            except Exception as error:  # whatever it was, it belongs to those who wait
                fetch.error = error
                self._metrics.fetch_failures.add()
                log.warning("fetch_failed", version=fetch.wanted.meta.version, first_page=fetch.first, error=error)
            finally:
                self._finish(fetch)

    def _carry_out(self, fetch: Fetch) -> None:
        meta, source = fetch.wanted.meta, fetch.wanted.source
        offset = fetch.first * PAGE_BYTES
        length = min(meta.length, fetch.stop * PAGE_BYTES) - offset
        started = self._monotonic_s()
        if fetch.keep and fetch_pages(self._store, fetch, offset, length):
            self._metrics.fetched(source.name, length, self._monotonic_s() - started, fetch.is_ahead)
            return
        fetch.data = source.read(offset, length)
        self._metrics.fetched(source.name, length, self._monotonic_s() - started, fetch.is_ahead)
        if fetch.keep:
            fetch.cached = self._store.fill(meta, fetch.first, fetch.data)
            if not fetch.cached:
                self._metrics.full_fallbacks.add()

    def _finish(self, fetch: Fetch) -> None:
        version = fetch.wanted.meta.version
        with self._lock:
            self.running -= 1
            if fetch.is_ahead:
                self._ahead_pages -= fetch.stop - fetch.first
            for page in range(fetch.first, fetch.stop):
                self._in_flight.pop((version, page), None)
            if fetch.is_ahead and fetch.cached:
                fetch.data = b""  # nobody waits for it, and the cache has it
        fetch.end()
