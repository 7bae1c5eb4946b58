"""What a mount does for a program that writes files, without a kernel: for tests and benchmarks of `fuse.writing`.

Owns: making and opening files the way a mount does. Never: mounts anything.
"""

from pathlib import Path

import msgspec

from isotach.base.paths import id_path, normalize
from isotach.base.types import Inode, Kind, WriteType
from isotach.client import operations
from isotach.client.filesystem import FileSystem
from isotach.client.link import Link
from isotach.client.operations import Operation, Where
from isotach.conf import FuseSettings, load_settings
from isotach.fuse.writing.live_file import WrittenFile
from isotach.fuse.writing.mount_writing import MountWriting
from isotach.wire.messages import MAKE, MakeReply, MakeRequest, StatReply


class MountWriter:
    """A mount's writing, over a client of its own. `changed` are settings of the section `fuse`."""

    def __init__(self, fs: FileSystem, spool: Path, **changed: object) -> None:
        self.fs = fs
        self.link: Link = fs._link
        self.late: list[Inode] = []
        given = msgspec.structs.replace(load_settings({}).fuse, **changed)
        assert isinstance(given, FuseSettings)
        self.writing = MountWriting(self.link, given, self.granted, spool, published_late=self.late.append)

    def granted(self, file_id: int) -> StatReply:
        """As `Tree.granted`."""
        return self.link.run(operations.grant_read(id_path(file_id), -1.0))

    def create(self, path: str, write_type: WriteType = WriteType.MUST_CACHE) -> WrittenFile:
        """As creat(2) of a new file."""
        request = MakeRequest(
            normalize(path), Kind.FILE, write=True, write_type=write_type.value, host_key=self.link.host_key
        )
        reply = self.link.run(Operation(MAKE, request, Where.MASTER, lambda reply, _payload: reply))
        assert isinstance(reply, MakeReply)
        return self.writing.begin(reply.inode, reply.created, False)

    def open(self, path: str, *, truncate: bool = False) -> WrittenFile:
        """Begins to write to a file that exists."""
        return self.writing.begin(self.fs.stat(path).inode, None, truncate)

    def close(self) -> None:
        """Ends it; open files are to be closed before."""
        self.writing.close()


def put(file: WrittenFile, offset: int, data: bytes) -> None:
    """As pwrite(2)."""
    file.write(offset, memoryview(data))
