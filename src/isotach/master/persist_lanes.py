"""How many persists may go to each under storage at a time: a dead store is probed, not hammered, and holds up nobody.

Owns: one lane per mount with its bound and its circuit breaker (M. Nygard, "Release It!", 2007). Never: chooses a file,
or touches a clock: callers give the time. Pure.

    closed   -> up to PERSISTS_PER_MOUNT_MAX under way; PERSIST_FAILURES_MAX failures of the store in a row open it
    open     -> nothing but one probe (a persist like any other) each time the pause ends; a failure doubles the pause
    a probe that works closes it
"""

from typing import Final

from isotach.base.limits import PERSIST_FAILURES_MAX, PERSIST_PROBE_S_MAX, PERSISTS_PER_MOUNT_MAX
from isotach.base.types import MountId


class _Lane:
    __slots__ = ("failures", "in_flight", "pause_s", "probe_at", "trouble")

    def __init__(self) -> None:
        self.in_flight = 0
        self.failures = 0  # of the store, in a row
        self.pause_s = 0.0
        self.probe_at = 0.0
        self.trouble: Exception | None = None  # while the lane is open: what the store last failed by


class PersistLanes:
    """All lanes. `now` is monotonic seconds."""

    def __init__(self, pause_s: float, pause_s_max: float) -> None:
        self._pause_s: Final = pause_s
        self._pause_s_max: Final = min(pause_s_max, PERSIST_PROBE_S_MAX)
        self._lanes: dict[MountId, _Lane] = {}

    def room(self, mount_id: MountId, now: float) -> int:
        """How many more may be started."""
        lane = self._lane(mount_id)
        if lane.trouble is None:
            return PERSISTS_PER_MOUNT_MAX - lane.in_flight
        return int(not lane.in_flight and now >= lane.probe_at)

    def wait_s(self, mount_id: MountId, now: float) -> float:
        """How long there is no room for reasons of time; 0 when time is no reason."""
        lane = self._lane(mount_id)
        return 0.0 if lane.trouble is None else max(0.0, lane.probe_at - now)

    def in_flight(self, mount_id: MountId) -> int:
        return self._lane(mount_id).in_flight

    def trouble(self, mount_id: MountId) -> Exception | None:
        """What the store failed by, while it is taken for dead."""
        return self._lane(mount_id).trouble

    def began(self, mount_id: MountId) -> None:
        self._lane(mount_id).in_flight += 1

    def ended(self, mount_id: MountId) -> None:
        """Of every one that began, whatever came of it."""
        self._lane(mount_id).in_flight -= 1

    def answered(self, mount_id: MountId) -> None:
        """The store did it, or refused that one file: it lives."""
        lane = self._lane(mount_id)
        lane.failures, lane.trouble, lane.pause_s = 0, None, 0.0

    def failed(self, mount_id: MountId, error: Exception, now: float) -> bool:
        """The store failed. True when it is taken for dead from now on, or still is after a probe."""
        lane = self._lane(mount_id)
        lane.failures += 1
        if lane.failures < PERSIST_FAILURES_MAX or (lane.trouble is not None and now < lane.probe_at):
            return False  # the latter began before the lane was opened
        lane.pause_s = min(self._pause_s_max, lane.pause_s * 2 or self._pause_s)
        lane.probe_at = now + lane.pause_s
        lane.trouble = error
        return True

    def _lane(self, mount_id: MountId) -> _Lane:
        lane = self._lanes.get(mount_id)
        if lane is None:
            lane = self._lanes[mount_id] = _Lane()
        return lane
