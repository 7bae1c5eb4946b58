"""The layouts of the FUSE protocol against the kernel's header: sizes always, fields where it is there."""

import re
import struct
from pathlib import Path

import pytest

from isotach.fuse.protocol import layouts
from isotach.fuse.protocol.constants import Fattr, Fopen, Init, Notify, Opcode

HEADER = Path("/usr/include/linux/fuse.h")
SIZES = {"uint64_t": 8, "int64_t": 8, "uint32_t": 4, "int32_t": 4, "uint16_t": 2, "char": 1}
PADDING = re.compile(r"^(padding|dummy\d*|unused\d*|spare|reserved|__spare\d*)$")
#: Structures that have grown since the header of most machines.
GROWN = {"fuse_init_out", "fuse_open_out", "fuse_init_in", "fuse_in_header"}

#: sizeof, by the header of ABI 7.45.
KNOWN_SIZES = {
    "fuse_in_header": 40, "fuse_out_header": 16, "fuse_ext_header": 8, "fuse_attr": 88, "fuse_kstatfs": 80,
    "fuse_file_lock": 24, "fuse_sx_time": 16, "fuse_statx": 256, "fuse_init_in": 64, "fuse_init_out": 64,
    "fuse_setattr_in": 88, "fuse_statx_in": 24, "fuse_open_in": 8, "fuse_create_in": 16, "fuse_release_in": 24,
    "fuse_flush_in": 24, "fuse_read_in": 40, "fuse_write_in": 40, "fuse_fsync_in": 16, "fuse_setxattr_in": 16,
    "fuse_lk_in": 48, "fuse_mknod_in": 16, "fuse_rename2_in": 16, "fuse_ioctl_in": 32, "fuse_poll_in": 24,
    "fuse_fallocate_in": 32, "fuse_lseek_in": 24, "fuse_copy_file_range_in": 56, "fuse_setupmapping_in": 40,
    "fuse_notify_retrieve_in": 40, "fuse_open_out": 16, "fuse_ioctl_out": 16, "fuse_dirent": 24,
    "fuse_notify_inval_inode_out": 24, "fuse_notify_inval_entry_out": 16, "fuse_notify_delete_out": 24,
    "fuse_notify_store_out": 24, "fuse_notify_retrieve_out": 32, "fuse_notify_prune_out": 16, "fuse_backing_map": 16,
}  # fmt: skip


@pytest.mark.parametrize(("name", "size"), KNOWN_SIZES.items())
def test_structures_have_the_kernels_sizes(name, size):
    assert layouts.C_SIZES[name].size == size


def test_replies_with_attributes_add_up():
    assert layouts.ENTRY_OUT.size + layouts.ATTR.size == 128
    assert layouts.ATTR_OUT.size + layouts.ATTR.size == 104
    assert layouts.STATX_OUT.size + layouts.STATX.size == 288


def _structures():
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)
    found = {}
    for name, body in re.findall(r"struct (\w+) \{(.*?)\n\};", text, re.DOTALL):
        fields = re.findall(r"^\s*(struct \w+|\w+)\s+(\w+)(?:\[(\d*)\])?;", body, re.MULTILINE)
        found[name] = fields
    return found


def _fields(name, structures, start=0):
    """(offset, bytes) of each field that means something, and the end."""
    offset, places = start, []
    for kind, field, count in structures[name]:
        if kind.startswith("struct "):
            inner, offset = _fields(kind.split()[1], structures, offset)
            places += inner
            continue
        size = SIZES[kind]
        offset += -offset % size
        repeat = int(count) if count else 1
        if field == "name" and name == "fuse_dirent":
            continue
        if not PADDING.match(field):
            places += [(offset + size * index, size) for index in range(repeat)]
        offset += size * repeat
    return places, offset + -offset % 8 if name == "fuse_in_header" else offset


def _places(layout):
    """The same of a `struct` format."""
    offset, places = 0, []
    for count, code in re.findall(r"(\d*)([a-zA-Z])", layout.format):
        size = struct.calcsize("<" + code)
        for _ in range(int(count or 1)):
            if code != "x":
                places.append((offset, size))
            offset += size
    return places


@pytest.mark.skipif(not HEADER.exists(), reason="no kernel header on this machine: apt-get install linux-libc-dev")
def test_fields_lie_where_the_header_says():
    structures = _structures()
    compared = 0
    for name, layout in layouts.C_SIZES.items():
        if name not in structures or name in GROWN:
            continue
        places, end = _fields(name, structures)
        assert end == layout.size, name
        assert _places(layout) == places, name
        compared += 1
    assert compared > 30


@pytest.mark.skipif(not HEADER.exists(), reason="no kernel header on this machine: apt-get install linux-libc-dev")
def test_numbers_are_the_headers():
    text = HEADER.read_text()
    opcodes = {name: int(value) for name, value in re.findall(r"FUSE_(\w+)\s*=\s*(\d+),", text)}
    for opcode in Opcode:
        assert opcodes.get(opcode.name, opcode.value) == opcode.value
    for code in Notify:
        assert opcodes.get(f"NOTIFY_{code.name}", code.value) == code.value
    bits = {name: 1 << int(bit) for name, bit in re.findall(r"#define (F\w+)\s+\(1(?:ULL)? << (\d+)\)", text)}
    for flag in Init:
        assert bits.get(f"FUSE_{flag.name}", flag.value) == flag.value
    for prefix, holder in (("FOPEN_", Fopen), ("FATTR_", Fattr)):
        for name, value in vars(holder).items():
            if name.isupper():
                assert bits.get(prefix + name, value) == value, name
