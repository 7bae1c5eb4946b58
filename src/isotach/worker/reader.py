"""One open version, read from wherever its bytes are: container, fetch under way, or nowhere yet.

Owns: the order of looking (cache, then what this reader fetched before, then a new fetch) and the descriptor it sends
from. Never: answers a call (`reading.py` does).
"""

import os
from collections.abc import Iterator

import msgspec

from isotach.base.limits import PAGE_BYTES, PASSING_PIECE_BYTES
from isotach.blockstore.entry import CachedVersion
from isotach.blockstore.pages import page_span
from isotach.blockstore.store import BlockStore
from isotach.worker.fetch import Fetch, Fetcher, Wanted


class FilePiece(msgspec.Struct, frozen=True, gc=False):
    """Bytes to be sent from a container by the kernel."""

    descriptor: int
    offset: int
    length: int


class VersionReader:
    """For one thread at a time (a connection's). `close` gives its descriptor back."""

    def __init__(self, store: BlockStore, fetcher: Fetcher, wanted: Wanted) -> None:
        self.wanted = wanted
        self.length = wanted.meta.length
        #: Whether the version was once seen incomplete: then its completion is news for the master.
        self.saw_incomplete = False
        self._store = store
        self._fetcher = fetcher
        self._kept: list[Fetch] = []  # under way or done, for reads to come
        self._descriptor = -1
        self._described: CachedVersion | None = None

    def entry(self) -> CachedVersion | None:
        """What is cached now, its checksums compared if it is from before a restart; nothing when the cache is to be
        passed by."""
        if self.wanted.around:
            return None
        entry = self._store.get(self.wanted.meta.version)
        if entry is not None and not entry.verified:
            self._store.verify(entry)
        if entry is None or not entry.complete:
            self.saw_incomplete = True
        return entry

    def is_complete(self) -> bool:
        """Whether every byte is in the cache now, and to be read from there."""
        if self.wanted.around:
            return False
        entry = self._store.get(self.wanted.meta.version)
        return entry is not None and entry.complete

    def go_around(self, around: bool) -> None:
        """From here on past the cache, or through it again."""
        if around != self.wanted.around:
            self.wanted = msgspec.structs.replace(self.wanted, around=around, keep=not around, fills=False, peers=None)

    def forget_fetches(self) -> None:
        """Everything is in the cache: what was kept beside it is not needed any more."""
        if self._kept:
            self._kept = []

    def descriptor_of(self, entry: CachedVersion) -> int:
        """A descriptor of this entry's container, kept open. Raises FileNotFoundError when it has left."""
        if self._described is not entry:
            self.close()
            self._descriptor = self._store.open_for_sending(entry)
            self._described = entry
        return self._descriptor

    def begin(self, offset: int, end: int) -> list[Fetch]:
        """Starts whatever [offset, end) lacks, and reading ahead. The bytes stay with this reader until it has passed
        them, even if the cache has no room."""
        self._kept = [fetch for fetch in self._kept if fetch.stop * PAGE_BYTES > offset and not fetch.error]
        known = {fetch.first for fetch in self._kept}
        first, _ = page_span(offset, end)
        held = next((fetch for fetch in self._kept if fetch.first <= first < fetch.stop), None)
        start = offset if held is None else min(end, held.stop * PAGE_BYTES)
        demand, ahead = self._fetcher.want(self.wanted, start, end) if start < end else ([], [])
        self._kept += [fetch for fetch in (*demand, *ahead) if fetch.first not in known]
        return demand if held is None else [held, *demand]

    def pieces(self, offset: int, end: int) -> Iterator[FilePiece | memoryview]:
        """The bytes of [offset, end) in order. A piece is good until the next one is asked for."""
        at, tried_at = offset, -1
        while at < end:
            entry = self.entry()
            first, stop = page_span(at, end)
            present = first if entry is None else entry.first_missing(first, stop)
            if entry is not None and present > first and self._store.hold(entry, first, present):
                try:
                    piece_end = min(end, present * PAGE_BYTES)
                    if entry.is_streaming:
                        # The kernel would queue the file's own pages in the socket, and where it keeps them in large
                        # folios, a punch behind us zeroes them there.
                        piece_end = min(piece_end, at + PASSING_PIECE_BYTES)
                        yield memoryview(os.pread(self.descriptor_of(entry), piece_end - at, at))
                    else:
                        yield FilePiece(self.descriptor_of(entry), at, piece_end - at)
                    at = piece_end
                    continue
                except FileNotFoundError:
                    pass  # freed at this moment: fetch it
                finally:
                    self._store.release(entry, first, present)
            fetch = self._fetch_at(at, end)
            piece_end = end if fetch is None else min(end, fetch.stop * PAGE_BYTES)
            if fetch is not None and fetch.data:
                yield fetch.bytes_of(at, piece_end)
                at = piece_end
            elif tried_at != at:
                tried_at = at  # it has just come into the cache, or its memory was refused: look again
            else:
                yield from self._passing(at, piece_end)
                at = piece_end

    def _passing(self, offset: int, end: int) -> Iterator[memoryview]:
        """Neither the cache nor the buffer memory has room: small pieces from the source, one in hand at a time."""
        for at in range(offset, end, PASSING_PIECE_BYTES):
            yield memoryview(self.wanted.source.read(at, min(PASSING_PIECE_BYTES, end - at)))

    def _fetch_at(self, at: int, end: int) -> Fetch | None:
        """The finished fetch of the bytes at `at`: with data, unless they went to the cache or there was no memory for
        them. None when they have just come into the cache."""
        page = at // PAGE_BYTES
        for fetch in (*self._kept, *self.begin(at, end)):
            if fetch.first <= page < fetch.stop:
                fetch.wait()
                if not fetch.data and fetch in self._kept:
                    self._kept.remove(fetch)
                return fetch
        return None

    def ensure(self, entry: CachedVersion, offset: int, end: int) -> int:
        """Waits until [offset, end) is in this entry's container; up to where it then is without a gap. Less than
        `end` when the cache has no room or the entry has left it."""
        self.saw_incomplete = self.saw_incomplete or not entry.complete
        while not entry.complete and not entry.dropped:
            told = entry.present_to(offset)
            demand, _ = self._fetcher.want(self.wanted, offset, max(end, told))
            if told >= end:
                break
            _, stop = page_span(offset, end)
            if not all(fetch.wait_until(min(stop, fetch.stop)) for fetch in demand):
                break
            told = entry.present_to(offset)
            if told > end:
                self._fetcher.want(self.wanted, end, told)  # the reader will go on from there
            if told >= end:
                break
        told = entry.present_to(offset)
        if told >= self.length:
            self._fetcher.settle(self.wanted.meta.version)
        return told

    def close(self) -> None:
        """Gives the descriptor back. The reader may go on: it opens another one."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._described = -1, None
