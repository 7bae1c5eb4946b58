"""Lanes of persistence: bounds, the breaker, its probes, and that mounts do not feel each other."""

import errno

import pytest

from isotach.base.errors import StaleVersionError, UfsUnreachableError, UnavailableError
from isotach.base.limits import PERSIST_FAILURES_MAX, PERSIST_PROBE_S_MAX, PERSISTS_PER_MOUNT_MAX
from isotach.master.persist_lanes import PersistLanes
from isotach.ufs.trouble import is_store_trouble

DEAD = UfsUnreachableError(errno.EIO, "no answer")


def broken(now: float = 0.0) -> PersistLanes:
    lanes = PersistLanes(1.0, 3600.0)
    told = [lanes.failed(1, DEAD, now) for _ in range(PERSIST_FAILURES_MAX)]
    assert told == [False] * (PERSIST_FAILURES_MAX - 1) + [True]
    return lanes


def test_a_lane_has_a_bound_of_its_own() -> None:
    lanes = PersistLanes(1.0, 60.0)
    for _ in range(PERSISTS_PER_MOUNT_MAX):
        lanes.began(1)
    assert lanes.room(1, 0.0) == 0
    assert lanes.room(2, 0.0) == PERSISTS_PER_MOUNT_MAX
    lanes.ended(1)
    assert lanes.room(1, 0.0) == 1


def test_a_dead_store_is_probed_by_one_at_a_time_less_and_less_often() -> None:
    lanes = broken()
    assert lanes.trouble(1) is DEAD
    assert lanes.trouble(2) is None
    now, pauses = 0.0, []
    for _ in range(10):
        pause = lanes.wait_s(1, now)
        pauses.append(pause)
        assert lanes.room(1, now + pause / 2) == 0
        now += pause
        assert lanes.room(1, now) == 1
        lanes.began(1)
        assert lanes.room(1, now) == 0
        lanes.ended(1)
        assert lanes.failed(1, DEAD, now)
    assert pauses[:4] == [1.0, 2.0, 4.0, 8.0]
    assert pauses[-1] == PERSIST_PROBE_S_MAX


def test_stragglers_of_a_lane_that_is_open_do_not_lengthen_its_pause() -> None:
    lanes = broken()
    assert not lanes.failed(1, DEAD, 0.5)
    assert lanes.wait_s(1, 0.5) == 0.5


def test_a_store_that_answers_is_alive_whatever_it_says() -> None:
    lanes = broken()
    lanes.answered(1)
    assert lanes.trouble(1) is None
    assert lanes.room(1, 0.0) == PERSISTS_PER_MOUNT_MAX
    assert not lanes.failed(1, DEAD, 1.0), "the count begins anew"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DEAD, True),
        (OSError(errno.ENOSPC, "full"), True),
        (OSError(errno.EROFS, "read-only"), True),
        (IsADirectoryError(errno.EISDIR, "a directory"), False),
        (PermissionError(errno.EACCES, "not yours"), False),
        (StaleVersionError(errno.ESTALE, "overtaken"), False),
        (UnavailableError("the worker is lost"), False),
    ],
)
def test_what_is_the_trouble_of_a_whole_store(error: Exception, expected: bool) -> None:
    assert is_store_trouble(error) is expected
