"""The master's two clocks, as one argument that tests can replace.

Owns: wall time (for records) and monotonic time (for leases and freshness). Never: sleeps.
"""

import time
from collections.abc import Callable

import msgspec


class Clock(msgspec.Struct, frozen=True):
    """`now_ns`: ns since the epoch. `monotonic`: seconds, never set back."""

    now_ns: Callable[[], int] = time.time_ns
    monotonic: Callable[[], float] = time.monotonic

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return self.now_ns() // 1_000_000

    def now_s(self) -> float:
        """Seconds since the epoch."""
        return self.now_ns() / 1e9
