"""Which versions of lower tiers are hot enough to climb.

Owns: the notes of uses and the rule. Never: moves anything; no clock of its own (the caller says what time it is).

A version climbs when it was used `PROMOTE_TOUCHES` times within `PROMOTE_WINDOW_S`, the uses at least `PROMOTE_GAP_S`
apart, so that one reader who goes through a file in many pieces does not count as many.
"""

from collections import OrderedDict, deque
from typing import Final

from isotach.base.limits import PROMOTE_GAP_S, PROMOTE_NOTES_MAX, PROMOTE_TOUCHES, PROMOTE_WINDOW_S
from isotach.base.types import Version


class Heat:
    """One per mover. `used` may be appended to by any thread, without a lock: when nobody looks, old notes fall off."""

    def __init__(self) -> None:
        self.used: Final[deque[Version]] = deque(maxlen=PROMOTE_NOTES_MAX)
        #: Version -> (when its window began, when it was last used, how often).
        self._seen: Final[OrderedDict[Version, tuple[float, float, int]]] = OrderedDict()

    def note(self, version: Version, now_s: float) -> bool:
        """One use. Whether the version is hot now; it begins anew then."""
        began_s, last_s, count = self._seen.pop(version, (now_s, -PROMOTE_GAP_S, 0))
        if now_s - began_s > PROMOTE_WINDOW_S:
            began_s, count = now_s, 0
        if count == 0 or now_s - last_s >= PROMOTE_GAP_S:
            count, last_s = count + 1, now_s
        if count >= PROMOTE_TOUCHES:
            return True
        self._seen[version] = (began_s, last_s, count)
        if len(self._seen) > PROMOTE_NOTES_MAX:
            self._seen.popitem(last=False)
        return False

    def hot(self, now_s: float) -> list[Version]:
        """Takes the notes in; the versions that have become hot, each once."""
        found: dict[Version, None] = {}
        for _ in range(len(self.used)):
            try:
                version = self.used.popleft()
            except IndexError:
                break
            if version not in found and self.note(version, now_s):
                found[version] = None
        return list(found)
