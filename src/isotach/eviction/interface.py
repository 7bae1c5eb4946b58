"""What the store asks of an eviction policy: an order in which versions leave a full tier.

Owns: the `EvictionPolicy` protocol. Never: evicts (the store does), knows which versions may leave (the store skips
those that are dirty, pinned or in use, in the order given here), reads a clock or does I/O.
"""

from collections.abc import Iterator
from typing import Protocol

from isotach.base.types import Version


class EvictionPolicy(Protocol):
    """One tier's order over the versions that stand in it.

    `touched` is on the path of hot reads: it takes no lock, is atomic under the interpreter's own and costs less than
    a microsecond. All other calls are made under the store's lock. A version comes by `added` and leaves by exactly one
    of `removed` and `evicted`. Sizes are bytes, and policies share out bytes, not files.
    """

    def added(self, version: Version, size_bytes: int) -> None:
        """The version came in (at start: oldest first). For one that is here already, the new size is noted, no use."""

    def touched(self, version: Version) -> None:
        """The version was used. Unknown versions are ignored: it may have left at this moment."""

    def removed(self, version: Version) -> None:
        """The version is gone for good (deleted, freed, replaced, moved): nothing of it is remembered. Unknown versions
        are ignored."""

    def evicted(self, version: Version) -> None:
        """The version left to make room: it may be remembered for a while, in bounded memory, so that its return is
        noticed. Unknown versions are ignored."""

    def candidates(self) -> Iterator[Version]:
        """Every version here, each once, the one to evict first at the front. Lazy: looking at the front is cheap.
        While it runs the caller may call any method; versions added meanwhile may be left out, and those that left
        meanwhile may still be named."""
        ...

    def admits(self, version: Version, size_bytes: int) -> bool:
        """Whether it is worth evicting something to take in this version, which is not here. The caller is free to
        ignore the answer (a write must go somewhere)."""
        ...
