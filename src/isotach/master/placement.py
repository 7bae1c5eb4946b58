"""Which workers take a new file's blocks. Pure: rows in, rows out.

Owns: the policies of `CreateRequest.placement`. Never: knows whether a worker lives (it gets the live ones).
"""

import hashlib
from collections.abc import Sequence

from isotach.base.errors import InvalidArgumentError
from isotach.wire.messages import WorkerRow

POLICIES = ("LOCAL_FIRST", "ROUND_ROBIN", "MOST_AVAILABLE", "HASH")


def free_bytes(worker: WorkerRow) -> int:
    """What its tiers have left."""
    return sum(max(0, tier.capacity_bytes - tier.used_bytes) for tier in worker.tiers)


def place(
    live: Sequence[WorkerRow], policy: str, host_key: str, path: bytes, turn: int
) -> tuple[list[WorkerRow], bool]:
    """The candidates, best first, and whether a file's blocks go round them. `turn` counts the files placed.

    Raises InvalidArgumentError for an unknown policy.
    """
    workers = sorted(live, key=lambda row: row.worker_id)
    if policy == "LOCAL_FIRST":
        local = [row for row in workers if row.host_key == host_key and host_key]
        remote = [row for row in workers if row not in local]
        return sorted(local, key=free_bytes, reverse=True) + sorted(remote, key=free_bytes, reverse=True), False
    if policy == "MOST_AVAILABLE":
        return sorted(workers, key=free_bytes, reverse=True), False
    if policy == "ROUND_ROBIN":
        return _rotated(workers, turn), True
    if policy == "HASH":
        digest = hashlib.blake2b(path, digest_size=8).digest()
        return _rotated(workers, int.from_bytes(digest, "little")), True
    raise InvalidArgumentError(f"there is no placement policy {policy!r}: give one of {', '.join(POLICIES)}")


def _rotated(workers: list[WorkerRow], turn: int) -> list[WorkerRow]:
    at = turn % len(workers) if workers else 0
    return workers[at:] + workers[:at]
