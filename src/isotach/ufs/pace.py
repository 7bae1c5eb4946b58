"""Keeping to a bandwidth: buckets shared by threads, and waiting until they allow.

Owns: the lock, the clock and the sleep around `base.token_bucket`. Never: decides a rate.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

from isotach.base.limits import PACE_BURST_S
from isotach.base.token_bucket import TokenBucket


class Pace:
    """Bytes per second that several threads share; 0: no limit. `outer` is a wider limit that is kept as well."""

    def __init__(
        self,
        rate: int,
        outer: "Pace | None" = None,
        *,
        monotonic_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.rate: Final = rate
        self._outer: Final = outer
        self._bucket: Final = TokenBucket(rate, rate * PACE_BURST_S)
        self._lock: Final = threading.Lock()
        self._monotonic_s: Final = monotonic_s
        self._sleep: Final = sleep

    @property
    def is_limited(self) -> bool:
        """Whether `pay` may ever wait."""
        return bool(self.rate) or (self._outer is not None and self._outer.is_limited)

    def pay(self, size: int) -> None:
        """Waits until `size` more bytes are within the rate."""
        wait_s = self._reserve(size)
        if wait_s > 0:
            self._sleep(wait_s)

    def _reserve(self, size: int) -> float:
        wait_s = 0.0
        if self.rate:
            with self._lock:
                wait_s = self._bucket.reserve(size, self._monotonic_s())
        return wait_s if self._outer is None else max(wait_s, self._outer._reserve(size))
