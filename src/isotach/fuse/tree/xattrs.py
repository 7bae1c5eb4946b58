"""GETXATTR, LISTXATTR, SETXATTR, REMOVEXATTR.

Owns: these handlers, and which names may be set. Never: knows what a list of access control says (`namespace.acl` does,
in the master), or what the read-only names tell (`told_xattrs`).

`user.*`, `trusted.*`, `security.*` and the two POSIX ACLs are stored with the entry. The kernel asks for some of them
at every turn (`security.capability` before writes): they are answered from the store, without a call.
"""

import errno
import os
import stat
from typing import Final

import msgspec

from isotach.base.errors import os_error
from isotach.base.paths import id_path
from isotach.base.types import Inode
from isotach.fuse.contract import Handler, Reply, Request
from isotach.fuse.protocol import replies, requests
from isotach.fuse.protocol.constants import SETXATTR_ACL_KILL_SGID, Opcode
from isotach.fuse.tree.core import TreeCore, gone
from isotach.fuse.tree.told_xattrs import PREFIX as TOLD
from isotach.fuse.tree.told_xattrs import ToldXattrs
from isotach.wire import messages
from isotach.wire.messages import SetAttrRequest

_STORED: Final = (b"user.", b"trusted.", b"security.", b"system.posix_acl_access", b"system.posix_acl_default")
_XATTR_CREATE: Final = os.XATTR_CREATE
_XATTR_REPLACE: Final = os.XATTR_REPLACE
_NO_DATA: Final = OSError(errno.ENODATA, "the entry has no such extended attribute")


class Xattrs:
    """For many threads."""

    def __init__(self, core: TreeCore, told: ToldXattrs) -> None:
        self._core: Final = core
        self._told: Final = told

    def handlers(self) -> dict[int, Handler]:
        """By opcode."""
        turns = self._core.turns
        return {
            Opcode.GETXATTR: self._get,
            Opcode.LISTXATTR: self._list,
            Opcode.SETXATTR: lambda request: turns.run(request, self._set),
            Opcode.REMOVEXATTR: lambda request: turns.run(request, self._remove),
        }

    # --- reads ---

    def _get(self, request: Request) -> Reply:
        asked = requests.decode_getxattr(request.body)
        if asked.name.startswith(TOLD):
            self._core.later.run("tree", request, self._get_told)
            return None
        _check_name(asked.name)
        inode = self._inode_now(request)
        if inode is None:
            self._core.later.run("tree", request, self._get_asked)
            return None
        return _value(inode, asked.name, asked.size)

    def _get_asked(self, request: Request) -> Reply:
        asked = requests.decode_getxattr(request.body)
        return _value(self._inode(request), asked.name, asked.size)

    def _get_told(self, request: Request) -> Reply:
        asked = requests.decode_getxattr(request.body)
        return _sized(self._told.value(self._core.nodes.file_id(request.node), asked.name), asked.size)

    def _list(self, request: Request) -> Reply:
        inode = self._inode_now(request)
        if inode is None:
            self._core.later.run("tree", request, self._list_asked)
            return None
        return _names(inode, requests.decode_listxattr(request.body))

    def _list_asked(self, request: Request) -> Reply:
        return _names(self._inode(request), requests.decode_listxattr(request.body))

    def _inode_now(self, request: Request) -> Inode | None:
        """None: ask."""
        core = self._core
        file_id = core.nodes.file_id(request.node)
        nameless = core.nameless(file_id)
        if nameless is not None:
            return nameless
        sight = core.records.inode_now(file_id)
        if sight is not None and sight.inode is None:
            raise gone(file_id)
        return None if sight is None else sight.inode

    def _inode(self, request: Request) -> Inode:
        core = self._core
        file_id = core.nodes.file_id(request.node)
        inode = core.nameless(file_id) or core.records.inode_asked(file_id).inode
        if inode is None:
            raise gone(file_id)
        return inode

    # --- changes ---

    def _set(self, request: Request) -> Reply:
        asked = requests.decode_setxattr(request.body)
        name = _text(_check_change(asked.name))
        rule = {_XATTR_CREATE: "create", _XATTR_REPLACE: "replace"}.get(asked.flags, "")
        self._change(request, SetAttrRequest(b"", set_xattrs={name: asked.value}, xattr_rule=rule))
        if asked.extra_flags & SETXATTR_ACL_KILL_SGID:
            self._drop_setgid(request)
        return b""

    def _remove(self, request: Request) -> Reply:
        name = _text(_check_change(requests.decode_name(request.body)))
        if name not in (self._inode_of(request).xattrs or {}):
            raise _NO_DATA
        self._change(request, SetAttrRequest(b"", remove_xattrs=[name]))
        return b""

    def _inode_of(self, request: Request) -> Inode:
        return self._inode_now(request) or self._inode(request)

    def _change(self, request: Request, wanted: SetAttrRequest) -> None:
        core = self._core
        file_id = core.nodes.file_id(request.node)
        nameless = core.nameless(file_id)
        if nameless is not None:
            xattrs = {**(nameless.xattrs or {}), **(wanted.set_xattrs or {})}
            for name in wanted.remove_xattrs or ():
                xattrs.pop(name, None)
            core.change_nameless(file_id, msgspec.structs.replace(nameless, xattrs=xattrs))
            return
        core.calls.run(messages.SET_ATTR, msgspec.structs.replace(wanted, path=id_path(file_id)))
        after = core.records.inode_now(file_id)
        if after is not None and after.inode is not None:
            core.own.note(after.inode)

    def _drop_setgid(self, request: Request) -> None:
        """An access list set by somebody who is not in the file's group."""
        inode = self._inode_of(request)
        if inode.mode & stat.S_ISGID:
            self._change(request, SetAttrRequest(b"", mode=inode.mode & ~stat.S_ISGID))


def _check_name(name: bytes) -> bytes:
    """Raises OSError(EOPNOTSUPP) for names of other file systems."""
    if not name.startswith(_STORED):
        raise os_error(errno.EOPNOTSUPP, "extended attributes are user.*, trusted.*, security.* and POSIX ACLs")
    return name


def _check_change(name: bytes) -> bytes:
    if name.startswith(TOLD):
        raise os_error(errno.EPERM, "what Isotach tells of an entry cannot be set")
    return _check_name(name)


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise os_error(errno.EINVAL, "the name of an extended attribute must be UTF-8") from None


def _value(inode: Inode, name: bytes, size: int) -> bytes:
    found = (inode.xattrs or {}).get(name.decode(errors="replace"))
    if found is None:
        raise _NO_DATA
    return _sized(found, size)


def _names(inode: Inode, size: int) -> bytes:
    return _sized(replies.xattr_names([name.encode() for name in inode.xattrs or ()]), size)


def _sized(value: bytes, size: int) -> bytes:
    """The value, or how long it is for a caller that asks."""
    if size == 0:
        return replies.xattr_size(len(value))
    if len(value) > size:
        raise os_error(errno.ERANGE, f"the value has {len(value)} bytes, the buffer {size}")
    return value
