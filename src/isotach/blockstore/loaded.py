"""What a load brought in lately, and what is therefore the last to make room.

Owns: which versions these are, and for how long. Never: evicts, or keeps anything for good: when nothing else may leave
they do, those that came first at the front.

A policy's newcomers have no uses yet, so that scan-resistant ones let them go first: a load into a full cache would
drive out its own beginning. Policies hear of these versions when their time is over.
"""

import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from isotach.base.limits import LOADED_KEPT_MAX, LOADED_KEPT_S
from isotach.base.types import Version
from isotach.eviction.queues import in_batches


class Loaded:
    """Versions in the order they came. Under the store's lock."""

    def __init__(self) -> None:
        self._order: Final[OrderedDict[Version, None]] = OrderedDict()
        self._until_s: Final[dict[Version, float]] = {}

    def __contains__(self, version: Version) -> bool:
        return version in self._until_s

    def __iter__(self) -> Iterator[Version]:
        """Lazy; versions may come and go meanwhile."""
        return in_batches(self._order)

    def add(self, version: Version) -> None:
        """It was asked for just now."""
        self._order[version] = None
        self._order.move_to_end(version)
        self._until_s[version] = time.monotonic() + LOADED_KEPT_S

    def discard(self, version: Version) -> None:
        """It left, or its time is over."""
        if self._until_s.pop(version, None) is not None:
            del self._order[version]

    def over(self, count: int) -> list[Version]:
        """Takes out up to `count` whose time is over, or for whom there are too many; the oldest first."""
        now_s = time.monotonic()
        found: list[Version] = []
        for version in self._order:
            too_many = len(self._order) - len(found) > LOADED_KEPT_MAX
            if len(found) == count or not (too_many or self._until_s[version] <= now_s):
                break
            found.append(version)
        for version in found:
            self.discard(version)
        return found
