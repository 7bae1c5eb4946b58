"""How long the kernel may believe what it is told of names and attributes.

Owns: that decision. Never: does I/O.

While the feed of changes is live, every change ends what the kernel believes at once, so that time-outs may be long.
While it is not, and below mounts whose under storage is asked again and again, they are short. A name that is not there
is believed for a short time only, as programs write files that others wait for in folders of the under storage too.
"""

from collections.abc import Callable
from typing import Final

from isotach.base.limits import DEAF_TIMEOUT_S
from isotach.conf.fuse_settings import FuseSettings
from isotach.fuse.protocol.replies import Timeout, timeout_of

_AT_ONCE: Final[Timeout] = (0, 0)


class Lasting:
    """For many threads. `is_live` tells whether changes are heard of."""

    def __init__(self, settings: FuseSettings, is_live: Callable[[], bool]) -> None:
        self._entry_s: Final = settings.entry_timeout
        self._attr_s: Final = settings.attr_timeout
        self._negative_s: Final = settings.negative_timeout
        self._entry: Final = timeout_of(self._entry_s)
        self._attr: Final = timeout_of(self._attr_s)
        self._negative: Final = timeout_of(self._negative_s)
        self.is_live: Final = is_live

    def entry(self, interval_ms: int) -> Timeout:
        """Of a name; `interval_ms` is the sync interval of its mount (-1: never)."""
        return self._entry if interval_ms < 0 and self.is_live() else self._short(self._entry_s, interval_ms)

    def attr(self, interval_ms: int) -> Timeout:
        """Of attributes."""
        return self._attr if interval_ms < 0 and self.is_live() else self._short(self._attr_s, interval_ms)

    def negative(self, interval_ms: int) -> Timeout:
        """Of a name that is not there."""
        return self._negative if interval_ms < 0 and self.is_live() else _AT_ONCE

    def _short(self, limit_s: float, interval_ms: int) -> Timeout:
        if interval_ms < 0:
            return timeout_of(min(limit_s, DEAF_TIMEOUT_S))
        limit_s = min(limit_s, interval_ms / 1000)
        return timeout_of(limit_s if self.is_live() else min(limit_s, DEAF_TIMEOUT_S))
