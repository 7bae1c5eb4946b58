"""The one retry schedule: how long to wait before the next attempt, and when to give up.

Owns: the arithmetic, as a pure function of what happened so far. Never: sleeps, reads a clock or draws randomness; the
channels pass these in.
"""

import msgspec

from isotach.base.limits import FIRST_CONNECT_TOTAL_S, RETRY_ATTEMPTS_MAX, RETRY_BASE_S, RETRY_MAX_S, RETRY_TOTAL_S


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Exponential back-off with full jitter in its upper half.

    `total_s` bounds one call's attempts together; `first_connect_s` is the (shorter) bound while the channel has never
    been connected, when a wrong address is likelier than a restart. `resends_max` bounds how often a call that had been
    sent is sent again. Seconds.
    """

    base_s: float = RETRY_BASE_S
    max_s: float = RETRY_MAX_S
    total_s: float = RETRY_TOTAL_S
    first_connect_s: float = FIRST_CONNECT_TOTAL_S
    resends_max: int = RETRY_ATTEMPTS_MAX

    def budget_s(self, *, deadline_s: float, ever_connected: bool) -> float:
        """How long attempts may go on, within the call's own deadline."""
        return min(deadline_s, self.total_s if ever_connected else min(self.first_connect_s, self.total_s))

    def next_delay_s(
        self, *, failures: int, resends: int, elapsed_s: float, budget_s: float, jitter: float
    ) -> float | None:
        """Seconds to wait after the `failures`-th failure (1 and up), `jitter` in [0, 1); None: give up."""
        if resends > self.resends_max:
            return None
        ceiling_s = min(self.max_s, self.base_s * 2.0 ** min(failures - 1, 30))
        delay_s = ceiling_s * (0.5 + jitter / 2)
        return delay_s if elapsed_s + delay_s < budget_s else None


def may_resend(*, idempotent: bool, was_sent: bool) -> bool:
    """Whether a call whose connection broke may be made again: always when it never left, else only when it is safe."""
    return idempotent or not was_sent
