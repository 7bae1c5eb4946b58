"""When paths were last compared with their under storage: soft state, bounded.

Owns: the times of syncs, of listings, and of paths that were found absent. Never: asks an under storage (`sync.py`).
"""

from collections import OrderedDict

from isotach.base.limits import ABSENT_PATHS_MAX, SYNC_TIMES_MAX
from isotach.base.paths import split


class BoundedTimes:
    """The latest `capacity` times, by path; older ones are forgotten, which only costs one more question."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._times: OrderedDict[bytes, float] = OrderedDict()

    def note(self, path: bytes, now: float) -> None:
        self._times[path] = now
        self._times.move_to_end(path)
        if len(self._times) > self._capacity:
            self._times.popitem(last=False)

    def age(self, path: bytes, now: float) -> float:
        """Seconds since `note`; infinite when it was never noted."""
        noted = self._times.get(path)
        return float("inf") if noted is None else now - noted

    def forget(self, path: bytes) -> None:
        self._times.pop(path, None)

    def clear(self) -> None:
        self._times.clear()

    def __len__(self) -> int:
        return len(self._times)


class Freshness:
    """Answers whether a path must be asked for again. `now` is monotonic seconds."""

    def __init__(self, absent_ttl_s: float) -> None:
        self._absent_ttl_s = absent_ttl_s
        self._statuses = BoundedTimes(SYNC_TIMES_MAX)
        self._listings = BoundedTimes(SYNC_TIMES_MAX)
        self._absent = BoundedTimes(ABSENT_PATHS_MAX)
        self._made_here = BoundedTimes(SYNC_TIMES_MAX)

    def status_is_fresh(self, path: bytes, interval_ms: int, now: float) -> bool:
        """Whether an existing path need not be asked for. A listing of its directory counts for it."""
        if interval_ms <= 0:
            return interval_ms < 0
        age = min(self._statuses.age(path, now), self._listings.age(split(path)[0], now))
        return age * 1000 < interval_ms

    def listing_is_fresh(self, path: bytes, interval_ms: int, now: float) -> bool:
        """The same for the children of a directory that was listed before."""
        if interval_ms <= 0:
            return interval_ms < 0
        return self._listings.age(path, now) * 1000 < interval_ms

    def is_absent(self, path: bytes, interval_ms: int, now: float) -> bool:
        """Whether the under storage was found lately not to have the path."""
        age = self._absent.age(path, now)
        return age < self._absent_ttl_s and (interval_ms < 0 or age * 1000 < interval_ms)

    def note_status(self, path: bytes, now: float) -> None:
        self._absent.forget(path)
        self._statuses.note(path, now)

    def note_listing(self, path: bytes, now: float) -> None:
        self._absent.forget(path)
        self._statuses.note(path, now)
        self._listings.note(path, now)

    def note_absent(self, path: bytes, now: float) -> None:
        self._absent.note(path, now)

    def note_made_here(self, directory: bytes) -> None:
        """The under storage does not have it, and it is about to be made here."""
        self._made_here.note(directory, 0.0)

    def is_made_here(self, path: bytes, interval_ms: int) -> bool:
        """Whether the path lies in such a directory, of a store that is not asked again for what is known."""
        if interval_ms >= 0:
            return False
        while path != b"/":
            path = split(path)[0]
            if self._made_here.age(path, 0.0) == 0.0:
                return True
        return False

    def clear(self) -> None:
        """After a mount or unmount, when everything may be different."""
        for times in (self._statuses, self._listings, self._absent, self._made_here):
            times.clear()
