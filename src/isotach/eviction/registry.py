"""The policies by the names that users write in `worker.eviction`.

Owns: the names and how a policy is made from one. Never: keeps a policy.
"""

from collections.abc import Callable
from typing import Final

from isotach.eviction.adaptive import Duel
from isotach.eviction.epoch import KeepForNextEpoch
from isotach.eviction.interface import EvictionPolicy
from isotach.eviction.lrfu import RecencyAndFrequency
from isotach.eviction.lru import LeastRecentlyUsed
from isotach.eviction.s3fifo import SmallAndMainQueues
from isotach.eviction.sieve import Sieve
from isotach.eviction.wtinylfu import WindowTinyLfu


def adaptive(capacity_bytes: int) -> Duel:
    """What serves best by frequency, against what serves best whom epochs read: between them they come within a point
    of the best policy known on each of our traces (`python -m benchmarks policies`)."""
    return Duel(capacity_bytes, (WindowTinyLfu, KeepForNextEpoch))


#: By the names that `worker.eviction` takes.
POLICIES: Final[dict[str, Callable[[int], EvictionPolicy]]] = {
    "LRU": LeastRecentlyUsed,
    "LRFU": RecencyAndFrequency,
    "S3FIFO": SmallAndMainQueues,
    "SIEVE": Sieve,
    "WTINYLFU": WindowTinyLfu,
    "EPOCH": KeepForNextEpoch,
    "ADAPTIVE": adaptive,
}


def make(name: str, capacity_bytes: int) -> EvictionPolicy:
    """A policy for a tier (or folder) of `capacity_bytes`. Raises ValueError for an unknown name."""
    build = POLICIES.get(name)
    if build is None:
        raise ValueError(f"no eviction policy is called {name!r}; there are: {', '.join(POLICIES)}")
    return build(capacity_bytes)
