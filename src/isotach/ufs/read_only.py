"""A wrapper for read-only mounts.

Owns: refusing every change with OSError(EROFS). Never: decides whether a mount is read-only.
"""

import errno
from collections.abc import Iterator
from typing import NoReturn

from isotach.base.errors import os_error
from isotach.base.types import ReadBuffer
from isotach.ufs.interface import Capabilities, RangeReader, UfsStatus, UfsWriter, UnderStorage


class ReadOnlyUnderStorage:
    """`inner`, without its changes."""

    def __init__(self, inner: UnderStorage) -> None:
        self.inner = inner

    @property
    def uri(self) -> str:
        return self.inner.uri

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    def check(self, read_only: bool) -> None:
        self.inner.check(True)

    def stat(self, path: str) -> UfsStatus:
        return self.inner.stat(path)

    def list_pages(self, path: str, start_after: str = "") -> Iterator[list[UfsStatus]]:
        return self.inner.list_pages(path, start_after)

    def list_recursive(self, path: str) -> Iterator[list[UfsStatus]]:
        return self.inner.list_recursive(path)

    def read_range(self, path: str, offset: int, length: int, fingerprint: str | None = None) -> ReadBuffer:
        return self.inner.read_range(path, offset, length, fingerprint)

    def open_range(self, path: str, offset: int, length: int, fingerprint: str | None = None) -> RangeReader:
        return self.inner.open_range(path, offset, length, fingerprint)

    def open_write(self, path: str, size_hint: int | None = None) -> UfsWriter:
        self._refuse(path)

    def delete(self, path: str) -> None:
        self._refuse(path)

    def delete_directory(self, path: str, recursive: bool) -> None:
        self._refuse(path)

    def rename(self, src: str, dst: str) -> None:
        self._refuse(src)

    def mkdir(self, path: str) -> None:
        self._refuse(path)

    def set_mode(self, path: str, mode: int) -> None:
        self._refuse(path)

    def clean_leftovers(self, older_than_s: float) -> int:
        return 0

    def drop_leftover(self, path: str, leftover: str) -> None:
        return  # nothing was written, nothing is left

    def is_transient(self, error: BaseException) -> bool:
        return self.inner.is_transient(error)

    def close(self) -> None:
        self.inner.close()

    def _refuse(self, path: str) -> NoReturn:
        raise os_error(
            errno.EROFS, "mounted read-only: mount it again without read_only to change it", f"{self.uri}/{path}"
        )
