"""Entries by directory id and name, inodes by id, pages of directories: what a mount asks of the master's store.

Owns: these looks, one snapshot each, and the decision that the namespace alone cannot answer. Never: walks a path, asks
a server, or raises for what is not there.
"""

import msgspec

from isotach.base.types import ROOT_ID, FileId, Flag, Inode, MountId
from isotach.kv.shared_reader import SharedReader
from isotach.namespace import keys
from isotach.namespace.lookup import NO_DIRECTORY, decoded
from isotach.namespace.records import decode_inode, decode_mount
from isotach.namespace.view import Readable

NEVER_MS = -1


class Sight(msgspec.Struct, frozen=True, gc=False):
    """What was seen: the record, or that there is none; and how long the namespace's word holds by the rules of the
    mount (`metadata_sync_interval`): -1 ms for ever, until it changes here. `is_certain` False: the under storage may
    know otherwise, and the master must be asked."""

    inode: Inode | None
    interval_ms: int = NEVER_MS
    is_certain: bool = True


class Page(msgspec.Struct, frozen=True):
    """A part of a directory in byte order of the names. `more`: others follow the last one."""

    entries: list[tuple[bytes, Inode]]
    more: bool
    interval_ms: int = NEVER_MS
    is_certain: bool = True


_GONE = Sight(None)


class DirectEntries:
    """For many threads. Raises OSError or StoreError from every call, as `SharedReader` does."""

    def __init__(self, namespace: SharedReader) -> None:
        self._namespace = namespace

    def entry(self, directory_id: FileId, name: bytes) -> Sight:
        """The entry of that name."""
        look = self._namespace.look()
        try:
            raw = look.get(keys.entry(directory_id, name))
            if raw is None:
                return _absent(look, directory_id)
            inode = decoded(look, raw)
            interval_ms = _interval_of(look, inode.mount_id)
        finally:
            self._namespace.end(look)
        return Sight(inode, interval_ms, interval_ms == NEVER_MS)

    def inode(self, file_id: FileId) -> Sight:
        """The record of that id."""
        look = self._namespace.look()
        try:
            inode = _inode(look, file_id)
            if inode is None:
                return _GONE
            interval_ms = _interval_of(look, inode.mount_id)
        finally:
            self._namespace.end(look)
        return Sight(inode, interval_ms, interval_ms == NEVER_MS)

    def page(self, directory_id: FileId, start_after: bytes, limit: int) -> Page | None:
        """At most `limit` entries with names above `start_after`; None: there is no such directory."""
        look = self._namespace.look()
        try:
            directory = _inode(look, directory_id)
            if directory is None or not directory.is_dir:
                return None
            interval_ms = _interval_of(look, directory.mount_id)
            is_certain = interval_ms == NEVER_MS and bool(directory.flags & Flag.CHILDREN_LOADED)
            prefix = keys.ENTRY_PREFIX_BYTES
            entries: list[tuple[bytes, Inode]] = []
            for key, raw in look.scan(*keys.entries_after(directory_id, start_after)):
                if len(entries) == limit:
                    return Page(entries, True, interval_ms, is_certain)
                entries.append((key[prefix:], decoded(look, raw)))
        finally:
            self._namespace.end(look)
        return Page(entries, False, interval_ms, is_certain)

    def parent_of(self, directory_id: FileId) -> FileId:
        """The directory above; of the root, and of what is gone, itself."""
        look = self._namespace.look()
        try:
            raw = look.get(keys.location(directory_id))
        finally:
            self._namespace.end(look)
        return directory_id if raw is None or directory_id == ROOT_ID else int.from_bytes(raw[:8], "big")

    def inodes(self) -> int:
        """How many inodes there are."""
        look = self._namespace.look()
        try:
            raw = look.get(keys.INODES)
        finally:
            self._namespace.end(look)
        return 0 if raw is None else int.from_bytes(raw, "big")


def _inode(look: Readable, file_id: FileId) -> Inode | None:
    if file_id == ROOT_ID:
        raw = look.get(keys.entry(NO_DIRECTORY, b""))
    else:
        place = look.get(keys.location(file_id))
        # The place is the end of the entry's key as it stands: directory id and name.
        raw = None if place is None else look.get(b"e" + place)
    if raw is None:
        return None
    inode = decode_inode(raw)
    return inode if inode.id == file_id else None


def _interval_of(look: Readable, mount_id: MountId) -> int:
    raw = look.get(keys.mount(mount_id))
    return NEVER_MS if raw is None else decode_mount(raw).metadata_sync_interval_ms


def _absent(look: Readable, directory_id: FileId) -> Sight:
    """Nothing of that name is known: certain where the directory's listing was taken in once."""
    directory = _inode(look, directory_id)
    if directory is None:
        return _GONE
    raw = look.get(keys.mount(directory.mount_id))
    if raw is None:
        return _GONE
    interval_ms = decode_mount(raw).metadata_sync_interval_ms
    is_listed = bool(directory.flags & Flag.CHILDREN_LOADED)
    return Sight(None, interval_ms, interval_ms == NEVER_MS and is_listed)
