"""Which versions clients of other hosts open again and again: the master makes more copies of those.

Owns: the counts, for one window of time. Never: counts readers of this host (they have the copy that is nearest), or
asks for a copy itself.

Counting is not exact: two threads may count one open between them. It is cheap, and ten opens more or less do not make
a file hot.
"""

import time
from collections.abc import Callable
from typing import Final

from isotach.base.limits import HEAT_VERSIONS_MAX, HOT_OPENS, HOT_TOLD_MAX, HOT_WINDOW_S
from isotach.base.types import Version


class Heat:
    """One per worker; any thread."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s: Final = monotonic_s
        self._opens: dict[Version, int] = {}
        self._ends = monotonic_s() + HOT_WINDOW_S

    def note(self, version: Version) -> None:
        """A client of another host opened it."""
        opens = self._opens
        count = opens.get(version, 0)
        if count or len(opens) < HEAT_VERSIONS_MAX:
            opens[version] = count + 1

    def take(self) -> list[Version]:
        """The hottest versions of the window that ended, HOT_TOLD_MAX at most; none while it lasts."""
        now = self._monotonic_s()
        if now < self._ends:
            return []
        opens, self._opens = self._opens, {}
        self._ends = now + HOT_WINDOW_S
        hot = [version for version, count in opens.items() if count >= HOT_OPENS]
        return sorted(hot, key=lambda version: -opens[version])[:HOT_TOLD_MAX]
