"""How long the client keeps trying when workers are away: the shared retry schedule, with a clock and a pause.

Owns: one operation's count of failures. Never: decides what may be tried again (its callers do) or the waiting times
(`net.retry`).
"""

import random
import time

from isotach.net.retry import RetryPolicy


class Patience:
    """Bounded, for one operation: `pause_or_raise` after each failed attempt."""

    def __init__(self, total_s: float) -> None:
        self._policy = RetryPolicy(total_s=total_s, resends_max=1 << 30)
        self._total_s = total_s
        self._started = time.monotonic()
        self._failures = 0

    def pause_or_raise(self, problem: Exception) -> None:
        """Sleeps before the next attempt, or raises `problem` when time is up."""
        self._failures += 1
        delay_s = self._policy.next_delay_s(
            failures=self._failures,
            resends=0,
            elapsed_s=time.monotonic() - self._started,
            budget_s=self._total_s,
            jitter=random.random(),  # spreads clients out; no secret
        )
        if delay_s is None:
            raise problem
        time.sleep(delay_s)
