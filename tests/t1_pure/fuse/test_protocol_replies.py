"""Encoding of replies and notifications, read back as the kernel reads them."""

import os
import stat
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotach.base.errors import InvalidArgumentError
from isotach.fuse.protocol import layouts, notifications, replies
from isotach.fuse.protocol.constants import Fopen, Notify

NAMES = st.binary(min_size=1, max_size=255).filter(lambda name: b"\0" not in name and b"/" not in name)
ATTRIBUTES = replies.Attributes(
    7, 1000, 8, 1_500_000_001, -1, 3_000_000_003, stat.S_IFREG | 0o640, 2, 10, 20, os.makedev(300, 70_000), 4096
)


def _directory(data, plus):
    entries, at = [], 0
    while at < len(data):
        start = at
        if plus:
            at += 128
        ino, offset, length, kind = layouts.DIRENT.unpack_from(data, at)
        at += 24
        entries.append(
            (ino, offset, kind, bytes(data[at : at + length]), bytes(data[start : start + 128]) if plus else b"")
        )
        assert not any(data[at + length : at + length + -length % 8])
        at += length + -length % 8
    assert at == len(data)
    return entries


def test_attributes_keep_every_field():
    fields = layouts.ATTR.unpack(replies.attributes(ATTRIBUTES))

    assert fields == (
        7, 1000, 8, 1, -1, 3, 500_000_001, 999_999_999, 3, stat.S_IFREG | 0o640, 2, 10, 20,
        os.makedev(300, 70_000), 4096, 0,
    )  # fmt: skip


def test_entries_and_attributes_have_their_time_outs():
    entry = replies.entry(9, ATTRIBUTES, replies.timeout_of(1.5), replies.timeout_of(0.25), generation=3)
    attr = replies.attr(ATTRIBUTES, replies.timeout_of(2.5))

    assert layouts.ENTRY_OUT.unpack_from(entry) == (9, 3, 1, 0, 500_000_000, 250_000_000)
    assert layouts.ATTR_OUT.unpack_from(attr) == (2, 500_000_000)
    assert entry[40:] == attr[16:] == replies.attributes(ATTRIBUTES)
    assert layouts.ENTRY_OUT.unpack_from(replies.negative_entry((10, 5))) == (0, 0, 10, 0, 5, 0)
    assert len(replies.negative_entry((0, 0))) == 128


def test_time_outs_below_zero_are_refused():
    with pytest.raises(InvalidArgumentError, match="time-out"):
        replies.timeout_of(-1)


def test_a_created_file_is_an_entry_and_an_open():
    entry = replies.entry(9, ATTRIBUTES, (1, 0), (1, 0))
    created = replies.create(entry, replies.open_file(2**63, Fopen.PASSTHROUGH | Fopen.NOFLUSH, 5))

    assert created[:128] == entry
    assert layouts.OPEN_OUT.unpack(created[128:]) == (2**63, 0xA0, 5)


@given(st.lists(st.tuples(st.integers(1, 2**64 - 1), NAMES, st.integers(0, 15)), max_size=40), st.integers(0, 4096))
def test_directories_hold_what_fits_and_no_more(entries, limit):
    packed = replies.Directory(limit)
    taken = 0
    for place, (ino, name, kind) in enumerate(entries, 1):
        if not packed.add(ino, place, kind, name):
            break
        taken += 1
    data = packed.encoded()

    assert len(data) <= limit
    assert [row[:4] for row in _directory(data, False)] == [
        (ino, place, kind, name) for place, (ino, name, kind) in enumerate(entries[:taken], 1)
    ]
    if taken < len(entries):
        name = entries[taken][1]
        assert len(data) + 24 + len(name) + -len(name) % 8 > limit


@given(st.lists(NAMES, max_size=20), st.integers(0, 4096))
def test_directories_with_look_ups_hold_what_fits(names, limit):
    packed = replies.Directory(limit)
    entry = replies.entry(9, ATTRIBUTES, (1, 0), (1, 0))
    taken = []
    for place, name in enumerate(names, 1):
        if not packed.add_plus(entry if place % 2 else replies.NO_ENTRY, 9, place, 8, name):
            break
        taken.append((9, place, 8, name, entry if place % 2 else replies.NO_ENTRY))

    assert len(packed.encoded()) <= limit
    assert _directory(packed.encoded(), True) == taken


def test_after_a_name_that_does_not_fit_no_shorter_one_is_taken():
    packed = replies.Directory(100)

    assert not packed.add(1, 1, 8, b"n" * 200)
    assert not packed.add(1, 2, 8, b"n")
    assert packed.encoded() == b""


def test_small_replies():
    assert replies.write(5) == struct.pack("<II", 5, 0)
    assert replies.copied(2**40) == struct.pack("<Q", 2**40)
    assert replies.lseek(7) == struct.pack("<Q", 7)
    assert replies.xattr_size(9) == struct.pack("<II", 9, 0)
    assert replies.xattr_names([b"user.a", b"user.b"]) == b"user.a\0user.b\0"
    assert replies.lock(1, 2, 1, 9) == struct.pack("<QQII", 1, 2, 1, 9)
    assert replies.statfs(replies.StatFs(1, 2, 3, 4, 5, 4096, 255, 512))[40:52] == struct.pack("<III", 4096, 255, 512)
    assert replies.ioctl(-1, b"xy") == struct.pack("<iIII", -1, 0, 0, 0) + b"xy"


def test_statx_tells_the_birth_only_where_it_is_known():
    with_birth = replies.statx(ATTRIBUTES, (1, 0), 2_000_000_001)
    fields = layouts.STATX.unpack_from(with_birth, 32)

    assert len(with_birth) == 288
    assert fields[0] == 0xFFF
    assert fields[1] == 4096
    assert fields[7:10] == (7, 1000, 8)
    assert fields[11:19] == (1, 500_000_001, 2, 1, 3, 3, -1, 999_999_999)
    assert fields[19:21] == (300, 70_000)
    assert layouts.STATX.unpack_from(replies.statx(ATTRIBUTES, (1, 0)), 32)[0] == 0x7FF


@pytest.mark.parametrize(
    ("message", "code", "payload"),
    [
        (notifications.inval_inode(5, -1, 0), Notify.INVAL_INODE, struct.pack("<Qqq", 5, -1, 0)),
        (notifications.inval_entry(1, b"ab", 1), Notify.INVAL_ENTRY, struct.pack("<QII", 1, 2, 1) + b"ab\0"),
        (notifications.delete(1, 5, b"ab"), Notify.DELETE, struct.pack("<QQII", 1, 5, 2, 0) + b"ab\0"),
        (notifications.store(5, 8, b"xyz"), Notify.STORE, struct.pack("<QQII", 5, 8, 3, 0) + b"xyz"),
        (notifications.retrieve(2, 5, 8, 3), Notify.RETRIEVE, struct.pack("<QQQII", 2, 5, 8, 3, 0)),
        (notifications.poll_wakeup(7), Notify.POLL, struct.pack("<Q", 7)),
        (notifications.resend(), Notify.RESEND, b""),
        (notifications.inc_epoch(), Notify.INC_EPOCH, b""),
        (notifications.prune([1, 2]), Notify.PRUNE, struct.pack("<IIQQQ", 2, 0, 0, 1, 2)),
    ],
)
def test_notifications_are_headers_with_a_code_in_place_of_an_error(message, code, payload):
    assert layouts.OUT_HEADER.unpack_from(message) == (len(message), code, 0)
    assert message[16:] == payload
