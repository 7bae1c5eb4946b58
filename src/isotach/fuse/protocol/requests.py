"""Decodes what follows the header of each request: one function per opcode.

Owns: the decoding into `records`. Never: answers, or keeps hold of the memory it is given (but `decode_write`, whose
data is a view of it). Whatever bytes come, a decoder returns a record or raises ProtocolError.
"""

from collections.abc import Sequence
from struct import Struct
from struct import error as struct_error

from isotach.base.errors import ProtocolError
from isotach.base.types import ReadBuffer
from isotach.fuse.protocol import layouts
from isotach.fuse.protocol.records import (
    BmapIn,
    CopyFileRangeIn,
    CreateIn,
    FallocateIn,
    FlushIn,
    Forget,
    FsyncIn,
    GetattrIn,
    GetxattrIn,
    InitIn,
    IoctlIn,
    LinkIn,
    LockIn,
    LseekIn,
    MkdirIn,
    MknodIn,
    OpenIn,
    PollIn,
    ReadIn,
    ReleaseIn,
    RemoveMapping,
    RenameIn,
    SetattrIn,
    SetupMappingIn,
    SetxattrIn,
    StatxIn,
    SymlinkIn,
    WriteIn,
)


def _short(body: ReadBuffer, layout: Struct) -> ProtocolError:
    return ProtocolError(
        f"a FUSE request of {len(body)} bytes where {layout.size} are the least: the kernel speaks another version; "
        "unmount, and report this with the kernel's version"
    )


def _unpacked(body: ReadBuffer, layout: Struct) -> tuple[int, ...]:
    try:
        return layout.unpack_from(body)
    except struct_error:
        raise _short(body, layout) from None


def _rest(body: ReadBuffer, layout: Struct) -> bytes:
    return bytes(body[layout.size :])


def _names(data: bytes, count: int) -> list[bytes]:
    """`count` strings, each ended by a NUL, that fill `data` exactly."""
    parts = data.split(b"\0")
    if len(parts) != count + 1 or parts[-1]:
        raise ProtocolError(f"a FUSE request with {len(parts) - 1} names in place of {count}; unmount, and report this")
    return parts


def decode_name(body: ReadBuffer) -> bytes:
    """LOOKUP, UNLINK, RMDIR, REMOVEXATTR: the name alone."""
    data = bytes(body)
    if data.find(b"\0") != len(data) - 1 or not data:
        raise ProtocolError("a FUSE request whose name does not end where it should; unmount, and report this")
    return data[:-1]


def decode_init(body: ReadBuffer) -> InitIn:
    """Old kernels send 16 bytes, without the second half of the flags."""
    if len(body) < layouts.INIT_IN_EXT.size:
        return InitIn._make(_unpacked(body, layouts.INIT_IN))
    major, minor, readahead, flags, flags2 = _unpacked(body, layouts.INIT_IN_EXT)
    return InitIn(major, minor, readahead, flags | flags2 << 32)


def decode_forget(node: int, body: ReadBuffer) -> Forget:
    """`node` is the header's."""
    return Forget(node, _unpacked(body, layouts.FORGET_IN)[0])


def decode_batch_forget(body: ReadBuffer) -> Sequence[Forget]:
    (count,) = _unpacked(body, layouts.BATCH_FORGET_IN)
    start, step = layouts.BATCH_FORGET_IN.size, layouts.FORGET_ONE.size
    if start + count * step > len(body):
        raise _short(body, layouts.FORGET_ONE)
    return [Forget._make(pair) for pair in layouts.FORGET_ONE.iter_unpack(body[start : start + count * step])]


def decode_getattr(body: ReadBuffer) -> GetattrIn:
    return GetattrIn._make(_unpacked(body, layouts.GETATTR_IN))


def decode_statx(body: ReadBuffer) -> StatxIn:
    return StatxIn._make(_unpacked(body, layouts.STATX_IN))


def decode_setattr(body: ReadBuffer) -> SetattrIn:
    return SetattrIn._make(_unpacked(body, layouts.SETATTR_IN))


def decode_symlink(body: ReadBuffer) -> SymlinkIn:
    name, target, _ = _names(bytes(body), 2)
    return SymlinkIn(name, target)


def decode_mknod(body: ReadBuffer) -> MknodIn:
    mode, rdev, umask = _unpacked(body, layouts.MKNOD_IN)
    return MknodIn(_names(_rest(body, layouts.MKNOD_IN), 1)[0], mode, rdev, umask)


def decode_mkdir(body: ReadBuffer) -> MkdirIn:
    mode, umask = _unpacked(body, layouts.MKDIR_IN)
    return MkdirIn(_names(_rest(body, layouts.MKDIR_IN), 1)[0], mode, umask)


def decode_rename(body: ReadBuffer) -> RenameIn:
    try:
        (new_parent,) = layouts.RENAME_IN.unpack_from(body)
    except struct_error:
        raise _short(body, layouts.RENAME_IN) from None
    name, new_name, _ = _names(_rest(body, layouts.RENAME_IN), 2)
    return RenameIn(new_parent, 0, name, new_name)


def decode_rename2(body: ReadBuffer) -> RenameIn:
    new_parent, flags = _unpacked(body, layouts.RENAME2_IN)
    name, new_name, _ = _names(_rest(body, layouts.RENAME2_IN), 2)
    return RenameIn(new_parent, flags, name, new_name)


def decode_link(body: ReadBuffer) -> LinkIn:
    (node,) = _unpacked(body, layouts.LINK_IN)
    return LinkIn(node, _names(_rest(body, layouts.LINK_IN), 1)[0])


def decode_open(body: ReadBuffer) -> OpenIn:
    return OpenIn._make(_unpacked(body, layouts.OPEN_IN))


def decode_create(body: ReadBuffer) -> CreateIn:
    flags, mode, umask, open_flags = _unpacked(body, layouts.CREATE_IN)
    return CreateIn(_names(_rest(body, layouts.CREATE_IN), 1)[0], flags, mode, umask, open_flags)


def decode_read(body: ReadBuffer) -> ReadIn:
    return ReadIn._make(_unpacked(body, layouts.READ_IN))


def decode_write(body: ReadBuffer) -> WriteIn:
    handle, offset, size, write_flags, lock_owner, flags = _unpacked(body, layouts.WRITE_IN)
    data = memoryview(body)[layouts.WRITE_IN.size :]
    if len(data) != size:
        raise ProtocolError(f"a FUSE write of {size} bytes that brings {len(data)}; unmount, and report this")
    return WriteIn(handle, offset, size, write_flags, lock_owner, flags, data)


def decode_release(body: ReadBuffer) -> ReleaseIn:
    return ReleaseIn._make(_unpacked(body, layouts.RELEASE_IN))


def decode_flush(body: ReadBuffer) -> FlushIn:
    return FlushIn._make(_unpacked(body, layouts.FLUSH_IN))


def decode_fsync(body: ReadBuffer) -> FsyncIn:
    """FSYNC and FSYNCDIR."""
    return FsyncIn._make(_unpacked(body, layouts.FSYNC_IN))


def decode_setxattr(body: ReadBuffer, extended: bool = True) -> SetxattrIn:
    """`extended`: SETXATTR_EXT was agreed upon (`Negotiated.setxattr_ext`)."""
    layout = layouts.SETXATTR_IN if extended else layouts.SETXATTR_IN_OLD
    size, flags, *extra = _unpacked(body, layout)
    name, found, value = _rest(body, layout).partition(b"\0")
    if not found or len(value) != size:
        raise ProtocolError(f"a FUSE setxattr of {size} bytes that brings {len(value)}; unmount, and report this")
    return SetxattrIn(name, value, flags, extra[0] if extra else 0)


def decode_getxattr(body: ReadBuffer) -> GetxattrIn:
    (size,) = _unpacked(body, layouts.GETXATTR_IN)
    return GetxattrIn(_names(_rest(body, layouts.GETXATTR_IN), 1)[0], size)


def decode_listxattr(body: ReadBuffer) -> int:
    """The size of the caller's buffer; 0: how long would the list be?"""
    (size,) = _unpacked(body, layouts.GETXATTR_IN)
    return size


def decode_lock(body: ReadBuffer) -> LockIn:
    return LockIn._make(_unpacked(body, layouts.LK_IN))


def decode_access(body: ReadBuffer) -> int:
    """The mask of access(2)."""
    return _unpacked(body, layouts.ACCESS_IN)[0]


def decode_interrupt(body: ReadBuffer) -> int:
    """The `unique` of the request that is to end early."""
    return _unpacked(body, layouts.INTERRUPT_IN)[0]


def decode_bmap(body: ReadBuffer) -> BmapIn:
    return BmapIn._make(_unpacked(body, layouts.BMAP_IN))


def decode_ioctl(body: ReadBuffer) -> IoctlIn:
    """The data may be fewer bytes than `in_size` says."""
    handle, flags, command, argument, in_size, out_size = _unpacked(body, layouts.IOCTL_IN)
    return IoctlIn(handle, flags, command, argument, in_size, out_size, _rest(body, layouts.IOCTL_IN))


def decode_poll(body: ReadBuffer) -> PollIn:
    return PollIn._make(_unpacked(body, layouts.POLL_IN))


def decode_fallocate(body: ReadBuffer) -> FallocateIn:
    return FallocateIn._make(_unpacked(body, layouts.FALLOCATE_IN))


def decode_lseek(body: ReadBuffer) -> LseekIn:
    return LseekIn._make(_unpacked(body, layouts.LSEEK_IN))


def decode_copy_file_range(body: ReadBuffer) -> CopyFileRangeIn:
    """COPY_FILE_RANGE, answered by `replies.write`, and COPY_FILE_RANGE_64, answered by `replies.copied`."""
    return CopyFileRangeIn._make(_unpacked(body, layouts.COPY_FILE_RANGE_IN))


def decode_setup_mapping(body: ReadBuffer) -> SetupMappingIn:
    return SetupMappingIn._make(_unpacked(body, layouts.SETUPMAPPING_IN))


def decode_remove_mapping(body: ReadBuffer) -> Sequence[RemoveMapping]:
    (count,) = _unpacked(body, layouts.REMOVEMAPPING_IN)
    start, step = layouts.REMOVEMAPPING_IN.size, layouts.REMOVEMAPPING_ONE.size
    if start + count * step > len(body):
        raise _short(body, layouts.REMOVEMAPPING_ONE)
    pairs = layouts.REMOVEMAPPING_ONE.iter_unpack(body[start : start + count * step])
    return [RemoveMapping._make(pair) for pair in pairs]
