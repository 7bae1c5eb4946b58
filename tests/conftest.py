"""What every layer of tests shares: waiting without sleeping, leak checks, and skips that say why.

Owns: fixtures of no particular layer. Never: starts servers (each layer's own conftest does).
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

T = TypeVar("T")

#: Threads that libraries keep for the life of the process.
_LASTING_THREADS = ("pytest_timeout", "execnet", "ThreadPoolExecutor", "tokio", "asyncio_")
#: A pool, a resolver or a pytest plugin may keep a few descriptors; a leak in a loop passes this at once.
_DESCRIPTORS_SLACK = 16


_kill = os.kill


def _kill_one(pid: int, number: int) -> None:
    """`os.kill` for tests: a cluster says -1 for a process that is down, and to the system -1 is everybody."""
    if pid <= 0:
        raise ProcessLookupError(f"{pid} is no process id: the process is down at this moment")
    _kill(pid, number)


os.kill = _kill_one


def wait_until(predicate: Callable[[], T], timeout: float = 10.0, message: str = "") -> T:
    """The first true value of `predicate`, asked until `timeout` seconds have passed; then fails with the last one."""
    deadline = time.monotonic() + timeout
    pause = 0.001
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"not so within {timeout} s: {message or predicate}; the last value was {value!r}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


@pytest.fixture
def eventually() -> Callable[..., object]:
    """`eventually(predicate, timeout=10.0, message="")`: polls with a deadline, in place of any fixed sleep."""
    return wait_until


@pytest.fixture
def no_leaks(eventually: Callable[..., object]) -> Iterator[None]:
    """Fails the test that leaves threads, child processes or many descriptors behind."""
    me = psutil.Process()
    threads = set(threading.enumerate())
    children = {child.pid for child in me.children(recursive=True)}
    descriptors = me.num_fds()
    yield
    eventually(lambda: not _new_threads(threads), message="the test left threads running")
    eventually(lambda: not _new_children(me, children), message="the test left processes running")
    eventually(lambda: me.num_fds() <= descriptors + _DESCRIPTORS_SLACK, message="the test left descriptors open")


def _new_threads(before: set[threading.Thread]) -> list[str]:
    names = [thread.name for thread in threading.enumerate() if thread not in before]
    return [name for name in names if not name.startswith(_LASTING_THREADS)]


def _new_children(me: psutil.Process, before: set[int]) -> list[int]:
    children = me.children(recursive=True)
    return [child.pid for child in children if child.pid not in before and child.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def require_root() -> None:
    """Skips where the test cannot become other users or mount."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it acts as other users or mounts")


@pytest.fixture
def require_fuse() -> None:
    """Skips where the kernel offers no FUSE."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("needs /dev/fuse, readable and writable")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return Path(__file__).resolve().parent.parent
