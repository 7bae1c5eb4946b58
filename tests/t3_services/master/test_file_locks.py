"""Locks of programs at a real master: two mounts, waiting, leases, restarts and the grace after them."""

import asyncio
import errno
import os
from contextlib import asynccontextmanager, contextmanager

import pytest

from isotach.base.errors import StaleVersionError
from isotach.base.lock_ranges import LOCK_END_MAX, LOCK_NONE, LOCK_READ, LOCK_WRITE
from isotach.master.lock_sessions import LockSessions
from isotach.wire import messages as wire
from isotach.wire.messages import LockRow

from .conftest import Client, connected, eventually

FILE = 77


class Mount:
    """A session, as one mount has it."""

    def __init__(self, client: Client, session: bytes | None = None) -> None:
        self.client = client
        self.session = session or os.urandom(16)

    async def begin(self, held: list[LockRow] | None = None) -> wire.LockSessionReply:
        return await self.client.call(wire.LOCK_SESSION, wire.LockSessionRequest(self.session, held or []))

    async def sign(self) -> wire.LockSessionReply:
        return await self.client.call(wire.LOCK_SESSION, wire.LockSessionRequest(self.session))

    async def end(self) -> None:
        await self.client.call(wire.LOCK_SESSION, wire.LockSessionRequest(self.session, end=True))

    async def lock(self, kind: int, start: int = 0, end: int = LOCK_END_MAX, *, owner: int = 1, wait_ms=0, flock=False):
        row = LockRow(FILE, flock, kind, owner, start, end, 4711)
        try:
            return await self.client.call(wire.LOCK, wire.LockRequest(self.session, row, wait_ms))
        finally:
            await self.published()

    async def published(self) -> wire.LockSessionReply:
        """What other mounts ask for is published as soon as it was written."""
        request = wire.LockSessionRequest(self.session, published=[FILE])
        return await self.client.call(wire.LOCK_SESSION, request)

    async def test(self, kind: int, start: int = 0, end: int = LOCK_END_MAX) -> LockRow | None:
        row = LockRow(FILE, False, kind, 1, start, end)
        return (await self.client.call(wire.LOCK_TEST, wire.LockTestRequest(self.session, row))).blocker


@asynccontextmanager
async def two_mounts(home, **options):
    async with home.master(**options) as master, connected(master) as one, connected(master) as two:
        mounts = Mount(one), Mount(two)
        for mount in mounts:
            await mount.begin()
        yield master, *mounts


@contextmanager
def refused(number: int = errno.EAGAIN):
    """`pytest.raises` for an errno."""
    with pytest.raises(OSError, match=r".") as caught:
        yield
    assert caught.value.errno == number


def test_ranges_of_two_mounts_exclude_one_another(home, run) -> None:
    async def scenario() -> None:
        async with two_mounts(home) as (_, one, two):
            await one.lock(LOCK_WRITE, 10, 19)
            await two.lock(LOCK_WRITE, 20, 29)
            with refused():
                await two.lock(LOCK_READ, 0, 10)
            blocker = await two.test(LOCK_READ)
            assert (blocker.kind, blocker.start, blocker.end, blocker.session) == (LOCK_WRITE, 10, 19, b"")
            await one.lock(LOCK_READ, 10, 14)
            await two.lock(LOCK_READ, 0, 14)
            await one.lock(LOCK_NONE)
            assert await two.test(LOCK_WRITE) is None

    run(scenario)


def test_flock_is_unknown_to_record_locks_and_gives_up_what_it_converts(home, run) -> None:
    async def scenario() -> None:
        async with two_mounts(home) as (_, one, two):
            await one.lock(LOCK_READ, flock=True)
            await two.lock(LOCK_WRITE)
            await two.lock(LOCK_READ, flock=True)
            with refused():
                await one.lock(LOCK_WRITE, flock=True)
            await two.lock(LOCK_WRITE, flock=True)

    run(scenario)


def test_who_waits_gets_the_lock_when_it_is_free(home, run) -> None:
    async def scenario() -> None:
        async with two_mounts(home) as (master, one, two):
            await one.lock(LOCK_WRITE)
            waiting = asyncio.create_task(two.lock(LOCK_WRITE, wait_ms=10_000))
            await waits(master, 1)
            await one.lock(LOCK_NONE)
            await asyncio.wait_for(waiting, 5)
            with refused():
                await one.lock(LOCK_READ)
            with refused():
                await one.lock(LOCK_READ, wait_ms=10)
            await waits(master, 0)  # its place in the queue goes, too

    run(scenario)


async def waits(master, count: int) -> None:
    async def is_so() -> bool:
        return master.services.file_locks.table.waiters == count

    await eventually(is_so)


def test_a_deadlock_is_refused(home, run) -> None:
    async def scenario() -> None:
        async with two_mounts(home) as (master, one, two):
            await one.lock(LOCK_WRITE, 0, 0)
            await two.lock(LOCK_WRITE, 1, 1)
            waiting = asyncio.create_task(one.lock(LOCK_WRITE, 1, 1, wait_ms=10_000))
            await waits(master, 1)
            with refused(errno.EDEADLK):
                await two.lock(LOCK_WRITE, 0, 0, wait_ms=10_000)
            await two.lock(LOCK_NONE)
            await asyncio.wait_for(waiting, 5)

    run(scenario)


def test_a_connection_that_ends_leaves_the_queue_and_a_session_that_ends_its_locks(home, run) -> None:
    async def scenario() -> None:
        async with two_mounts(home) as (master, one, two):
            await one.lock(LOCK_WRITE)
            async with connected(master) as third:
                waiting = asyncio.create_task(Mount(third, two.session).lock(LOCK_READ, wait_ms=10_000))
                await waits(master, 1)
            await waits(master, 0)
            waiting.cancel()
            await one.end()
            await two.lock(LOCK_WRITE)
            with pytest.raises(StaleVersionError):
                await one.lock(LOCK_READ)
            assert not (await one.sign()).known

    run(scenario)


def test_a_silent_session_loses_its_locks_and_is_told_which_others_had(home, run) -> None:
    async def scenario() -> None:
        async with two_mounts(home) as (master, one, two):
            await one.lock(LOCK_WRITE, 0, 9)
            await one.lock(LOCK_READ, 20, 29, owner=2)
            locks = master.services.file_locks
            locks.sessions._live[one.session].seen_at -= 1_000
            await locks.check_leases()
            await two.lock(LOCK_WRITE, 5, 5)
            await two.lock(LOCK_READ, 20, 29)
            await two.lock(LOCK_NONE)  # it has it no longer, but had it
            assert not (await one.sign()).known
            held = [LockRow(FILE, False, LOCK_WRITE, 1, 0, 9), LockRow(FILE, False, LOCK_READ, 2, 20, 29)]
            for _ in range(2):  # asked again, the answer is the same
                reply = await one.begin(held)
                assert reply.known
                assert [(row.owner, row.start) for row in reply.lost] == [(1, 0)]
            with refused():
                await two.lock(LOCK_WRITE, 20, 20)

    run(scenario)


def test_a_held_up_master_ends_no_lease(home, run) -> None:
    async def scenario() -> None:
        async with two_mounts(home) as (master, one, _):
            locks = master.services.file_locks
            await one.lock(LOCK_WRITE)
            locks.sessions._live[one.session].seen_at -= 1_000
            locks.sessions._checked_at -= 1_000
            await locks.check_leases()
            assert (await one.sign()).known

    run(scenario)


def test_a_restarted_master_waits_for_those_who_held_locks(home, run) -> None:
    async def scenario() -> None:
        async with two_mounts(home) as (_, one, two):
            await one.lock(LOCK_WRITE, 0, 9)
        async with home.master() as master, connected(master) as first, connected(master) as second:
            one.client, two.client = first, second
            await two.begin()
            early = asyncio.create_task(two.lock(LOCK_READ))
            tested = asyncio.create_task(two.test(LOCK_READ))
            with pytest.raises(StaleVersionError):
                await one.lock(LOCK_READ, 50, 50)
            assert not early.done()
            assert (await one.begin([LockRow(FILE, False, LOCK_WRITE, 1, 0, 9)])).lost == []
            with refused():
                await early
            assert (await tested).start == 0
            recalled = await first.call(wire.LOCK_SESSION, wire.LockSessionRequest(one.session, recall=True))
            assert [(row.kind, row.start, row.end) for row in recalled.held] == [(LOCK_WRITE, 0, 9)]

    run(scenario)


def test_who_does_not_come_back_in_time_has_lost_all(home, run) -> None:
    async def scenario() -> None:
        async with two_mounts(home) as (_, one, two):
            await one.lock(LOCK_WRITE, 0, 9)
        async with home.master() as master, connected(master) as first, connected(master) as second:
            one.client, two.client = first, second
            await two.begin()
            early = asyncio.create_task(two.lock(LOCK_READ))
            await asyncio.sleep(0)
            master.services.file_locks.sessions._end_grace()
            await asyncio.wait_for(early, 5)
            await two.lock(LOCK_NONE)
            held = [LockRow(FILE, False, LOCK_WRITE, 1, 0, 9)]
            assert (await one.begin(held)).lost == [LockRow(FILE, False, LOCK_WRITE, 1, 0, 9, 0, one.session)]
        async with home.master() as master:
            assert isinstance(master.services.file_locks.sessions, LockSessions)
            assert not master.services.file_locks.sessions.is_grace_over  # the second had locks, and said no goodbye

    run(scenario)


def test_the_first_lock_of_another_mount_waits_for_what_was_written(home, run) -> None:
    async def scenario() -> None:
        async with two_mounts(home) as (_, one, two):
            row = LockRow(FILE, False, LOCK_WRITE, 1)
            alone = await one.client.call(wire.LOCK, wire.LockRequest(one.session, row))
            assert not alone.shared
            await one.client.call(wire.LOCK, wire.LockRequest(one.session, LockRow(FILE, False, LOCK_NONE, 1)))
            assert (await one.sign()).wanted == []
            waiting = asyncio.create_task(two.client.call(wire.LOCK, wire.LockRequest(two.session, row)))

            async def is_wanted() -> bool:
                return (await one.sign()).wanted == [FILE]

            await eventually(is_wanted)
            assert not waiting.done()
            assert (await one.published()).wanted == []
            assert (await asyncio.wait_for(waiting, 5)).shared
            left = wire.LockSessionRequest(one.session, left=[FILE])
            await one.client.call(wire.LOCK_SESSION, left)
            await two.lock(LOCK_NONE)
            again = asyncio.create_task(one.client.call(wire.LOCK, wire.LockRequest(one.session, row)))
            assert (await asyncio.wait_for(again, 5)).shared

    run(scenario)
