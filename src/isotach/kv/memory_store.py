"""A store in a sorted dictionary, for tests and models.

Owns: the same promises as the LMDB store, without a disk. Never: serves production. Snapshots copy the whole store
when it was changed since the last one: small stores only.
"""

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from isotach.kv.interface import FORMAT_KEY, Batch, check_format, format_stamp


class _Frozen:
    """One state of the store."""

    def __init__(self, number: int, rows: dict[bytes, bytes]) -> None:
        self.number: Final = number
        self.rows: Final = rows
        self.keys: Final = sorted(rows)

    def get(self, key: bytes) -> bytes | None:
        return self.rows.get(key)

    def scan(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        index = bisect_left(self.keys, start)
        while index < len(self.keys) and self.keys[index] < stop:
            yield self.keys[index], self.rows[self.keys[index]]
            index += 1


class _Renewable:
    """Steps from state to state."""

    def __init__(self, store: "MemoryStore") -> None:
        self._store = store
        self._frozen = store.frozen()
        self.get = self._frozen.get

    def scan(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self._frozen.scan(start, stop)

    def renew(self) -> int:
        self._frozen = self._store.frozen()
        self.get = self._frozen.get
        return self._frozen.number

    def close(self) -> None:
        """Nothing to give back."""


class MemoryStore:
    """See the module. `fail_next` makes that many of the following commits raise the given error."""

    def __init__(self, format_version: int = 1) -> None:
        self._rows: dict[bytes, bytes] = {}
        self._number = 0
        self._frozen: _Frozen | None = None
        self._failures: list[OSError] = []
        if check_format(self._rows.get(FORMAT_KEY), format_version, "the memory store"):
            self._rows[FORMAT_KEY] = format_stamp(format_version)

    def fail_next(self, error: OSError, times: int = 1) -> None:
        """The following commits fail with this error and change nothing."""
        self._failures += [error] * times

    def frozen(self) -> _Frozen:
        """The present state."""
        if self._frozen is None:
            self._frozen = _Frozen(self._number, dict(self._rows))
        return self._frozen

    def snapshot(self) -> AbstractContextManager[_Frozen]:
        return nullcontext(self.frozen())

    def renewable_snapshot(self) -> _Renewable:
        return _Renewable(self)

    def commit(self, batch: Batch) -> None:
        if self._failures:
            raise self._failures.pop(0)
        for key, value in batch:
            if value is None:
                self._rows.pop(key, None)
            else:
                self._rows[key] = value
        self._number += 1
        self._frozen = None

    def size_bytes(self) -> int:
        return sum(len(key) + len(value) for key, value in self._rows.items())

    def close(self) -> None:
        """Nothing to end."""
