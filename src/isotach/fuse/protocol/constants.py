"""The numbers of the FUSE protocol: opcodes, flags and codes, with the kernel's names less their prefix.

Owns: the numbers of include/uapi/linux/fuse.h up to ABI 7.45. Never: says how bytes lie (`layouts`).
"""

from enum import IntEnum, IntFlag
from typing import Final

MAJOR: Final = 7
#: The newest minor whose meaning is known here, and the oldest that is served (Linux 5.4).
MINOR: Final = 45
MINOR_MIN: Final = 31

#: The node of the folder at the top.
ROOT: Final = 1
#: The least buffer that the kernel lets a daemon read with.
READ_BUFFER_BYTES_MIN: Final = 8192
#: Bits of `unique`: this is about a request (INTERRUPT), or a request sent again (NOTIFY_RESEND).
UNIQUE_INTERRUPT: Final = 1
UNIQUE_RESEND: Final = 1 << 63

#: ioctl(2) numbers of the device.
IOC_CLONE: Final = 0x8004E500
IOC_BACKING_OPEN: Final = 0x4010E501
IOC_BACKING_CLOSE: Final = 0x4004E502


class Opcode(IntEnum):
    """What the kernel asks."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    GETLK = 31
    SETLK = 32
    SETLKW = 33
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    BMAP = 37
    DESTROY = 38
    IOCTL = 39
    POLL = 40
    NOTIFY_REPLY = 41
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    LSEEK = 46
    COPY_FILE_RANGE = 47
    SETUPMAPPING = 48
    REMOVEMAPPING = 49
    SYNCFS = 50
    TMPFILE = 51
    STATX = 52
    COPY_FILE_RANGE_64 = 53


#: One more than the greatest opcode known.
OPCODE_END: Final = max(Opcode) + 1
#: Requests that must not be answered.
UNANSWERED: Final = frozenset({Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT, Opcode.NOTIFY_REPLY})


class Init(IntFlag):
    """Capabilities in INIT: bits 0 to 31 are `flags`, 32 to 63 `flags2`."""

    ASYNC_READ = 1 << 0
    POSIX_LOCKS = 1 << 1
    FILE_OPS = 1 << 2
    ATOMIC_O_TRUNC = 1 << 3
    EXPORT_SUPPORT = 1 << 4
    BIG_WRITES = 1 << 5
    DONT_MASK = 1 << 6
    SPLICE_WRITE = 1 << 7
    SPLICE_MOVE = 1 << 8
    SPLICE_READ = 1 << 9
    FLOCK_LOCKS = 1 << 10
    HAS_IOCTL_DIR = 1 << 11
    AUTO_INVAL_DATA = 1 << 12
    DO_READDIRPLUS = 1 << 13
    READDIRPLUS_AUTO = 1 << 14
    ASYNC_DIO = 1 << 15
    WRITEBACK_CACHE = 1 << 16
    NO_OPEN_SUPPORT = 1 << 17
    PARALLEL_DIROPS = 1 << 18
    HANDLE_KILLPRIV = 1 << 19
    POSIX_ACL = 1 << 20
    ABORT_ERROR = 1 << 21
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    NO_OPENDIR_SUPPORT = 1 << 24
    EXPLICIT_INVAL_DATA = 1 << 25
    MAP_ALIGNMENT = 1 << 26
    SUBMOUNTS = 1 << 27
    HANDLE_KILLPRIV_V2 = 1 << 28
    SETXATTR_EXT = 1 << 29
    INIT_EXT = 1 << 30
    INIT_RESERVED = 1 << 31
    SECURITY_CTX = 1 << 32
    HAS_INODE_DAX = 1 << 33
    CREATE_SUPP_GROUP = 1 << 34
    HAS_EXPIRE_ONLY = 1 << 35
    DIRECT_IO_ALLOW_MMAP = 1 << 36
    PASSTHROUGH = 1 << 37
    NO_EXPORT_SUPPORT = 1 << 38
    HAS_RESEND = 1 << 39
    ALLOW_IDMAP = 1 << 40
    OVER_IO_URING = 1 << 41
    REQUEST_TIMEOUT = 1 << 42


class Fopen:
    """Flags of the reply to OPEN, OPENDIR and CREATE. Beside PASSTHROUGH the kernel takes only DIRECT_IO,
    PARALLEL_DIRECT_WRITES and NOFLUSH (plain numbers: they are on the hot path)."""

    DIRECT_IO: Final = 1 << 0
    KEEP_CACHE: Final = 1 << 1
    NONSEEKABLE: Final = 1 << 2
    CACHE_DIR: Final = 1 << 3
    STREAM: Final = 1 << 4
    NOFLUSH: Final = 1 << 5
    PARALLEL_DIRECT_WRITES: Final = 1 << 6
    PASSTHROUGH: Final = 1 << 7


class Fattr:
    """Which fields of SETATTR hold something."""

    MODE: Final = 1 << 0
    UID: Final = 1 << 1
    GID: Final = 1 << 2
    SIZE: Final = 1 << 3
    ATIME: Final = 1 << 4
    MTIME: Final = 1 << 5
    FH: Final = 1 << 6
    ATIME_NOW: Final = 1 << 7
    MTIME_NOW: Final = 1 << 8
    LOCKOWNER: Final = 1 << 9
    CTIME: Final = 1 << 10
    KILL_SUIDGID: Final = 1 << 11


class Notify(IntEnum):
    """What a daemon tells the kernel without being asked."""

    POLL = 1
    INVAL_INODE = 2
    INVAL_ENTRY = 3
    STORE = 4
    RETRIEVE = 5
    DELETE = 6
    RESEND = 7
    INC_EPOCH = 8
    PRUNE = 9


#: Flags of single requests.
RELEASE_FLUSH: Final = 1 << 0
RELEASE_FLOCK_UNLOCK: Final = 1 << 1
GETATTR_FH: Final = 1 << 0
LK_FLOCK: Final = 1 << 0
WRITE_CACHE: Final = 1 << 0
WRITE_LOCKOWNER: Final = 1 << 1
WRITE_KILL_SUIDGID: Final = 1 << 2
READ_LOCKOWNER: Final = 1 << 1
FSYNC_DATA_ONLY: Final = 1 << 0
OPEN_KILL_SUIDGID: Final = 1 << 0
SETXATTR_ACL_KILL_SGID: Final = 1 << 0
ATTR_SUBMOUNT: Final = 1 << 0
ATTR_DAX: Final = 1 << 1
#: Of the notification INVAL_ENTRY: the name is to be looked up again, its dentry stays.
EXPIRE_ONLY: Final = 1 << 0
#: Extensions after a request: types up to 31 are security contexts.
EXT_GROUPS: Final = 32
