"""Bounds on what one process asks of one under storage: requests at once, and bytes per second.

Owns: the places, the pace, and `LimitedUnderStorage`, a wrapper that is an under storage itself. Never: retries, or
decides who comes first (whoever queues the requests does).

A place is held while a request is under way: for the whole of a read or of a streamed range, and for each call of a
writer (which sends parts in threads of its own: those are bounded by UFS_PARTS_IN_FLIGHT_MAX for each writer).
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Final, TypeVar

from isotach.base.types import ReadBuffer
from isotach.ufs.interface import Capabilities, RangeReader, UfsStatus, UfsWriter, UnderStorage
from isotach.ufs.pace import Pace

T = TypeVar("T")


class LimitedUnderStorage:
    """`inner`, with at most `requests_max` requests at once, its bytes at `pace`."""

    def __init__(self, inner: UnderStorage, requests_max: int, pace: Pace) -> None:
        self.inner: Final = inner
        self._places: Final = threading.BoundedSemaphore(requests_max)
        self._pace: Final = pace

    @property
    def uri(self) -> str:
        return self.inner.uri

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    def check(self, read_only: bool) -> None:
        self.inner.check(read_only)

    def stat(self, path: str) -> UfsStatus:
        return self._run(lambda: self.inner.stat(path))

    def list_pages(self, path: str, start_after: str = "") -> Iterator[list[UfsStatus]]:
        return self.inner.list_pages(path, start_after)

    def list_recursive(self, path: str) -> Iterator[list[UfsStatus]]:
        return self.inner.list_recursive(path)

    def read_range(self, path: str, offset: int, length: int, fingerprint: str | None = None) -> ReadBuffer:
        with self._places:
            self._pace.pay(length)
            return self.inner.read_range(path, offset, length, fingerprint)

    def open_range(self, path: str, offset: int, length: int, fingerprint: str | None = None) -> RangeReader:
        self._places.acquire()
        try:
            return _LimitedRange(self.inner.open_range(path, offset, length, fingerprint), self._places, self._pace)
        except BaseException:
            self._places.release()
            raise

    def open_write(self, path: str, size_hint: int | None = None) -> UfsWriter:
        writer = self._run(lambda: self.inner.open_write(path, size_hint))
        return _LimitedWriter(writer, self._places, self._pace)

    def delete(self, path: str) -> None:
        self._run(lambda: self.inner.delete(path))

    def delete_directory(self, path: str, recursive: bool) -> None:
        self._run(lambda: self.inner.delete_directory(path, recursive))

    def rename(self, src: str, dst: str) -> None:
        self._run(lambda: self.inner.rename(src, dst))

    def mkdir(self, path: str) -> None:
        self._run(lambda: self.inner.mkdir(path))

    def set_mode(self, path: str, mode: int) -> None:
        self._run(lambda: self.inner.set_mode(path, mode))

    def clean_leftovers(self, older_than_s: float) -> int:
        return self._run(lambda: self.inner.clean_leftovers(older_than_s))

    def drop_leftover(self, path: str, leftover: str) -> None:
        self._run(lambda: self.inner.drop_leftover(path, leftover))

    def is_transient(self, error: BaseException) -> bool:
        return self.inner.is_transient(error)

    def close(self) -> None:
        self.inner.close()

    def _run(self, call: Callable[[], T]) -> T:
        with self._places:
            return call()


class _LimitedRange:
    def __init__(self, inner: RangeReader, places: threading.BoundedSemaphore, pace: Pace) -> None:
        self._inner: Final = inner
        self._places: Final = places
        self._pace: Final = pace
        self._is_open = True

    def read_into(self, view: memoryview) -> int:
        count = self._inner.read_into(view)
        if count:
            self._pace.pay(count)
        return count

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            try:
                self._inner.close()
            finally:
                self._places.release()


class _LimitedWriter:
    def __init__(self, inner: UfsWriter, places: AbstractContextManager[object], pace: Pace) -> None:
        self._inner: Final = inner
        self._places: Final = places
        self._pace: Final = pace

    @property
    def leftover(self) -> str | None:
        return self._inner.leftover

    def write(self, data: ReadBuffer) -> None:
        self._pace.pay(memoryview(data).nbytes)
        with self._places:
            self._inner.write(data)

    def prepare(self) -> None:
        with self._places:
            self._inner.prepare()

    def commit(self) -> UfsStatus:
        with self._places:
            return self._inner.commit()

    def abort(self) -> None:
        self._inner.abort()
