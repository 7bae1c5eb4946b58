"""LINK: further names for files, and the under storage's part in them.

Owns: the move of a stored file to its next name before the first one goes. Never: removes or renames what users named
(`store_operations.py` does, and asks `give_way` before).

A store has such a file under its first name only. When that name goes, by a removal, or replaced by a rename, or with a
directory above it, the store's object is renamed to the next name: an intent of its own (PROMOTE), done before, that
changes nothing that users see.
"""

import asyncio
import os

import msgspec

from isotach.base.limits import WALK_SLICE_ENTRIES
from isotach.base.paths import is_within, split
from isotach.base.types import FileId, Flag
from isotach.master.commits import Commits
from isotach.master.core import Core
from isotach.master.path_locks import PathLocks
from isotach.master.store_operations import (
    PROMOTE,
    StoreOperations,
    needs_parent,
    refresh_fingerprint,
    rename_in_store,
)
from isotach.master.sync import Syncer
from isotach.namespace import keys, link_names
from isotach.namespace.actor import SYSTEM
from isotach.namespace.hard_links import link
from isotach.namespace.lookup import Resolved, inode_of, is_empty, names_of, path_of, resolve, try_resolve
from isotach.namespace.persist_queue import mark_directories_stored
from isotach.namespace.view import View
from isotach.net.peer import Peer
from isotach.ufs.interface import UfsStatus
from isotach.wire.messages import InodeReply, LinkRequest


class _Move(msgspec.Struct, frozen=True):
    """A stored file whose first name is about to go, and the name that it shall have in the store instead."""

    found: Resolved
    target: bytes
    place: tuple[FileId, bytes]


class HardLinks:
    """One per master. For the event-loop thread."""

    def __init__(
        self, core: Core, *, locks: PathLocks, commits: Commits, syncer: Syncer, operations: StoreOperations
    ) -> None:
        self._core = core
        self._locks = locks
        self._commits = commits
        self._syncer = syncer
        self._operations = operations
        operations.give_way = self.give_way

    async def link(self, request: LinkRequest, peer: Peer) -> InodeReply:
        """The handler. See `namespace.hard_links.link` for errors."""
        actor = self._core.identity.actor(peer)
        await self._syncer.load(request.src)
        await self._syncer.load(request.dst)
        async with self._locks.hold(request.src, request.dst, owner="link"):
            now_ns, ids = self._core.clock.now_ns(), self._core.ids
            after = await self._core.pipeline.submit(
                lambda view: link(view, request.src, request.dst, actor, now_ns, ids)
            )
        return InodeReply(after)

    async def give_way(self, path: bytes) -> None:
        """The entry at `path` is about to go: what the store has of files that keep other names moves there. The caller
        does not hold the path's lock yet. Raises what the store refuses."""
        with self._core.reading() as view:
            if not _any_links(view):
                return
            top = try_resolve(view, path, SYSTEM)
            if not isinstance(top, Resolved) or (top.inode.is_dir and is_empty(view, top.inode.id)):
                return
        if top.inode.is_dir:
            await self._give_way_below(path)
        else:
            await self._move(path, path)

    async def _give_way_below(self, path: bytes) -> None:
        """Every file with several names is looked at, in slices: there is no other way to find those below."""
        after: FileId | None = 0
        while after is not None:
            with self._core.reading() as view:
                first_names, after = _below(view, path, after)
            for name in first_names:
                await self._move(name, path)
            await asyncio.sleep(0)

    async def _move(self, path: bytes, going: bytes) -> None:
        """Moves the file whose first name is `path`, if it has one outside of `going`."""
        while True:
            with self._core.reading() as view:
                wanted = _planned(view, path, going)
            if wanted is None:
                return
            async with self._locks.hold(path, wanted.target, owner="link") as lock:
                with self._core.reading() as view:
                    move = _planned(view, path, going)
                    if move is None or move.target != wanted.target:
                        continue  # something else came first: look again
                    found, mount = move.found, move.found.mount
                    into = resolve(view, split(move.target)[0], SYSTEM)
                if mount is None:
                    return
                source, target = os.fsdecode(found.relative), os.fsdecode(_below_mount(into, move.target))
                intent = msgspec.structs.replace(
                    self._operations.intent(PROMOTE, SYSTEM, path, mount.mount_id, source),
                    dst=move.target,
                    ufs_dst=os.fsencode(target),
                    file_id=found.inode.id,
                )
                make_parent = needs_parent(into)

                def change(view: View, status: UfsStatus | None, move: _Move = move) -> None:
                    promote(view, move.found.inode.id, move.target, status, self._core.clock.now_ns())

                await self._operations.carry_out(
                    intent,
                    lambda driver: rename_in_store(driver, source, target, False, make_parent, False),  # noqa: B023
                    change,
                    lock,
                )
                return


def promote(view: View, file_id: FileId, target: bytes, status: UfsStatus | None, now_ns: int) -> None:
    """The namespace's part, once the store has the file at `target`. A handler; also of `recovery.py`."""
    found = resolve(view, target, SYSTEM)
    if found.inode.id != file_id:
        return  # the name means another file by now
    link_names.promote(view, found.inode, (found.parent_id, found.name))
    refresh_fingerprint(view, found.inode, status, now_ns)
    mark_directories_stored(view, found.parent_id, found.inode.mount_id)


def _any_links(view: View) -> bool:
    return next(iter(view.scan(*keys.all_of(b"h"))), None) is not None


def _planned(view: View, path: bytes, going: bytes) -> _Move | None:
    found = try_resolve(view, path, SYSTEM)
    if not isinstance(found, Resolved) or found.inode.links < 2 or not found.inode.flags & Flag.PERSISTED:
        return None
    if link_names.is_further_name(view, found.inode, found.parent_id, found.name):
        return None
    for _, directory_id, name in names_of(view, found.inode.id):
        try:
            directory = path_of(view, directory_id)
        except FileNotFoundError:
            continue  # in a tree that waits for reclaim
        target = directory.rstrip(b"/") + b"/" + name
        if not is_within(target, going):
            return _Move(found, target, (directory_id, name))
    return None


def _below(view: View, path: bytes, after: FileId) -> tuple[list[bytes], FileId | None]:
    """(first names below `path` among the next files with several names, the id to go on after)."""
    seen = 0
    first_names: list[bytes] = []
    start, stop = keys.name_of_link(after + 1, 0), keys.all_of(b"h")[1]
    last = after
    for key, _ in view.scan(start, stop):
        file_id = int.from_bytes(key[1:9], "big")
        if file_id == last:
            continue
        if seen == WALK_SLICE_ENTRIES:
            return first_names, last
        seen, last = seen + 1, file_id
        try:
            first = path_of(view, inode_of(view, file_id).id)
        except FileNotFoundError:
            continue
        if is_within(first, path):
            first_names.append(first)
    return first_names, None


def _below_mount(into: Resolved, target: bytes) -> bytes:
    name = split(target)[1]
    return into.relative + b"/" + name if into.relative else name
