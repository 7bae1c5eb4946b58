"""The records that handlers read: what each request of the kernel says, less its padding.

Owns: their fields, in the kernel's order. Never: decodes (`requests`). Sizes and offsets are bytes; handles are those
that the replies to OPEN and OPENDIR gave.
"""

from typing import NamedTuple


class InitIn(NamedTuple):
    """The kernel's version and what it can do: `flags` are both halves, 64 bits."""

    major: int
    minor: int
    max_readahead: int
    flags: int


class Forget(NamedTuple):
    """The kernel gives back so many of the references to a node that LOOKUP and its like gave it."""

    node: int
    references: int


class GetattrIn(NamedTuple):
    """`handle` holds if `flags & GETATTR_FH`."""

    flags: int
    handle: int


class StatxIn(NamedTuple):
    """`mask`: what statx(2) was asked for."""

    flags: int
    handle: int
    statx_flags: int
    mask: int


class SetattrIn(NamedTuple):
    """`valid` (Fattr) says which fields hold. Times are seconds and nanoseconds; `times_ns` puts them together."""

    valid: int
    handle: int
    size: int
    lock_owner: int
    atime_s: int
    mtime_s: int
    ctime_s: int
    atime_rest_ns: int
    mtime_rest_ns: int
    ctime_rest_ns: int
    mode: int
    uid: int
    gid: int

    @property
    def atime_ns(self) -> int:
        return self.atime_s * 1_000_000_000 + self.atime_rest_ns

    @property
    def mtime_ns(self) -> int:
        return self.mtime_s * 1_000_000_000 + self.mtime_rest_ns

    @property
    def ctime_ns(self) -> int:
        return self.ctime_s * 1_000_000_000 + self.ctime_rest_ns


class SymlinkIn(NamedTuple):
    """A symbolic link to be made."""

    name: bytes
    target: bytes


class MknodIn(NamedTuple):
    """An entry to be made: any kind but a directory; `mode` with the bits of the type."""

    name: bytes
    mode: int
    rdev: int
    umask: int


class MkdirIn(NamedTuple):
    """A directory to be made."""

    name: bytes
    mode: int
    umask: int


class RenameIn(NamedTuple):
    """RENAME and RENAME2; `flags` are renameat2(2)'s."""

    new_parent: int
    flags: int
    name: bytes
    new_name: bytes


class LinkIn(NamedTuple):
    """A further name for the file `node`."""

    node: int
    name: bytes


class OpenIn(NamedTuple):
    """OPEN and OPENDIR. `flags` are open(2)'s, without O_CREAT, O_EXCL and O_NOCTTY."""

    flags: int
    open_flags: int


class CreateIn(NamedTuple):
    """CREATE and TMPFILE (whose name means nothing)."""

    name: bytes
    flags: int
    mode: int
    umask: int
    open_flags: int


class ReadIn(NamedTuple):
    """READ, READDIR, READDIRPLUS. `flags` are those of the open file now."""

    handle: int
    offset: int
    size: int
    read_flags: int
    lock_owner: int
    flags: int


class WriteIn(NamedTuple):
    """`data` is a view of the request's body."""

    handle: int
    offset: int
    size: int
    write_flags: int
    lock_owner: int
    flags: int
    data: memoryview


class ReleaseIn(NamedTuple):
    """RELEASE and RELEASEDIR. `lock_owner` holds if `release_flags & RELEASE_FLOCK_UNLOCK`."""

    handle: int
    flags: int
    release_flags: int
    lock_owner: int


class FlushIn(NamedTuple):
    """A descriptor is closed."""

    handle: int
    lock_owner: int


class FsyncIn(NamedTuple):
    """FSYNC and FSYNCDIR. `flags & FSYNC_DATA_ONLY`: fdatasync(2)."""

    handle: int
    flags: int


class SetxattrIn(NamedTuple):
    """`flags` are setxattr(2)'s, `extra_flags` SETXATTR_*."""

    name: bytes
    value: bytes
    flags: int
    extra_flags: int


class GetxattrIn(NamedTuple):
    """`size` 0: the caller asks how long the value is."""

    name: bytes
    size: int


class LockIn(NamedTuple):
    """GETLK, SETLK, SETLKW. `kind` is F_RDLCK (0), F_WRLCK (1) or F_UNLCK (2); `end` is inclusive."""

    handle: int
    owner: int
    start: int
    end: int
    kind: int
    pid: int
    flags: int


class BmapIn(NamedTuple):
    """Where a block of a file lies on a device."""

    block: int
    block_size: int


class IoctlIn(NamedTuple):
    """ioctl(2), with the bytes that it brings."""

    handle: int
    flags: int
    command: int
    argument: int
    in_size: int
    out_size: int
    data: bytes


class PollIn(NamedTuple):
    """poll(2); `kernel_handle` is what a wake-up names."""

    handle: int
    kernel_handle: int
    flags: int
    events: int


class FallocateIn(NamedTuple):
    """fallocate(2)."""

    handle: int
    offset: int
    length: int
    mode: int


class LseekIn(NamedTuple):
    """lseek(2) with SEEK_DATA (3) or SEEK_HOLE (4)."""

    handle: int
    offset: int
    whence: int


class CopyFileRangeIn(NamedTuple):
    """copy_file_range(2) from the header's node."""

    handle_in: int
    offset_in: int
    node_out: int
    handle_out: int
    offset_out: int
    length: int
    flags: int


class SetupMappingIn(NamedTuple):
    """DAX: a window into a file."""

    handle: int
    file_offset: int
    length: int
    flags: int
    window_offset: int


class RemoveMapping(NamedTuple):
    """DAX: a window that is given up."""

    window_offset: int
    length: int
