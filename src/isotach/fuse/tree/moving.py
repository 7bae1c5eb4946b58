"""UNLINK, RMDIR, RENAME, RENAME2: names that go, and names that mean something else.

Owns: these handlers, and that open files outlive their last name. Never: looks after the bytes of such files
(`fuse.files` does).
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from isotach.base.errors import os_error
from isotach.base.paths import id_path
from isotach.base.types import FileId, Inode, Kind
from isotach.fuse.contract import Handler, Reply, Request
from isotach.fuse.protocol import requests
from isotach.fuse.protocol.constants import Opcode
from isotach.fuse.protocol.records import RenameIn
from isotach.fuse.tree.core import TreeCore
from isotach.wire import messages
from isotach.wire.messages import CountReply, InodeReply, RemoveRequest, RenameRequest

NOREPLACE: Final = 1
EXCHANGE: Final = 2

_Place = tuple[FileId, bytes]


class Moving:
    """For many threads."""

    def __init__(self, core: TreeCore) -> None:
        self._core: Final = core

    def handlers(self) -> dict[int, Handler]:
        """By opcode."""
        turns = self._core.turns
        return {
            Opcode.UNLINK: lambda request: turns.run(request, self._unlink),
            Opcode.RMDIR: lambda request: turns.run(request, self._rmdir),
            Opcode.RENAME: lambda request: turns.run(request, self._rename),
            Opcode.RENAME2: lambda request: turns.run(request, self._rename2),
        }

    def _unlink(self, request: Request) -> Reply:
        return self._remove(request, "other")

    def _rmdir(self, request: Request) -> Reply:
        return self._remove(request, "directory")

    def _remove(self, request: Request, kind: str) -> bytes:
        core = self._core
        name = requests.decode_name(request.body)
        directory_id = core.nodes.file_id(request.node)
        inode = self._at(directory_id, name)
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, "there is no entry of that name")
        with self._losing_a_name(inode):
            core.own.note_removed(directory_id, name, inode.id)
            reply = core.calls.run(messages.REMOVE, RemoveRequest(id_path(directory_id, name), kind=kind))
            assert isinstance(reply, CountReply)
            core.own.note_touch(directory_id, reply.at_ns)
        return b""

    def _rename(self, request: Request) -> Reply:
        return self._move(request, requests.decode_rename(request.body))

    def _rename2(self, request: Request) -> Reply:
        return self._move(request, requests.decode_rename2(request.body))

    def _move(self, request: Request, asked: RenameIn) -> bytes:
        core = self._core
        if asked.flags not in (0, NOREPLACE, EXCHANGE):
            raise os_error(errno.EINVAL, "rename knows RENAME_NOREPLACE or RENAME_EXCHANGE, and no other flags")
        source = (core.nodes.file_id(request.node), asked.name)
        target = (core.nodes.file_id(asked.new_parent), asked.new_name)
        moved, replaced = self._at(*source), self._at(*target)
        if moved is None:
            raise FileNotFoundError(errno.ENOENT, "there is no entry of that name")
        is_exchange = asked.flags == EXCHANGE
        wanted = RenameRequest(id_path(*source), id_path(*target), asked.flags != NOREPLACE, is_exchange)
        is_same = replaced is not None and replaced.id == moved.id
        if replaced is None or is_exchange or asked.flags == NOREPLACE or is_same:
            self._ask(wanted, source, target, moved, replaced if is_exchange else None)
        else:
            with self._losing_a_name(replaced):
                self._ask(wanted, source, target, moved, None)
        return b""

    def _ask(
        self, wanted: RenameRequest, source: _Place, target: _Place, moved: Inode, exchanged: Inode | None
    ) -> None:
        core = self._core
        if exchanged is None:
            core.own.note_removed(*source, moved.id)
        reply = core.calls.run(messages.RENAME, wanted)
        assert isinstance(reply, InodeReply)
        core.own.note(reply.inode)
        for directory_id, _ in (source, target):
            core.own.note_touch(directory_id, reply.inode.ctime_ns)
        core.places.forget(moved.id)  # where it is now, the next lookup says
        if exchanged is not None:
            sight = core.records.inode_now(exchanged.id)
            if sight is not None and sight.inode is not None:
                core.own.note(sight.inode)

    def _at(self, directory_id: FileId, name: bytes) -> Inode | None:
        records = self._core.records
        return (records.entry_now(directory_id, name) or records.entry_asked(directory_id, name)).inode

    @contextmanager
    def _losing_a_name(self, inode: Inode) -> Iterator[None]:
        """While the entry goes: if this is its last name, those who have it open go on with what is kept of it."""
        core = self._core
        if inode.links > 1 and inode.kind != Kind.DIRECTORY:
            yield
            sight = core.records.inode_now(inode.id)
            if sight is not None and sight.inode is not None:
                core.own.note(sight.inode)  # it has a name less
            return
        is_file = inode.kind == Kind.FILE
        if is_file:
            core.files.before_removal(inode)
        core.keep_nameless(inode)
        try:
            yield
        except BaseException:
            core.drop_nameless(inode.id)
            raise
        if is_file:
            core.files.removed(inode.id)
