"""Decoding of requests: what a real kernel sent, and whatever else may come."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotach.base.errors import ProtocolError
from isotach.fuse.protocol import layouts, requests
from isotach.fuse.protocol.constants import Fattr, Init, Opcode
from isotach.fuse.protocol.records import (
    CopyFileRangeIn,
    CreateIn,
    FallocateIn,
    Forget,
    GetxattrIn,
    LinkIn,
    LockIn,
    LseekIn,
    MkdirIn,
    MknodIn,
    OpenIn,
    ReadIn,
    ReleaseIn,
    RenameIn,
    SetxattrIn,
    StatxIn,
    SymlinkIn,
)

from .recorded_requests import RECORDED

DECODERS = {
    Opcode.LOOKUP: requests.decode_name,
    Opcode.FORGET: lambda body: requests.decode_forget(2, body),
    Opcode.GETATTR: requests.decode_getattr,
    Opcode.SETATTR: requests.decode_setattr,
    Opcode.SYMLINK: requests.decode_symlink,
    Opcode.MKNOD: requests.decode_mknod,
    Opcode.MKDIR: requests.decode_mkdir,
    Opcode.UNLINK: requests.decode_name,
    Opcode.RMDIR: requests.decode_name,
    Opcode.RENAME: requests.decode_rename,
    Opcode.LINK: requests.decode_link,
    Opcode.OPEN: requests.decode_open,
    Opcode.READ: requests.decode_read,
    Opcode.WRITE: requests.decode_write,
    Opcode.RELEASE: requests.decode_release,
    Opcode.FSYNC: requests.decode_fsync,
    Opcode.SETXATTR: requests.decode_setxattr,
    Opcode.GETXATTR: requests.decode_getxattr,
    Opcode.LISTXATTR: requests.decode_listxattr,
    Opcode.REMOVEXATTR: requests.decode_name,
    Opcode.FLUSH: requests.decode_flush,
    Opcode.INIT: requests.decode_init,
    Opcode.OPENDIR: requests.decode_open,
    Opcode.READDIR: requests.decode_read,
    Opcode.RELEASEDIR: requests.decode_release,
    Opcode.FSYNCDIR: requests.decode_fsync,
    Opcode.GETLK: requests.decode_lock,
    Opcode.SETLK: requests.decode_lock,
    Opcode.SETLKW: requests.decode_lock,
    Opcode.ACCESS: requests.decode_access,
    Opcode.CREATE: requests.decode_create,
    Opcode.INTERRUPT: requests.decode_interrupt,
    Opcode.BMAP: requests.decode_bmap,
    Opcode.IOCTL: requests.decode_ioctl,
    Opcode.POLL: requests.decode_poll,
    Opcode.BATCH_FORGET: requests.decode_batch_forget,
    Opcode.FALLOCATE: requests.decode_fallocate,
    Opcode.READDIRPLUS: requests.decode_read,
    Opcode.RENAME2: requests.decode_rename2,
    Opcode.LSEEK: requests.decode_lseek,
    Opcode.COPY_FILE_RANGE: requests.decode_copy_file_range,
    Opcode.SETUPMAPPING: requests.decode_setup_mapping,
    Opcode.REMOVEMAPPING: requests.decode_remove_mapping,
    Opcode.TMPFILE: requests.decode_create,
    Opcode.STATX: requests.decode_statx,
}

_OWNER = 0x4075FC4250A04330
#: What the recorded requests say, in their order for each opcode.
EXPECTED = {
    "LOOKUP": [b"a"],
    "FORGET": [Forget(2, 6)],
    "SYMLINK": [SymlinkIn(b"newlink", b"target")],
    "MKNOD": [MknodIn(b"fifo", 0o010640, 0, 0o022)],
    "MKDIR": [MkdirIn(b"nd", 0o750, 0o022)],
    "UNLINK": [b"a"],
    "RENAME": [RenameIn(1, 0, b"a", b"b")],
    "RENAME2": [RenameIn(1, 2, b"a", b"d")],
    "LINK": [LinkIn(2, b"hard")],
    "OPEN": [OpenIn(0o100002, 0)],
    "RELEASE": [ReleaseIn(7, 0, 0, 0)],
    "SETXATTR": [SetxattrIn(b"user.k", b"value", 0, 0)],
    "GETXATTR": [GetxattrIn(b"security.capability", 0)],
    "REMOVEXATTR": [b"security.capability"],
    "LISTXATTR": [256],
    "CREATE": [CreateIn(b"new", 0o100301, 0o100640, 0o022, 0)],
    "FALLOCATE": [FallocateIn(7, 4096, 8192, 0)],
    "LSEEK": [LseekIn(7, 2, 4)],
    "STATX": [StatxIn(0, 0, 0, 0xFFF)],
    "BATCH_FORGET": [[Forget(12, 1), Forget(11, 1)]],
    "READDIRPLUS": [ReadIn(8, 0, 32768, 0, 0, 0o304000)],
}


def _recorded(name):
    return [memoryview(data)[layouts.IN_HEADER.size :] for opcode, data in RECORDED if opcode == name]


@pytest.mark.parametrize(("name", "data"), RECORDED, ids=[name for name, _ in RECORDED])
def test_recorded_headers_hold_and_bodies_decode(name, data):
    length, opcode, unique, *_, extension = layouts.IN_HEADER.unpack_from(data)

    assert (length, Opcode(opcode).name, extension) == (len(data), name, 0)
    assert unique % 2 == 0
    if opcode in DECODERS:
        DECODERS[opcode](memoryview(data)[layouts.IN_HEADER.size :])


@pytest.mark.parametrize("name", EXPECTED)
def test_recorded_requests_say_what_the_programs_did(name):
    assert [DECODERS[Opcode[name]](body) for body in _recorded(name)] == EXPECTED[name]


def test_recorded_init_tells_a_modern_kernel():
    (body,) = _recorded("INIT")

    asked = requests.decode_init(body)

    assert (asked.major, asked.minor, asked.max_readahead) == (7, 45, 131072)
    assert asked.flags & Init.PASSTHROUGH
    assert asked.flags & Init.HAS_RESEND


def test_recorded_changes_of_attributes():
    mode, times, cut = [requests.decode_setattr(body) for body in _recorded("SETATTR")][:3]

    assert (mode.valid, mode.mode) == (Fattr.MODE, 0o100600)
    assert times.valid == Fattr.ATIME | Fattr.MTIME
    assert (times.atime_ns, times.mtime_ns) == (1_000_000_001, 2_000_000_002)
    assert (cut.valid, cut.size) == (Fattr.SIZE | Fattr.LOCKOWNER, 5)


def test_recorded_data_and_locks():
    (read,) = [requests.decode_read(body) for body in _recorded("READ")]
    (write,) = [requests.decode_write(body) for body in _recorded("WRITE")]
    record_lock, whole_file = [requests.decode_lock(body) for body in _recorded("SETLKW")]

    assert (read.handle, read.offset, read.size) == (7, 3, 50)
    assert (write.handle, write.offset, write.size, bytes(write.data)) == (7, 7, 5, b"hello")
    assert record_lock[2:5] == (5, 14, 1)
    assert record_lock.flags == 0
    assert whole_file[2:5] == (0, 2**63 - 1, 0)
    assert whole_file.flags == 1


@pytest.mark.parametrize("opcode", DECODERS)
@given(data=st.binary(max_size=200))
def test_any_bytes_decode_or_are_refused(opcode, data):
    with contextlib.suppress(ProtocolError):
        DECODERS[opcode](memoryview(data))


@given(st.binary(max_size=80))
def test_short_setxattr_of_old_kernels_is_as_safe(data):
    with contextlib.suppress(ProtocolError):
        requests.decode_setxattr(data, extended=False)


@given(
    st.binary(min_size=1, max_size=255).filter(lambda name: b"\0" not in name),
    st.binary(max_size=64),
    st.integers(0, 3),
)
def test_extended_attributes_come_back_as_they_went(name, value, flags):
    body = layouts.SETXATTR_IN.pack(len(value), flags, 1) + name + b"\0" + value

    assert requests.decode_setxattr(memoryview(body)) == SetxattrIn(name, value, flags, 1)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=7, max_size=7))
def test_copies_come_back_as_they_went(numbers):
    assert requests.decode_copy_file_range(struct.pack("<7Q", *numbers)) == CopyFileRangeIn(*numbers)


def test_names_are_any_bytes_but_only_one():
    assert requests.decode_name(b"\xff\xfe\n\0") == b"\xff\xfe\n"
    for bad in (b"", b"a", b"a\0b\0", b"a\0b"):
        with pytest.raises(ProtocolError):
            requests.decode_name(bad)


def test_a_batch_that_claims_more_than_it_brings_is_refused():
    with pytest.raises(ProtocolError, match="report"):
        requests.decode_batch_forget(layouts.BATCH_FORGET_IN.pack(3) + bytes(32))


def test_locks_keep_their_end():
    body = layouts.LK_IN.pack(1, _OWNER, 0, 2**63 - 1, 2, 9, 1)

    assert requests.decode_lock(body) == LockIn(1, _OWNER, 0, 2**63 - 1, 2, 9, 1)
