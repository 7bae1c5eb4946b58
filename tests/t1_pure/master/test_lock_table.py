"""The table of locks against a naive model that keeps one kind per owner and byte."""

import errno
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isotach.base.lock_ranges import (
    LOCK_END_MAX,
    LOCK_NONE,
    LOCK_READ,
    LOCK_WRITE,
    Held,
    LockKey,
    LockOwner,
    conflicts,
)
from isotach.master.lock_table import LockTable, Waiter

FILE: LockKey = (7, False)
SIZE = 12
OWNERS: list[LockOwner] = [(b"a", 1), (b"a", 2), (b"b", 1), (b"c", 9)]


def lock(owner: int, kind: int, start: int, end: int) -> Held:
    return Held(start, end, kind, 100 + owner, OWNERS[owner])


class Model:
    """Byte by byte."""

    def __init__(self) -> None:
        self.bytes: list[dict[LockOwner, int]] = [{} for _ in range(SIZE)]

    def blocks(self, wanted: Held) -> bool:
        held = self.bytes[wanted.start : wanted.end + 1]
        return wanted.kind != LOCK_NONE and any(
            owner != wanted.owner and LOCK_WRITE in (kind, wanted.kind) for byte in held for owner, kind in byte.items()
        )

    def take(self, wanted: Held) -> None:
        for byte in self.bytes[wanted.start : wanted.end + 1]:
            byte.pop(wanted.owner, None)
            if wanted.kind != LOCK_NONE:
                byte[wanted.owner] = wanted.kind


def spread(table: LockTable) -> list[dict[LockOwner, int]]:
    """What the table holds, byte by byte; checks on the way that ranges are apart and joined where they can be."""
    found: list[dict[LockOwner, int]] = [{} for _ in range(SIZE)]
    count = 0
    for session in {owner[0] for owner in OWNERS}:
        rows: dict[LockOwner, list[Held]] = {}
        for _, held in table.held_by(session):
            rows.setdefault(held.owner, []).append(held)
            count += 1
            for byte in found[held.start : held.end + 1]:
                assert held.owner not in byte
                byte[held.owner] = held.kind
        for ranges in rows.values():
            assert ranges == sorted(ranges)
            for one, next_one in itertools.pairwise(ranges):
                assert one.end < next_one.start
                assert one.kind != next_one.kind or one.end + 1 < next_one.start
    assert table.count == count
    return found


ranges = st.tuples(st.integers(0, SIZE - 1), st.integers(0, SIZE - 1)).map(sorted)
requests = st.builds(
    lambda owner, kind, range_: lock(owner, kind, *range_),
    st.integers(0, len(OWNERS) - 1),
    st.sampled_from((LOCK_READ, LOCK_WRITE, LOCK_NONE)),
    ranges,
)


@given(st.lists(requests, max_size=40))
@settings(max_examples=300, deadline=None)
def test_locks_are_as_in_the_model(wanted: list[Held]) -> None:
    table, model = LockTable(), Model()
    for each in wanted:
        blocker = table.blocker(FILE, each)
        assert (blocker is not None) == model.blocks(each)
        if blocker is None:
            table.take(FILE, each)
            model.take(each)
        else:
            assert conflicts(blocker, each)
        assert spread(table) == model.bytes


steps = st.one_of(
    st.tuples(st.just("enter"), requests),
    st.tuples(st.just("attempt"), requests),
    st.tuples(st.just("leave"), st.integers(0, 5)),
    st.tuples(st.just("park"), st.integers(0, 5)),
    st.tuples(st.just("drop"), st.sampled_from([b"a", b"b", b"c"])),
)


class Play:
    """One run of steps over the table, the model, and who is in the queue."""

    def __init__(self) -> None:
        self.table = LockTable()
        self.model = Model()
        self.queue: list[Waiter] = []

    def step(self, what: str, given_: Held | int | bytes) -> None:
        if isinstance(given_, Held):
            getattr(self, what)(given_)
        elif isinstance(given_, bytes):
            self.drop(given_)
        elif given_ < len(self.queue):
            getattr(self, what)(self.queue[given_])
        for waiter in self.table.settle(FILE):
            assert not self.model.blocks(waiter.wanted)
            self.model.take(waiter.wanted)
            self.queue.remove(waiter)

    def enter(self, wanted: Held) -> None:
        blocks = self.model.blocks(wanted)
        try:
            waiter = self.table.enter(FILE, wanted)
        except OSError:
            assert blocks
            self.forget(wanted)
            return
        if waiter is None:
            assert not blocks
            self.model.take(wanted)
            self.forget(wanted)
        elif waiter not in self.queue:
            self.queue.append(waiter)

    def forget(self, wanted: Held) -> None:
        """A request that is answered is in the queue no longer."""
        self.queue = [each for each in self.queue if each.wanted != wanted]

    def attempt(self, wanted: Held) -> None:
        if self.table.blocker(FILE, wanted) is None:
            self.table.take(FILE, wanted)
            self.model.take(wanted)

    def leave(self, waiter: Waiter) -> None:
        self.table.leave(waiter)
        self.queue.remove(waiter)

    def park(self, waiter: Waiter) -> None:
        waiter.is_parked = True

    def drop(self, session: bytes) -> None:
        self.table.drop_session(session)
        for owner in OWNERS:
            if owner[0] == session:
                self.model.take(Held(0, SIZE, LOCK_NONE, 0, owner))
        self.queue = [each for each in self.queue if each.wanted.owner[0] != session]


@given(st.lists(steps, max_size=50))
@settings(max_examples=300, deadline=None)
def test_nobody_waits_for_what_is_free_and_nothing_is_held_twice(script: list[tuple]) -> None:
    play = Play()
    for what, given_ in script:
        play.step(what, given_)
        assert spread(play.table) == play.model.bytes
        assert play.table.waiters == len(play.queue)
        ahead: list[Waiter] = []
        for waiter in play.queue:
            is_alone = not any(conflicts(each.wanted, waiter.wanted) for each in ahead)
            assert waiter.is_parked or play.model.blocks(waiter.wanted) or not is_alone
            ahead.append(waiter)


def test_a_deadlock_of_three_is_found() -> None:
    table = LockTable()
    files = [(1, False), (2, False), (3, False)]
    for number, key in enumerate(files):
        table.take(key, lock(number, LOCK_WRITE, 0, 0))
    assert table.enter(files[1], lock(0, LOCK_WRITE, 0, 0))
    assert table.enter(files[2], lock(1, LOCK_READ, 0, 9))
    with pytest.raises(OSError, match="waits for one of yours") as caught:
        table.enter(files[0], lock(2, LOCK_WRITE, 0, 0))
    assert caught.value.errno == errno.EDEADLK
    table.take(files[2], lock(2, LOCK_NONE, 0, LOCK_END_MAX))
    assert [waiter.wanted.owner for waiter in table.settle(files[2])] == [OWNERS[1]]


def test_flock_waits_without_a_search_for_deadlocks() -> None:
    table = LockTable()
    for number in (0, 1):
        table.take((number, True), lock(number, LOCK_WRITE, 0, LOCK_END_MAX))
    assert table.enter((1, True), lock(0, LOCK_WRITE, 0, LOCK_END_MAX))
    assert table.enter((0, True), lock(1, LOCK_WRITE, 0, LOCK_END_MAX))


def test_a_writer_is_not_starved_by_readers_who_wait() -> None:
    table = LockTable()
    table.take(FILE, lock(0, LOCK_READ, 0, 9))
    writer = table.enter(FILE, lock(1, LOCK_WRITE, 0, 9))
    reader = table.enter(FILE, lock(2, LOCK_READ, 0, 9))
    assert writer
    assert reader
    assert table.blocker(FILE, lock(3, LOCK_READ, 0, 9)) is None  # who may not wait is not refused
    table.take(FILE, lock(0, LOCK_NONE, 0, 9))
    assert table.settle(FILE) == [writer]
    table.take(FILE, lock(1, LOCK_NONE, 0, 9))
    assert table.settle(FILE) == [reader]


def test_a_holder_passes_the_one_who_waits_for_it() -> None:
    table = LockTable()
    table.take(FILE, lock(0, LOCK_READ, 0, 3))
    assert table.enter(FILE, lock(1, LOCK_WRITE, 0, 9))
    assert table.enter(FILE, lock(0, LOCK_READ, 4, 9)) is None


def test_what_comes_again_keeps_its_place() -> None:
    table = LockTable()
    table.take(FILE, lock(0, LOCK_WRITE, 0, 9))
    first = table.enter(FILE, lock(1, LOCK_WRITE, 0, 9))
    second = table.enter(FILE, lock(2, LOCK_WRITE, 0, 9))
    assert first
    assert second
    first.is_parked = True
    table.take(FILE, lock(0, LOCK_NONE, 0, 9))
    assert table.settle(FILE) == []
    assert table.enter(FILE, lock(1, LOCK_WRITE, 0, 9)) is None
    assert table.waiters == 1


def test_locks_and_waiters_are_bounded() -> None:
    table = LockTable(locks_max=2, waiters_max=1)
    table.take(FILE, lock(0, LOCK_WRITE, 0, 0))
    table.take(FILE, lock(0, LOCK_WRITE, 2, 4))
    with pytest.raises(OSError, match="are held") as caught:
        table.take((9, False), lock(1, LOCK_WRITE, 0, 0))
    assert caught.value.errno == errno.ENOLCK
    table.take(FILE, lock(0, LOCK_NONE, 3, 3))  # splits: giving up never fails
    assert table.enter(FILE, lock(1, LOCK_WRITE, 0, 0))
    with pytest.raises(OSError, match="are waiting"):
        table.enter(FILE, lock(2, LOCK_WRITE, 0, 0))
