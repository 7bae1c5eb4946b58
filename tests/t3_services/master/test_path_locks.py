"""Path locks: what conflicts, who comes first, what a cancelled waiter leaves."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotach.base.errors import UnavailableError
from isotach.base.paths import is_within
from isotach.master.path_locks import PathLocks

PATHS = st.sampled_from([b"/", b"/a", b"/a/b", b"/a/b/c", b"/ab", b"/d", b"/d/e"])


def conflict(one: bytes, other: bytes) -> bool:
    return is_within(one, other) or is_within(other, one)


@given(st.lists(st.tuples(PATHS, st.integers(0, 3)), max_size=12))
def test_no_two_conflicting_locks_are_held_and_everybody_gets_its_turn(wishes):
    async def scenario() -> None:
        locks, held, served = PathLocks(), [], []

        async def user(path: bytes, steps: int) -> None:
            async with locks.hold(path, owner="test"):
                assert not any(conflict(path, other) for other in held)
                held.append(path)
                for _ in range(steps):
                    await asyncio.sleep(0)
                held.remove(path)
                served.append(path)

        async with asyncio.TaskGroup() as group:
            for path, steps in wishes:
                group.create_task(user(path, steps))
        assert sorted(served) == sorted(path for path, _ in wishes)
        assert not locks.is_held(b"/")

    asyncio.run(scenario())


def test_a_directory_is_not_starved_by_what_is_below_it():
    async def scenario() -> None:
        locks = PathLocks()
        below = await locks.acquire(b"/a/b", owner="first")
        whole = asyncio.create_task(locks.acquire(b"/a", owner="rename"))
        await asyncio.sleep(0)
        late = asyncio.create_task(locks.acquire(b"/a/c", owner="late"))
        await asyncio.sleep(0)
        assert not whole.done()
        assert not late.done()
        locks.release(below)
        await whole
        assert not late.done()
        locks.release(whole.result())
        await late

    asyncio.run(scenario())


def test_a_cancelled_waiter_lets_the_next_one_pass():
    async def scenario() -> None:
        locks = PathLocks()
        held = await locks.acquire(b"/a/b", owner="first")
        whole = asyncio.create_task(locks.acquire(b"/a", owner="gives up"))
        await asyncio.sleep(0)
        sibling = asyncio.create_task(locks.acquire(b"/a/c", owner="sibling"))
        await asyncio.sleep(0)
        whole.cancel()
        with pytest.raises(asyncio.CancelledError):
            await whole
        await sibling
        locks.release(held)
        assert locks.waiting == 0

    asyncio.run(scenario())


def test_two_paths_are_taken_together():
    async def scenario() -> None:
        locks = PathLocks()
        both = await locks.acquire(b"/x", b"/y", owner="rename")
        waiter = asyncio.create_task(locks.acquire(b"/y/z", owner="other"))
        await asyncio.sleep(0)
        assert not waiter.done()
        locks.release(both)
        await waiter

    asyncio.run(scenario())


def test_a_lock_that_is_handed_over_stays_held_and_whoever_waits_is_told():
    async def scenario() -> None:
        locks = PathLocks()
        async with locks.hold(b"/a", owner="rename") as lock:
            waiter = asyncio.create_task(locks.acquire(b"/a/b", owner="later"))
            await asyncio.sleep(0)
            heir = locks.hand_over(lock, "recovery")
        assert not waiter.done()
        with pytest.raises(UnavailableError, match="still to be finished"):
            await locks.settled(b"/a/c", wait_s=0)
        with pytest.raises(UnavailableError, match="/a/c"):
            async with locks.hold(b"/a/c", owner="sync", wait_s=0):
                pass
        assert locks.waiting == 1
        await locks.settled(b"/b")
        locks.release(heir)
        locks.release(await waiter)
        await locks.settled(b"/a/c")
        assert not locks.is_held(b"/")

    asyncio.run(scenario())
