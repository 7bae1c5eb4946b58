"""The names of files with several: their rows, and which of them the under storage knows.

Owns: the shared record, the stubs and the rows of names (`docs/format/namespace.md`). A file with one name has none of
these. Never: checks who may do what, or touches an under storage: the content stands there under the first name, and
who takes that name away moves it to the next one before (`promote`), or else the file is to be stored again.
"""

import msgspec

from isotach.base.types import HARD_LINKS_ID, FileId, Flag, Inode, Kind
from isotach.namespace import keys, persist_queue, policies
from isotach.namespace.lookup import first_name, location_of, names_of
from isotach.namespace.records import decode_inode, decode_inode_head, encode_inode
from isotach.namespace.view import View


def place_of(directory_id: FileId, name: bytes, inode: Inode) -> tuple[FileId, bytes]:
    """Where the record of the entry stands."""
    return (directory_id, name) if inode.links == 1 else (HARD_LINKS_ID, keys.number(inode.id))


def add(view: View, after: Inode, place: tuple[FileId, bytes], number: int) -> None:
    """One more name; `after` is the record with it, `number` higher than that of every other name of it."""
    if after.links == 2:
        only = location_of(view, after.id)
        _put_name(view, after, 0, only)
        view.put(keys.location(after.id), keys.number(HARD_LINKS_ID) + keys.number(after.id))
    _put_name(view, after, number, place)
    view.put(_shared(after.id), encode_inode(after))


def remove(view: View, directory_id: FileId, name: bytes, file_id: FileId, now_ms: int = 0) -> Inode:
    """Takes one of several names away; returns the record as it is left. Its directory is the caller's affair."""
    raw, shared = view.get(keys.entry(directory_id, name)), view.get(_shared(file_id))
    assert raw is not None, "who removes a name has seen it"
    assert shared is not None, f"the record of the linked file {file_id} is missing"
    inode = decode_inode(shared)
    was_first = first_name(view, inode) == (directory_id, name)
    view.delete(keys.entry(directory_id, name))
    view.delete(keys.name_of_link(file_id, decode_inode_head(raw).version))
    after = msgspec.structs.replace(inode, links=inode.links - 1)
    if was_first and inode.flags & Flag.PERSISTED:
        # What the store had under that name is gone, or about to go: the next name gets it from the cache.
        to_persist = 0 if policies.is_memory_only(inode) else Flag.TO_PERSIST
        flags = int(inode.flags & ~Flag.PERSISTED | to_persist)
        after = msgspec.structs.replace(after, flags=flags, fingerprint=None)
    if after.links > 1:
        view.put(_shared(file_id), encode_inode(after))
    else:
        _give_back(view, after)
    if after.flags & Flag.TO_PERSIST and not inode.flags & Flag.TO_PERSIST:
        persist_queue.enqueue(view, file_id, now_ms)
    return after


def _give_back(view: View, inode: Inode) -> None:
    """One name is left: the record stands under it again."""
    number, directory_id, name = next(names_of(view, inode.id))
    view.delete(keys.name_of_link(inode.id, number))
    view.delete(_shared(inode.id))
    view.put(keys.entry(directory_id, name), encode_inode(inode))
    view.put(keys.location(inode.id), keys.number(directory_id) + name)


def move(view: View, source: tuple[FileId, bytes], target: tuple[FileId, bytes], inode: Inode) -> None:
    """One of the names becomes another one, which must be free; it keeps its place in the order."""
    raw = view.get(keys.entry(*source))
    assert raw is not None, "who moves a name has seen it"
    view.delete(keys.entry(*source))
    _put_name(view, inode, decode_inode_head(raw).version, target)
    view.put(_shared(inode.id), encode_inode(inode))


def is_further_name(view: View, inode: Inode, directory_id: FileId, name: bytes) -> bool:
    """Whether the under storage knows the file by another name than this one."""
    return inode.links > 1 and first_name(view, inode) != (directory_id, name)


def promote(view: View, inode: Inode, place: tuple[FileId, bytes]) -> None:
    """That name becomes the first one, and the first takes its place in the order."""
    numbered = {(directory_id, name): number for number, directory_id, name in names_of(view, inode.id)}
    first = first_name(view, inode)
    if place in numbered and place != first:
        _put_name(view, inode, numbered[first], place)
        _put_name(view, inode, numbered[place], first)


def _put_name(view: View, inode: Inode, number: int, place: tuple[FileId, bytes]) -> None:
    stub = Inode(inode.id, Kind.HARD_LINK, 0, "", "", 0, 0, 0, 0, number, 0, 0, inode.mount_id)
    view.put(keys.entry(*place), encode_inode(stub))
    view.put(keys.name_of_link(inode.id, number), keys.number(place[0]) + place[1])


def _shared(file_id: FileId) -> bytes:
    return keys.entry(HARD_LINKS_ID, keys.number(file_id))
