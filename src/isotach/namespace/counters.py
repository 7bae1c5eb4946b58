"""Counters, and the allocator of ids.

Owns: numbers that live in the store. Never: commits them (the pipeline does).
"""

import errno
from collections.abc import Callable
from typing import Final

from isotach.base.limits import ID_RESERVE
from isotach.namespace import keys
from isotach.namespace.view import View

#: Ids below are set aside for what exists from the start (the root).
FIRST_ID: Final = 1024


def read(view: View, key: bytes) -> int:
    """The counter's value; 0 when it was never written."""
    raw = view.get(key)
    return 0 if raw is None else int.from_bytes(raw, "big")


def add(view: View, key: bytes, step: int) -> int:
    """Adds and returns the new value, which is never negative."""
    value = read(view, key) + step
    assert value >= 0, f"the counter {key!r} fell below zero"
    view.put(key, keys.number(value))
    return value


class IdAllocator:
    """Gives ids that are never given again, crash or not: versions, files, directories, mounts, intents.

    Ids are taken below a durable high-water mark, so that allocating costs no commit. `on_low` is called once when half
    of the reserve is used; its owner commits `reserve` and then calls `confirm`. Unused ids of a dead process are lost.
    """

    def __init__(self, next_id: int, mark: int) -> None:
        self._next = next_id
        self._mark = mark
        self._asked = False
        self.on_low: Callable[[], None] | None = None

    @classmethod
    def open(cls, view: View) -> "IdAllocator":
        """A handler for the pipeline's first commit: the allocator may be used once it is durable."""
        start = max(read(view, keys.IDS), FIRST_ID)
        view.put(keys.IDS, keys.number(start + ID_RESERVE))
        return cls(start, start + ID_RESERVE)

    def reserve(self, view: View) -> int:
        """A handler that raises the high-water mark; returns it for `confirm`."""
        mark = max(read(view, keys.IDS), self._mark) + ID_RESERVE
        view.put(keys.IDS, keys.number(mark))
        return mark

    def confirm(self, mark: int) -> None:
        """The mark is durable: ids below it may be given."""
        self._mark = max(self._mark, mark)
        self._asked = False

    def reserve_failed(self) -> None:
        """The commit of `reserve` failed: ask again at the next allocation."""
        self._asked = False

    def allocate(self) -> int:
        """The next id. Raises OSError (ENOSPC) when the reserve is used up because the store cannot be written."""
        if self._mark - self._next < ID_RESERVE // 2 and not self._asked and self.on_low is not None:
            self._asked = True
            self.on_low()
        if self._next >= self._mark:
            raise OSError(errno.ENOSPC, "no ids are left because the master's store cannot be written: free its disk")
        self._next += 1
        return self._next - 1
