"""Which version leaves a full tier first: interchangeable policies behind one pure interface.

Owns: the protocol, the policies, their names. Pure: no clock, chance, thread or I/O. Never: evicts (`blockstore` does).
"""

from isotach.eviction.interface import EvictionPolicy
from isotach.eviction.registry import POLICIES, make

__all__ = ["POLICIES", "EvictionPolicy", "make"]
