"""Which mounts use locks on a file, and who knows that it is not alone."""

import asyncio

from isotach.master.lock_users import LockUsers

ONE, TWO = b"one", b"two"
FILE = 7


def test_the_first_is_alone_and_the_second_waits_until_it_knows() -> None:
    users = LockUsers()
    assert users.enter(FILE, ONE)
    assert not users.is_shared(FILE, ONE)
    assert not users.enter(FILE, TWO)
    assert users.wanted_of(ONE) == [FILE]
    users.published(ONE, [FILE])
    assert users.wanted_of(ONE) == []
    assert users.enter(FILE, TWO)
    assert users.is_shared(FILE, TWO)
    assert users.enter(FILE, ONE)
    assert users.is_shared(FILE, ONE)


def test_who_leaves_or_ends_is_waited_for_no_longer() -> None:
    users = LockUsers()
    for leave in (lambda: users.leave(ONE, [FILE, 99]), lambda: users.end(ONE)):
        users.enter(FILE, ONE)
        assert not users.enter(FILE, TWO)
        leave()
        assert users.enter(FILE, TWO)
        users.end(TWO)
        assert users.count == 0


def test_beyond_the_bound_everybody_publishes() -> None:
    users = LockUsers(users_max=1)
    assert users.enter(FILE, ONE)
    assert users.enter(8, TWO)
    assert users.is_shared(8, TWO)
    assert users.count == 1


def test_all_who_wait_are_woken() -> None:
    async def scenario() -> None:
        users = LockUsers()
        users.enter(FILE, ONE)
        waiting = [asyncio.create_task(users.all_know(FILE, session)) for session in (TWO, b"three")]
        await asyncio.sleep(0)
        users.published(ONE, [FILE])
        await asyncio.sleep(0)
        users.published(TWO, [FILE])
        users.published(b"three", [FILE])
        await asyncio.wait_for(asyncio.gather(*waiting), 5)

    asyncio.run(scenario())
