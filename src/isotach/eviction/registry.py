"""The policies by the names that users write in `worker.eviction`.

Owns: the names and how a policy is made from one. Never: keeps a policy.
"""

from collections.abc import Callable
from typing import Final

from isotach.eviction.interface import EvictionPolicy
from isotach.eviction.lru import LeastRecentlyUsed

POLICIES: Final[dict[str, Callable[[int], EvictionPolicy]]] = {
    "LRU": LeastRecentlyUsed,
}


def make(name: str, capacity_bytes: int) -> EvictionPolicy:
    """A policy for a tier (or folder) of `capacity_bytes`. Raises ValueError for an unknown name."""
    build = POLICIES.get(name)
    if build is None:
        raise ValueError(f"no eviction policy is called {name!r}; there are: {', '.join(POLICIES)}")
    return build(capacity_bytes)
