"""Choosing workers by policy. Pure: candidates in, candidates in order out; shared by the master (writes) and clients.

Owns: the names of the location policies and the order that each gives. Never: knows who lives, or who holds what.

Hashes are rendezvous hashes (Thaler and Ravishankar, 1998): when a worker comes or goes, only the files move that are
its own. By capacity they are weighted as Schindelhauer and Schomaker (2005) do.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar

from isotach.base.locality import Locality, distance
from isotach.base.types import TierInfo, WorkerState

PLACEMENTS: Final = (
    "LOCAL_FIRST",
    "LOCAL_FIRST_AVOID_EVICTION",
    "ROUND_ROBIN",
    "MOST_AVAILABLE",
    "HASH",
    "SPECIFIC_HOST",
    "CAPACITY",
)
READ_PLACEMENTS: Final = ("LOCAL_FIRST", "ROUND_ROBIN", "MOST_AVAILABLE", "HASH", "SPECIFIC_HOST", "CAPACITY")


class Candidate(Protocol):
    """What is looked at of a worker (see `wire.messages.WorkerRow`)."""

    @property
    def worker_id(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def host_key(self) -> str: ...
    @property
    def tiers(self) -> list[TierInfo]: ...
    @property
    def state(self) -> str: ...
    @property
    def locality(self) -> list[tuple[str, str]]: ...


C = TypeVar("C", bound=Candidate)


class Asker(Protocol):
    """Who asks, and from where (see `wire.messages.CreateRequest`)."""

    @property
    def host_key(self) -> str: ...
    @property
    def locality(self) -> list[tuple[str, str]]: ...


def free_bytes(worker: Candidate) -> int:
    """What its tiers have left."""
    return sum(max(0, tier.capacity_bytes - tier.used_bytes) for tier in worker.tiers)


def capacity_bytes(worker: Candidate) -> int:
    """What its tiers can hold."""
    return sum(tier.capacity_bytes for tier in worker.tiers)


def steps_to(worker: Candidate, host_key: str, locality: Locality) -> int:
    """0 for a worker of the same running kernel, else 1 and up: the farther the locality, the more."""
    if host_key and worker.host_key == host_key:
        return 0
    return 1 + distance(locality, worker.locality)


def takes_new(workers: Sequence[C]) -> list[C]:
    """Those that may be given anything: not the ones that are being decommissioned."""
    return [row for row in workers if row.state == WorkerState.LIVE]


def in_order(
    workers: Sequence[C],
    policy: str,
    *,
    host_key: str,
    locality: Locality,
    key: bytes,
    turn: int,
    host: str = "",
    shards: int = 1,
    room_bytes: int = 0,
) -> list[C]:
    """The workers, best first. `key` is what is hashed, `turn` counts what one asker has placed, `host` is the one of
    SPECIFIC_HOST (a host name or a worker id; nobody else is given then), `shards` says among how many workers HASH
    lets the nearest go first, and `room_bytes` is what LOCAL_FIRST_AVOID_EVICTION wants free. An unknown policy is
    taken for LOCAL_FIRST: who takes names from users checks them."""
    by_id = sorted(workers, key=lambda row: row.worker_id)

    def near(row: C) -> tuple[int, int]:
        return steps_to(row, host_key, locality), -free_bytes(row)

    if policy == "MOST_AVAILABLE":
        return sorted(by_id, key=lambda row: -free_bytes(row))
    if policy == "ROUND_ROBIN":
        at = turn % len(by_id) if by_id else 0
        return by_id[at:] + by_id[:at]
    if policy == "HASH":
        ranked = sorted(by_id, key=lambda row: _unit_hash(key, row.worker_id))
        return sorted(ranked[:shards], key=lambda row: steps_to(row, host_key, locality)) + ranked[shards:]
    if policy == "CAPACITY":
        return sorted(by_id, key=_by_capacity(key))
    if policy == "SPECIFIC_HOST":
        return sorted((row for row in by_id if is_called(row, host)), key=near)
    if policy == "LOCAL_FIRST_AVOID_EVICTION":
        return sorted(by_id, key=lambda row: (free_bytes(row) < room_bytes, *near(row)))
    return sorted(by_id, key=near)


def is_called(worker: Candidate, name: str) -> bool:
    """Whether this is the host's name or the worker's id."""
    return name in (worker.host, worker.worker_id) or ("node", name) in [tuple(tier) for tier in worker.locality]


def _unit_hash(key: bytes, worker_id: str) -> float:
    """Above 0 and at most 1, the same everywhere and for ever."""
    digest = hashlib.blake2b(worker_id.encode(), key=hashlib.blake2b(key, digest_size=32).digest(), digest_size=8)
    return (int.from_bytes(digest.digest(), "little") + 1) / (1 << 64)


def _by_capacity(key: bytes) -> Callable[[Candidate], float]:
    def cost(row: Candidate) -> float:
        capacity = capacity_bytes(row)
        return -math.log(_unit_hash(key, row.worker_id)) / capacity if capacity else math.inf

    return cost
