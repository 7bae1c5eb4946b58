"""MKDIR, MKNOD, SYMLINK, LINK, CREATE: new names.

Owns: these handlers. Never: writes content: CREATE makes an empty file, and its open file belongs to `fuse.files`.

The namespace gives a new entry its owner: the caller, by name. A mount of an ordinary user makes all as that user.
"""

import errno
import os
import stat
from typing import Final

import msgspec

from isotach.base.errors import os_error
from isotach.base.paths import id_path
from isotach.base.types import Inode, Kind
from isotach.conf import ClientSettings, FuseSettings
from isotach.fuse.contract import Handler, Reply, Request
from isotach.fuse.protocol import requests
from isotach.fuse.protocol.constants import Opcode
from isotach.fuse.tree.attributes import KIND_OF_TYPE
from isotach.fuse.tree.core import TreeCore
from isotach.wire import messages
from isotach.wire.messages import InodeReply, LinkRequest, MakeReply, MakeRequest, MkdirRequest

_PERMISSIONS: Final = 0o7777


class Making:
    """For many threads."""

    def __init__(self, core: TreeCore, client: ClientSettings, fuse: FuseSettings) -> None:
        self._core: Final = core
        self._write_type: Final = str(fuse.write_type or client.write_type)
        self._is_given: Final = fuse.write_type is not None
        self._placement: Final = client.write_location_policy

    def handlers(self) -> dict[int, Handler]:
        """By opcode."""
        turns = self._core.turns
        return {
            Opcode.MKDIR: lambda request: turns.run(request, self._mkdir),
            Opcode.MKNOD: lambda request: turns.run(request, self._mknod),
            Opcode.SYMLINK: lambda request: turns.run(request, self._symlink),
            Opcode.LINK: lambda request: turns.run(request, self._link),
            Opcode.CREATE: lambda request: turns.run(request, self._create),
        }

    def _mkdir(self, request: Request) -> Reply:
        core = self._core
        asked = requests.decode_mkdir(request.body)
        owner, group = core.caller(request)
        place = (core.nodes.file_id(request.node), asked.name)
        path, mode = id_path(*place), asked.mode & _PERMISSIONS
        reply = core.calls.run(
            messages.MKDIR, MkdirRequest(path, mode, owner=owner, group=group, umask=asked.umask & 0o777)
        )
        assert isinstance(reply, InodeReply)
        core.records.note_whole(reply.inode)
        core.places.note(reply.inode, place)
        return self._made(request.node, reply.inode)

    def _mknod(self, request: Request) -> Reply:
        asked = requests.decode_mknod(request.body)
        kind = KIND_OF_TYPE.get(stat.S_IFMT(asked.mode) or stat.S_IFREG)
        if kind is None:
            raise os_error(errno.EINVAL, "no such kind of entry can be made: make a file, FIFO, socket or device")
        wanted = self._wanted(request, asked.name, kind, asked.mode, asked.umask)
        # An empty file is to be stored like any other, some time after nobody has written to it.
        write_type = self._write_type if kind == Kind.FILE else ""
        wanted = msgspec.structs.replace(wanted, rdev=asked.rdev, exclusive=True, write_type=write_type)
        return self._made(request.node, self._make(wanted).inode)

    def _symlink(self, request: Request) -> Reply:
        asked = requests.decode_symlink(request.body)
        wanted = self._wanted(request, asked.name, Kind.SYMLINK, 0o777, 0)
        wanted = msgspec.structs.replace(wanted, target=asked.target, exclusive=True)
        return self._made(request.node, self._make(wanted).inode)

    def _link(self, request: Request) -> Reply:
        core = self._core
        asked = requests.decode_link(request.body)
        source = id_path(core.nodes.file_id(asked.node))
        target = id_path(core.nodes.file_id(request.node), asked.name)
        reply = core.calls.run(messages.LINK, LinkRequest(source, target))
        assert isinstance(reply, InodeReply)
        return self._made(request.node, reply.inode)

    def _create(self, request: Request) -> Reply:
        core = self._core
        asked = requests.decode_create(request.body)
        flags = asked.flags
        wanted = self._wanted(request, asked.name, Kind.FILE, asked.mode, asked.umask)
        made = self._make(
            msgspec.structs.replace(
                wanted,
                exclusive=bool(flags & os.O_EXCL),
                write=bool(flags & (os.O_ACCMODE | os.O_TRUNC)),
                write_type=self._write_type,
                write_type_given=self._is_given,
                placement=self._placement,
                host_key=core.calls.link.host_key,
            )
        )
        entry = self._made(request.node, made.inode) if made.made else core.entry(made.inode)
        node = core.nodes.node_of(made.inode.id)
        try:
            # A new file has nothing to be cut off.
            kept = flags & ~os.O_TRUNC if made.made else flags
            return entry + core.files.open_created(request, node, made.inode, made.created, kept)
        except BaseException:
            core.forget(node, 1)  # the kernel is told of no entry
            raise

    # --- inside ---

    def _wanted(self, request: Request, name: bytes, kind: int, mode: int, umask: int) -> MakeRequest:
        core = self._core
        owner, group = core.caller(request)
        path = id_path(core.nodes.file_id(request.node), name)
        return MakeRequest(path, int(kind), mode & _PERMISSIONS, umask & 0o777, owner, group)

    def _make(self, wanted: MakeRequest) -> MakeReply:
        reply = self._core.calls.run(messages.MAKE, wanted)
        assert isinstance(reply, MakeReply)
        return reply

    def _made(self, directory: int, inode: Inode) -> bytes:
        core = self._core
        core.own.note(inode)
        core.own.note_touch(core.nodes.file_id(directory), inode.ctime_ns)
        return core.entry(inode)
