"""Policies of paths, as calls: replication, tiers, memory-only data, placement, times to live; and freeing.

Owns: checking and translating arguments into requests. Never: sends anything.
"""

from typing import Final

import msgspec

from isotach.base.errors import InvalidArgumentError
from isotach.base.limits import LONG_CALL_DEADLINE_S
from isotach.base.paths import normalize
from isotach.client.operations import Operation, PathLike, Where, ttl_action, ttl_ms
from isotach.wire import messages
from isotach.wire.messages import CountReply, SetAttrRequest


class ChangeCounts(msgspec.Struct, frozen=True):
    """What a recursive change did: entries changed, and those it had to leave alone."""

    changed: int
    skipped: int


class FreeCounts(msgspec.Struct, frozen=True):
    """What `free` did: files freed, and files left because no store holds them, or because they are kept (pinned, or by
    a replication minimum)."""

    freed: int
    unpersisted: int
    pinned: int


class _Unset:
    """Stands for an argument that was not given, where None means something."""


UNSET: Final = _Unset()


def set_replication(path: PathLike, least: int | None, most: int | None, recursive: bool) -> Operation[ChangeCounts]:
    """Raises InvalidArgumentError when neither is given."""
    if least is None and most is None:
        raise InvalidArgumentError("give the least number of replicas, the most, or both")
    request = SetAttrRequest(normalize(path), replication_min=least, replication_max=most, recursive=recursive)
    return _set(request)


def set_pinned(path: PathLike, pinned: bool, recursive: bool, tier: str | None) -> Operation[ChangeCounts]:
    """`tier` is an alias, None for any."""
    request = SetAttrRequest(normalize(path), pinned=pinned, tier=(tier or "").upper(), recursive=recursive)
    return _set(request)


def set_policy(
    path: PathLike,
    *,
    replication_min: int | None = None,
    replication_max: int | None = None,
    tier: str | None = None,
    memory_only: bool | None = None,
    placement: str | None = None,
    read_placement: str | None = None,
    ttl: float | _Unset | None = UNSET,
    action: str | None = None,
    recursive: bool = False,
) -> Operation[ChangeCounts]:
    """What is not given stays. An empty tier or placement takes that rule away. `ttl` (seconds; None: none) is the time
    to live of what is made in a directory from now on."""
    request = SetAttrRequest(
        normalize(path),
        replication_min=replication_min,
        replication_max=replication_max,
        tier=None if tier is None else tier.upper(),
        memory_only=memory_only,
        placement=None if placement is None else placement.upper(),
        read_placement=None if read_placement is None else read_placement.upper(),
        inherited_ttl_ms=None if isinstance(ttl, _Unset) else ttl_ms(ttl),
        inherited_ttl_action=None if action is None else ttl_action(action),
        recursive=recursive,
    )
    return _set(request)


def set_ttl(
    path: PathLike, seconds: float | None, action: str, *, recursive: bool, inherit: bool
) -> Operation[ChangeCounts]:
    """The path's own time to live; with `inherit` that of each file made in it from now on (and, recursively, of each
    that is there)."""
    if inherit:
        return set_policy(path, ttl=seconds, action=action, recursive=recursive)
    request = SetAttrRequest(
        normalize(path), ttl_ms=ttl_ms(seconds), ttl_action=ttl_action(action), recursive=recursive
    )
    return _set(request)


def free(path: PathLike, recursive: bool, force: bool) -> Operation[FreeCounts]:
    """Drops cached pages of persisted files. `force`: also of those that are pinned, which ends the pin."""
    request = messages.PathRequest(normalize(path), recursive, force)
    return Operation(messages.FREE, request, Where.MASTER, _free_counts, LONG_CALL_DEADLINE_S)


def _set(request: SetAttrRequest) -> Operation[ChangeCounts]:
    deadline_s = LONG_CALL_DEADLINE_S if request.recursive else None
    return Operation(messages.SET_ATTR, request, Where.MASTER, _change_counts, deadline_s)


def _change_counts(reply: CountReply, _payload: object) -> ChangeCounts:
    return ChangeCounts(reply.count, reply.skipped)


def _free_counts(reply: CountReply, _payload: object) -> FreeCounts:
    return FreeCounts(reply.count, reply.unpersisted, reply.pinned)
