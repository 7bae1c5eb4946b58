"""Agrees with the kernel upon INIT: which version, which capabilities, which sizes.

Owns: what is wanted, and what comes of it on this kernel. Never: does anything about it. A capability that the kernel
has not is left out, never an error; `Negotiated` tells what is missing and why.
"""

from typing import Final

import msgspec

from isotach.base.errors import ProtocolError
from isotach.base.limits import FUSE_PAGE_BYTES, MIB
from isotach.fuse.protocol import layouts
from isotach.fuse.protocol.constants import MAJOR, MINOR, MINOR_MIN, READ_BUFFER_BYTES_MIN, Init
from isotach.fuse.protocol.records import InitIn

#: Asked for at every mount. EXPLICIT_INVAL_DATA: cached pages go when we say so, not because a time changed.
_ALWAYS: Final = (
    Init.ASYNC_READ
    | Init.ATOMIC_O_TRUNC
    | Init.BIG_WRITES
    | Init.DONT_MASK
    | Init.PARALLEL_DIROPS
    | Init.ASYNC_DIO
    | Init.ABORT_ERROR
    | Init.MAX_PAGES
    | Init.CACHE_SYMLINKS
    | Init.EXPLICIT_INVAL_DATA
    | Init.SETXATTR_EXT
    | Init.HAS_EXPIRE_ONLY
    | Init.DIRECT_IO_ALLOW_MMAP
    | Init.HAS_RESEND
)
#: With a minor below these the fields do not exist: 7.31 has no flags2, 7.40 brought passthrough, 7.43 the time-out.
_MINOR_INIT_EXT: Final = 36


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a mount asks for. Sizes in bytes."""

    max_write: int = MIB
    max_readahead: int = MIB
    max_background: int = 64
    passthrough: bool = True
    stack_depth: int = 1  # 2: backing files on overlayfs too, and no overlayfs above the mount
    no_open: bool = False  # training: the kernel stops sending OPEN and RELEASE once it is told ENOSYS
    posix_locks: bool = True
    flock: bool = True
    posix_acl: bool = True
    kill_privileges: bool = True  # HANDLE_KILLPRIV_V2: the daemon clears setuid and setgid upon writes
    readdirplus: bool = True
    readdirplus_auto: bool = True
    export: bool = False  # for NFS servers: `.` and `..` are looked up
    request_timeout_s: int = 0  # the kernel ends the whole connection when an answer takes longer; 0: never


class Negotiated(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for the life of the mount; survives the daemon, where the mount does."""

    minor: int
    kernel_minor: int
    kernel_flags: int
    flags: int
    max_write: int
    max_pages: int
    max_readahead: int
    max_background: int
    passthrough: bool
    passthrough_off: str  # why there is none

    def has(self, capability: Init) -> bool:
        return bool(self.flags & capability)

    @property
    def resend(self) -> bool:
        return self.has(Init.HAS_RESEND)

    @property
    def inc_epoch(self) -> bool:
        return self.minor >= 44

    @property
    def expire_only(self) -> bool:
        return self.has(Init.HAS_EXPIRE_ONLY)

    @property
    def setxattr_ext(self) -> bool:
        return self.has(Init.SETXATTR_EXT)

    @property
    def no_open(self) -> bool:
        return self.has(Init.NO_OPEN_SUPPORT)

    @property
    def posix_locks(self) -> bool:
        return self.has(Init.POSIX_LOCKS)

    @property
    def flock(self) -> bool:
        return self.has(Init.FLOCK_LOCKS)

    @property
    def posix_acl(self) -> bool:
        return self.has(Init.POSIX_ACL)

    @property
    def dont_mask(self) -> bool:
        return self.has(Init.DONT_MASK)

    @property
    def readdirplus(self) -> bool:
        return self.has(Init.DO_READDIRPLUS)

    @property
    def kill_privileges(self) -> bool:
        return self.has(Init.HANDLE_KILLPRIV_V2)

    @property
    def atomic_o_trunc(self) -> bool:
        return self.has(Init.ATOMIC_O_TRUNC)

    @property
    def explicit_inval_data(self) -> bool:
        return self.has(Init.EXPLICIT_INVAL_DATA)

    @property
    def buffer_bytes(self) -> int:
        """What a read of the device needs room for."""
        return max(READ_BUFFER_BYTES_MIN, self.max_write + FUSE_PAGE_BYTES)


def version_only() -> bytes:
    """The answer to a kernel of a greater major version: it then asks again in ours."""
    return layouts.INIT_OUT.pack(MAJOR, MINOR, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def negotiate(kernel: InitIn, wanted: Wanted) -> tuple[bytes, Negotiated]:
    """The reply to INIT, and what follows from it. Raises ProtocolError for a kernel that is too old."""
    if kernel.major != MAJOR or kernel.minor < MINOR_MIN:
        raise ProtocolError(
            f"this kernel speaks FUSE {kernel.major}.{kernel.minor}, and {MAJOR}.{MINOR_MIN} (Linux 5.4) is the least "
            "that is served: mount on a newer kernel, or read through the client library"
        )
    minor = min(kernel.minor, MINOR)
    flags = (_ALWAYS | _optional(wanted)) & kernel.flags
    extended = minor >= _MINOR_INIT_EXT and bool(kernel.flags & Init.INIT_EXT)
    if extended:
        flags |= Init.INIT_EXT
    else:
        flags &= 0xFFFF_FFFF
    off = _passthrough_off(kernel, wanted, flags)
    if flags & Init.DO_READDIRPLUS == 0:
        flags &= ~Init.READDIRPLUS_AUTO
    if flags & Init.EXPLICIT_INVAL_DATA == 0:
        flags |= kernel.flags & Init.AUTO_INVAL_DATA
    # Without MAX_PAGES a request has up to 32 pages.
    pages = -(-wanted.max_write // FUSE_PAGE_BYTES) if flags & Init.MAX_PAGES else 32
    max_write = max(FUSE_PAGE_BYTES, min(wanted.max_write, pages * FUSE_PAGE_BYTES))
    readahead = min(wanted.max_readahead, kernel.max_readahead)
    agreed = Negotiated(
        minor=minor,
        kernel_minor=kernel.minor,
        kernel_flags=int(kernel.flags),
        flags=int(flags),
        max_write=max_write,
        max_pages=pages,
        max_readahead=readahead,
        max_background=wanted.max_background,
        passthrough=not off,
        passthrough_off=off,
    )
    return _encode(agreed, wanted), agreed


def _optional(wanted: Wanted) -> Init:
    flags = Init(0)
    for on, capability in (
        (wanted.passthrough, Init.PASSTHROUGH),
        (wanted.no_open, Init.NO_OPEN_SUPPORT | Init.NO_OPENDIR_SUPPORT),
        (wanted.posix_locks, Init.POSIX_LOCKS),
        (wanted.flock, Init.FLOCK_LOCKS),
        (wanted.posix_acl, Init.POSIX_ACL),
        (wanted.kill_privileges, Init.HANDLE_KILLPRIV_V2),
        (wanted.readdirplus, Init.DO_READDIRPLUS),
        (wanted.readdirplus and wanted.readdirplus_auto, Init.READDIRPLUS_AUTO),
        (wanted.export, Init.EXPORT_SUPPORT),
        (wanted.request_timeout_s > 0, Init.REQUEST_TIMEOUT),
    ):
        if on:
            flags |= capability
    return flags


def _passthrough_off(kernel: InitIn, wanted: Wanted, flags: int) -> str:
    if not wanted.passthrough:
        return "it is switched off (fuse.passthrough)"
    if not flags & Init.PASSTHROUGH:
        speaks = f"this kernel (FUSE {kernel.major}.{kernel.minor}) does not have it"
        return f"{speaks}: Linux 6.9 with CONFIG_FUSE_PASSTHROUGH does"
    return ""


def _encode(agreed: Negotiated, wanted: Wanted) -> bytes:
    background = agreed.max_background
    return layouts.INIT_OUT.pack(
        MAJOR,
        agreed.minor,
        agreed.max_readahead,
        agreed.flags & 0xFFFF_FFFF,
        background,
        max(1, background * 3 // 4),  # from here on the kernel calls itself congested, and reads ahead less
        agreed.max_write,
        1,  # ns: times are kept exactly
        agreed.max_pages,
        0,
        agreed.flags >> 32,
        wanted.stack_depth if agreed.passthrough else 0,
        wanted.request_timeout_s if agreed.has(Init.REQUEST_TIMEOUT) else 0,
    )
