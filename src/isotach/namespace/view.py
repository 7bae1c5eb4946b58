"""What a handler reads and writes: a snapshot, under the batches that are not committed yet, under its own changes.

Owns: the overlay. Never: commits, or knows what keys mean. A handler that fails is undone by dropping its view.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol


class Readable(Protocol):
    """A state of the store, as `kv` snapshots are."""

    @property
    def get(self) -> Callable[[bytes], bytes | None]: ...

    def scan(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]: ...


class Overlay:
    """Puts and deletes (None) over a lower state, kept so that ranges can be found."""

    __slots__ = ("_sorted", "_unsorted", "rows")

    def __init__(self) -> None:
        self.rows: Final[dict[bytes, bytes | None]] = {}
        self._sorted: list[bytes] = []
        self._unsorted: list[bytes] = []

    def set(self, key: bytes, value: bytes | None) -> None:
        if key not in self.rows:
            self._unsorted.append(key)
        self.rows[key] = value

    def absorb(self, other: "Overlay") -> None:
        """Takes over the changes of a higher overlay."""
        for key, value in other.rows.items():
            self.set(key, value)

    def keys_between(self, start: bytes, stop: bytes) -> list[bytes]:
        if self._unsorted:
            self._sorted += self._unsorted
            self._sorted.sort()  # nearly sorted: linear
            self._unsorted = []
        return self._sorted[bisect_left(self._sorted, start) : bisect_left(self._sorted, stop)]


class View:
    """See the module. `layers` are uncommitted batches, the newest first."""

    __slots__ = ("_layers", "_snapshot", "own")

    def __init__(self, snapshot: Readable, layers: Sequence[Overlay] = ()) -> None:
        self._snapshot: Final = snapshot
        self._layers: Final = tuple(layers)
        self.own: Final = Overlay()

    def get(self, key: bytes) -> bytes | None:
        """The value as this handler sees it, or None."""
        rows = self.own.rows
        if key in rows:
            return rows[key]
        for layer in self._layers:
            if key in layer.rows:
                return layer.rows[key]
        return self._snapshot.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self.own.set(key, value)

    def delete(self, key: bytes) -> None:
        self.own.set(key, None)

    def scan(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Rows with keys in [start, stop), in order. Changes made during the scan do not show in it."""
        changed: dict[bytes, bytes | None] = {}
        for layer in (*reversed(self._layers), self.own):
            for key in layer.keys_between(start, stop):
                changed[key] = layer.rows[key]
        below = self._snapshot.scan(start, stop)
        return _merged(below, changed) if changed else below

    def batch(self) -> list[tuple[bytes, bytes | None]]:
        """The view's own changes, as a store commits them."""
        return list(self.own.rows.items())

    @contextmanager
    def nested(self) -> Iterator["View"]:
        """A view whose changes reach this one only when the block ends without an exception."""
        inner = View(self._snapshot, (self.own, *self._layers))
        yield inner
        self.own.absorb(inner.own)


def _merged(below: Iterator[tuple[bytes, bytes]], changed: dict[bytes, bytes | None]) -> Iterator[tuple[bytes, bytes]]:
    """Two sorted sources in one; where both have a key, `changed` decides."""
    keys = sorted(changed)
    index = 0
    for key, value in below:
        while index < len(keys) and keys[index] < key:
            above = changed[keys[index]]
            if above is not None:
                yield keys[index], above
            index += 1
        if key not in changed:
            yield key, value
    for rest in keys[index:]:
        above = changed[rest]
        if above is not None:
            yield rest, above
