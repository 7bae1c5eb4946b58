"""A trace through a cache of bytes: how many reads, and how many bytes, a policy would have served.

Owns: the cache around our policies, and the offline optimum. Never: makes traces, or a real file.
"""

import heapq

import msgspec

from isotach.base.types import Version
from isotach.bench.traces import Trace
from isotach.eviction import EvictionPolicy

_NEVER = 1 << 62


class Hits(msgspec.Struct, frozen=True):
    """Shares of a trace that came from the cache, from 0 to 1."""

    of_reads: float
    of_bytes: float


def replay(trace: Trace, policy: EvictionPolicy) -> Hits:
    """One reader, one tier, the store's way: ask, make room, take in."""
    here: dict[Version, int] = {}
    used = hits = hit_bytes = read_bytes = 0
    for number in trace.reads:
        size = trace.sizes[number]
        read_bytes += size
        if number in here:
            policy.touched(number)
            hits += 1
            hit_bytes += size
            continue
        if size > trace.cache_bytes or not policy.admits(number, size):
            continue
        while used + size > trace.cache_bytes:
            victim = next(policy.candidates())
            policy.evicted(victim)
            used -= here.pop(victim)
        policy.added(number, size)
        here[number] = size
        used += size
    return Hits(hits / len(trace.reads), hit_bytes / read_bytes)


def replay_belady(trace: Trace) -> Hits:
    """The upper line, which knows the future: what is next read last leaves first, the newcomer included."""
    following = next_reads(trace.reads)
    due: dict[Version, int] = {}
    heap: list[tuple[int, Version]] = []
    used = hits = hit_bytes = read_bytes = 0
    for at, number in enumerate(trace.reads):
        size = trace.sizes[number]
        read_bytes += size
        if number in due:
            hits += 1
            hit_bytes += size
        elif size <= trace.cache_bytes:
            used += size
        else:
            continue
        due[number] = following[at]
        heapq.heappush(heap, (-following[at], number))
        while used > trace.cache_bytes:
            negated, victim = heapq.heappop(heap)
            if due.get(victim) == -negated:
                del due[victim]
                used -= trace.sizes[victim]
    return Hits(hits / len(trace.reads), hit_bytes / read_bytes)


def next_reads(reads: list[int]) -> list[int]:
    """For each read the place of the next read of the same item, or a number beyond all places."""
    following = [_NEVER] * len(reads)
    seen: dict[int, int] = {}
    for at in range(len(reads) - 1, -1, -1):
        following[at] = seen.get(reads[at], _NEVER)
        seen[reads[at]] = at
    return following
