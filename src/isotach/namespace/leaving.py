"""Workers that are decommissioned: kept durably, so that neither a restart of the master nor theirs brings them back.

Owns: the rows. Never: moves data, or judges whether everything is off.
"""

import msgspec

from isotach.base.types import WorkerId
from isotach.namespace import keys
from isotach.namespace.view import View


class Leaving(msgspec.Struct, array_like=True, frozen=True):
    """One worker that goes, or has gone."""

    since_ms: int  # wall clock, ms since the epoch
    done: bool = False  # everything it held is elsewhere


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Leaving)


def put(view: View, worker_id: WorkerId, leaving: Leaving) -> None:
    """Records that the worker goes."""
    view.put(keys.leaving(worker_id), _encoder.encode(leaving))


def drop(view: View, worker_id: WorkerId) -> None:
    """It stays, or nobody speaks of it any more."""
    view.delete(keys.leaving(worker_id))


def all_leaving(view: View) -> dict[WorkerId, Leaving]:
    """Every worker with a row."""
    return {key[1:].decode(): _decoder.decode(raw) for key, raw in view.scan(*keys.all_of(b"d"))}
