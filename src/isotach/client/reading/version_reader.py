"""Positioned reads of one version of a file, whatever happens to connections and workers meanwhile.

Owns: the present source of an open file, and when it is replaced: a lost connection, a fork, a far jump, a version that
turned out stale before its first byte was given. Never: mixes two versions in one file object.
"""

import errno
import os

from isotach.base.errors import AuthenticationError, StaleVersionError, UnavailableError, os_error
from isotach.base.types import ReadType
from isotach.client.link import Link
from isotach.client.patience import Patience
from isotach.client.reading.opening import Opened, find_file, open_version, wants_spread
from isotach.client.reading.sources import Source, source_of
from isotach.client.reading.spread import SpreadSource
from isotach.wire.messages import StatReply


class VersionReader:
    """One open version; one thread at a time. `length` is its size in bytes."""

    def __init__(
        self,
        link: Link,
        path: bytes,
        found: StatReply,
        opened: Opened | None,
        read_type: ReadType,
        *,
        pinned: bool = False,
    ) -> None:
        """`pinned`: that very version from the first byte on, as for who knows its length already."""
        self._link = link
        self._path = path
        self._found = found
        self._read_type = read_type
        self._opened = opened
        self._source: Source | None = None if opened is None else source_of(opened, found.inode.length)
        self._spread: SpreadSource | None = None
        self._pid = os.getpid()
        self._gave_bytes = pinned
        self._may_spread = True
        self.length = found.inode.length

    def read_into(self, offset: int, view: memoryview) -> int:
        """Fills `view` from `offset`; how many bytes: fewer than asked only where that is all there is at the moment,
        0 at the end of the file. Raises StaleVersionError (ESTALE) when this version can no longer be read."""
        patience: Patience | None = None
        looked_again = False
        while True:
            if offset >= self.length or not len(view):
                return 0
            wanted = view[: self.length - offset]
            try:
                count = self._fit_source(offset).read_into(offset, wanted)
            except (StaleVersionError, AuthenticationError) as problem:
                if looked_again:
                    raise
                looked_again = True
                self._look_again(problem)
            except UnavailableError as problem:
                self._drop()
                self._may_spread = False
                patience = patience or Patience(self._link.settings.retry_total)
                patience.pause_or_raise(problem)
            except BaseException:
                self._drop()
                raise
            else:
                if not count:
                    raise os_error(
                        errno.EIO, "the cached file ended before its length: free it and read again", self._path
                    )
                self._gave_bytes = True
                return count

    def close(self) -> None:
        """Gives back what is held at the worker."""
        self._drop()

    def _fit_source(self, offset: int) -> Source:
        if self._pid != os.getpid():
            # The connection is the parent's: closing our copy of it tells the worker nothing.
            self._drop()
            self._pid = os.getpid()
        if self._source is not None and not self._source.suits(offset):
            self._drop()
        if self._source is None:
            if self._may_spread and wants_spread(self._link, self._found):
                self._source = self._spread = SpreadSource(self._link, self._found, self._read_type)
            else:
                self._opened = open_version(self._link, self._found, self._read_type)
                self._source = source_of(self._opened, self.length)
        return self._source

    def _look_again(self, problem: Exception) -> None:
        """The grant expired or the version is gone: takes a new grant for it, or (before the first byte was given) the
        version that replaced it."""
        self._drop()
        known = self._found.inode.version
        found = find_file(self._link, self._path, 0.0)
        if found.inode.version != known and self._gave_bytes:
            raise stale_error(self._path) from problem
        self._found = found
        self.length = found.inode.length

    def _drop(self) -> None:
        opened, self._opened, self._source = self._opened, None, None
        spread, self._spread = self._spread, None
        if opened is not None:
            opened.close()
        if spread is not None:
            spread.close()


def stale_error(path: bytes) -> StaleVersionError:
    """The error for a file object whose version is gone."""
    return StaleVersionError(
        errno.ESTALE, "the file was replaced while it was being read: open it again", os.fsdecode(path)
    )
