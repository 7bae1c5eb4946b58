"""Path policies: what a directory hands to what is made or discovered in it, and which values make sense.

Owns: inheritance, the merging of changes, and the rules of memory-only data. Pure. Never: knows which workers or
placement policies there are (the master checks those names).

A record stores no policy while all of it is default, so that records stay small. A directory's time to live for its
children (`PathPolicy.ttl_ms`) goes on to directories made in it as such, and becomes a file's own time to live: no
directory vanishes with younger files in it.
"""

import errno
import os
import re
from typing import Final, Protocol

import msgspec

from isotach.base.errors import InvalidArgumentError
from isotach.base.limits import REPLICAS_MAX
from isotach.base.types import DEFAULT_POLICY, Flag, Inode, PathPolicy, TtlAction, WriteType

_TIER_ALIAS: Final = re.compile(r"[A-Z][A-Z0-9_]{0,15}")
_MEMORY_ONLY_HINT: Final = "its path is memory-only (`isotach fs policy`)"


class PolicyChanges(Protocol):
    """What a change asks for; None leaves as it is (see `wire.messages.SetAttrRequest`)."""

    @property
    def replication_min(self) -> int | None: ...
    @property
    def replication_max(self) -> int | None: ...
    @property
    def tier(self) -> str | None: ...
    @property
    def memory_only(self) -> bool | None: ...
    @property
    def placement(self) -> str | None: ...
    @property
    def read_placement(self) -> str | None: ...
    @property
    def inherited_ttl_ms(self) -> int | None: ...
    @property
    def inherited_ttl_action(self) -> str | None: ...


def compact(policy: PathPolicy) -> PathPolicy | None:
    """As a record stores it: None for all defaults."""
    return None if policy == DEFAULT_POLICY else policy


def for_directory(parent: Inode) -> PathPolicy | None:
    """What a directory made in `parent` begins with: all of it."""
    return parent.policy


def for_file(parent: Inode) -> PathPolicy | None:
    """What a file made in `parent` begins with: all but the time to live, which becomes the file's own."""
    policy = parent.policy
    if policy is None or policy.ttl_ms < 0:
        return policy
    return compact(msgspec.structs.replace(policy, ttl_ms=-1, ttl_action=DEFAULT_POLICY.ttl_action))


def inherited_flags(parent: Inode) -> int:
    """The flags that `parent` hands on: the pin."""
    return int(parent.flags & Flag.PINNED)


def inherited_ttl(parent: Inode) -> tuple[int, str]:
    """(ms, action) of a file made in `parent`; (-1, DELETE) for none."""
    policy = parent.rules
    return policy.ttl_ms, policy.ttl_action


def expires_ms(ttl_ms: int, now_ns: int) -> int:
    """When a time to live that begins now ends, wall clock; -1 for none."""
    return -1 if ttl_ms < 0 else now_ns // 1_000_000 + ttl_ms


def has_changes(request: PolicyChanges) -> bool:
    """Whether the request changes any part of a policy."""
    asked = (
        request.replication_min, request.replication_max, request.tier, request.memory_only, request.placement,
        request.read_placement, request.inherited_ttl_ms, request.inherited_ttl_action,
    )  # fmt: skip
    return any(field is not None for field in asked)


def changed(inode: Inode, request: PolicyChanges, path: bytes) -> PathPolicy | None:
    """The policy after the request. Raises InvalidArgumentError for values that make no sense, and for a file whose
    bytes may have reached a disk already when it shall be memory-only."""
    if not has_changes(request):
        return inode.policy
    before = inode.rules
    given = {
        "replication_min": request.replication_min,
        "replication_max": request.replication_max,
        "tier": request.tier,
        "memory_only": request.memory_only,
        "placement": request.placement,
        "read_placement": request.read_placement,
    }
    if inode.is_dir:
        given |= {"ttl_ms": request.inherited_ttl_ms, "ttl_action": request.inherited_ttl_action}
    after = msgspec.structs.replace(before, **{name: value for name, value in given.items() if value is not None})
    if after.ttl_ms < 0:
        after = msgspec.structs.replace(after, ttl_ms=-1, ttl_action=DEFAULT_POLICY.ttl_action)
    check(after)
    if after.memory_only and not before.memory_only:
        _check_may_become_memory_only(inode, path)
    return compact(after)


def check(policy: PathPolicy) -> None:
    """Raises InvalidArgumentError for values that make no sense."""
    least, most = policy.replication_min, policy.replication_max
    if not 0 <= least <= REPLICAS_MAX or not -1 <= most <= REPLICAS_MAX:
        raise InvalidArgumentError(
            f"replication from {least} to {most} is not possible: give a minimum of 0 to {REPLICAS_MAX} and a maximum "
            f"of 1 to {REPLICAS_MAX}, or -1 for no limit"
        )
    if most == 0 or 0 <= most < least:
        raise InvalidArgumentError(f"the replication maximum {most} must be at least 1 and the minimum {least}")
    if policy.tier and not _TIER_ALIAS.fullmatch(policy.tier):
        raise InvalidArgumentError(f"{policy.tier!r} is no tier: give its alias in capitals, such as MEM, SSD or HDD")
    if policy.memory_only and policy.tier not in ("", "MEM"):
        raise InvalidArgumentError(f"memory-only data cannot be kept in {policy.tier}: choose one of the two")
    if policy.ttl_action not in TtlAction.__members__:
        raise InvalidArgumentError(f"the action {policy.ttl_action!r} is unknown: give DELETE or FREE")


def _check_may_become_memory_only(inode: Inode, path: bytes) -> None:
    """The promise holds from the first byte on, or not at all."""
    if not inode.is_dir and inode.length:
        raise InvalidArgumentError(
            f"bytes of {os.fsdecode(path)} may have reached a disk already: write the file anew as memory-only"
        )


def is_memory_only(inode: Inode) -> bool:
    """Whether no byte of it may reach a disk."""
    return inode.policy is not None and inode.policy.memory_only


def check_move(moving: Inode, into: Inode, dst: bytes) -> None:
    """Raises OSError (EXDEV) where ordinary bytes, which may lie on disks, would come under a memory-only directory. A
    file keeps its own policy wherever it is moved."""
    if is_memory_only(into) and not is_memory_only(moving) and (moving.is_dir or moving.length):
        raise OSError(
            errno.EXDEV,
            "the target directory is memory-only and this may lie on disks already: copy it there (`isotach fs cp`), "
            "then remove it here",
            os.fsdecode(dst),
        )


class WriteOverrides(Protocol):
    """What a create says itself (see `wire.messages.CreateRequest`)."""

    @property
    def path(self) -> bytes: ...
    @property
    def memory_only(self) -> bool: ...
    @property
    def replication_min(self) -> int: ...
    @property
    def replication_max(self) -> int: ...
    @property
    def write_type(self) -> str: ...
    @property
    def write_type_given(self) -> bool: ...


def for_write(
    inherited: PathPolicy | None, existing: Inode | None, request: WriteOverrides
) -> tuple[PathPolicy | None, str]:
    """The policy of what is written, and the write type it gets. `inherited` is that of the file it replaces, else
    what its directory hands on. Raises InvalidArgumentError for values that make no sense, and for a write type, asked
    for by the caller, that would bring memory-only data to a disk."""
    policy = inherited or DEFAULT_POLICY
    if request.memory_only and not policy.memory_only:
        if existing is not None and existing.flags & (Flag.PERSISTED | Flag.TO_PERSIST):
            raise InvalidArgumentError(
                f"{os.fsdecode(request.path)} is in the under storage, or on its way there: remove it first, then "
                "write it as memory-only"
            )
        policy = msgspec.structs.replace(policy, memory_only=True)
    if request.replication_min >= 0:
        policy = msgspec.structs.replace(policy, replication_min=request.replication_min)
    if request.replication_max >= -1:
        policy = msgspec.structs.replace(policy, replication_max=request.replication_max)
    check(policy)
    if not policy.memory_only or request.write_type == WriteType.MUST_CACHE:
        return compact(policy), request.write_type
    if request.write_type_given:
        raise InvalidArgumentError(
            f"{os.fsdecode(request.path)} cannot be written with {request.write_type}: {_MEMORY_ONLY_HINT} and must "
            "not reach a disk: give MUST_CACHE, or none"
        )
    return compact(policy), WriteType.MUST_CACHE.value
