"""Times to live that have ended.

Owns: reading the index by expiry. Never: acts on what it finds. The index is kept by `entries`.
"""

from itertools import islice

import msgspec

from isotach.base.types import FileId, Inode
from isotach.namespace import keys
from isotach.namespace.lookup import inode_of, path_of
from isotach.namespace.view import View


class Expired(msgspec.Struct, frozen=True):
    """One inode whose time has come."""

    file_id: FileId
    path: bytes
    inode: Inode


def due(view: View, now_ms: int, limit: int) -> list[Expired]:
    """Those that expired, looking at no more than `limit` rows, the longest expired first. What lies in a detached tree
    is left out: reclaim removes it."""
    found = []
    for key, _ in islice(view.scan(*keys.up_to(b"x", now_ms)), limit):
        file_id = int.from_bytes(key[9:], "big")
        try:
            found.append(Expired(file_id, path_of(view, file_id), inode_of(view, file_id)))
        except FileNotFoundError:
            continue
    return found
