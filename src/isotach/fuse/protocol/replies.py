"""Encodes what a daemon answers: entries, attributes, open files, directories, locks, sizes.

Owns: the payloads after the reply's header. Never: sends them, or decides what is true. Times are ns since the epoch,
sizes bytes, time-outs `Timeout` (computed once: they are the same in every reply).
"""

from typing import Final, NamedTuple

from isotach.base.errors import InvalidArgumentError
from isotach.fuse.protocol import layouts

_NS: Final = 1_000_000_000
_UINT32: Final = 0xFFFF_FFFF

#: Seconds and nanoseconds for which the kernel may believe something.
Timeout = tuple[int, int]

_attr = layouts.ATTR.pack
_entry = layouts.ENTRY_OUT.pack
_attr_head = layouts.ATTR_OUT.pack
_dirent = layouts.DIRENT.pack
_PADDING: Final = tuple(bytes(-length % 8) for length in range(8))


class Attributes(NamedTuple):
    """What stat(2) tells. `mode` with the bits of the type; `blocks` of 512 bytes; `rdev` as stat(2) has it."""

    ino: int
    size: int
    blocks: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int = 0
    blksize: int = 4096


class StatFs(NamedTuple):
    """What statfs(2) tells: blocks of `fragment_size` bytes, files, the longest name."""

    blocks: int
    blocks_free: int
    blocks_available: int
    files: int
    files_free: int
    block_size: int
    name_max: int
    fragment_size: int


def timeout_of(seconds: float) -> Timeout:
    """Raises InvalidArgumentError for a negative one."""
    if not 0 <= seconds < 1 << 40:
        raise InvalidArgumentError(f"a time-out of {seconds} s: give one from 0 on")
    whole = int(seconds)
    return whole, int((seconds - whole) * _NS)


def attributes(value: Attributes) -> bytes:
    """`struct fuse_attr`: part of other replies."""
    ino, size, blocks, atime_ns, mtime_ns, ctime_ns, mode, nlink, uid, gid, rdev, blksize = value
    atime, atime_rest = divmod(atime_ns, _NS)
    mtime, mtime_rest = divmod(mtime_ns, _NS)
    ctime, ctime_rest = divmod(ctime_ns, _NS)
    return _attr(
        ino, size, blocks, atime, mtime, ctime, atime_rest, mtime_rest, ctime_rest,
        mode, nlink, uid, gid, rdev & _UINT32, blksize, 0,
    )  # fmt: skip


def attr(value: Attributes, valid: Timeout) -> bytes:
    """GETATTR, SETATTR."""
    return _attr_head(*valid) + attributes(value)


def entry(node: int, value: Attributes, entry_valid: Timeout, attr_valid: Timeout, generation: int = 0) -> bytes:
    """LOOKUP, MKNOD, MKDIR, SYMLINK, LINK; the first half of CREATE and TMPFILE. Gives the kernel one reference."""
    return _entry(node, generation, entry_valid[0], attr_valid[0], entry_valid[1], attr_valid[1]) + attributes(value)


def negative_entry(entry_valid: Timeout) -> bytes:
    """LOOKUP of what is not there, remembered by the kernel for so long (ENOENT is not)."""
    return _entry(0, 0, entry_valid[0], 0, entry_valid[1], 0) + bytes(layouts.ATTR.size)


def open_file(handle: int, flags: int = 0, backing_id: int = 0) -> bytes:
    """OPEN, OPENDIR; the second half of CREATE and TMPFILE. `flags` are `Fopen`'s."""
    return layouts.OPEN_OUT.pack(handle, flags, backing_id)


def create(entry_out: bytes, open_out: bytes) -> bytes:
    """CREATE, TMPFILE: `entry` and `open_file`."""
    return entry_out + open_out


def write(size: int) -> bytes:
    """WRITE, COPY_FILE_RANGE."""
    return layouts.WRITE_OUT.pack(size)


def copied(size: int) -> bytes:
    """COPY_FILE_RANGE_64."""
    return layouts.COPY_FILE_RANGE_OUT.pack(size)


def xattr_size(size: int) -> bytes:
    """GETXATTR and LISTXATTR that asked for the size; else the value itself, or the names each with a NUL, is sent."""
    return layouts.GETXATTR_OUT.pack(size)


def xattr_names(names: list[bytes]) -> bytes:
    """LISTXATTR."""
    return b"".join([name + b"\0" for name in names])


def statfs(value: StatFs) -> bytes:
    return layouts.KSTATFS.pack(*value)


def lock(start: int, end: int, kind: int, pid: int) -> bytes:
    """GETLK: the lock in the way, or `kind` F_UNLCK (2)."""
    return layouts.FILE_LOCK.pack(start, end, kind, pid)


def lseek(offset: int) -> bytes:
    return layouts.LSEEK_OUT.pack(offset)


def poll(events: int) -> bytes:
    return layouts.POLL_OUT.pack(events)


def bmap(block: int) -> bytes:
    return layouts.BMAP_OUT.pack(block)


def ioctl(result: int, data: bytes = b"") -> bytes:
    return layouts.IOCTL_OUT.pack(result, 0, 0, 0) + data


def statx(value: Attributes, valid: Timeout, birth_ns: int | None = None) -> bytes:
    """STATX: the basic attributes, and the time of birth where it is known."""
    basic, birth = 0x7FF, 0x800
    times: list[int] = []
    for time_ns in (value.atime_ns, birth_ns or 0, value.ctime_ns, value.mtime_ns):
        times += divmod(time_ns, _NS)
    major = (value.rdev >> 8) & 0xFFF
    minor = (value.rdev & 0xFF) | ((value.rdev >> 12) & 0xFFF00)
    return layouts.STATX_OUT.pack(valid[0], valid[1], 0) + layouts.STATX.pack(
        basic if birth_ns is None else basic | birth, value.blksize, 0, value.nlink, value.uid, value.gid, value.mode,
        value.ino, value.size, value.blocks, 0, *times, major, minor, 0, 0,
    )  # fmt: skip


class Directory:
    """Packs the entries of one READDIR or READDIRPLUS, until `limit` bytes (the request's size) are full.

    The offset of an entry is where the next call goes on: a cookie after it, not its own place.
    """

    __slots__ = ("_parts", "_room")

    def __init__(self, limit: int) -> None:
        self._parts: list[bytes] = []
        self._room = limit

    def add(self, ino: int, offset: int, kind: int, name: bytes) -> bool:
        """READDIR. `kind` is DT_*, mode >> 12. False: there is no room for it, and nothing more is to be added."""
        length = len(name)
        padding = _PADDING[length & 7]
        self._room -= 24 + length + len(padding)
        if self._room < 0:
            self._room = -1
            return False
        self._parts += (_dirent(ino, offset, length, kind), name, padding)
        return True

    def add_plus(self, entry_out: bytes, ino: int, offset: int, kind: int, name: bytes) -> bool:
        """READDIRPLUS. `entry_out` is `entry`'s (a reference for the kernel, given only if this returns True), or
        `NO_ENTRY`: the kernel is told the name alone."""
        length = len(name)
        padding = _PADDING[length & 7]
        self._room -= 152 + length + len(padding)
        if self._room < 0:
            self._room = -1
            return False
        self._parts += (entry_out, _dirent(ino, offset, length, kind), name, padding)
        return True

    def encoded(self) -> bytes:
        """What there is; empty: the directory ends."""
        return b"".join(self._parts)


#: In READDIRPLUS: no look-up of this name (`.` and `..` always have it).
NO_ENTRY: Final = bytes(layouts.ENTRY_OUT.size + layouts.ATTR.size)
