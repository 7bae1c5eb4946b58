"""One fetch: the range under way, and how its bytes reach the cache while they still arrive.

Owns: `Fetch` (whom readers wait for) and the piecewise way into a container. Never: plans, or picks threads.

The pieces are small enough to stay in a core's cache from the socket to the container: received, summed and written
while hot, each byte crosses the memory bus once less.
"""

import threading

import msgspec

from isotach.base.limits import FETCH_PIECE_BYTES, PAGE_BYTES
from isotach.base.types import ReadBuffer
from isotach.blockstore.entry import VersionMeta
from isotach.blockstore.filling import PageFill
from isotach.blockstore.store import BlockStore
from isotach.ufs.pace import Pace
from isotach.worker.buffers import Share
from isotach.worker.sources import PeerCopies, Source


class Wanted(msgspec.Struct, frozen=True, gc=False):
    """A version that a reader wants bytes of, where they come from, and whether they are to be kept."""

    meta: VersionMeta
    source: Source
    keep: bool = True
    fills: bool = False  # it is the container that is wanted: the bytes need not stay in memory
    peers: PeerCopies | None = None  # asked before the source
    user: str = ""  # whose turn it takes
    mount: int = 0  # whose place it takes
    pace: Pace | None = None  # of the load that it belongs to
    around: bool = False  # the cache is passed by, although it may have it: its tier is slower than the source


class Fetch:
    """One range under way: pages [first, stop), those below `reached` in the cache already. After `done`: `error`, or
    `cached`, or `data`; none of them when there was neither room in the cache nor memory left."""

    __slots__ = (
        "_moved", "cached", "data", "done", "error", "fills", "first", "is_ahead", "keep", "reached", "share",
        "started", "stop", "wanted",
    )  # fmt: skip

    def __init__(self, wanted: Wanted, first: int, stop: int, is_ahead: bool) -> None:
        self.wanted = wanted
        self.first = first
        self.stop = stop
        self.keep = wanted.keep
        self.fills = wanted.fills
        self.is_ahead = is_ahead
        self.started = False
        self.cached = False
        self.data: ReadBuffer = b""
        self.share: Share | None = None  # of the memory that `data` takes
        self.error: Exception | None = None
        self.done = threading.Event()
        self.reached = first
        self._moved = threading.Condition()

    def reach(self, page: int) -> None:
        """All pages below `page` are in the cache."""
        with self._moved:
            self.reached = page
            self._moved.notify_all()

    def end(self) -> None:
        """Releases everyone who waits."""
        with self._moved:
            self.done.set()
            self._moved.notify_all()

    def wait_until(self, stop: int) -> bool:
        """Waits until the pages below `stop` are in the cache; whether they have been. Raises the error when it is over
        before."""
        with self._moved:
            while self.reached < stop and not self.done.is_set():
                self._moved.wait()
        if self.reached >= stop:
            return True
        if self.error is not None:
            raise self.error
        return self.cached

    def wait(self) -> None:
        """Waits for the end; raises the error that every waiter gets."""
        self.done.wait()
        if self.error is not None:
            raise self.error

    def drop_data(self) -> None:
        """The cache has the bytes, or nobody wants them."""
        self.data, share, self.share = b"", self.share, None
        if share is not None:
            share.give_back()

    def bytes_of(self, offset: int, end: int) -> memoryview:
        """The part of the data in [offset, end), which starts within the fetch."""
        start = self.first * PAGE_BYTES
        return memoryview(self.data)[offset - start : end - start]


class _Memory(threading.local):
    """The piece buffer of each fetching thread."""

    def __init__(self) -> None:
        self.piece = memoryview(bytearray(FETCH_PIECE_BYTES))


_memory = _Memory()


def fetch_pages(store: BlockStore, fetch: Fetch, offset: int, length: int) -> bool:
    """Brings the range in page by page. False when that cannot be done, or not to the end (no room any more): then the
    range is to be fetched as a whole. Pages that became whole stay, even if the rest fails."""
    fill = store.begin_fill(fetch.wanted.meta, fetch.first, fetch.stop)
    if fill is None:
        return False
    try:
        is_whole = _receive(fill, fetch, offset, length)
    finally:
        is_kept = fill.close()
    fetch.cached = is_whole and is_kept
    return fetch.cached


def _receive(fill: PageFill, fetch: Fetch, offset: int, length: int) -> bool:
    reader = fetch.wanted.source.stream(offset, length)
    if reader is None:
        return False
    at, end = offset, offset + length
    try:
        while at < end:
            room = min(FETCH_PIECE_BYTES, end - at, PAGE_BYTES - at % PAGE_BYTES)
            count = reader.read_into(_memory.piece[:room])
            if not fill.put(_memory.piece[:count]):
                return False
            at += count
            if fill.reached > fetch.reached:
                fetch.reach(fill.reached)
        return True
    finally:
        reader.close()
