"""Locks over paths, for the operations that touch an under storage.

Owns: who holds which path. Two locks conflict when one path is an ancestor of the other, or the same. Never: touches
the namespace; readers and purely internal changes take no lock (the writer orders them).

First come, first served: a waiter also waits for every earlier waiter that it conflicts with, so that a rename of a
directory is not starved by the writes below it.

A store that is away may hold up a change for long, and with it the lock: whoever answers a user waits for a bounded
time only, and then says what is in the way.
"""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from isotach.base.errors import UnavailableError
from isotach.base.limits import PATH_WAIT_S
from isotach.base.paths import components, join


class PathLock:
    """What `acquire` gives and `release` takes. `paths` are locked together."""

    __slots__ = ("granted", "owner", "paths", "unsettled")

    def __init__(self, paths: tuple[bytes, ...], owner: str, unsettled: bool = False) -> None:
        self.paths = paths
        self.owner = owner
        self.unsettled = unsettled
        self.granted: asyncio.Future[None] | None = None


class PathLocks:
    """All path locks of one master. For the event-loop thread only."""

    def __init__(self) -> None:
        self._held = _PathIndex()
        self._unsettled = _PathIndex()  # of those held: whose change the store has not carried out yet
        self._locks: set[PathLock] = set()
        self._waiters: list[PathLock] = []

    async def acquire(self, *paths: bytes, owner: str) -> PathLock:
        """Waits, however long, until no conflicting lock is held, then holds all `paths`. `owner` names the holder."""
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
                if lock.unsettled:
                    self._unsettled.remove(path)
            self._wake()

    def hand_over(self, lock: PathLock, owner: str) -> PathLock:
        """A held lock becomes another owner's, and nobody gets in between: releasing the old one has no effect. The new
        owner settles a change that the store left unclear."""
        self._locks.remove(lock)
        heir = PathLock(lock.paths, owner, unsettled=True)
        self._locks.add(heir)
        for path in heir.paths:
            self._unsettled.add(path)
        return heir

    async def settled(self, path: bytes, wait_s: float = PATH_WAIT_S) -> None:
        """For changes that take no lock: waits while the outcome of an earlier change of `path` is unclear. Raises
        UnavailableError after `wait_s` seconds."""
        if self._unsettled.conflicts(path):
            async with self.hold(path, owner="settled", wait_s=wait_s):
                pass

    @asynccontextmanager
    async def hold(self, *paths: bytes, owner: str, wait_s: float | None = PATH_WAIT_S) -> AsyncIterator[PathLock]:
        """The lock for the length of a `with` block. Raises UnavailableError when it is not to be had within `wait_s`
        seconds (None: waits however long)."""
        try:
            async with asyncio.timeout(wait_s):
                lock = await self.acquire(*paths, owner=owner)
        except TimeoutError:
            raise self._in_the_way(paths) from None
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

    def _in_the_way(self, paths: tuple[bytes, ...]) -> UnavailableError:
        """What to tell a caller who has waited for long enough."""
        wanted = " and ".join(os.fsdecode(path) for path in paths)
        if any(self._unsettled.conflicts(path) for path in paths):
            text = "an earlier change there is still to be finished, for its under storage did not carry it out"
        else:
            text = "another operation there has not ended yet"
        return UnavailableError(f"{wanted}: {text}: try again later")

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
