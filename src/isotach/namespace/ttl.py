"""Times to live that have ended.

Owns: reading the index by expiry, and moving a row of it to a later time. Never: acts on what it finds. The index is
kept by `entries`.
"""

from itertools import islice

import msgspec

from isotach.base.types import FileId, Inode
from isotach.namespace import entries, keys
from isotach.namespace.lookup import inode_of, location_of, path_of
from isotach.namespace.view import View


class Expired(msgspec.Struct, frozen=True):
    """One inode whose time has come."""

    file_id: FileId
    path: bytes
    inode: Inode


class Due(msgspec.Struct, frozen=True):
    """What has expired. `more`: the limit was met, others may be due."""

    expired: list[Expired]
    more: bool


def due(view: View, now_ms: int, limit: int) -> Due:
    """Those that expired, looking at no more than `limit` rows, the longest expired first. What lies in a detached tree
    is left out: reclaim removes it."""
    found = []
    rows = list(islice(view.scan(*keys.up_to(b"x", now_ms)), limit))
    for key, _ in rows:
        file_id = int.from_bytes(key[9:], "big")
        try:
            found.append(Expired(file_id, path_of(view, file_id), inode_of(view, file_id)))
        except FileNotFoundError:
            continue
    return Due(found, len(rows) == limit)


def next_due_ms(view: View, after_ms: int = -1) -> int | None:
    """When the first time to live that ends after `after_ms` does; None when there is none."""
    start = keys.up_to(b"x", after_ms)[1]
    key = next((key for key, _ in view.scan(start, keys.all_of(b"x")[1])), None)
    return None if key is None else int.from_bytes(key[1:9], "big")


def postpone(view: View, expired: list[Expired], expires_ms: int) -> None:
    """Moves the ends of these times to live to `expires_ms`, but for those that were set anew or removed meanwhile. A
    row that cannot be acted upon would otherwise stand in front of all that are due later."""
    for each in expired:
        try:
            inode = inode_of(view, each.file_id)
        except FileNotFoundError:
            continue
        if inode.expires_ms == each.inode.expires_ms:
            after = msgspec.structs.replace(inode, expires_ms=expires_ms)
            entries.store(view, *location_of(view, each.file_id), inode, after)
