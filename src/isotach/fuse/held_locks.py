"""What the programs of this mount have locked, as the mount knows it.

Owns: the ranges per file and owner, and through which open file each was taken. Never: asks the master, or decides who
gets a lock. It is what is told to a master that restarted, and what is given up when files are closed.
"""

import threading
from collections.abc import Iterator

from isotach.base.lock_ranges import LOCK_END_MAX, LOCK_NONE, Held, LockKey, LockOwner, replaced


class HeldLocks:
    """Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: dict[LockKey, dict[LockOwner, list[Held]]] = {}

    def __len__(self) -> int:
        with self._lock:
            return sum(len(ranges) for owners in self._files.values() for ranges in owners.values())

    def set(self, key: LockKey, new: Held) -> None:
        """The range has this kind now; LOCK_NONE: nothing."""
        with self._lock:
            self._set(key, new)

    def drop(self, key: LockKey, owner: LockOwner) -> bool:
        """All of an owner goes; whether there was anything."""
        with self._lock:
            if owner not in self._files.get(key, ()):
                return False
            self._set(key, Held(0, LOCK_END_MAX, LOCK_NONE, 0, owner))
            return True

    def holds(self, key: LockKey, owner: LockOwner) -> bool:
        """Whether the owner holds anything there. Takes no lock of ours: the answer is for a file that nobody locks."""
        owners = self._files.get(key)
        return owners is not None and owner in owners

    def any(self, key: LockKey) -> bool:
        """Whether anybody holds anything there. Takes no lock of ours."""
        return key in self._files

    def taken_through(self, key: LockKey, handle: int) -> list[Held]:
        """The ranges that were taken through an open file, by whomever."""
        if key not in self._files:
            return []
        with self._lock:
            return [held for ranges in self._files.get(key, {}).values() for held in ranges if held.handle == handle]

    def all(self) -> list[tuple[LockKey, Held]]:
        """Everything."""
        with self._lock:
            return list(self._all())

    def _all(self) -> Iterator[tuple[LockKey, Held]]:
        for key, owners in self._files.items():
            for ranges in owners.values():
                yield from ((key, held) for held in ranges)

    def _set(self, key: LockKey, new: Held) -> None:
        owners = self._files.setdefault(key, {})
        ranges = replaced(owners.get(new.owner, []), new)
        if ranges:
            owners[new.owner] = ranges
        else:
            owners.pop(new.owner, None)
            if not owners:
                del self._files[key]
