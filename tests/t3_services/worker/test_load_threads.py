"""How many loads run at once: more while processors stand idle, fewer when they do not."""

import threading
from functools import partial

from isotach.base.limits import LOAD_THREADS, LOAD_THREADS_LOOK_S, LOAD_THREADS_MIN
from isotach.worker.load_threads import LoadThreads, Processors

_WAIT_S = 10.0


class _World:
    def __init__(self, idle: float, own: float = 0.0) -> None:
        self.idle = idle
        self.own = own
        self.now_s = 0.0

    def look(self) -> tuple[float, float]:
        return self.idle, self.own

    def tick(self) -> float:
        """Each question is asked a moment later."""
        self.now_s += LOAD_THREADS_LOOK_S
        return self.now_s


def _wait_at(gate: threading.Event) -> None:
    gate.wait(_WAIT_S)


def _limit_after(world: _World, loads: int, limit: int | None = None) -> int:
    threads = LoadThreads(world.look, world.tick)
    threads.limit = threads.limit if limit is None else limit
    left = threading.Semaphore(0)
    for _ in range(loads):
        threads.submit(left.release)
    for _ in range(loads):
        assert left.acquire(timeout=_WAIT_S)
    threads.close()
    return threads.limit


def test_idle_processors_get_more_threads() -> None:
    assert _limit_after(_World(idle=0.9), 100) == LOAD_THREADS


def test_busy_processors_get_few_threads() -> None:
    assert _limit_after(_World(idle=0.0), 100, limit=LOAD_THREADS) == LOAD_THREADS_MIN


def test_an_interpreter_that_is_busy_itself_gets_few_threads() -> None:
    assert _limit_after(_World(idle=0.9, own=1.0), 100, limit=LOAD_THREADS) == LOAD_THREADS_MIN


def test_no_more_run_than_may_and_one_that_fails_gives_its_place_back() -> None:
    world = _World(idle=0.15)
    threads = LoadThreads(world.look, world.tick)
    lock, most, running = threading.Lock(), 0, 0
    gate, left = threading.Barrier(LOAD_THREADS_MIN), threading.Semaphore(0)

    def work() -> None:
        nonlocal most, running
        with lock:
            running += 1
            most = max(most, running)
        gate.wait(_WAIT_S)  # as many as that do run at once
        with lock:
            running -= 1
        left.release()
        raise ValueError("a bug")

    for _ in range(5 * LOAD_THREADS_MIN):
        threads.submit(work)
    for _ in range(5 * LOAD_THREADS_MIN):
        assert left.acquire(timeout=_WAIT_S)
    threads.close()
    assert most == LOAD_THREADS_MIN


def test_what_waits_at_the_close_is_dropped() -> None:
    threads = LoadThreads(_World(idle=0.15).look)
    gate = threading.Event()
    done: list[int] = []
    for _ in range(LOAD_THREADS_MIN):
        threads.submit(partial(_wait_at, gate))
    threads.submit(lambda: done.append(1))
    threads.close()
    gate.set()
    threads.submit(lambda: done.append(2))
    assert not done


def test_a_look_at_this_host() -> None:
    idle, own = Processors().look()
    assert 0.0 <= idle <= 1.0
    assert own >= 0.0
