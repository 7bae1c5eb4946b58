"""The frame's layout and bounds. Owns no state; speaks to no socket."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotach.base.errors import InvalidArgumentError, ProtocolError
from isotach.base.limits import META_BYTES_MAX, PAYLOAD_BYTES_MAX
from isotach.wire import frames
from isotach.wire.messages import METHODS, RESOLVE_ID, STAT, Empty, ResolveIdRequest, StatRequest


def test_layout_is_the_documented_one():
    frame = frames.encode_frame(
        frames.REQUEST, Empty(), method=6, call_id=7, deadline_ms=8, payload_bytes=9, flags=frames.FLAG_HAS_FD
    )

    assert frame == struct.pack("<IIIIHBBI", 1, 9, 7, 8, 6, 3, 1, 0) + b"\x90"


@given(
    st.integers(0, META_BYTES_MAX),
    st.integers(0, PAYLOAD_BYTES_MAX),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**16 - 1),
    st.sampled_from(list(frames.FrameKind)),
)
def test_headers_come_back_as_they_went(meta, payload, call_id, method, kind):
    header = (meta, payload, call_id, 5, method, int(kind), 0, 0)

    assert frames.read_header(frames.pack_header(*header)) == header


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ((META_BYTES_MAX + 1, 0, 1, 0, 1, 3, 0, 0), "message of"),
        ((0, PAYLOAD_BYTES_MAX + 1, 1, 0, 1, 3, 0, 0), "payload of"),
        ((0, 0, 1, 0, 1, 0, 0, 0), "unknown kind 0"),
        ((0, 0, 1, 0, 1, 8, 0, 0), "unknown kind 8"),
    ],
)
def test_headers_out_of_bounds_are_refused(header, words):
    with pytest.raises(ProtocolError, match=words):
        frames.read_header(frames.pack_header(*header))


def test_nothing_over_the_bounds_is_sent():
    with pytest.raises(InvalidArgumentError, match="over the limit"):
        frames.encode_frame(frames.REQUEST, StatRequest(b"/" * META_BYTES_MAX))
    with pytest.raises(InvalidArgumentError, match="in parts"):
        frames.encode_frame(frames.REQUEST, Empty(), payload_bytes=PAYLOAD_BYTES_MAX + 1)


def test_every_method_has_decoders():
    for number in METHODS:
        assert frames.request_decoders[number] is frames.request_decoders[number]
        assert frames.reply_decoders[number] is not None


def test_malformed_messages_name_their_method():
    good = frames.encode_message(ResolveIdRequest(5))

    assert frames.decode_request(RESOLVE_ID.number, good) == ResolveIdRequest(5)
    with pytest.raises(ProtocolError, match="stat"):
        frames.decode_request(STAT.number, good)
    with pytest.raises(ProtocolError, match="stat"):
        frames.decode_reply(STAT.number, b"\xc1")
    with pytest.raises(KeyError):
        frames.decode_request(999, good)
