"""INIT: what is agreed upon with kernels of all ages."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotach.base.errors import ProtocolError
from isotach.fuse.protocol import layouts
from isotach.fuse.protocol.constants import Init
from isotach.fuse.protocol.negotiation import Negotiated, Wanted, negotiate, version_only
from isotach.fuse.protocol.records import InitIn

EVERYTHING = (1 << 43) - 1
MIB = 1 << 20
_FIELDS = (
    *("major", "minor", "readahead", "flags", "background", "congestion", "max_write", "gran", "pages", "align"),
    *("flags2", "depth", "timeout"),
)


def _kernel(minor=45, flags=EVERYTHING, readahead=131_072):
    return InitIn(7, minor, readahead, flags)


def _reply(data):
    return dict(zip(_FIELDS, layouts.INIT_OUT.unpack(data), strict=True))


def test_a_modern_kernel_gets_all_that_is_wanted():
    data, agreed = negotiate(_kernel(), Wanted())
    reply = _reply(data)

    assert agreed.passthrough
    assert agreed.resend
    assert agreed.posix_acl
    assert agreed.flock
    assert agreed.posix_locks
    assert agreed.dont_mask
    assert agreed.setxattr_ext
    assert agreed.inc_epoch
    assert agreed.explicit_inval_data
    assert not agreed.has(Init.AUTO_INVAL_DATA)
    assert not agreed.has(Init.WRITEBACK_CACHE)
    assert not agreed.no_open
    assert (reply["major"], reply["minor"], reply["depth"], reply["gran"]) == (7, 45, 1, 1)
    assert (reply["max_write"], reply["pages"], reply["background"], reply["congestion"]) == (MIB, 256, 64, 48)
    assert reply["flags"] | reply["flags2"] << 32 == agreed.flags
    assert agreed.buffer_bytes == MIB + 4096


@pytest.mark.parametrize(
    ("wanted", "missing"),
    [
        (Wanted(passthrough=False), Init.PASSTHROUGH),
        (Wanted(posix_locks=False), Init.POSIX_LOCKS),
        (Wanted(flock=False), Init.FLOCK_LOCKS),
        (Wanted(posix_acl=False), Init.POSIX_ACL),
        (Wanted(kill_privileges=False), Init.HANDLE_KILLPRIV_V2),
        (Wanted(readdirplus=False), Init.DO_READDIRPLUS | Init.READDIRPLUS_AUTO),
        (Wanted(readdirplus_auto=False), Init.READDIRPLUS_AUTO),
    ],
)
def test_what_is_not_wanted_is_not_asked_for(wanted, missing):
    _, agreed = negotiate(_kernel(), wanted)

    assert agreed.flags & missing == 0


def test_training_mounts_ask_to_open_nothing():
    _, agreed = negotiate(_kernel(), Wanted(no_open=True))

    assert agreed.no_open
    assert agreed.has(Init.NO_OPENDIR_SUPPORT)


@pytest.mark.parametrize(
    ("minor", "without", "reason"),
    [
        (45, Init.PASSTHROUGH, "Linux 6.9"),
        (39, Init.PASSTHROUGH | Init.HAS_RESEND, "Linux 6.9"),
        (31, EVERYTHING & ~((1 << 28) - 1), "Linux 6.9"),
    ],
)
def test_without_passthrough_the_reason_is_told(minor, without, reason):
    data, agreed = negotiate(_kernel(minor, EVERYTHING & ~without), Wanted())

    assert not agreed.passthrough
    assert reason in agreed.passthrough_off
    assert _reply(data)["depth"] == 0
    assert agreed.minor == minor


def test_old_kernels_fall_back():
    data, agreed = negotiate(_kernel(31, EVERYTHING & ((1 << 28) - 1) & ~Init.EXPLICIT_INVAL_DATA), Wanted())

    assert not agreed.setxattr_ext
    assert not agreed.kill_privileges
    assert not agreed.resend
    assert not agreed.inc_epoch
    assert agreed.has(Init.AUTO_INVAL_DATA)
    assert _reply(data)["flags2"] == 0


def test_without_large_requests_writes_are_small():
    _, agreed = negotiate(_kernel(flags=EVERYTHING & ~Init.MAX_PAGES), Wanted())

    assert agreed.max_write == 131_072
    assert agreed.max_pages == 32


@pytest.mark.parametrize("kernel", [InitIn(7, 30, 0, 0), InitIn(6, 45, 0, 0)])
def test_kernels_that_are_too_old_are_refused(kernel):
    with pytest.raises(ProtocolError, match=r"newer kernel"):
        negotiate(kernel, Wanted())


def test_a_newer_minor_is_spoken_as_ours():
    data, agreed = negotiate(_kernel(99, (1 << 64) - 1), Wanted(request_timeout_s=30))

    assert (agreed.minor, agreed.kernel_minor, _reply(data)["minor"]) == (45, 99, 45)
    assert agreed.flags < 1 << 43
    assert _reply(data)["timeout"] == 30


def test_a_newer_major_is_asked_to_ask_again():
    assert _reply(version_only())["major"] == 7


@given(
    st.integers(31, 60),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(1, 16 * MIB),
    st.booleans(),
    st.booleans(),
)
def test_nothing_is_taken_that_the_kernel_has_not(minor, flags, readahead, max_write, passthrough, training):
    wanted = Wanted(max_write=max_write, passthrough=passthrough, no_open=training)
    data, agreed = negotiate(_kernel(minor, flags, readahead), wanted)

    assert agreed.flags & ~flags == 0
    assert agreed.max_readahead <= readahead
    assert 4096 <= agreed.max_write <= max(4096, max_write)
    assert agreed.max_write <= agreed.max_pages * 4096
    assert len(data) == 64
    assert agreed.passthrough == bool(agreed.flags & Init.PASSTHROUGH) == (not agreed.passthrough_off)


def test_what_was_agreed_upon_survives_the_daemon():
    _, agreed = negotiate(_kernel(), Wanted())

    assert msgspec.json.decode(msgspec.json.encode(agreed), type=Negotiated) == agreed
