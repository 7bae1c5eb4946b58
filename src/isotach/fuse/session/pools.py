"""Pools of threads for requests that may wait (`contract.Later`): bounded queues, threads made as they are needed.

Owns: the queues and the threads. Never: decides what is slow. Whoever finds a queue full waits: so the kernel does.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from errno import EINTR
from typing import Final

from isotach.base.errors import InvalidArgumentError
from isotach.base.limits import (
    FUSE_POOL_IDLE_S,
    FUSE_POOL_QUEUE_BYTES_MAX,
    FUSE_POOL_QUEUE_MAX,
    FUSE_WAITING_THREADS_MAX,
)
from isotach.fuse.contract import Handler, Request
from isotach.fuse.session.interrupts import Interrupts

#: Finishes a request: runs the handler and answers.
Serve = Callable[[Request, Handler], None]

POOL_NAMES: Final = ("read", "write", "tree", "wait")


class _Pool:
    """One queue and its threads. A thread is added when a request comes and none is idle; idle ones end by and by."""

    def __init__(self, name: str, threads_max: int, serve: Serve) -> None:
        self._name = name
        self._threads_max = threads_max
        self._serve = serve
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._queue: deque[tuple[Request, Handler]] = deque()
        self._queued_bytes = 0
        self._idle = 0
        self._busy = 0
        self._threads: set[threading.Thread] = set()
        self._closed = False

    @property
    def under_way(self) -> int:
        return len(self._queue) + self._busy

    def put(self, request: Request, work: Handler) -> None:
        size = len(request.body)
        with self._lock:
            while len(self._queue) >= FUSE_POOL_QUEUE_MAX or (
                self._queued_bytes and self._queued_bytes + size > FUSE_POOL_QUEUE_BYTES_MAX
            ):
                self._room.wait()
            self._queue.append((request, work))
            self._queued_bytes += size
            # Each idle thread takes one request, woken already or not: more requests than these need more threads.
            if len(self._queue) <= self._idle:
                self._work.notify()
            elif len(self._threads) < self._threads_max:
                thread = threading.Thread(target=self._run, name=f"isotach-fuse-{self._name}", daemon=True)
                self._threads.add(thread)
                thread.start()

    def take_out(self, request: Request) -> bool:
        """Whether it had not begun; then it never does."""
        with self._lock:
            for index, (queued, _) in enumerate(self._queue):
                if queued is request:
                    del self._queue[index]
                    self._took(request)
                    return True
        return False

    def _took(self, request: Request) -> None:
        self._queued_bytes -= len(request.body)
        self._room.notify()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._queue and not self._await_work():
                    self._threads.discard(threading.current_thread())
                    self._room.notify_all()
                    return
                if not self._queue:
                    continue
                request, work = self._queue.popleft()
                self._took(request)
                self._busy += 1
            try:
                self._serve(request, work)
            finally:
                del request, work
                with self._lock:
                    self._busy -= 1

    def _await_work(self) -> bool:
        """With the lock. False: this thread is to end."""
        if self._closed:
            return False
        self._idle += 1
        notified = self._work.wait(FUSE_POOL_IDLE_S)
        self._idle -= 1
        return bool(self._queue) or (notified and not self._closed)

    def close(self, deadline: float) -> bool:
        """Ends the threads once the queue is empty; False: not by the deadline (monotonic)."""
        with self._lock:
            self._closed = True
            self._work.notify_all()
            while self._threads:
                rest = deadline - time.monotonic()
                if rest <= 0:
                    return False
                self._room.wait(min(rest, 1.0))
        return True


class Pools:
    """`contract.Later`. Threads: as many as given for each of "read", "write" and "tree"; "wait" has plenty, as each of
    its requests holds one until a lock is free or a signal comes."""

    def __init__(
        self, threads: int, serve: Serve, interrupts: Interrupts, waiting_threads: int = FUSE_WAITING_THREADS_MAX
    ) -> None:
        self._interrupts = interrupts
        self._pools: Mapping[str, _Pool] = {
            name: _Pool(name, waiting_threads if name == "wait" else threads, serve) for name in POOL_NAMES
        }

    @property
    def under_way(self) -> int:
        """Requests that wait or are served in the pools."""
        return sum(pool.under_way for pool in self._pools.values())

    def run(self, pool: str, request: Request, work: Handler) -> None:
        """Copies the body and returns; `work` runs later in a thread of the pool. Raises InvalidArgumentError for a
        pool that is not there."""
        chosen = self._pools.get(pool)
        if chosen is None:
            raise InvalidArgumentError(f"no pool is called {pool!r}: take one of {', '.join(POOL_NAMES)}")
        request.body = memoryview(bytes(request.body))
        if pool == "wait":

            def give_up() -> bool:
                taken = chosen.take_out(request)
                if taken:
                    request.channel.fail(request.unique, EINTR)
                return taken

            if not self._interrupts.watch_queued(request.unique, give_up):
                request.channel.fail(request.unique, EINTR)
                return
        chosen.put(request, work)

    def on_interrupt(self, request: Request, callback: Callable[[], None]) -> None:
        """Calls back when the kernel asks to end this request early (a signal); forgotten once it is answered."""
        self._interrupts.watch(request.unique, callback)

    def close(self, timeout_s: float) -> bool:
        """Serves what is queued, then ends all threads; False: some did not within the time-out (seconds)."""
        deadline = time.monotonic() + timeout_s
        ended = [pool.close(deadline) for pool in self._pools.values()]
        return all(ended)
