"""The direct way as a whole: when it may be taken, and what is told when it may not (nothing).

Owns: the stores of one master and the tiers of the workers that this client met on this host. Never: raises: every
surprise means the ordinary way, and a pause before stores are opened again.

It is taken by a process that runs as the server's user, or as root, and was told so by the kernel (`DirectAccess`). A
process that changed its user since, or a forked child of one that had the stores open, goes the ordinary way.
"""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

from isotach.base.errors import IsotachError
from isotach.base.limits import DIRECT_LOOK_S, DIRECT_PAUSE_S
from isotach.base.types import Inode, Version, WorkerId
from isotach.client.direct.entries import DirectEntries
from isotach.client.direct.metadata import DirectMetadata
from isotach.client.direct.tiers import NOT_HERE, DirectTier
from isotach.kv.shared_reader import StoreError
from isotach.obs.log import get_logger
from isotach.wire.messages import DirectAccess, StatReply

log = get_logger("client.direct")
_SURPRISES: Final = (OSError, IsotachError, StoreError, ValueError, AssertionError)
R = TypeVar("R")
P = ParamSpec("P")


class DirectWay:
    """For many threads."""

    def __init__(self, access: DirectAccess, user: str) -> None:
        self._namespace, self._cache_states = (Path(folder) for folder in access.folders[:2])
        self._user = user
        self._uid = os.geteuid()
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._metadata: DirectMetadata | None = None
        self._tiers: tuple[DirectTier, ...] = ()
        self._known: dict[WorkerId, DirectAccess] = {}
        self._rests_until_s = -1.0
        self._ready_until_s = -1.0
        self._closed = False

    def meet(self, worker_id: WorkerId, access: DirectAccess | None) -> None:
        """Takes note of a local worker's tiers; cheap when they are known."""
        if access is None or self._known.get(worker_id) == access or access.pid != self._pid or self._is_estranged():
            return
        with self._lock:
            self._known[worker_id] = access
        self._rests_until_s = -1.0
        self._drop()

    def open(self, path: bytes, interval_ms: int | None) -> tuple[int, Inode] | None:
        """A descriptor of the whole file at the canonical `path`, and its record; None: go the ordinary way."""
        try:
            if not (self._known and self._is_ready()):
                return None
            metadata = self._metadata
            found = None if metadata is None else metadata.find(path, interval_ms)
            if found is None or found.inode.is_dir or not found.inode.length:
                return None
            inode = found.inode
            for tier in self._tiers:
                if tier.is_current():
                    descriptor = tier.open(inode.version, inode.length)
                    if descriptor != NOT_HERE:
                        return descriptor, inode
                else:
                    self._drop()
        except (BlockingIOError, NotADirectoryError):  # the evictor looks at it; the path is for the master to judge
            pass
        except _SURPRISES as problem:
            self._rest(problem)
        return None

    def container(self, version: Version, length: int) -> int:
        """A descriptor of this very version, whole and in use from now on; NOT_HERE: go the ordinary way. For who
        knows the version that is current (mounts)."""
        if not self._known:
            return NOT_HERE
        try:
            if self._is_ready_lately():
                for tier in self._tiers:
                    descriptor = tier.open(version, length)
                    if descriptor != NOT_HERE:
                        return descriptor
        except BlockingIOError:  # the evictor looks at it
            pass
        except _SURPRISES as problem:
            self._rest(problem)
        return NOT_HERE

    def stat(self, path: bytes, interval_ms: int | None) -> StatReply | None:
        """What the master would say of a path that exists; None: ask it."""
        try:
            metadata = self._metadata if self._is_ready() else None
            return None if metadata is None else metadata.stat(path, interval_ms)
        except NotADirectoryError:  # the master says it in full
            return None
        except _SURPRISES as problem:
            self._rest(problem)
            return None

    def look(self, question: Callable[Concatenate[DirectEntries, P], R], *args: P.args, **kwargs: P.kwargs) -> R | None:
        """The answer of the master's store (`look(DirectEntries.entry, 7, b"name")`); None: ask the master."""
        try:
            metadata = self._metadata if self._is_ready_lately() else None
            return None if metadata is None else question(metadata.entries, *args, **kwargs)
        except _SURPRISES as problem:
            self._rest(problem)
            return None

    def close(self) -> None:
        """Gives all stores back."""
        self._closed = True
        self._drop()

    # --- inside ---

    def _is_estranged(self) -> bool:
        return self._closed or os.geteuid() != self._uid or os.getpid() != self._pid

    def _is_ready_lately(self) -> bool:
        """As `_is_ready`, with tiers that were current a moment ago: for who asks thousands of times a second. A tier
        made anew meanwhile has no containers under the folder that is open here, and numbers never mean other bytes."""
        now_s = time.monotonic()
        if now_s < self._ready_until_s:
            return True
        if not self._is_ready():
            return False
        if not all(tier.is_current() for tier in self._tiers):
            self._drop()
            return False
        self._ready_until_s = now_s + DIRECT_LOOK_S
        return True

    def _is_ready(self) -> bool:
        """Whether the stores are open, and are those that the servers have now."""
        if self._is_estranged():
            return False
        metadata = self._metadata
        if metadata is not None:
            if metadata.is_current():
                return True
            self._drop()
        return self._reopen()

    def _reopen(self) -> bool:
        with self._lock:
            if self._closed or time.monotonic() < self._rests_until_s:
                return False
            if self._metadata is None:
                self._metadata = DirectMetadata(self._namespace, self._cache_states, self._user)
                self._tiers = self._open_tiers()
            return True

    def _open_tiers(self) -> tuple[DirectTier, ...]:
        tiers: list[DirectTier] = []
        told = [(folder, access.cluster) for access in self._known.values() for folder in access.folders]
        for folder, cluster in told:
            try:
                tiers.append(DirectTier(Path(folder), cluster))
            except _SURPRISES as problem:
                log.debug("tier_not_read_directly", folder=folder, error=str(problem))
        return tuple(tiers)

    def _rest(self, problem: Exception) -> None:
        log.debug("direct_way_left", error=str(problem))
        self._rests_until_s = time.monotonic() + DIRECT_PAUSE_S
        self._drop()

    def _drop(self) -> None:
        self._ready_until_s = -1.0
        with self._lock:
            metadata, self._metadata = self._metadata, None
            tiers, self._tiers = self._tiers, ()
        if os.getpid() == self._pid:
            for store in (metadata, *tiers):
                if store is not None:
                    store.close()
