"""Retries for under storages: the one place where a failed call is tried again.

Owns: bounded attempts with exponential back-off and jitter, and `RetryingUnderStorage`, a wrapper
that is an under storage itself. Drivers only answer `is_transient`.
Never: repeats a call that may have taken effect in a way the caller can see (see
`_settled` below), nor a writer's commit.
"""

import random
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

import msgspec

from isotach.base.limits import RETRY_BASE_S, RETRY_MAX_S, UFS_RETRY_ATTEMPTS_MAX
from isotach.base.types import ReadBuffer
from isotach.obs.log import get_logger
from isotach.ufs.interface import Capabilities, RangeReader, UfsStatus, UfsWriter, UnderStorage
from isotach.ufs.ranges import ResumingRange

T = TypeVar("T")
log = get_logger("ufs.retry")


class RetryPolicy(msgspec.Struct, frozen=True):
    """How often and how long. Waits are drawn from [half, whole] of a doubling bound, in seconds."""

    attempts_max: int = UFS_RETRY_ATTEMPTS_MAX
    base_s: float = RETRY_BASE_S
    max_s: float = RETRY_MAX_S
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random

    def run(self, name: str, call: Callable[[], T], is_transient: Callable[[BaseException], bool]) -> T:
        """The call's result; its last error when every attempt failed or the error is not transient."""
        for attempt in range(1, self.attempts_max + 1):
            try:
                return call()
            except Exception as error:
                self.recover(name, attempt, error, is_transient)
        raise AssertionError("a retry policy needs at least one attempt")

    def recover(self, name: str, attempt: int, error: Exception, is_transient: Callable[[BaseException], bool]) -> None:
        """Waits after failed attempt number `attempt` (from 1); raises `error` when there is to be no other."""
        if attempt >= self.attempts_max or not is_transient(error):
            raise error
        wait_s = self.wait_s(attempt)
        log.warning("ufs_retry", call=name, attempt=attempt, wait_s=round(wait_s, 3), error=str(error))
        self.sleep(wait_s)

    def wait_s(self, attempt: int) -> float:
        """The wait after failed attempt number `attempt` (from 1), in seconds."""
        bound = min(self.max_s, self.base_s * 2 ** (attempt - 1))
        return float(bound * (0.5 + 0.5 * self.jitter()))


DEFAULT_POLICY: Final = RetryPolicy()


class RetryingUnderStorage:
    """Retries every idempotent call of `inner`; all else passes through."""

    def __init__(self, inner: UnderStorage, policy: RetryPolicy = DEFAULT_POLICY) -> None:
        self.inner = inner
        self._policy = policy

    @property
    def uri(self) -> str:
        return self.inner.uri

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    def check(self, read_only: bool) -> None:
        self.inner.check(read_only)  # a person waits for it: the first answer is the answer

    def stat(self, path: str) -> UfsStatus:
        return self._run("stat", lambda: self.inner.stat(path))

    def list_pages(self, path: str, start_after: str = "") -> Iterator[list[UfsStatus]]:
        return self._pages("list_pages", lambda: self.inner.list_pages(path, start_after))

    def list_recursive(self, path: str) -> Iterator[list[UfsStatus]]:
        return self._pages("list_recursive", lambda: self.inner.list_recursive(path))

    def read_range(self, path: str, offset: int, length: int, fingerprint: str | None = None) -> ReadBuffer:
        return self._run("read_range", lambda: self.inner.read_range(path, offset, length, fingerprint))

    def open_range(self, path: str, offset: int, length: int, fingerprint: str | None = None) -> RangeReader:
        """What breaks off goes on from the byte that was reached, under the same fingerprint. Without one, nothing says
        that it would still be the same content: then only the start is tried again."""

        def open_at(done: int) -> RangeReader:
            return self.inner.open_range(path, offset + done, length - done, fingerprint)

        def recover(failures: int, error: Exception) -> None:
            self._policy.recover("open_range", failures, error, self.inner.is_transient)

        if fingerprint is None:
            return self._run("open_range", lambda: open_at(0))
        return ResumingRange(open_at, recover)

    def open_write(self, path: str, size_hint: int | None = None) -> UfsWriter:
        return self._run("open_write", lambda: self.inner.open_write(path, size_hint))

    def delete(self, path: str) -> None:
        self._settled("delete", lambda: self.inner.delete(path), FileNotFoundError)

    def delete_directory(self, path: str, recursive: bool) -> None:
        self._settled("delete_directory", lambda: self.inner.delete_directory(path, recursive), FileNotFoundError)

    def rename(self, src: str, dst: str) -> None:
        def is_done() -> bool:
            return self._is_there(dst) and not self._is_there(src)

        self._settled("rename", lambda: self.inner.rename(src, dst), FileNotFoundError, is_done)

    def mkdir(self, path: str) -> None:
        self._run("mkdir", lambda: self.inner.mkdir(path))

    def set_mode(self, path: str, mode: int) -> None:
        self._run("set_mode", lambda: self.inner.set_mode(path, mode))

    def clean_leftovers(self, older_than_s: float) -> int:
        return self._run("clean_leftovers", lambda: self.inner.clean_leftovers(older_than_s))

    def drop_leftover(self, path: str, leftover: str) -> None:
        self._run("drop_leftover", lambda: self.inner.drop_leftover(path, leftover))

    def is_transient(self, error: BaseException) -> bool:
        return self.inner.is_transient(error)

    def close(self) -> None:
        self.inner.close()

    def _run(self, name: str, call: Callable[[], T]) -> T:
        return self._policy.run(name, call, self.inner.is_transient)

    def _settled(
        self, name: str, call: Callable[[], None], gone: type[Exception], is_done: Callable[[], bool] = lambda: True
    ) -> None:
        """Runs a removal. After a failed attempt `gone` may only mean that the attempt did take effect."""
        attempts = 0

        def once() -> None:
            nonlocal attempts
            attempts += 1
            try:
                call()
            except gone:
                if attempts == 1 or not is_done():
                    raise

        self._run(name, once)

    def _is_there(self, path: str) -> bool:
        try:
            self.inner.stat(path)
        except FileNotFoundError:
            return False
        return True

    def _pages(self, name: str, start: Callable[[], Iterator[list[UfsStatus]]]) -> Iterator[list[UfsStatus]]:
        """Only the first page is retried: it opens the listing. Drivers retry later pages where they hold a cursor."""

        def first() -> tuple[Iterator[list[UfsStatus]], list[UfsStatus] | None]:
            pages = start()
            return pages, next(pages, None)

        pages, page = self._run(name, first)
        while page is not None:
            yield page
            page = next(pages, None)
