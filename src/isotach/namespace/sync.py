"""Taking in what the under storage shows: one status, or a listing page by page.

Owns: what appears, changes and vanishes in the namespace then. Never: asks a store (the master's sync service does).

What exists only here (not persisted yet) is never removed and never replaced by what the store shows. A file whose
fingerprint differs gets a new version: its old cached bytes can never be served again.
"""

import msgspec

from isotach.base.errors import InvalidPathError
from isotach.base.limits import BLOCK_BYTES_DEFAULT, SYNC_SWEEP_ENTRIES, SYNC_TREE_CHECK_ENTRIES
from isotach.base.paths import check_name, is_within
from isotach.base.types import FileId, Flag, Inode, Kind, Mount, TtlAction, Version
from isotach.namespace import entries, policies
from isotach.namespace.actor import SYSTEM
from isotach.namespace.counters import IdAllocator
from isotach.namespace.link_names import is_further_name
from isotach.namespace.lookup import (
    Missing,
    Resolved,
    decoded,
    entry_at,
    inode_of,
    is_empty,
    list_children,
    try_resolve,
)
from isotach.namespace.trees import detach_entry
from isotach.namespace.view import View
from isotach.namespace.walk import Walked, walk


class LoadedStatus(msgspec.Struct, frozen=True):
    """One entry as the under storage shows it."""

    name: bytes
    is_dir: bool
    length: int = 0  # bytes
    mtime_ns: int = 0
    fingerprint: str | None = None
    mode: int | None = None
    owner: str | None = None
    group: str | None = None


class Synced(msgspec.Struct, frozen=True):
    """How many entries changed, and the versions whose cached bytes may go. `finished` False: call again (a listing
    with an empty page), until it is True: much that vanished is removed in several calls."""

    changed: int
    freed_versions: list[Version]
    finished: bool = True


class _Tally:
    """What one call did."""

    def __init__(self) -> None:
        self.changed = 0
        self.freed: list[Version] = []
        self.finished = True

    def free(self, version: Version) -> None:
        if version:
            self.freed.append(version)

    def result(self) -> Synced:
        return Synced(self.changed, self.freed, self.finished)


class ListingMerge:
    """Where the merge of one directory's listing stands, between pages.

    `ordered` says that pages come in the store's key order, in which a directory stands as `name/`: then entries that
    vanished are found as the listing goes on, and few names are held. Else all names are held to the end. A store that
    breaks its order is treated as unordered from there on. `started_ns`: what changed here since is left alone, for the
    listing may be older.
    """

    def __init__(self, ordered: bool, started_ns: int) -> None:
        self.ordered = ordered
        self.started_ns = started_ns
        self.seen: set[bytes] = set()
        self.last_key = b""
        self.swept_to = b""  # names up to here are settled

    def note(self, page: list[LoadedStatus]) -> None:
        """Takes the names of a page."""
        keys_in_page = sorted(store_key(status.name, status.is_dir) for status in page)
        if keys_in_page and self.last_key and keys_in_page[0] <= self.last_key:
            self.ordered = False
        if keys_in_page:
            self.last_key = max(self.last_key, keys_in_page[-1])
        self.seen.update(status.name for status in page)

    def is_settled(self, name: bytes, inode: Inode, last: bool) -> bool:
        """Whether a name that was not seen so far cannot come any more."""
        return last or (self.ordered and store_key(name, inode.is_dir) <= self.last_key)


def store_key(name: bytes, is_dir: bool) -> bytes:
    """How the name stands in an object store's order."""
    return name + b"/" if is_dir else name


def apply_status(
    view: View, path: bytes, status: LoadedStatus | None, mount: Mount, now_ns: int, ids: IdAllocator
) -> Synced:
    """Takes in one path's status (None: it does not exist there). Missing parents below the mount are made. A path that
    has left `mount` meanwhile is left alone."""
    found = try_resolve(view, path, SYSTEM)
    if isinstance(found, Missing):
        if status is None or found.parent.inode.mount_id != mount.mount_id or not is_within(path, mount.path):
            return Synced(0, [])
        for name in found.remaining:
            check_name(name)
        place, made = _load_parents(view, found, now_ns, ids)
        added = msgspec.structs.replace(status, name=found.remaining[-1])
        return Synced(made + _add(view, place, added, now_ns, ids), [])
    if found.inode.mount_id != mount.mount_id or found.inode.flags & Flag.MOUNT_POINT:
        return Synced(0, [])
    tally = _Tally()
    if status is None:
        _vanish(view, found.parent_id, found.name, found.inode, tally)
    else:
        parent = inode_of(view, found.parent_id)
        _meet(view, parent, found.name, found.inode, status, now_ns, ids, tally)
    return tally.result()


def apply_listing(
    view: View,
    directory: Resolved,
    page: list[LoadedStatus],
    first: bool,
    last: bool,
    merge: ListingMerge,
    now_ns: int,
    ids: IdAllocator,
) -> Synced:
    """Merges one page of the store's children of `directory`; with `last` also settles those that vanished and marks
    the directory as loaded. `first` and `last` may both be set. Bounded work per call: see `Synced.finished`."""
    inode = entry_at(view, directory.parent_id, directory.name)
    if inode is None or inode.id != directory.inode.id:
        return Synced(0, [])  # moved or removed meanwhile
    assert not first or not merge.swept_to, "a listing starts with a new ListingMerge"
    merge.note(page)
    tally = _Tally()
    for status in page:
        _merge_one(view, inode, status, merge, now_ns, ids, tally)
    swept = _sweep(view, inode, merge, last, tally)
    tally.finished = tally.finished and (swept or not last)
    if last and tally.finished and not inode.flags & Flag.CHILDREN_LOADED:
        loaded = msgspec.structs.replace(inode, flags=int(inode.flags | Flag.CHILDREN_LOADED))
        entries.store(view, directory.parent_id, directory.name, inode, loaded)
    return tally.result()


def _merge_one(
    view: View,
    directory: Inode,
    status: LoadedStatus,
    merge: ListingMerge,
    now_ns: int,
    ids: IdAllocator,
    tally: _Tally,
) -> None:
    existing = entry_at(view, directory.id, status.name)
    if existing is None:
        try:
            check_name(status.name)
        except (InvalidPathError, OSError):
            return  # a key that no namespace can hold
        tally.changed += _add(view, directory, status, now_ns, ids)
    elif existing.is_dir or existing.ctime_ns < merge.started_ns:
        _meet(view, directory, status.name, existing, status, now_ns, ids, tally)


def _sweep(view: View, directory: Inode, merge: ListingMerge, last: bool, tally: _Tally) -> bool:
    """Settles existing names above `swept_to` as far as that can be decided. Returns whether all are settled."""
    if not last and not merge.ordered:
        return False
    for name, raw in list_children(view, directory.id, merge.swept_to, SYNC_SWEEP_ENTRIES):
        if name in merge.seen:
            merge.seen.discard(name)
        else:
            inode = decoded(view, raw)
            if not merge.is_settled(name, inode, last):
                return False
            if inode.ctime_ns < merge.started_ns:
                _vanish(view, directory.id, name, inode, tally)
                if not tally.finished:
                    return False  # a large tree goes in several calls
        merge.swept_to = name
    return next(list_children(view, directory.id, merge.swept_to, 1), None) is None


def _load_parents(view: View, missing: Missing, now_ns: int, ids: IdAllocator) -> tuple[Inode, int]:
    """Makes all but the last of the missing names as directories. Returns the innermost, and how many were made."""
    directory = missing.parent.inode
    for name in missing.remaining[:-1]:
        made = _loaded(LoadedStatus(name, is_dir=True), directory, ids.allocate(), now_ns, ids)
        entries.insert(view, directory.id, name, made)
        directory = made
    return directory, len(missing.remaining) - 1


def _add(view: View, directory: Inode, status: LoadedStatus, now_ns: int, ids: IdAllocator) -> int:
    """A child that was not known."""
    entries.insert(view, directory.id, status.name, _loaded(status, directory, ids.allocate(), now_ns, ids))
    return 1


def _loaded(status: LoadedStatus, directory: Inode, inode_id: FileId, now_ns: int, ids: IdAllocator) -> Inode:
    """The record of what the store shows. What the store does not keep comes from the directory."""
    ttl_ms, ttl_action = (-1, TtlAction.DELETE) if status.is_dir else policies.inherited_ttl(directory)
    default_mode = directory.mode if status.is_dir else directory.mode & 0o666
    return Inode(
        id=inode_id,
        kind=Kind.DIRECTORY if status.is_dir else Kind.FILE,
        mode=default_mode if status.mode is None else status.mode & 0o7777,
        owner=directory.owner if status.owner is None else status.owner,
        group=directory.group if status.group is None else status.group,
        length=0 if status.is_dir else status.length,
        mtime_ns=status.mtime_ns or now_ns,
        ctime_ns=now_ns,
        atime_ns=status.mtime_ns or now_ns,
        version=0 if status.is_dir else ids.allocate(),
        block_size=0 if status.is_dir else BLOCK_BYTES_DEFAULT,
        flags=int(Flag.PERSISTED) | policies.inherited_flags(directory),
        mount_id=directory.mount_id,
        ttl_ms=ttl_ms,
        ttl_action=ttl_action,
        expires_ms=policies.expires_ms(ttl_ms, now_ns),
        fingerprint=None if status.is_dir else status.fingerprint,
        policy=policies.for_directory(directory) if status.is_dir else policies.for_file(directory),
    )


def _meet(
    view: View,
    directory: Inode,
    name: bytes,
    existing: Inode,
    status: LoadedStatus,
    now_ns: int,
    ids: IdAllocator,
    tally: _Tally,
) -> None:
    """A child that is known and that the store shows."""
    if existing.flags & Flag.MOUNT_POINT or is_further_name(view, existing, directory.id, name):
        return  # a further name is known here only, whatever the store has of that name
    if existing.is_dir != status.is_dir:
        _vanish(view, directory.id, name, existing, tally)
        if entry_at(view, directory.id, name) is None:
            tally.changed += _add(view, directory, msgspec.structs.replace(status, name=name), now_ns, ids)
        return
    if existing.is_dir:
        if existing.flags & Flag.PERSISTED:
            return
        known = msgspec.structs.replace(existing, flags=int(existing.flags | Flag.PERSISTED))
        entries.store(view, directory.id, name, existing, known)
        return
    if not existing.flags & Flag.PERSISTED or is_same_content(existing, status):
        return
    tally.freed.append(existing.version)
    tally.changed += 1
    after = msgspec.structs.replace(
        existing,
        length=status.length,
        mtime_ns=status.mtime_ns or now_ns,
        ctime_ns=now_ns,
        version=ids.allocate(),
        fingerprint=status.fingerprint,
        flags=int(existing.flags & ~Flag.LOST),
    )
    entries.store(view, directory.id, name, existing, after)


def is_same_content(inode: Inode, status: LoadedStatus) -> bool:
    """Whether the store still shows the content of the inode's version: by fingerprint, or where there is none, by
    length and modification time."""
    if inode.fingerprint is not None and status.fingerprint is not None:
        return inode.fingerprint == status.fingerprint
    return inode.length == status.length and inode.mtime_ns == status.mtime_ns


def _vanish(view: View, directory_id: FileId, name: bytes, inode: Inode, tally: _Tally) -> None:
    """The store does not show this child (any more): removes it, unless something of it exists only here. Of a tree too
    large to look through at once only a part is removed, and `tally.finished` set False."""
    if _exists_only_here(view, Walked(directory_id, name, inode)) or not inode.flags & Flag.PERSISTED:
        return
    if inode.is_dir and not is_empty(view, inode.id):
        below = walk(view, inode.id, None, SYNC_TREE_CHECK_ENTRIES)
        if len(below.entries) == SYNC_TREE_CHECK_ENTRIES:
            _vanish_part(view, below.entries, tally)
        elif not any(_exists_only_here(view, entry) for entry in below.entries):
            detach_entry(view, directory_id, name, inode)
            tally.changed += 1
        return
    tally.free(entries.erase(view, directory_id, name, inode))
    tally.changed += 1


def _vanish_part(view: View, below: list[Walked], tally: _Tally) -> None:
    """Removes what can go of the beginning of a large tree, the inner before the outer."""
    before = tally.changed
    for entry in reversed(below):
        if not _exists_only_here(view, entry) and not (entry.inode.is_dir and not is_empty(view, entry.inode.id)):
            tally.free(entries.erase(view, entry.parent_id, entry.name, entry.inode))
            tally.changed += 1
    tally.finished = tally.changed == before


def _exists_only_here(view: View, entry: Walked) -> bool:
    """What the store does not hold (files that are not persisted, all that is no file, further names), or a mount."""
    inode = entry.inode
    if inode.is_dir:
        return bool(inode.flags & Flag.MOUNT_POINT)
    return not inode.flags & Flag.PERSISTED or is_further_name(view, inode, entry.parent_id, entry.name)
