"""The retry wrapper: how often, how long, and which removals count as done."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from isotach.base.errors import UfsError, UfsUnreachableError
from isotach.testing.contracts.under_storage import put
from isotach.ufs.local import LocalUnderStorage
from isotach.ufs.local.faults import is_transient
from isotach.ufs.retry import RetryingUnderStorage, RetryPolicy


class Flaky(LocalUnderStorage):
    """A folder whose deletes and renames take effect, but fail the first time as if the answer was lost."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self._left = 1

    def delete(self, path: str) -> None:
        super().delete(path)
        self._lose_answer()

    def rename(self, src: str, dst: str) -> None:
        super().rename(src, dst)
        self._lose_answer()

    def _lose_answer(self) -> None:
        self._left -= 1
        if self._left >= 0:
            raise UfsUnreachableError(5, "the answer was lost")


@pytest.fixture
def flaky(tmp_path: Path) -> RetryingUnderStorage:
    return RetryingUnderStorage(Flaky(str(tmp_path)), RetryPolicy(sleep=lambda _: None))


def test_waits_double_up_to_a_bound() -> None:
    slept: list[float] = []
    policy = RetryPolicy(attempts_max=6, base_s=1.0, max_s=5.0, sleep=slept.append, jitter=lambda: 1.0)
    with pytest.raises(UfsUnreachableError):
        policy.run("call", _failing(UfsUnreachableError(5, "down")), is_transient)
    assert slept == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_jitter_stays_between_half_and_whole() -> None:
    for jitter in (0.0, 0.3, 1.0):
        assert 1.0 <= RetryPolicy(base_s=2.0, jitter=lambda value=jitter: value).wait_s(1) <= 2.0


def test_permanent_errors_are_raised_at_once() -> None:
    slept: list[float] = []
    with pytest.raises(FileNotFoundError):
        RetryPolicy(sleep=slept.append).run("call", _failing(FileNotFoundError()), is_transient)
    assert slept == []


def test_success_after_failures() -> None:
    counter = itertools.count()

    def call() -> int:
        if (number := next(counter)) < 2:
            raise UfsError(5, "input/output error")
        return number

    assert RetryPolicy(sleep=lambda _: None).run("call", call, is_transient) == 2


def test_removal_that_took_effect_is_done(flaky: RetryingUnderStorage) -> None:
    put(flaky, "file", b"x")
    flaky.delete("file")
    with pytest.raises(FileNotFoundError):
        flaky.delete("file")


def test_rename_that_took_effect_is_done(flaky: RetryingUnderStorage) -> None:
    put(flaky, "src", b"x")
    flaky.rename("src", "dst")
    with pytest.raises(FileNotFoundError):
        flaky.rename("src", "dst")


def _failing(error: Exception) -> Callable[[], None]:
    def call() -> None:
        raise error

    return call
