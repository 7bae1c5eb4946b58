"""Cold bytes: one fetch per range however many readers want it, reading ahead of streams, delivery as it arrives.

Owns: the table of fetches in flight, their queue (`fair_queue.py`) and the threads that carry them out. Never: retries
(the under storage's wrapper does) and never sends to a client.

A fetch covers a run of missing pages, at most `unit_bytes`. Its bytes go to the cache if there is room, and stay with
the `Fetch` for those who wait for it, so that a full cache costs nobody a second request. The memory for that is
bounded (`buffers.py`): when it is used up, what is to be cached comes page by page, and who reads past the cache gets
nothing here and reads piece by piece himself.

Where a client has the container already and the store streams, the bytes go into the container as they arrive
(`fetch_pages.py`): each page is there for its readers before the rest of the unit is.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

from isotach.base.errors import UnavailableError
from isotach.base.limits import FETCH_POOLS_MAX, PAGE_BYTES, READ_STREAM_VERSIONS_MAX
from isotach.base.types import ReadBuffer, Version
from isotach.blockstore.entry import VersionMeta
from isotach.blockstore.pages import page_count, page_span
from isotach.blockstore.store import BlockStore
from isotach.obs.log import get_logger
from isotach.worker.buffers import BufferBudget
from isotach.worker.fair_queue import AHEAD, DEMAND, FairQueue
from isotach.worker.fetch_pages import Fetch, Wanted, fetch_pages
from isotach.worker.metrics import WorkerMetrics
from isotach.worker.streams import Streams

__all__ = ["Fetch", "Fetcher", "Wanted"]
log = get_logger("worker.fetch")


def _ignore(_mount: int, _size: int, _seconds: float) -> None:
    return


class Fetcher:
    """One per worker. Threads start with the first fetch. `measured` is told of every read of an under storage: mount,
    bytes, seconds."""

    def __init__(
        self,
        store: BlockStore,
        metrics: WorkerMetrics,
        *,
        threads: int,
        unit_bytes: int,
        read_ahead_max: int,
        budget: BufferBudget,
        measured: Callable[[int, int, float], None] = _ignore,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store: Final = store
        self._metrics: Final = metrics
        self._budget: Final = budget
        self._measured: Final = measured
        self._threads_max: Final = threads * FETCH_POOLS_MAX
        self._unit_pages: Final = unit_bytes // PAGE_BYTES
        self.unit_bytes: Final = unit_bytes
        self._read_ahead_max: Final = read_ahead_max
        self._ahead_pages_max: Final = max(threads * self._unit_pages, 2 * read_ahead_max // PAGE_BYTES)
        self._monotonic_s: Final = monotonic_s
        self._lock: Final = threading.Lock()
        self._has_work: Final = threading.Condition(self._lock)
        self._in_flight: dict[tuple[Version, int], Fetch] = {}  # by version and page
        self._ahead_pages = 0  # in flight for nobody yet
        self._streams: OrderedDict[Version, Streams] = OrderedDict()
        self._queue: Final[FairQueue[Fetch]] = FairQueue(threads, unit_bytes)
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._closed = False
        self._seconds: dict[Hashable, float] = {}  # that the latest fetch of a mount took
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
            if meta.length <= self.unit_bytes:
                first, stop = 0, page_count(meta.length)  # a small file is one request
            fetches = self._start(wanted, first, stop, DEMAND)
            ahead_stop = page_count(min(ahead_end, meta.length))
            ahead = self._start(wanted, stop, ahead_stop, AHEAD) if ahead_stop > stop else []
        return fetches, ahead

    def bring(self, wanted: Wanted, patience_s: float | None = None) -> None:
        """Fetches all that is missing of a version of at most one unit, in the caller's own thread when nobody else
        waits for its mount and that mount was quick of late: two changes of threads less. Else it waits for
        `patience_s` at most (None: to the end). Raises what the source raised."""
        version, stop = wanted.meta.version, page_count(wanted.meta.length)
        fetch: Fetch | None = None
        with self._lock:
            entry = self._store.get(version)
            first = 0 if entry is None else entry.first_missing(0, stop)
            is_whole = first < stop and self._end_of_run(wanted, first, stop) == stop
            is_free = is_whole and (version, first) not in self._in_flight and not self._closed
            is_quick = patience_s is None or self._seconds.get(wanted.mount, 0.0) < patience_s / 4
            if is_free and is_quick and self._queue.begin(wanted.mount):
                fetch = self._register(wanted, first, stop, DEMAND)
                fetch.started = True
                self.running += 1
        if fetch is not None:
            self._run(fetch, wanted.mount)
            fetch.wait()
            return
        for other in self.want(wanted, 0, wanted.meta.length)[0]:
            if other.done.wait(patience_s):
                other.wait()

    def settle(self, version: Version) -> None:
        """Waits for the fetches of this version that are under way: what has arrived of them is in the index then."""
        with self._lock:
            under_way = {fetch for (owner, _), fetch in self._in_flight.items() if owner == version}
        for fetch in under_way:
            fetch.done.wait()

    def close(self) -> None:
        """Ends the threads after what they are doing; whoever waits for a queued fetch is released by its error."""
        with self._has_work:
            self._closed = True
            waiting = {fetch for fetch in self._in_flight.values() if not fetch.started}
            for fetch in waiting:
                fetch.started = True
                fetch.error = UnavailableError("the worker is stopping: ask another one")
            self._has_work.notify_all()
        for fetch in waiting:
            fetch.end()
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
        return streams.note(offset, end, meta.length, self._read_ahead_max, self.unit_bytes)

    def _start(self, wanted: Wanted, first: int, stop: int, priority: int) -> list[Fetch]:
        version = wanted.meta.version
        if self._closed:
            raise UnavailableError("the worker is stopping: ask another one")
        entry = None if wanted.around else self._store.get(version)
        found: list[Fetch] = []
        page = first
        while page < stop:
            page = page if entry is None else entry.first_missing(page, stop)
            if page >= stop:
                break
            fetch = self._in_flight.get((version, page))
            if fetch is None:
                if priority == AHEAD and (self._budget.is_tight or self._ahead_pages >= self._ahead_pages_max):
                    break
                fetch = self._launch(wanted, page, self._end_of_run(wanted, page, stop), priority)
            elif priority == DEMAND:
                self._join(fetch, wanted)
            found.append(fetch)
            page = fetch.stop
        return found

    def _end_of_run(self, wanted: Wanted, page: int, stop: int) -> int:
        """Up to where one request goes from `page`: not over a unit's border, a present page, or one under way."""
        border = (page // self._unit_pages + 1) * self._unit_pages
        version = wanted.meta.version
        entry = None if wanted.around else self._store.get(version)
        end = page + 1
        while end < min(stop, border) and (version, end) not in self._in_flight:
            if entry is not None and entry.has(end, end + 1):
                break
            end += 1
        return end

    def _launch(self, wanted: Wanted, first: int, stop: int, priority: int) -> Fetch:
        fetch = self._register(wanted, first, stop, priority)
        self._enqueue(fetch, wanted, priority)
        return fetch

    def _register(self, wanted: Wanted, first: int, stop: int, priority: int) -> Fetch:
        fetch = Fetch(wanted, first, stop, priority == AHEAD)
        for page in range(first, stop):
            self._in_flight[wanted.meta.version, page] = fetch
        if fetch.is_ahead:
            self._ahead_pages += stop - first
        return fetch

    def _join(self, fetch: Fetch, wanted: Wanted) -> None:
        """A reader waits for a fetch that is under way already: it moves up in the queue, and keeps if he keeps."""
        fetch.keep = fetch.keep or wanted.keep
        fetch.fills = fetch.fills or wanted.fills
        if fetch.is_ahead:
            fetch.is_ahead = False
            self._ahead_pages -= fetch.stop - fetch.first
            if not fetch.started:
                self._enqueue(fetch, wanted, DEMAND)

    def _enqueue(self, fetch: Fetch, wanted: Wanted, priority: int) -> None:
        size = (fetch.stop - fetch.first) * PAGE_BYTES
        self._queue.push(fetch, wanted.user, wanted.mount, size, priority)
        if self._idle:
            self._has_work.notify()
        if len(self._queue) > self._idle and len(self._threads) < self._threads_max:
            thread = threading.Thread(target=self._work, name=f"fetch-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    # --- carrying out ---

    def _work(self) -> None:
        while True:
            with self._has_work:
                while (found := self._queue.pop()) is None:
                    if self._closed:
                        return
                    self._idle += 1
                    self._has_work.wait()
                    self._idle -= 1
                fetch, mount = found
                if fetch.started:  # it moved up, and another thread has it
                    self._queue.end(mount)
                    continue
                fetch.started = True
                self.running += 1
            self._run(fetch, mount)

    def _run(self, fetch: Fetch, mount: Hashable) -> None:
        started_s = self._monotonic_s()
        try:
            self._carry_out(fetch)
            self._seconds[mount] = self._monotonic_s() - started_s
        except Exception as error:  # whatever it was, it belongs to those who wait
            fetch.error = error
            self._seconds[mount] = float("inf")
            self._metrics.fetch_failures.add()
            log.warning("fetch_failed", version=fetch.wanted.meta.version, first_page=fetch.first, error=error)
        finally:
            self._finish(fetch, mount)

    def _carry_out(self, fetch: Fetch) -> None:
        wanted = fetch.wanted
        offset = fetch.first * PAGE_BYTES
        length = min(wanted.meta.length, fetch.stop * PAGE_BYTES) - offset
        if wanted.pace is not None:
            wanted.pace.pay(length)
        if fetch.keep and (wanted.peers is None or not wanted.peers.may_help):
            started = self._monotonic_s()
            if fetch_pages(self._store, fetch, offset, length):
                self._note(fetch, wanted.source.name, length, self._monotonic_s() - started)
                return
        fetch.share = self._budget.take(length, is_ahead=fetch.is_ahead)
        if fetch.share is None:
            if fetch.keep and fetch.fills:
                self._fill_by_pages(fetch, offset, length)
            return
        fetch.data = self._read(fetch, offset, length)
        if fetch.keep:
            fetch.cached = self._store.fill(wanted.meta, fetch.first, fetch.data)
            if not fetch.cached:
                self._metrics.full_fallbacks.add()

    def _fill_by_pages(self, fetch: Fetch, offset: int, length: int) -> None:
        """No memory is left for the whole range: one page at a time, each gone from memory when it is in the cache."""
        for page in range(fetch.first, fetch.stop):
            start = page * PAGE_BYTES
            size = min(PAGE_BYTES, offset + length - start)
            if not self._store.fill(fetch.wanted.meta, page, self._read(fetch, start, size)):
                self._metrics.full_fallbacks.add()
                return
            fetch.reach(page + 1)
        fetch.cached = True

    def _read(self, fetch: Fetch, offset: int, length: int) -> ReadBuffer:
        """The bytes from a worker that has them, else from the source."""
        wanted = fetch.wanted
        started = self._monotonic_s()
        data = None if wanted.peers is None else wanted.peers.read(offset, length)
        name = "remote"
        if data is None:
            started, name = self._monotonic_s(), wanted.source.name
            data = wanted.source.read(offset, length)
        self._note(fetch, name, length, self._monotonic_s() - started)
        return data

    def _note(self, fetch: Fetch, name: str, size: int, seconds: float) -> None:
        self._metrics.fetched(name, size, seconds, fetch.is_ahead)
        if name == "ufs":
            self._measured(fetch.wanted.mount, size, seconds)

    def _finish(self, fetch: Fetch, mount: Hashable) -> None:
        version = fetch.wanted.meta.version
        with self._has_work:
            self.running -= 1
            self._queue.end(mount)
            if self._idle and len(self._queue):
                self._has_work.notify()
            if fetch.is_ahead:
                self._ahead_pages -= fetch.stop - fetch.first
            for page in range(fetch.first, fetch.stop):
                self._in_flight.pop((version, page), None)
            if fetch.cached and (fetch.is_ahead or self._budget.is_tight):
                fetch.drop_data()  # the cache has it
        fetch.end()
