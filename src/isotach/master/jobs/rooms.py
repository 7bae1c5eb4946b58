"""How much of a job's files each worker may take, and which worker takes the next.

Owns: the account of bytes that a job has put, or found, at each worker. Never: asks a worker anything.

A load that is larger than the cache must not evict at its end what it loaded at its beginning: each worker gets no more
than a share of its capacity, and what is beyond that is reported instead.
"""

import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence

from isotach.base.limits import LOAD_CAPACITY_SHARE, LOADS_PER_WORKER_MAX
from isotach.base.placement import takes_new
from isotach.base.types import CacheState, Inode, WorkerId
from isotach.wire.messages import WorkerRow

_ROWS_AGE_S = 0.5


class Rooms:
    """One per job. `rows` gives the live workers, `now` a monotonic clock in seconds."""

    def __init__(self, rows: Callable[[], Sequence[WorkerRow]], now: Callable[[], float]) -> None:
        self._rows_of = rows
        self._now = now
        self._rows: Sequence[WorkerRow] = ()
        self._rows_until = -1.0
        self._rooms: dict[WorkerId, tuple[int, int]] = {}  # for any file, for one that may be in memory only
        self._used: dict[WorkerId, int] = defaultdict(int)
        self.in_flight: dict[WorkerId, int] = defaultdict(int)

    def workers(self) -> Sequence[WorkerRow]:
        """Those that may take something, as of a moment ago."""
        if self._now() >= self._rows_until:
            self._rows = takes_new(self._rows_of())
            self._rows_until = self._now() + _ROWS_AGE_S
            self._rooms = {
                row.worker_id: (room_of(row, only_memory=False), room_of(row, only_memory=True)) for row in self._rows
            }
        return self._rows

    def forget_workers(self) -> None:
        """One turned out to be away: look anew."""
        self._rows_until = -1.0

    def spread(self, size: int) -> None:
        """Books bytes of which only the sum is known: those of a former process."""
        rows = self.workers()
        for row in rows:
            self._used[row.worker_id] += size // len(rows)

    def book(self, worker_id: WorkerId, size: int) -> None:
        """The worker holds, or is about to get, so many bytes more."""
        self._used[worker_id] += size

    def ranked(self, inode: Inode, cache: CacheState | None, exclude: Sequence[WorkerId] = ()) -> list[WorkerRow]:
        """The workers with room for the file, best first: who holds some of it, then by a hash of the version, which is
        the one that readers without a better reason ask as well (`client.routing`)."""
        held = {} if cache is None else {row.worker_id: row.cached_bytes for row in cache.holders}
        seed = inode.version.to_bytes(8, "little")
        policy, length, used = inode.policy, inode.length, self._used
        in_memory = policy is not None and policy.memory_only
        rows = self.workers()  # which looks at the rooms as well
        rooms = self._rooms
        fitting = [
            row
            for row in rows
            if row.worker_id not in exclude and used[row.worker_id] + length <= rooms[row.worker_id][in_memory]
        ]

        def rank(row: WorkerRow) -> tuple[int, int]:
            return -held.get(row.worker_id, 0), zlib.crc32(seed + row.worker_id.encode())

        return sorted(fitting, key=rank)

    def free_of(self, ranked: Sequence[WorkerRow]) -> WorkerRow | None:
        """The best that may be given another file now."""
        return next((row for row in ranked if self.in_flight[row.worker_id] < LOADS_PER_WORKER_MAX), None)


def room_of(row: WorkerRow, *, only_memory: bool) -> int:
    """Bytes that a job may fill at a worker, of the tiers that such a file may lie in."""
    capacity = sum(tier.capacity_bytes for tier in row.tiers if tier.alias == "MEM" or not only_memory)
    return int(capacity * LOAD_CAPACITY_SHARE)
