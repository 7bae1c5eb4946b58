"""Locks of programs on files: which are held, who waits, and who is next. Pure: no clock, no session, no I/O.

Owns: which owner holds which ranges of record locks, and which whole files (flock); the queue of those who wait, and
the search for deadlocks. Never: knows when an owner has died or waits itself.

Record locks and flock locks of one file know nothing of one another, as on Linux: the key of a lock says which. A
request that may wait queues behind earlier ones that it conflicts with, so that writers are not starved by readers who
come and go, unless that would make it wait for one who waits for itself. A request that may not wait is never refused
because others wait.
"""

import errno
from collections.abc import Iterable, Iterator
from typing import Final

from isotach.base.limits import LOCK_WAITERS_MAX, LOCKS_MAX, LOCKS_PER_SESSION_MAX
from isotach.base.lock_ranges import LOCK_NONE, Held, LockKey, LockOwner, conflicts, replaced


class Waiter:
    """A request in the queue. `is_parked`: nobody is waiting for it right now; it only keeps its place."""

    __slots__ = ("is_parked", "key", "wanted")

    def __init__(self, key: LockKey, wanted: Held) -> None:
        self.key = key
        self.wanted = wanted
        self.is_parked = False


class LockTable:
    """All locks. One thread at a time."""

    def __init__(self, locks_max: int = LOCKS_MAX, waiters_max: int = LOCK_WAITERS_MAX) -> None:
        self._locks_max: Final = locks_max
        self._waiters_max: Final = waiters_max
        self._held: Final[dict[LockKey, dict[LockOwner, list[Held]]]] = {}
        self._waiting: Final[dict[LockKey, list[Waiter]]] = {}
        self._keys_of: Final[dict[bytes, set[LockKey]]] = {}  # by session: where it holds something
        self._waits_of: Final[dict[tuple[LockOwner, bool], list[Waiter]]] = {}
        self._count_of: Final[dict[bytes, int]] = {}  # by session
        self.count = 0
        self.waiters = 0

    # --- what is held ---

    def blocker(self, key: LockKey, wanted: Held) -> Held | None:
        """A lock of another owner that is in the way: the first of the range."""
        return min(self._blockers(key, wanted), default=None)

    def take(self, key: LockKey, wanted: Held) -> None:
        """Sets the range to this kind (LOCK_NONE gives it up), whatever others hold. Raises OSError(ENOLCK) over the
        bounds; giving up never fails."""
        before = self._held.get(key, {}).get(wanted.owner, [])
        more = len(replaced(before, wanted)) - len(before)
        if wanted.kind != LOCK_NONE and more > 0:
            if self.count + more > self._locks_max:
                raise OSError(errno.ENOLCK, f"all {self._locks_max} locks of the master are held: release some")
            if self._count_of.get(wanted.owner[0], 0) + more > LOCKS_PER_SESSION_MAX:
                raise OSError(errno.ENOLCK, f"this mount holds {LOCKS_PER_SESSION_MAX} locks: release some")
        self._set(key, wanted)

    def held_by(self, session: bytes) -> Iterator[tuple[LockKey, Held]]:
        """All that a session holds."""
        for key in sorted(self._keys_of.get(session, ())):
            for owner, held in self._held[key].items():
                if owner[0] == session:
                    yield from ((key, lock) for lock in held)

    def drop_session(self, session: bytes) -> set[LockKey]:
        """Gives up all that a session holds or waits for; where others may go on now (`settle`)."""
        touched = set(self._keys_of.get(session, ()))
        for key in list(touched):
            for owner in [owner for owner in self._held[key] if owner[0] == session]:
                self._count(session, -len(self._held[key].pop(owner)))
            self._drop_if_empty(key)
        self._keys_of.pop(session, None)
        for waiter in [each for row in self._waiting.values() for each in row if each.wanted.owner[0] == session]:
            touched.add(waiter.key)
            self.leave(waiter)
        return touched

    # --- who waits ---

    def enter(self, key: LockKey, wanted: Held) -> Waiter | None:
        """Takes the lock (None), or queues for it. Raises OSError: EDEADLK when waiting would be for ever (not for
        flock, as on Linux), ENOLCK over the bounds."""
        waiter = self._find(key, wanted) or Waiter(key, wanted)
        if not self._is_blocked(waiter, self._before(waiter)):
            self.take(key, wanted)
            self.leave(waiter)
            return None
        if not key[1] and any(self._waits_for(each.owner, False, wanted.owner) for each in self._blockers(key, wanted)):
            self.leave(waiter)
            raise OSError(errno.EDEADLK, "the holder of this lock waits for one of yours: release that first")
        if waiter not in self._waiting.get(key, ()):
            if self.waiters >= self._waiters_max:
                raise OSError(errno.ENOLCK, f"{self._waiters_max} requests for locks are waiting: try again later")
            self._waiting.setdefault(key, []).append(waiter)
            self._waits_of.setdefault((wanted.owner, key[1]), []).append(waiter)
            self.waiters += 1
        waiter.is_parked = False
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Waits no longer; `settle` its key afterwards. Safe for one that is not in the queue."""
        row = self._waiting.get(waiter.key, [])
        if waiter in row:
            row.remove(waiter)
            if not row:
                del self._waiting[waiter.key]
            node = (waiter.wanted.owner, waiter.key[1])
            self._waits_of[node].remove(waiter)
            if not self._waits_of[node]:
                del self._waits_of[node]
            self.waiters -= 1

    def settle(self, key: LockKey) -> list[Waiter]:
        """Gives waiting requests what they can have now, in their order; those that got it."""
        granted = []
        ahead: list[Waiter] = []
        for waiter in list(self._waiting.get(key, ())):
            if waiter.is_parked or self._is_blocked(waiter, ahead):
                ahead.append(waiter)
            else:
                self._set(key, waiter.wanted)
                self.leave(waiter)
                granted.append(waiter)
        return granted

    # --- inside ---

    def _set(self, key: LockKey, wanted: Held) -> None:
        owners = self._held.setdefault(key, {})
        before = owners.get(wanted.owner, [])
        after = replaced(before, wanted)
        self._count(wanted.owner[0], len(after) - len(before))
        if after:
            owners[wanted.owner] = after
            self._keys_of.setdefault(wanted.owner[0], set()).add(key)
        else:
            owners.pop(wanted.owner, None)
            self._note_release(key, wanted.owner[0])

    def _count(self, session: bytes, more: int) -> None:
        self.count += more
        count = self._count_of.get(session, 0) + more
        if count:
            self._count_of[session] = count
        else:
            self._count_of.pop(session, None)

    def _blockers(self, key: LockKey, wanted: Held) -> Iterator[Held]:
        for owner, held in self._held.get(key, {}).items():
            if owner != wanted.owner:
                yield from (lock for lock in held if conflicts(lock, wanted))

    def _is_blocked(self, waiter: Waiter, ahead: Iterable[Waiter]) -> bool:
        key, wanted = waiter.key, waiter.wanted
        if self.blocker(key, wanted) is not None:
            return True
        return any(
            each.wanted.owner != wanted.owner
            and conflicts(each.wanted, wanted)
            and not self._waits_for(each.wanted.owner, key[1], wanted.owner)
            for each in ahead
        )

    def _before(self, waiter: Waiter) -> list[Waiter]:
        row = self._waiting.get(waiter.key, [])
        return row[: row.index(waiter)] if waiter in row else row

    def _find(self, key: LockKey, wanted: Held) -> Waiter | None:
        """The same request, come again."""
        for waiter in self._waits_of.get((wanted.owner, key[1]), ()):
            if waiter.key == key and waiter.wanted[:3] == wanted[:3]:
                return waiter
        return None

    def _waits_for(self, waiting: LockOwner, is_flock: bool, wanted: LockOwner) -> bool:
        """Whether `waiting` can only go on when `wanted` gives something up, over whatever chain of owners."""
        seen = {waiting}
        todo = [waiting]
        while todo:
            owner = todo.pop()
            if owner == wanted:
                return True
            for waiter in self._waits_of.get((owner, is_flock), ()):
                for lock in self._blockers(waiter.key, waiter.wanted):
                    if lock.owner not in seen:
                        seen.add(lock.owner)
                        todo.append(lock.owner)
        return False

    def _note_release(self, key: LockKey, session: bytes) -> None:
        if all(owner[0] != session for owner in self._held[key]):
            keys = self._keys_of.get(session, set())
            keys.discard(key)
            if not keys:
                self._keys_of.pop(session, None)
        self._drop_if_empty(key)

    def _drop_if_empty(self, key: LockKey) -> None:
        if not self._held.get(key, True):
            del self._held[key]
