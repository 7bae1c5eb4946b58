"""Locks of two mounts at a real master, asked for as the kernel asks: waits, signals, closes, restarts, lost leases."""

import asyncio
import errno
import os
import queue
import struct
import threading
from collections.abc import Callable
from contextlib import ExitStack, contextmanager

import pytest

from isotach.base.lock_ranges import LOCK_END_MAX, LOCK_NONE, LOCK_READ, LOCK_WRITE
from isotach.fuse.contract import NODE_SHIFT, Request
from isotach.fuse.lock_session import LockSession
from isotach.fuse.locks import ClusterLocks, kept_session
from isotach.fuse.protocol.constants import Opcode
from isotach.net.blocking_channel import BlockingChannel

from .conftest import eventually

FILE = 77


class Answer:
    """The channel of one request."""

    def __init__(self) -> None:
        self.answers: queue.SimpleQueue[bytes | int] = queue.SimpleQueue()

    def get(self) -> bytes | int:
        return self.answers.get(timeout=10)


class Threads:
    """`contract.Later` with a thread per request."""

    def __init__(self) -> None:
        self.interrupts: dict[int, Callable[[], None]] = {}

    def run(self, _pool: str, request: Request, work) -> None:
        request.body = memoryview(bytes(request.body))
        threading.Thread(target=self._serve, args=(request, work), daemon=True).start()

    def _serve(self, request: Request, work) -> None:
        try:
            request.channel.answers.put(work(request))
        except OSError as error:
            request.channel.answers.put(error.errno)

    def on_interrupt(self, request: Request, callback: Callable[[], None]) -> None:
        self.interrupts[request.unique] = callback


class Mount:
    """What a kernel does with the handlers."""

    def __init__(self, address: str, session: bytes = b"") -> None:
        session = session or os.urandom(16)
        self.later = Threads()
        self.session = LockSession(BlockingChannel([address]), session, 10.0)
        self.session.files = self
        self.locks = ClusterLocks(self.session, session, self.later)
        self.published: list[int] = []
        self.refreshed: list[tuple[int, int]] = []
        self._unique = 0

    # --- contract.LockedFiles ---

    def publish_locked(self, file_id: int) -> None:
        self.published.append(file_id)

    def refresh_locked(self, file_id: int, version: int) -> None:
        self.refreshed.append((file_id, version))

    def is_written(self, _file_id: int) -> bool:
        return True

    def begin(self, opcode: int, kind: int, start=0, end=LOCK_END_MAX, *, owner=1, handle=5, flock=False) -> Request:
        body = struct.pack("<QQQQIII4x", handle, owner, start, end, kind, 99, int(flock))
        self._unique += 1
        node = 3 << NODE_SHIFT | FILE
        request = Request(opcode, self._unique, node, 0, 0, 99, memoryview(body), Answer())
        self.locks.handlers()[opcode](request)
        return request

    def set(self, kind: int, start=0, end=LOCK_END_MAX, **options) -> bytes | int:
        return self.begin(Opcode.SETLK, kind, start, end, **options).channel.get()

    def test(self, kind: int) -> tuple[int, ...]:
        return struct.unpack("<QQII", self.begin(Opcode.GETLK, kind).channel.get())


@contextmanager
def mounts(address: str, count: int = 2):
    with ExitStack() as stack:
        made = [Mount(address) for _ in range(count)]
        for mount in made:
            stack.callback(mount.locks.close)
        yield made


def in_thread(home, run, work: Callable[..., None]) -> None:
    """`work(master)` in a thread, beside the loop of the master."""

    async def scenario() -> None:
        async with home.master() as master:
            await asyncio.to_thread(work, master)

    run(scenario)


def test_locks_of_two_mounts_exclude_one_another(home, run) -> None:
    def work(master) -> None:
        with mounts(master.address) as (one, two):
            assert one.set(LOCK_WRITE, 0, 9) == b""
            assert two.set(LOCK_READ, 5, 5) == errno.EAGAIN
            assert two.test(LOCK_READ) == (0, 9, LOCK_WRITE, 0)
            assert one.test(LOCK_READ) == (0, 0, LOCK_NONE, 0)
            assert two.set(LOCK_READ, flock=True) == b""
            assert one.set(LOCK_WRITE, flock=True) == errno.EAGAIN
            assert one.set(LOCK_NONE) == b""
            assert two.set(LOCK_WRITE, 5, 5) == b""

    in_thread(home, run, work)


def test_who_waits_gets_it_or_is_interrupted(home, run) -> None:
    def work(master) -> None:
        with mounts(master.address) as (one, two):
            assert one.set(LOCK_WRITE) == b""
            waiting = two.begin(Opcode.SETLKW, LOCK_WRITE)
            given_up = two.begin(Opcode.SETLKW, LOCK_READ, owner=2)
            while given_up.unique not in two.later.interrupts:
                threading.Event().wait(0.005)
            two.later.interrupts[given_up.unique]()
            assert given_up.channel.get() == errno.EINTR
            assert one.set(LOCK_NONE) == b""
            assert waiting.channel.get() == b""
            assert one.set(LOCK_READ) == errno.EAGAIN

    in_thread(home, run, work)


def test_closing_gives_up(home, run) -> None:
    def work(master) -> None:
        with mounts(master.address) as (one, two):
            one.set(LOCK_WRITE, 0, 9, owner=1, handle=5)
            one.set(LOCK_WRITE, 20, 29, owner=2, handle=6)
            assert one.locks.holds(FILE, 1)
            one.locks.flushed(FILE, 1)
            assert not one.locks.holds(FILE, 1)
            assert two.set(LOCK_WRITE, 0, 9) == b""
            assert two.set(LOCK_WRITE, 20, 20) == errno.EAGAIN
            one.locks.released(FILE, 6, 0, False)
            assert two.begin(Opcode.SETLKW, LOCK_WRITE, 20, 20).channel.get() == b""
            one.set(LOCK_WRITE, flock=True, owner=7)
            one.locks.released(FILE, 8, 7, True)
            assert two.begin(Opcode.SETLKW, LOCK_READ, flock=True).channel.get() == b""

    in_thread(home, run, work)


def test_locks_outlive_the_master_and_unlocks_wait_for_it(home, run) -> None:
    async def scenario() -> None:
        with ExitStack() as stack:
            async with home.master() as master:
                one, two = stack.enter_context(mounts(master.address))
                assert await asyncio.to_thread(one.set, LOCK_WRITE, 0, 9) == b""
                assert await asyncio.to_thread(one.set, LOCK_WRITE, 20, 29) == b""
            unlocking = one.begin(Opcode.SETLK, LOCK_NONE, 20, 29)
            async with home.master():
                assert await asyncio.to_thread(two.set, LOCK_WRITE, 5, 5) == errno.EAGAIN
                assert await asyncio.to_thread(unlocking.channel.get) == b""
                assert await asyncio.to_thread(two.set, LOCK_WRITE, 20, 29) == b""
                for mount in (one, two):
                    await asyncio.to_thread(mount.locks.close)

    run(scenario)


def test_a_lost_lock_is_told_once(home, run) -> None:
    async def scenario() -> None:
        async with home.master() as master:
            with ExitStack() as stack:
                one, two = stack.enter_context(mounts(master.address))
                assert await asyncio.to_thread(one.set, LOCK_WRITE) == b""
                file_locks = master.services.file_locks
                file_locks.sessions._live[one.session._session].seen_at -= 1_000
                await file_locks.check_leases()
                assert await asyncio.to_thread(two.set, LOCK_WRITE, 3, 3) == b""
                one.locks.hurry()

                async def is_told() -> bool:
                    return one.session.lost_count == 1

                await eventually(is_told)
                assert await asyncio.to_thread(one.set, LOCK_NONE) == errno.EIO
                assert await asyncio.to_thread(one.set, LOCK_READ) == errno.EAGAIN
                for mount in (one, two):
                    await asyncio.to_thread(mount.locks.close)

    run(scenario)


def test_a_restarted_daemon_takes_its_locks_over(home, run, tmp_path) -> None:
    def work(master) -> None:
        note = tmp_path / "fuse" / "mount.locks"
        session = kept_session(note, is_restart=False)
        assert kept_session(note, is_restart=True) == session
        assert kept_session(note, is_restart=False) != session
        with mounts(master.address) as (two, _):
            dead = Mount(master.address, session)
            assert dead.set(LOCK_WRITE) == b""
            dead.session._closing.set()  # killed: it says no goodbye
            dead.session._channel.close()
            heir = Mount(master.address, session)
            heir.session.resume()
            assert two.set(LOCK_READ) == errno.EAGAIN
            heir.locks.flushed(FILE, 1)
            assert two.set(LOCK_READ) == b""
            heir.locks.close()

    in_thread(home, run, work)


@pytest.mark.parametrize("flock", [False, True])
def test_a_mount_that_ends_gives_up_all(home, run, flock: bool) -> None:
    def work(master) -> None:
        with mounts(master.address) as (one, two):
            assert one.set(LOCK_WRITE, flock=flock) == b""
            waiting = two.begin(Opcode.SETLKW, LOCK_WRITE, flock=flock)
            one.locks.close()
            assert waiting.channel.get() == b""

    in_thread(home, run, work)


def test_contents_go_with_the_locks(home, run) -> None:
    def work(master) -> None:
        with mounts(master.address) as (one, two):
            assert one.set(LOCK_WRITE) == b""
            assert one.set(LOCK_NONE) == b""
            assert one.published == []  # alone with the file
            one.locks.hurry()
            assert two.set(LOCK_WRITE) == b""
            assert FILE in one.published
            two.published.clear()
            assert two.set(LOCK_NONE) == b""
            assert FILE in two.published
            one.published.clear()
            assert one.set(LOCK_WRITE) == b""
            assert one.set(LOCK_NONE) == b""
            assert FILE in one.published

    in_thread(home, run, work)
