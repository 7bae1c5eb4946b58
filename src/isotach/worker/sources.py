"""Where the bytes of a version come from when they are not here: the protocol, and under storages.

Owns: `Source`, `PeerCopies` (both are protocols), and the source that is an under storage. Never: caches, or runs
threads. Other workers are in `peers.py`.
"""

import errno
from collections.abc import Callable
from typing import Protocol

from isotach.base.errors import StaleVersionError
from isotach.base.types import ReadBuffer
from isotach.ufs.interface import RangeReader, UnderStorage


class Source(Protocol):
    """Gives ranges of one version. Any thread."""

    name: str  # for metrics: ufs or remote

    def read(self, offset: int, length: int) -> ReadBuffer:
        """Exactly these bytes. Raises what the store or the peer raised; never returns fewer."""
        ...

    def stream(self, offset: int, length: int) -> RangeReader | None:
        """The same bytes to be received piece by piece; None when they come all at once in any case."""
        ...


class PeerCopies(Protocol):
    """Copies of a stored version in other workers' caches: quicker than the store, never relied upon. Any thread."""

    @property
    def may_help(self) -> bool:
        """Whether it is worth asking."""
        ...

    def read(self, offset: int, length: int) -> ReadBuffer | None:
        """Exactly these bytes, compared with their checksums; None when no worker gives them soon. Never raises what a
        worker or a network can do wrong."""
        ...


class UfsSource:
    """The under storage holds the content."""

    name = "ufs"

    def __init__(self, storage: UnderStorage, path: str, fingerprint: str | None) -> None:
        self._storage = storage
        self._path = path
        self._fingerprint = fingerprint

    def read(self, offset: int, length: int) -> ReadBuffer:
        data = self._storage.read_range(self._path, offset, length, self._fingerprint)
        if len(data) != length:
            raise self._shorter(offset, length, len(data))
        return data

    def stream(self, offset: int, length: int) -> RangeReader | None:
        if not self._storage.capabilities.streams_ranges:
            return None
        inner = self._storage.open_range(self._path, offset, length, self._fingerprint)
        return _ExactRange(inner, length, lambda got: self._shorter(offset, length, got))

    def _shorter(self, offset: int, length: int, got: int) -> StaleVersionError:
        where = f"{self._storage.uri}/{self._path}"
        return StaleVersionError(
            errno.ESTALE, f"{where} became shorter: {got} of {length} bytes at {offset}; look it up again", where
        )


class _ExactRange:
    """A range that must not end before its length."""

    def __init__(self, inner: RangeReader, length: int, shorter: Callable[[int], StaleVersionError]) -> None:
        self._inner = inner
        self._length = length
        self._shorter = shorter
        self._got = 0

    def read_into(self, view: memoryview) -> int:
        count = self._inner.read_into(view)
        self._got += count
        if not count and self._got < self._length:
            raise self._shorter(self._got)
        return count

    def close(self) -> None:
        self._inner.close()
