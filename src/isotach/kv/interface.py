"""The ordered key-value interface: snapshots to read from, batches to commit.

Owns: the protocols and the format stamp that every store carries. Never: knows what keys mean (`namespace` and
`blockstore` do), or talks to a disk itself.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Final, Protocol

from isotach.base.errors import InvalidArgumentError

#: Puts and deletes (None) that take effect together. No key stands in it twice.
Batch = list[tuple[bytes, bytes | None]]

FORMAT_KEY: Final = b"\0format"


class Snapshot(Protocol):
    """The state as of one commit, unmoved by later ones."""

    def get(self, key: bytes) -> bytes | None:
        """The value, or None when there is no such key."""
        ...

    def scan(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys in [start, stop) with their values, in byte order, read as the iterator advances."""
        ...


class RenewableSnapshot(Snapshot, Protocol):
    """A snapshot that can step to the newest commit. No scan may be under way across `renew`."""

    def renew(self) -> int:
        """Steps to the newest commit; returns its number, equal only while nothing was committed in between."""
        ...

    def close(self) -> None:
        """Gives the snapshot back. Safe to call twice."""


class KeyValueStore(Protocol):
    """One store. Any thread may read; one thread at a time commits."""

    def snapshot(self) -> AbstractContextManager[Snapshot]: ...

    def renewable_snapshot(self) -> RenewableSnapshot: ...

    def commit(self, batch: Batch) -> None:
        """Applies all of the batch or none; durable on return where the store was opened so. Raises OSError (ENOSPC
        when disk or map is full; the store stays usable)."""

    def size_bytes(self) -> int:
        """Bytes in use on disk (or in memory)."""
        ...

    def close(self) -> None:
        """Ends all; snapshots become invalid. Safe to call twice."""


def check_format(found: bytes | None, supported: int, where: str) -> bool:
    """Whether the stamp must be written (a new store). Raises InvalidArgumentError for a stamp newer than `supported`
    or one that is no number."""
    if found is None:
        return True
    if len(found) != 4:
        raise InvalidArgumentError(f"{where} is not a store of Isotach: its format stamp is {found[:16]!r}")
    version = int.from_bytes(found, "big")
    if version > supported:
        raise InvalidArgumentError(
            f"{where} has format {version}, this program knows up to {supported}: run a newer Isotach on this folder"
        )
    return False


def format_stamp(version: int) -> bytes:
    """What stands under FORMAT_KEY."""
    return version.to_bytes(4, "big")
