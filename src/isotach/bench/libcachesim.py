"""The policies of libCacheSim, the field's simulator, on the same traces: the ones that ours are checked against.

Owns: the optional import and the replay there. Never: is needed; without the library the comparison is left out.
"""

from typing import Final

from isotach.base.limits import KIB
from isotach.bench.replay import Hits, next_reads
from isotach.bench.traces import Trace

try:
    import libcachesim as simulator
except ImportError:
    simulator = None

WHY_MISSING: Final = "libcachesim is not installed; get it with: pip install 'isotach[bench]'"
#: Its online policies that did well on one of our traces or that ours are to equal, as it calls them.
POLICIES: Final = (
    "LRU", "S3FIFO", "Sieve", "WTinyLFU", "ARC", "LIRS", "TwoQ", "MQ", "SLRU", "LeCaR", "Cacheus", "LHD", "GDSF",
    "Hyperbolic", "Clock2QPlus", "Random",
)  # fmt: skip
_HASH_POWER: Final = 16


def is_installed() -> bool:
    """Whether the comparison can be made."""
    return simulator is not None


def replay_there(trace: Trace, policy: str) -> Hits:
    """Hits of a policy of theirs. Sizes are handed over in KiB: some of its tables are as long as the cache is large.
    Raises ImportError when the library is missing."""
    if simulator is None:
        raise ImportError(WHY_MISSING)
    cache = getattr(simulator, policy)(trace.cache_bytes // KIB, hashpower=_HASH_POWER)
    get, request, following = cache.get, simulator.Request, next_reads(trace.reads)
    operation = simulator.ReqOp.OP_GET
    hits = hit_bytes = read_bytes = 0
    for at, number in enumerate(trace.reads):
        size = trace.sizes[number]
        read_bytes += size
        if get(
            request(
                obj_size=size // KIB, op=operation, obj_id=number, clock_time=at, hv=0, next_access_vtime=following[at]
            )
        ):
            hits += 1
            hit_bytes += size
    return Hits(hits / len(trace.reads), hit_bytes / read_bytes)
