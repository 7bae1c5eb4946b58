"""What the master is told of the cache: changes gathered while the last report is under way, or everything.

Owns: the set of versions to report, the one thread that reports, and who waits for a version to be known. Never: holds
up a reader for longer than it asked, or anything while the master is away.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from isotach.base.errors import IsotachError
from isotach.base.limits import REPORT_VERSIONS_MAX
from isotach.base.types import Version
from isotach.blockstore.store import BlockStore
from isotach.obs.log import get_logger
from isotach.wire.messages import ReportedVersion, ReportReply, ReportRequest

log = get_logger("worker.reports")
_RETRY_S: Final = 0.5

#: Sends a report (with the worker's id filled in) and gives the answer.
Send = Callable[[ReportRequest], ReportReply]


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
        self._closed = False
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

    def note(self, version: Version) -> None:
        """Something about this version changed."""
        with self._changed:
            if not self._pending:
                self._changed.notify_all()
            self._pending[version] = None

    def registered(self) -> None:
        """The master knows this worker now, and nothing of what it holds."""
        with self._changed:
            self._is_registered = self._wants_full = True
            self._changed.notify_all()

    def unregistered(self) -> None:
        """The master is away, or has forgotten us: gather until it is back. Nobody waits meanwhile."""
        with self._changed:
            self._is_registered = False
            self._changed.notify_all()

    def wait(self, version: Version, timeout_s: float) -> None:
        """Returns when the master has been told of every change to this version so far, or after `timeout_s`."""
        with self._changed:
            self._changed.wait_for(
                lambda: not self._is_registered or not (version in self._pending or version in self._under_way),
                timeout_s,
            )

    def wait_full(self, timeout_s: float) -> bool:
        """Returns when the master knows all that is here; whether it does."""
        with self._changed:
            return self._changed.wait_for(lambda: self._is_registered and not self._wants_full, timeout_s)

    # --- the thread ---

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work)
                if self._closed:
                    return
                is_full = self._wants_full
                batch = [] if is_full else self._take()
            try:
                if is_full:
                    self._report_all()
                else:
                    self._report(batch, first=False)
            except Exception as error:  # the world's fault or ours: what was taken must be told later
                self._put_back(batch, error)
            with self._changed:
                self._under_way = frozenset()
                self._changed.notify_all()

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

    def _report_all(self) -> None:
        assert self._store is not None
        with self._changed:
            self._pending.clear()
        versions = self._store.versions()
        for start in range(0, max(1, len(versions)), REPORT_VERSIONS_MAX):
            self._report(versions[start : start + REPORT_VERSIONS_MAX], first=start == 0)
        with self._changed:
            self._wants_full = False
        log.info("cache_reported", versions=len(versions))

    def _report(self, versions: Sequence[Version], first: bool) -> None:
        assert self._store is not None
        changed: list[ReportedVersion] = []
        removed: list[Version] = []
        for version in versions:
            row = reported(self._store, version)
            if row is not None:
                changed.append(row)
            elif not first:
                removed.append(version)
        reply = self._send(ReportRequest(self._worker_id, changed, removed, first))
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
