"""Intents: what is about to be done to an under storage, recorded before it is done.

Owns: their record and rows. Never: carries them out. A restart finds the open ones and finishes or undoes them.
"""

from typing import Final

import msgspec

from isotach.base.types import FileId, MountId, Version
from isotach.namespace import keys
from isotach.namespace.counters import IdAllocator
from isotach.namespace.view import View


class Intent(msgspec.Struct, array_like=True, frozen=True):
    """One operation (format 1; fields are only ever appended). kind: COMMIT, PERSIST, MKDIR, RENAME, REMOVE, PROMOTE,
    EXCHANGE."""

    kind: str
    path: bytes
    dst: bytes = b""
    version: Version = 0
    mount_id: MountId = 0
    ufs_path: bytes = b""  # below the root of the mount
    ufs_dst: bytes = b""
    user: str = ""
    groups: list[str] = []
    superuser: bool = False
    recursive: bool = False
    replace: bool = False
    mode: int = -1
    parents: bool = False
    created_ns: int = 0
    file_id: FileId = 0
    worker_id: str = ""
    keep: bool = False  # the directory that the entry leaves is empty then: the store must go on having it
    owner: str = ""  # of a directory that is made for somebody
    group: str = ""
    umask: int = -1
    moves: list[tuple[bytes, bytes]] = []  # of an exchange: the renames in the store, in order
    step: int = 0  # of them, those before this one are done


_decode: Final = msgspec.msgpack.Decoder(Intent).decode


def put(view: View, intent: Intent, ids: IdAllocator) -> int:
    """Records the intent; returns its id."""
    intent_id = ids.allocate()
    view.put(keys.intent(intent_id), msgspec.msgpack.encode(intent))
    return intent_id


def advance(view: View, intent_id: int, intent: Intent) -> None:
    """Records how far it is."""
    view.put(keys.intent(intent_id), msgspec.msgpack.encode(intent))


def get(view: View, intent_id: int) -> Intent | None:
    """The open intent of that id, or None."""
    raw = view.get(keys.intent(intent_id))
    return None if raw is None else _decode(raw)


def drop(view: View, intent_id: int) -> None:
    """It is done, or given up. No effect when it is gone already."""
    if view.get(keys.intent(intent_id)) is not None:
        view.delete(keys.intent(intent_id))


def open_intents(view: View) -> list[tuple[int, Intent]]:
    """All open ones, the oldest first."""
    return [(int.from_bytes(key[1:], "big"), _decode(raw)) for key, raw in view.scan(*keys.all_of(b"n"))]
