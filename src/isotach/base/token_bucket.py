"""A token bucket that may go into debt: how long to wait so that a rate is kept, whatever the sizes.

Owns: the arithmetic. Never: sleeps, reads a clock or locks: callers give the time (monotonic seconds) and wait.

As in ATM's "virtual scheduling" form of the leaky bucket (ITU-T I.371): what is kept is the moment at which the bucket
will be even again, one number instead of a level and a time. A request larger than the burst is let through and paid
for afterwards, so that no request is too large to ever pass.
"""

from typing import Final


class TokenBucket:
    """`rate` in units per second (0: no limit), `burst` in units: how much may pass at once after a pause."""

    __slots__ = ("_burst_s", "_even_s", "rate")

    def __init__(self, rate: float, burst: float) -> None:
        if rate < 0 or burst < 0:
            raise ValueError(f"rate {rate} and burst {burst} must not be negative")
        self.rate: Final = rate
        self._burst_s: Final = burst / rate if rate else 0.0
        self._even_s = float("-inf")

    def reserve(self, size: float, now_s: float) -> float:
        """Takes `size` units; how many seconds to wait before they may be used. Those who come later wait longer."""
        if not self.rate:
            return 0.0
        start_s = max(self._even_s, now_s)
        self._even_s = start_s + size / self.rate
        return max(0.0, start_s - now_s - self._burst_s)

    def wait_s(self, now_s: float) -> float:
        """Seconds until something may pass again; 0 for now."""
        return max(0.0, self._even_s - now_s - self._burst_s) if self.rate else 0.0
