"""Handles of opens: numbers that say which run of the daemon gave them, and how the file was opened.

Owns: their making and reading. Never: keeps one: a node knows how many it has.

    16 bits: the run | 40 bits: a serial | 8 bits: WRITES, APPENDS, ONLY_WRITES
"""

import itertools
import secrets
from collections.abc import Callable
from typing import Final

WRITES: Final = 1
APPENDS: Final = 2
ONLY_WRITES: Final = 4
_SERIAL_BITS: Final = 40
_FLAG_BITS: Final = 8


class Handles:
    """The handles of one run."""

    def __init__(self) -> None:
        self._run: Final = secrets.randbelow(0xFFFF) + 1  # handle 0 is what the kernel sends where there was no open
        start = self._run << (_SERIAL_BITS + _FLAG_BITS)
        self._next: Final[Callable[[], int]] = itertools.count(start, 1 << _FLAG_BITS).__next__

    def make(self, flags: int = 0) -> int:
        """One that was never given before."""
        return self._next() | flags

    def is_ours(self, handle: int) -> bool:
        """Whether this run gave it: not one of before a restart, nor 0."""
        return handle >> (_SERIAL_BITS + _FLAG_BITS) == self._run
