"""Going through a subtree for a job: streamed, with the listings of the under storage taken in on the way.

Owns: the order (names in byte order, a directory where its name stands) and the bookmark from which a later process
goes on. Never: holds more than one slice, or fails as a whole because one directory does.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from isotach.base.errors import IsotachError, told
from isotach.base.limits import WALK_SLICE_ENTRIES
from isotach.base.paths import join
from isotach.base.types import Inode
from isotach.master.core import Core
from isotach.master.sync import Syncer
from isotach.namespace import permissions
from isotach.namespace.actor import Actor
from isotach.namespace.lookup import Missing, Resolved, children, stored_as, try_resolve
from isotach.namespace.view import View


class Found(msgspec.Struct, frozen=True):
    """A file. `ufs_path` is relative to its mount; None when it has none."""

    path: bytes
    inode: Inode
    ufs_path: bytes | None


class TreeSlice(msgspec.Struct, frozen=True):
    """Files in order, directories that could not be listed, and the bookmark after them (empty: that was all)."""

    files: list[Found]
    failures: list[tuple[bytes, str]]
    cursor: bytes


#: (directory, name after which to go on) from the outermost in.
_Stack = list[tuple[bytes, bytes]]
_decode_stack: Final = msgspec.msgpack.Decoder(_Stack).decode


class Tree:
    """One walk's way. `sync`: ask the under storage for directories whose listing is missing or too old; `anew`: for
    all of them."""

    def __init__(
        self, core: Core, syncer: Syncer, actor: Actor, *, sync: bool, recursive: bool, anew: bool = False
    ) -> None:
        self._core = core
        self._syncer = syncer
        self._actor = actor
        self._sync = sync or anew
        self._interval_ms = 0 if anew else None
        self._recursive = recursive
        self._files: list[Found] = []
        self._failures: list[tuple[bytes, str]] = []

    async def slices(self, top: bytes, cursor: bytes = b"") -> AsyncIterator[TreeSlice]:
        """The files at or below `top`, from a bookmark on. What vanishes meanwhile is passed over."""
        if not cursor and self._is_file(top):
            yield self._cut(b"")
            return
        stack: _Stack = _decode_stack(cursor) if cursor else [(top, b"")]
        while stack:
            path, after = stack.pop()
            if after or await self._is_listed(path):
                self._take(path, after, stack)
            if len(self._files) >= WALK_SLICE_ENTRIES and stack:
                yield self._cut(msgspec.msgpack.encode(stack))
            await asyncio.sleep(0)  # others have their turn
        yield self._cut(b"")

    def _cut(self, cursor: bytes) -> TreeSlice:
        done = TreeSlice(self._files, self._failures, cursor)
        self._files, self._failures = [], []
        return done

    def _is_file(self, path: bytes) -> bool:
        with self._core.reading() as view:
            found = try_resolve(view, path, self._actor)
            if isinstance(found, Missing) or found.inode.is_dir:
                return False
            permissions.check(found.inode, self._actor, permissions.READ, path)
            if found.inode.is_file:
                relative = None if found.mount is None else stored_as(view, found)
                self._files.append(Found(path, found.inode, relative))
            return True

    def _take_file(self, view: View, path: bytes, inode: Inode, relative: bytes | None) -> None:
        """Links, FIFOs and their like have no bytes."""
        if not self._actor.superuser and not permissions.allowed(inode, self._actor, permissions.READ):
            self._failures.append((path, "permission refused: ask its owner for read access"))
        elif not inode.is_file:
            return
        elif inode.links > 1:
            found = try_resolve(view, path, self._actor)
            assert isinstance(found, Resolved), "it was seen in this view"
            self._files.append(Found(path, inode, None if relative is None else stored_as(view, found)))
        else:
            self._files.append(Found(path, inode, relative))

    async def _is_listed(self, path: bytes) -> bool:
        if not self._sync:
            return True
        try:
            await self._syncer.ensure_current(path, True, self._interval_ms)
        except (OSError, IsotachError) as error:
            self._failures.append((path, f"its listing failed: {told(error)}"))
            return False
        return True

    def _take(self, path: bytes, after: bytes, stack: _Stack) -> None:
        """The next files of one directory, up to the next directory in it."""
        with self._core.reading() as view:
            try:
                found = try_resolve(view, path, self._actor)
                if isinstance(found, Missing) or not found.inode.is_dir:
                    return  # it went away, or became a file, while we walked
                permissions.check(found.inode, self._actor, permissions.READ | permissions.EXECUTE, path)
            except PermissionError:
                self._failures.append((path, "permission refused: ask its owner for read access"))
                return
            except NotADirectoryError:
                return
            relative = found.relative + b"/" if found.relative else b""
            has_store, name = found.mount is not None, after
            for count, (name, inode) in enumerate(children(view, found.inode.id, after, WALK_SLICE_ENTRIES), 1):
                if inode.is_dir:
                    stack.append((path, name))
                    if self._recursive:
                        stack.append((join(path, name), b""))
                    return
                self._take_file(view, join(path, name), inode, relative + name if has_store else None)
                if count == WALK_SLICE_ENTRIES:
                    stack.append((path, name))
