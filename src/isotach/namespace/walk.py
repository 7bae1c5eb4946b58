"""Going through a subtree in slices.

Owns: the order (each directory before its children, names in byte order) and the bookmark between slices. Never:
changes what it finds.
"""

from typing import Final

import msgspec

from isotach.base.types import FileId, Inode
from isotach.namespace import keys
from isotach.namespace.lookup import decoded
from isotach.namespace.view import View


class Walked(msgspec.Struct, frozen=True):
    """One entry below the top: where it stands, and its record."""

    parent_id: FileId
    name: bytes
    inode: Inode


class WalkSlice(msgspec.Struct, frozen=True):
    """`next_key` goes into the following call; None: all was seen."""

    entries: list[Walked]
    next_key: bytes | None


_stack_decoder: Final = msgspec.msgpack.Decoder(list[tuple[int, bytes]])


def walk(view: View, inode_id: FileId, after_key: bytes | None, limit: int) -> WalkSlice:
    """The next `limit` entries below the directory `inode_id` (itself not among them). What is added or removed between
    slices may or may not be seen; nothing else is missed or seen twice."""
    stack: list[tuple[int, bytes]] = [(inode_id, b"")] if not after_key else _stack_decoder.decode(after_key)
    found: list[Walked] = []
    while stack:
        directory_id, start_after = stack.pop()
        for key, raw in view.scan(*keys.entries_after(directory_id, start_after)):
            name, inode = key[keys.ENTRY_PREFIX_BYTES :], decoded(view, raw)
            found.append(Walked(directory_id, name, inode))
            start_after = name
            if inode.is_dir or len(found) == limit:
                stack.append((directory_id, name))
                if inode.is_dir:
                    stack.append((inode.id, b""))
                break
        if len(found) == limit:
            return WalkSlice(found, msgspec.msgpack.encode(stack))
    return WalkSlice(found, None)
