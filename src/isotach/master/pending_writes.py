"""The writes that are under way: what a report of an unknown version is judged by.

Owns: which versions were granted and neither completed nor given up, and which were given up lately. Never: grants or
completes one (`writes.py`), or outlives the process: a sealed grant is good for a new master, too.

A mount asks for a grant with every file that it opens for writing, and may never need it. Of those by id the oldest is
given up when there are too many; its writer is told so if it comes after all, and asks for another.
"""

from collections import OrderedDict
from typing import Final

from isotach.base.errors import UnavailableError
from isotach.base.limits import PENDING_WRITES_MAX
from isotach.base.types import Version


class PendingWrites:
    """For the event-loop thread, but for `versions`. Each is given up after `timeout_s`."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s: Final = timeout_s
        self._to_paths: Final[OrderedDict[Version, float]] = OrderedDict()  # monotonic ends, the earliest first
        self._by_id: Final[OrderedDict[Version, float]] = OrderedDict()
        self._refused: Final[OrderedDict[Version, None]] = OrderedDict()

    def versions(self) -> frozenset[Version]:
        """All that are under way. From any thread: one step of the interpreter copies each table."""
        return frozenset(self._to_paths) | frozenset(self._by_id)

    def __contains__(self, version: Version) -> bool:
        return version in self._to_paths or version in self._by_id

    def check_room(self, *, by_id: bool) -> None:
        """Raises UnavailableError when too many writes are under way."""
        if not by_id and len(self._to_paths) >= PENDING_WRITES_MAX:
            raise UnavailableError(f"{PENDING_WRITES_MAX} files are being written, which is the limit: try again later")

    def begin(self, version: Version, now_s: float, *, by_id: bool) -> None:
        """It is granted at `now_s`, monotonic."""
        if by_id and len(self._by_id) >= PENDING_WRITES_MAX:
            self.refuse(next(iter(self._by_id)))
        table = self._by_id if by_id else self._to_paths
        table[version] = now_s + self._timeout_s

    def end(self, version: Version) -> None:
        """It is completed."""
        self._to_paths.pop(version, None)
        self._by_id.pop(version, None)

    def refuse(self, version: Version) -> None:
        """It is given up: a late COMPLETE must not bring it."""
        self.end(version)
        self._refused[version] = None
        if len(self._refused) > PENDING_WRITES_MAX:
            self._refused.popitem(last=False)

    def is_refused(self, version: Version) -> bool:
        """Whether it was given up."""
        return version in self._refused

    def take_late(self, now_s: float) -> list[Version]:
        """Those that nobody has finished in time; they are forgotten, for their grants have expired."""
        late: list[Version] = []
        for table in (self._to_paths, self._by_id):
            while table and next(iter(table.values())) < now_s:
                late.append(table.popitem(last=False)[0])
        return late
