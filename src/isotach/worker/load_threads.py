"""The threads that carry out loads: as many at a time as the processors leave time for.

Owns: the queue of loads, how many run at once, and the threads. Never: knows what a load is.

A store that is far away needs many requests under way at once. One that answers at once needs few: threads that contend
for one interpreter cost each other more than they add (an S3 server on the same two cores: about 1.1 ms of CPU per
object of 100 KB with 4 threads, 1.5 and more with 16, in runs that were not interleaved).
So their number grows while processors stand idle and this process is not the bottleneck itself, and shrinks otherwise.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from isotach.base.limits import LOAD_THREADS, LOAD_THREADS_LOOK_S, LOAD_THREADS_MIN
from isotach.obs.log import get_logger

log = get_logger("worker.loads")
_STAT: Final = Path("/proc/stat")
_ENOUGH_IDLE: Final = 0.25  # of the host's processors: more threads may help
_TOO_LITTLE_IDLE: Final = 0.1
_OWN_CORE_FULL: Final = 0.8  # of one processor: the interpreter is what is short
_STEP: Final = 2


class Processors:
    """How busy they have been since the last look. For one thread at a time."""

    def __init__(self) -> None:
        self._last = self._now()

    def look(self) -> tuple[float, float]:
        """(share of the host's processor time that was idle, processors that this process used) since the last look.
        A host that does not tell counts as idle."""
        before, self._last = self._last, self._now()
        idle, total, own_s, mono_s = (now - then for now, then in zip(self._last, before, strict=True))
        return (idle / total if total > 0 else 1.0), own_s / max(mono_s, 1e-3)

    def _now(self) -> tuple[float, float, float, float]:
        try:
            with _STAT.open("rb") as stat:
                ticks = [int(word) for word in stat.readline().split()[1:9]]
            idle, total = float(ticks[3] + ticks[4]), float(sum(ticks))
        except (OSError, ValueError, IndexError):
            idle = total = 0.0
        return idle, total, time.process_time(), time.monotonic()


class LoadThreads:
    """One per worker; any thread. `look` gives (idle share of the host, processors used by this process)."""

    def __init__(
        self,
        look: Callable[[], tuple[float, float]] | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look: Final = look or Processors().look
        self._monotonic_s: Final = monotonic_s
        self._lock: Final = threading.Lock()
        self._waiting: Final[deque[Callable[[], None]]] = deque()
        self._pool: Final = ThreadPoolExecutor(LOAD_THREADS, "load")
        self._running = 0
        self._looked_s = monotonic_s()
        self._closed = False
        #: How many may run now.
        self.limit = LOAD_THREADS_MIN

    def submit(self, work: Callable[[], None]) -> None:
        """Runs it in one of the threads, when its turn comes. Dropped after `close`."""
        with self._lock:
            if self._closed:
                return
            self._waiting.append(work)
            self._adapt()
            self._fill_up()

    def close(self) -> None:
        """What waits is dropped, what runs goes on to its end."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _fill_up(self) -> None:
        """Under the lock."""
        while not self._closed and self._running < min(self.limit, LOAD_THREADS) and self._waiting:
            self._running += 1
            self._pool.submit(self._run, self._waiting.popleft())

    def _run(self, work: Callable[[], None]) -> None:
        """One after another, without a hand-over between them."""
        following: Callable[[], None] | None = work
        while following is not None:
            try:
                following()
            except Exception as error:  # our bug: the thread's place must not be lost
                log.error("load_failed", error=error, exc_info=error)
            following = self._next()

    def _next(self) -> Callable[[], None] | None:
        with self._lock:
            self._adapt()
            if self._waiting and self._running <= self.limit:
                following = self._waiting.popleft()
                self._fill_up()
                return following
            self._running -= 1
            return None

    def _adapt(self) -> None:
        """Under the lock."""
        now_s = self._monotonic_s()
        if now_s - self._looked_s < LOAD_THREADS_LOOK_S:
            return
        is_recent = now_s - self._looked_s < 4 * LOAD_THREADS_LOOK_S
        self._looked_s = now_s
        idle, own = self._look()
        if not is_recent:
            return  # of a time without loads
        if idle < _TOO_LITTLE_IDLE or own > _OWN_CORE_FULL:
            self.limit = max(LOAD_THREADS_MIN, self.limit - _STEP)
        elif idle > _ENOUGH_IDLE:
            self.limit = min(LOAD_THREADS, self.limit + _STEP)
