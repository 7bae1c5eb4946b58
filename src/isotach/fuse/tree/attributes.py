"""A record of the namespace as the attributes that stat(2) shows.

Owns: that translation, and the options that override what is shown (`uid`, `gid`, `umask`). Never: asks anybody, or
sends anything.
"""

import stat
from typing import Final

import msgspec

from isotach.base.types import Inode, Kind
from isotach.fuse.contract import LiveFile
from isotach.fuse.protocol.replies import Attributes
from isotach.fuse.tree.owners import Owners

#: What programs take as the best size of one read. Larger is quicker for copies (one request per MiB), but Python and C
#: allocate a buffer of this size for every file that they open: at 1 MiB, opening a small file costs more than reading
#: it. coreutils use at least 128 KiB whatever is said here.
BLOCK_BYTES: Final = 128 * 1024
_SECTOR_BYTES: Final = 512
_DIRECTORY_BYTES: Final = 4096

TYPE_BITS: Final = {
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.FILE: stat.S_IFREG,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.FIFO: stat.S_IFIFO,
    Kind.SOCKET: stat.S_IFSOCK,
    Kind.CHARACTER_DEVICE: stat.S_IFCHR,
    Kind.BLOCK_DEVICE: stat.S_IFBLK,
}
KIND_OF_TYPE: Final = {bits: kind for kind, bits in TYPE_BITS.items()}
_TYPES: Final = tuple(TYPE_BITS.get(kind, stat.S_IFREG) for kind in Kind)
_FILE: Final = int(Kind.FILE)
_DIRECTORY: Final = int(Kind.DIRECTORY)
_SYMLINK: Final = int(Kind.SYMLINK)


class Shown(msgspec.Struct, frozen=True):
    """Options of the mount that override what is shown: owners for all files, and bits that none has."""

    uid: int | None = None
    gid: int | None = None
    umask: int = 0


def type_bits(kind: int) -> int:
    """S_IF* of a kind."""
    return _TYPES[kind]


def attributes_of(inode: Inode, live: LiveFile | None, owners: Owners, shown: Shown) -> Attributes:
    """A file that is being written here is shown as it is now, not as it was last published."""
    kind = inode.kind
    length, mtime_ns, ctime_ns = inode.length, inode.mtime_ns, inode.ctime_ns
    if live is not None:
        length, mtime_ns = live.length, live.mtime_ns
        ctime_ns = max(ctime_ns, mtime_ns)
    blocks = -(-length // _SECTOR_BYTES)
    if kind != _FILE:
        blocks = 0
        length = _DIRECTORY_BYTES if kind == _DIRECTORY else len(inode.target or b"") if kind == _SYMLINK else 0
    return Attributes(
        inode.id,
        length,
        blocks,
        inode.atime_ns,
        mtime_ns,
        ctime_ns,
        _TYPES[kind] | (inode.mode & 0o7777 & ~shown.umask if kind != _SYMLINK else 0o777),
        inode.links if kind != _DIRECTORY else min(inode.links, 1),  # 1: find(1) does not count subdirectories by it
        owners.uid(inode.owner) if shown.uid is None else shown.uid,
        owners.gid(inode.group) if shown.gid is None else shown.gid,
        inode.rdev,
        BLOCK_BYTES,
    )
