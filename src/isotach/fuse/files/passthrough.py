"""Files that the kernel reads itself: containers registered as backings, one at a time per version.

Owns: what is registered, and the few backings kept for a moment after their last close. Never: decides who may share
one (`table.py`), and never registers what is not complete and verified (`client.direct`, or the worker that passed it).

A registered container keeps its shared lock, so the evictor passes it over: idle ones are few and soon let go.
"""

import threading
import time
from collections import OrderedDict
from typing import Final

from isotach.base.limits import FUSE_IDLE_BACKING_S, FUSE_IDLE_BACKINGS_MAX
from isotach.base.types import Version
from isotach.fuse.contract import Backings
from isotach.obs.log import get_logger

log = get_logger("fuse.passthrough")


class Passthrough:
    """The backings of a mount. Thread-safe."""

    def __init__(self, backings: Backings, enabled: bool) -> None:
        self._backings: Final = backings
        self._enabled: Final = enabled
        self._failure = ""
        self._tidies = False  # a thread lets idle ones go
        self._lock: Final = threading.Lock()
        self._idle: Final[OrderedDict[Version, tuple[int, float]]] = OrderedDict()

    @property
    def reason_off(self) -> str:
        """Why the kernel reads nothing itself; empty: it does."""
        if not self._enabled:
            return "fuse.passthrough is off"
        return self._backings.reason_off or self._failure

    @property
    def is_on(self) -> bool:
        return self._enabled and not self._failure and not self._backings.reason_off

    def idle(self, version: Version) -> int:
        """A backing of this version that was kept, now the caller's; 0: there is none."""
        if version not in self._idle:
            return 0
        with self._lock:
            kept = self._idle.pop(version, None)
        return 0 if kept is None else kept[0]

    def register(self, descriptor: int) -> int:
        """Registers the whole file behind the descriptor (which stays the caller's); 0: not possible."""
        try:
            return self._backings.register(descriptor)
        except OSError as problem:
            self._failure = f"the kernel refused a backing file: {problem.strerror or problem}"
            log.warning("passthrough_off", reason=self._failure)
            return 0

    def give_back(self, version: Version, backing_id: int) -> None:
        """The last open is gone: it is kept for a moment, in case the next comes soon."""
        now_s = time.monotonic()
        ended: list[int] = []
        with self._lock:
            former = self._idle.pop(version, None)
            if former is not None:
                ended.append(former[0])
            self._idle[version] = backing_id, now_s
            while len(self._idle) > FUSE_IDLE_BACKINGS_MAX:
                ended.append(self._idle.popitem(last=False)[1][0])
            starts, self._tidies = not self._tidies, True
        for one in ended:
            self._backings.unregister(one)
        if starts:
            threading.Thread(target=self._tidy_until_empty, name="fuse-idle-backings", daemon=True).start()

    def drop(self, backing_id: int) -> None:
        """Lets a backing go at once: it lost a race, or its version is gone."""
        self._backings.unregister(backing_id)

    def forget(self, version: Version) -> None:
        """The version is not the current one any more: an idle backing of it only holds memory."""
        backing_id = self.idle(version)
        if backing_id:
            self._backings.unregister(backing_id)

    def close(self) -> None:
        """Lets all idle ones go."""
        with self._lock:
            numbers = [kept[0] for kept in self._idle.values()]
            self._idle.clear()
        for one in numbers:
            self._backings.unregister(one)

    def _tidy_until_empty(self) -> None:
        """Lets idle backings go whose time is over, until there are none: no thread stands about between bursts."""
        while True:
            time.sleep(FUSE_IDLE_BACKING_S)
            before_s = time.monotonic() - FUSE_IDLE_BACKING_S
            with self._lock:
                ended = [version for version, kept in self._idle.items() if kept[1] <= before_s]
                numbers = [self._idle.pop(version)[0] for version in ended]
                self._tidies = bool(self._idle)
                is_over = not self._tidies
            for one in numbers:
                self._backings.unregister(one)
            if is_over:
                return
