"""Locks over paths, for the operations that touch an under storage.

Owns: who holds which path. Two locks conflict when one path is an ancestor of the other, or the same. Never: touches
the namespace; readers and purely internal changes take no lock (the writer orders them).

First come, first served: a waiter also waits for every earlier waiter that it conflicts with, so that a rename of a
directory is not starved by the writes below it.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from isotach.base.paths import components, join


class PathLock:
    """What `acquire` gives and `release` takes. `paths` are locked together."""

    __slots__ = ("granted", "owner", "paths")

    def __init__(self, paths: tuple[bytes, ...], owner: str) -> None:
        self.paths = paths
        self.owner = owner
        self.granted: asyncio.Future[None] | None = None


class PathLocks:
    """All path locks of one master. For the event-loop thread only."""

    def __init__(self) -> None:
        self._held = _PathIndex()
        self._locks: set[PathLock] = set()
        self._waiters: list[PathLock] = []

    async def acquire(self, *paths: bytes, owner: str) -> PathLock:
        """Waits until no conflicting lock is held, then holds all `paths`. `owner` names the holder in logs."""
        lock = PathLock(paths, owner)
        if not self._blocked(lock, self._waiters):
            self._take(lock)
            return lock
        lock.granted = asyncio.get_running_loop().create_future()
        self._waiters.append(lock)
        try:
            await lock.granted
        except asyncio.CancelledError:
            self._give_up(lock)
            raise
        return lock

    def release(self, lock: PathLock) -> None:
        """Lets the next ones in. Releasing twice is harmless."""
        if lock in self._locks:
            self._locks.discard(lock)
            for path in lock.paths:
                self._held.remove(path)
            self._wake()

    @asynccontextmanager
    async def hold(self, *paths: bytes, owner: str) -> AsyncIterator[PathLock]:
        """The lock for the length of a `with` block."""
        lock = await self.acquire(*paths, owner=owner)
        try:
            yield lock
        finally:
            self.release(lock)

    def is_held(self, path: bytes) -> bool:
        """Whether somebody holds a lock that conflicts with `path`."""
        return self._held.conflicts(path)

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    def _blocked(self, lock: PathLock, earlier: list[PathLock]) -> bool:
        if any(self._held.conflicts(path) for path in lock.paths):
            return True
        ahead = _PathIndex(path for waiter in earlier for path in waiter.paths)
        return any(ahead.conflicts(path) for path in lock.paths)

    def _take(self, lock: PathLock) -> None:
        self._locks.add(lock)
        for path in lock.paths:
            self._held.add(path)

    def _wake(self) -> None:
        ahead = _PathIndex()
        still: list[PathLock] = []
        for lock in self._waiters:
            if any(self._held.conflicts(path) or ahead.conflicts(path) for path in lock.paths):
                still.append(lock)
                for path in lock.paths:
                    ahead.add(path)
            else:
                self._take(lock)
                if lock.granted is not None and not lock.granted.done():
                    lock.granted.set_result(None)
        self._waiters = still

    def _give_up(self, lock: PathLock) -> None:
        if lock in self._locks:  # granted in the very moment of the cancellation
            self.release(lock)
        elif lock in self._waiters:
            self._waiters.remove(lock)
            self._wake()


class _PathIndex:
    """A multiset of paths that answers in O(depth) whether a path is, contains, or lies below one of them."""

    def __init__(self, paths: Iterable[bytes] = ()) -> None:
        self._at: Counter[bytes] = Counter()
        self._below: Counter[bytes] = Counter()
        for path in paths:
            self.add(path)

    def add(self, path: bytes) -> None:
        self._at[path] += 1
        for ancestor in _ancestors(path):
            self._below[ancestor] += 1

    def remove(self, path: bytes) -> None:
        _count_down(self._at, path)
        for ancestor in _ancestors(path):
            _count_down(self._below, ancestor)

    def conflicts(self, path: bytes) -> bool:
        if not self._at:
            return False
        return path in self._at or path in self._below or any(above in self._at for above in _ancestors(path))


def _count_down(counts: Counter[bytes], key: bytes) -> None:
    if counts[key] == 1:
        del counts[key]
    else:
        counts[key] -= 1


def _ancestors(path: bytes) -> list[bytes]:
    found = []
    above = b"/"
    for name in components(path):
        found.append(above)
        above = join(above, name)
    return found
