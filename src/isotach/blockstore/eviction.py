"""Which version leaves a full cache first.

Owns: the `EvictionPolicy` protocol and LRU, both pure. Never: evicts (the store does), or knows whether a version may
leave (dirty, pinned and used ones are skipped by the store, in the order given here).
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Protocol

from isotach.base.types import Version


class EvictionPolicy(Protocol):
    """An order over the cached versions. `touched` is on the hot path: it takes no lock and must be atomic under the
    interpreter's own; the other calls are made under the store's lock."""

    def added(self, version: Version) -> None:
        """The version came in, or was loaded at start (oldest first)."""

    def touched(self, version: Version) -> None:
        """The version was used. Unknown versions are ignored: it may have left at this moment."""

    def removed(self, version: Version) -> None:
        """The version left."""

    def candidates(self) -> Iterator[Version]:
        """Every version, the one to evict first at the front."""
        ...


class LeastRecentlyUsed:
    """The one whose last use is longest ago leaves first."""

    def __init__(self, versions: Iterable[Version] = ()) -> None:
        self._order: OrderedDict[Version, None] = OrderedDict.fromkeys(versions)

    def added(self, version: Version) -> None:
        self._order[version] = None

    def touched(self, version: Version) -> None:
        try:
            self._order.move_to_end(version)
        except KeyError:
            pass

    def removed(self, version: Version) -> None:
        self._order.pop(version, None)

    def candidates(self) -> Iterator[Version]:
        """A copy of the front, then (when all of that may not leave) of everything: touches go on meanwhile."""
        front = _first(self._order, _FRONT)
        yield from front
        seen = set(front)
        for version in _first(self._order, len(self._order)):
            if version not in seen:
                yield version


_FRONT = 64


def _first(order: OrderedDict[Version, None], count: int) -> list[Version]:
    while True:
        try:
            return [version for version, _ in zip(order, range(count), strict=False)]
        except RuntimeError:  # touched meanwhile: look again
            continue
