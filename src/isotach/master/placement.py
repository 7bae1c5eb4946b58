"""Which workers take a new file's blocks. Pure: rows in, rows out.

Owns: what a `CreateRequest` asks for, checked, and which policies send a file's blocks round the workers. Never: knows
whether a worker lives (it gets the live ones), or how a policy orders them (`base.placement`).
"""

from collections.abc import Sequence

from isotach.base.errors import InvalidArgumentError, UnavailableError
from isotach.base.placement import PLACEMENTS, READ_PLACEMENTS, free_bytes, in_order, takes_new
from isotach.wire.messages import CreateRequest, WorkerRow

POLICIES = PLACEMENTS
READ_POLICIES = READ_PLACEMENTS
_SPREADING = ("ROUND_ROBIN", "HASH")

__all__ = ["POLICIES", "READ_POLICIES", "free_bytes", "place"]


def place(
    live: Sequence[WorkerRow], request: CreateRequest, block_size: int, turn: int
) -> tuple[list[WorkerRow], bool]:
    """The candidates, best first, and whether a file's blocks go round them. `turn` counts the files placed. Workers
    that are being decommissioned are left out.

    Raises InvalidArgumentError for an unknown policy, UnavailableError when no live worker is on the host asked for.
    """
    policy = request.placement
    if policy not in POLICIES:
        raise InvalidArgumentError(f"there is no placement policy {policy!r}: give one of {', '.join(POLICIES)}")
    if policy == "SPECIFIC_HOST" and not request.placement_host:
        raise InvalidArgumentError("SPECIFIC_HOST needs a host: set client.write_location_host, or give placement_host")
    spread = policy in _SPREADING
    workers = in_order(
        takes_new(live),
        policy,
        host_key=request.host_key,
        locality=request.locality,
        key=request.path + turn.to_bytes(8, "little") if policy == "CAPACITY" else request.path,
        turn=turn,
        host=request.placement_host,
        room_bytes=block_size,
    )
    if policy == "SPECIFIC_HOST" and not workers:
        text = f"no live worker is on {request.placement_host!r}: start one there, or name another host"
        raise UnavailableError(text)
    return workers, spread
