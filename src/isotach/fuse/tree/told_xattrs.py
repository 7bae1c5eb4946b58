"""The read-only attributes `isotach.*`: what Isotach knows of an entry, for `getfattr -n isotach.location FILE`.

Owns: their names and texts. Never: stores anything. They are not listed by listxattr(2): programs that copy a file with
all its attributes (`cp -a`, `rsync -X`) would take them along, and fail.
"""

import errno
import os
from collections.abc import Callable
from typing import Final

from isotach.base.errors import os_error
from isotach.base.paths import id_path
from isotach.base.types import FileId, FileInfo
from isotach.client.operations import Where
from isotach.fuse.tree.core import TreeCore
from isotach.wire import messages
from isotach.wire.messages import PathReply, ResolveIdRequest, StatReply, StatRequest

PREFIX: Final = b"isotach."


class ToldXattrs:
    """For many threads. `write_type` is the mount's."""

    def __init__(self, core: TreeCore, write_type: str) -> None:
        self._core: Final = core
        self._write_type: Final = write_type
        self._texts: Final[dict[bytes, Callable[[FileInfo], str]]] = {
            b"id": lambda info: str(info.id),
            b"path": lambda info: self._path(info.id),
            b"version": lambda info: str(info.version),
            b"persisted": lambda info: _word(info.persisted),
            b"pinned": lambda info: _word(info.pinned),
            b"lost": lambda info: _word(info.lost),
            b"cached_percent": lambda info: str(info.cached_percent),
            b"in_memory_percent": lambda info: str(info.in_memory_percent),
            b"copies": lambda info: str(info.copies),
            b"ufs_path": lambda info: info.ufs_path or "",
            b"block_size": lambda info: str(info.block_size),
            b"owner": lambda info: info.owner,
            b"group": lambda info: info.group,
            b"write_type": lambda _info: self._write_type,
        }

    def value(self, file_id: FileId, name: bytes) -> bytes:
        """By calls to the master. Raises OSError(ENODATA) for a name that does not exist."""
        key = name[len(PREFIX) :]
        tell = self._texts.get(key)
        if tell is None and key != b"location":
            known = ", ".join(sorted(text.decode() for text in (*self._texts, b"location")))
            raise os_error(errno.ENODATA, f"there is no such attribute of Isotach; there are {known}")
        reply = self._core.calls.run(messages.STAT, StatRequest(id_path(file_id)), Where.READER)
        assert isinstance(reply, StatReply)
        if tell is None:
            return os.fsencode(self._location(reply))
        return os.fsencode(tell(FileInfo("", reply.inode, reply.ufs_uri, reply.cache)))

    def _path(self, file_id: FileId) -> str:
        reply = self._core.calls.run(messages.RESOLVE_ID, ResolveIdRequest(file_id), Where.READER)
        assert isinstance(reply, PathReply)
        return os.fsdecode(reply.path)

    def _location(self, reply: StatReply) -> str:
        """`worker@host:bytes` of each holder, separated by commas."""
        holders = [] if reply.cache is None else reply.cache.holders
        if not holders:
            return ""
        hosts = {row.worker_id: row.host for row in self._core.calls.link.live_workers()}
        return ",".join(
            f"{holder.worker_id}@{hosts.get(holder.worker_id, '?')}:{holder.cached_bytes}" for holder in holders
        )


def _word(value: bool) -> str:
    return "true" if value else "false"
