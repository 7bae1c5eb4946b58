"""The latest changes of entries, numbered, for those who follow them from a distance.

Owns: the ring and its bounds, which rows of a batch are changes of entries, and what entries were before. Never: waits,
sends, or decodes a record before somebody asks for it.

A row is kept as the bytes that were committed: `(key, record or None, what the entry was)`. The third is kept only
where the entry is gone or another inode by now, for which no record is decoded: the packed ids are compared.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from isotach.base.limits import CHANGE_BYTES_KEPT_MAX, CHANGES_KEPT_MAX
from isotach.base.types import Kind
from isotach.namespace.keys import ENTRY_PREFIX_BYTES

#: (key of the entry, its record now, its record before where that was another inode's)
ChangeRow = tuple[bytes, bytes | None, bytes | None]
Rows = Sequence[tuple[bytes, bytes | None]]
Former = Mapping[bytes, bytes]

ENTRY_MARK: Final = b"e"[0]
_ROW_COST_BYTES: Final = 200  # of objects beside their bytes
#: Bytes of a msgpack integer by its first byte, where that is not the integer itself.
_INTEGER_BYTES: Final = {0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9}


class ChangeRing:
    """Changes are numbered from 1 in the life of the ring; `last` is the newest number, whatever is still kept."""

    def __init__(self, kept_max: int = CHANGES_KEPT_MAX, bytes_max: int = CHANGE_BYTES_KEPT_MAX) -> None:
        self._kept_max: Final = kept_max
        self._bytes_max: Final = bytes_max
        self._rows: list[ChangeRow] = []
        self._bytes = 0
        self._first = 1  # number of the oldest row kept
        self.last = 0

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, rows: Rows, former: Former) -> int:
        """Takes the entries among the rows of one batch; how many there were. `former`: what was there before."""
        before = len(self._rows)
        size = 0
        for key, value in rows:
            if key[0] != ENTRY_MARK:
                continue
            old = former.get(key)
            if old is not None and value is not None and _packed_id(old) == _packed_id(value):
                old = None
            self._rows.append((key, value, old))
            size += len(key) + len(value or b"") + len(old or b"") + _ROW_COST_BYTES
        added = len(self._rows) - before
        self.last += added
        self._bytes += size
        if len(self._rows) > self._kept_max or self._bytes > self._bytes_max:
            self._forget()
        return added

    def skip(self) -> None:
        """Something changed that nobody noted: whoever comes back from before it has missed it."""
        self.last += 1
        self._rows.clear()
        self._bytes = 0
        self._first = self.last + 1

    def has_missed(self, after: int) -> bool:
        """Whether changes after that number are forgotten."""
        return not self._first - 1 <= after <= self.last

    def page(self, after: int, count_max: int, bytes_max: int) -> list[ChangeRow]:
        """The oldest changes after that number, which must not be missed; at least one where there is any."""
        start = after + 1 - self._first
        page: list[ChangeRow] = []
        size = 0
        for row in self._rows[start : start + count_max]:
            size += len(row[0]) + len(row[1] or b"") + _ROW_COST_BYTES
            if page and size > bytes_max:
                break
            page.append(row)
        return page

    def _forget(self) -> None:
        """The oldest go, a quarter at a time, so that each costs little."""
        gone = max(len(self._rows) - self._kept_max * 3 // 4, len(self._rows) // 4, 1)
        for key, value, old in self._rows[:gone]:
            self._bytes -= len(key) + len(value or b"") + len(old or b"") + _ROW_COST_BYTES
        del self._rows[:gone]
        self._first += gone


def place_of(key: bytes) -> tuple[int, bytes]:
    """(directory id, name) of an entry's key."""
    return int.from_bytes(key[1:ENTRY_PREFIX_BYTES], "big"), key[ENTRY_PREFIX_BYTES:]


def is_stub(record: bytes) -> bool:
    """Whether the record is only a name of a file that has several (`Kind.HARD_LINK`)."""
    _, end = _id_span(record)
    return record[end] == Kind.HARD_LINK


def _packed_id(record: bytes) -> bytes:
    """The first field of a record, as it is packed there."""
    start, end = _id_span(record)
    return record[start:end]


def _id_span(record: bytes) -> tuple[int, int]:
    start = 3 if record[0] == 0xDC else 1  # an array of 16 fields and more says their number in two more bytes
    return start, start + _INTEGER_BYTES.get(record[start], 1)
