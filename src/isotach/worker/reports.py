"""What the master is told of the cache: changes gathered while the last report is under way, or everything.

Owns: the set of versions to report, the one thread that reports, and who waits for a version to be known. Never: holds
up a reader for longer than it asked, or anything while the master is away.

A report of everything goes in pages, in order of the versions, each telling of a range of them: what the master has in
that range and the page has not is gone. While a page is under way the next one is made. Reports are numbered, so that a
master that comes back with our rows can tell whether they are what we told last.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec

from isotach.base.errors import IsotachError
from isotach.base.limits import REPORT_BYTES_MAX, REPORT_GATHER_S, REPORT_VERSIONS_MAX
from isotach.base.types import Version
from isotach.blockstore.store import BlockStore
from isotach.obs.log import get_logger
from isotach.wire.messages import ReportedVersion, ReportReply, ReportRequest

log = get_logger("worker.reports")
_RETRY_S: Final = 0.5
_VERSION_END: Final = (1 << 64) - 1
_encode: Final = msgspec.msgpack.Encoder().encode

#: Sends a report (with the worker's id filled in) and gives the answer.
Send = Callable[[ReportRequest], ReportReply]


class _Page(msgspec.Struct):
    """Rows to be sent, encoded, and the place in the list of versions where the next page starts."""

    rows: bytes
    removed: list[Version]
    stop: int


class Reports:
    """One per worker. `note` may be called under any lock. `lost` is called when a report failed."""

    def __init__(self, worker_id: str, send: Send, lost: Callable[[], None]) -> None:
        self._worker_id: Final = worker_id
        self._send: Final = send
        self._lost: Final = lost
        self._store: BlockStore | None = None
        self._changed: Final = threading.Condition()
        self._pending: dict[Version, None] = {}
        self._under_way: frozenset[Version] = frozenset()
        self._is_registered = False
        self._wants_full = False
        self._has_told_all = False
        self._sequence = 0  # of the last report that was answered
        self._reported_s = float("-inf")
        self._awaited = 0  # callers that wait for a version to be known
        self._closed = False
        self._pages: Final = ThreadPoolExecutor(1, "report-pages")
        self._thread = threading.Thread(target=self._run, name="reports", daemon=True)

    def start(self, store: BlockStore) -> None:
        """Begins to report; nothing is sent before `registered`."""
        self._store = store
        self._thread.start()

    def close(self) -> None:
        """Ends the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(1.0)
        self._pages.shutdown(wait=False, cancel_futures=True)

    @property
    def sequence(self) -> int:
        """Of the last report that was answered; -1 while not all that is here was reported."""
        with self._changed:
            return self._sequence if self._has_told_all else -1

    def note(self, version: Version) -> None:
        """Something about this version changed."""
        with self._changed:
            if not self._pending:
                self._changed.notify_all()
            self._pending[version] = None

    def registered(self, report_all: bool = True) -> None:
        """The master knows this worker now, and what it holds: nothing, or (not `report_all`) what it was told."""
        with self._changed:
            self._is_registered = True
            if report_all:
                self._wants_full, self._has_told_all = True, False
            self._changed.notify_all()

    def unregistered(self) -> None:
        """The master is away, or has forgotten us: gather until it is back. Nobody waits meanwhile."""
        with self._changed:
            self._is_registered = False
            self._changed.notify_all()

    def wait(self, version: Version, timeout_s: float) -> None:
        """Returns when the master has been told of every change to this version so far, or after `timeout_s`."""
        with self._changed:
            self._awaited += 1
            if self._awaited == 1 and version in self._pending:
                self._changed.notify_all()
            try:
                self._changed.wait_for(
                    lambda: not self._is_registered or not (version in self._pending or version in self._under_way),
                    timeout_s,
                )
            finally:
                self._awaited -= 1

    def wait_full(self, timeout_s: float) -> bool:
        """Returns when the master knows all that is here; whether it does."""
        with self._changed:
            return self._changed.wait_for(lambda: self._is_registered and not self._wants_full, timeout_s)

    # --- the thread ---

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work)
                self._gather()
                if self._closed:
                    return
                is_full = self._wants_full
                batch = [] if is_full else self._take()
            try:
                if is_full:
                    self._report_all()
                else:
                    self._report_changes(batch)
            except Exception as error:  # the world's fault or ours: what was taken must be told later
                self._put_back(batch, error)
            with self._changed:
                self._under_way = frozenset()
                self._reported_s = time.monotonic()
                self._changed.notify_all()

    def _gather(self) -> None:
        """Under the lock. When changes come one upon the other and nobody waits for one, they are told together."""
        left_s = self._reported_s + REPORT_GATHER_S - time.monotonic()
        if left_s > 0:
            self._changed.wait_for(
                lambda: (
                    self._closed
                    or not self._is_registered
                    or self._wants_full
                    or self._awaited > 0
                    or len(self._pending) >= REPORT_VERSIONS_MAX
                ),
                left_s,
            )

    def _has_work(self) -> bool:
        return self._closed or (self._is_registered and (self._wants_full or bool(self._pending)))

    def _take(self) -> list[Version]:
        batch = list(self._pending)[:REPORT_VERSIONS_MAX]
        for version in batch:
            del self._pending[version]
        self._under_way = frozenset(batch)
        return batch

    def _put_back(self, batch: Sequence[Version], error: Exception) -> None:
        if not isinstance(error, IsotachError | OSError):
            log.error("report_failed", error=error, exc_info=error)
        else:
            log.warning("report_failed", error=error)
        with self._changed:
            self._pending = dict.fromkeys([*batch, *self._pending])
        self._lost()
        time.sleep(_RETRY_S)

    def _report_changes(self, versions: Sequence[Version]) -> None:
        start = 0
        while start < len(versions):
            page = self._page(versions, start, tell_removed=True)
            self._exchange(ReportRequest(self._worker_id, msgspec.Raw(page.rows), page.removed))
            start = page.stop

    def _report_all(self) -> None:
        """Every version, page by page. One that changes meanwhile is noted, and reported again after it."""
        assert self._store is not None
        with self._changed:
            self._pending.clear()
        versions = sorted(self._store.versions())
        count, start, low = len(versions), 0, 0
        page = self._page(versions, 0)
        while True:
            is_last = page.stop >= count
            ahead = None if is_last else self._pages.submit(self._page, versions, page.stop)
            high = _VERSION_END if is_last else versions[page.stop]
            request = ReportRequest(
                self._worker_id,
                msgspec.Raw(page.rows),
                first=start == 0,
                last=is_last,
                span=(low, high),
            )
            self._exchange(request)
            if ahead is None:
                break
            start, low, page = page.stop, high, ahead.result()
        with self._changed:
            self._wants_full, self._has_told_all = False, True
        log.info("cache_reported", versions=count)

    def _page(self, versions: Sequence[Version], start: int, tell_removed: bool = False) -> _Page:
        """The next rows from `start` on, bounded in number and in bytes."""
        assert self._store is not None
        rows: list[bytes] = []
        removed: list[Version] = []
        size = 0
        at = start
        stop = min(len(versions), start + REPORT_VERSIONS_MAX)
        while at < stop and size < REPORT_BYTES_MAX:
            row = reported(self._store, versions[at])
            if row is not None:
                raw = _encode(row)
                rows.append(raw)
                size += len(raw)
            elif tell_removed:
                removed.append(versions[at])
            at += 1
        return _Page(b"\xdd" + len(rows).to_bytes(4, "big") + b"".join(rows), removed, at)

    def _exchange(self, request: ReportRequest) -> None:
        assert self._store is not None
        sequence = self._sequence + 1
        reply = self._send(msgspec.structs.replace(request, sequence=sequence))
        with self._changed:
            self._sequence = sequence
        for version in reply.obsolete:
            self._store.free(version, force=True)


def reported(store: BlockStore, version: Version) -> ReportedVersion | None:
    """What of the version is here, as the master hears it; None for nothing."""
    report = store.report(version)
    if report is None or (not report.cached_bytes and report.meta.length):
        return None
    meta = report.meta
    memory = report.cached_bytes if report.in_memory else 0
    return ReportedVersion(
        version,
        meta.file_id,
        meta.length,
        meta.block_bytes,
        memory,
        report.cached_bytes,
        report.blocks,
        report.dirty,
        report.former,
    )
