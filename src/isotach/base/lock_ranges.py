"""Ranges of bytes that one owner has locked, as POSIX splits and joins them.

Owns: the record of a held range, the words for its kinds, and what setting a range does to the ranges before it. Never:
knows who the owners are, or decides who gets a lock.
"""

from typing import Final, NamedTuple

#: Kinds, as fcntl's F_RDLCK, F_WRLCK and F_UNLCK are numbered on Linux.
LOCK_READ: Final = 0
LOCK_WRITE: Final = 1
LOCK_NONE: Final = 2
#: The end of ranges that have none.
LOCK_END_MAX: Final = (1 << 63) - 1

#: (file id, whether it is flock's): locks of the two kinds know nothing of one another.
LockKey = tuple[int, bool]
#: (session, owner within it)
LockOwner = tuple[bytes, int]


class Held(NamedTuple):
    """A lock on [start, end], both inclusive. `handle`: the open file through which it was taken, where that matters:
    ranges of different handles are not joined."""

    start: int
    end: int
    kind: int
    pid: int
    owner: LockOwner
    handle: int = 0


def conflicts(one: Held, other: Held) -> bool:
    """Whether two owners cannot hold these at once."""
    return (
        one.start <= other.end
        and other.start <= one.end
        and (one.kind == LOCK_WRITE or other.kind == LOCK_WRITE)
        and LOCK_NONE not in (one.kind, other.kind)
    )


def replaced(ranges: list[Held], new: Held) -> list[Held]:
    """One owner's ranges with [start, end] set to the new kind: split at its ends, and joined with neighbours of the
    same kind."""
    start, end = new.start, new.end
    rest: list[Held] = []
    for old in ranges:
        is_alike = old.kind == new.kind and old.handle == new.handle
        if is_alike and old.start <= end + 1 and start <= old.end + 1:
            start, end = min(start, old.start), max(end, old.end)
        else:
            if old.start < new.start:
                rest.append(old._replace(end=min(old.end, new.start - 1)))
            if old.end > new.end:
                rest.append(old._replace(start=max(old.start, new.end + 1)))
    if new.kind != LOCK_NONE:
        rest.append(new._replace(start=start, end=end))
    rest.sort()
    return rest
