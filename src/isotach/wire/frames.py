"""The frame: a header of 24 bytes, a msgpack message and a raw payload; and the bounds checked before any allocation.

Owns: the layout, the kinds, the flags, the cached encoder and decoders. Never: keeps state between frames
(`session.py`), touches a socket or a clock.

    offset  size  field            meaning
    0       4     meta_bytes       length of the msgpack message that follows the header
    4       4     payload_bytes    length of the raw bytes that follow the message
    8       4     call_id          chosen by the client, 1 and up; 0 is the connection itself
    12      4     deadline_ms      requests: what is left of the caller's patience; 0 means none
    16      2     method           number of the method (`messages.METHODS`); 0 for frames of the connection
    18      1     kind             FrameKind
    19      1     flags            FLAG_HAS_FD: a file descriptor travels with the first byte of this frame
    20      4     reserved         zero

All integers are little-endian. A connection starts with the client's eight bytes of MAGIC, then its HELLO.
"""

import enum
import struct
from typing import Any, Final

import msgspec

from isotach.base.errors import ErrorReply, InvalidArgumentError, ProtocolError
from isotach.base.limits import HEADER_BYTES, META_BYTES_MAX, PAYLOAD_BYTES_MAX
from isotach.wire.messages import METHODS, Hello, Welcome

MAGIC: Final = b"ISOTACH1"
PROTOCOL_MIN: Final = 1
PROTOCOL_MAX: Final = 1

FLAG_HAS_FD: Final = 1

HEADER: Final = struct.Struct("<IIIIHBBI")
assert HEADER.size == HEADER_BYTES
pack_header: Final = HEADER.pack
unpack_header: Final = HEADER.unpack_from

#: (meta_bytes, payload_bytes, call_id, deadline_ms, method, kind, flags, reserved)
Header = tuple[int, int, int, int, int, int, int, int]


class FrameKind(enum.IntEnum):
    """What a frame is."""

    HELLO = 1
    WELCOME = 2
    REQUEST = 3
    REPLY = 4
    ERROR = 5
    CANCEL = 6
    GOODBYE = 7


#: Plain ints of the kinds: comparing with them costs a fraction of comparing with enum members.
HELLO: Final = int(FrameKind.HELLO)
WELCOME: Final = int(FrameKind.WELCOME)
REQUEST: Final = int(FrameKind.REQUEST)
REPLY: Final = int(FrameKind.REPLY)
ERROR: Final = int(FrameKind.ERROR)
CANCEL: Final = int(FrameKind.CANCEL)
GOODBYE: Final = int(FrameKind.GOODBYE)


class _Decoders(dict[int, msgspec.msgpack.Decoder[Any]]):
    """Decoders by method number, each made at its first use. KeyError for a number that no method has."""

    def __init__(self, field: str) -> None:
        super().__init__()
        self._field = field

    def __missing__(self, number: int) -> msgspec.msgpack.Decoder[Any]:
        decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(getattr(METHODS[number], self._field))
        self[number] = decoder
        return decoder


encode_message: Final = msgspec.msgpack.Encoder().encode
request_decoders: Final = _Decoders("request")
reply_decoders: Final = _Decoders("reply")
_decode_error: Final = msgspec.msgpack.Decoder(ErrorReply).decode
_decode_hello: Final = msgspec.msgpack.Decoder(Hello).decode
_decode_welcome: Final = msgspec.msgpack.Decoder(Welcome).decode

Bytes = bytes | bytearray | memoryview


def read_header(buffer: Bytes, offset: int = 0, payload_bytes_max: int = PAYLOAD_BYTES_MAX) -> Header:
    """The header at `offset`, within its bounds. Raises ProtocolError for lengths over them or an unknown kind."""
    header = unpack_header(buffer, offset)
    if header[0] > META_BYTES_MAX or header[1] > payload_bytes_max or not 1 <= header[5] <= 7:
        raise ProtocolError(_what_is_wrong(header, payload_bytes_max))
    return header


def _what_is_wrong(header: Header, payload_bytes_max: int) -> str:
    if not 1 <= header[5] <= 7:
        return f"a frame of the unknown kind {header[5]}: the peer does not speak this protocol"
    if header[0] > META_BYTES_MAX:
        return f"a frame announces a message of {header[0]} bytes, over the limit of {META_BYTES_MAX}"
    return f"a frame announces a payload of {header[1]} bytes, over the limit of {payload_bytes_max} here"


def encode_frame(
    kind: int,
    message: msgspec.Struct | None,
    *,
    method: int = 0,
    call_id: int = 0,
    deadline_ms: int = 0,
    payload_bytes: int = 0,
    flags: int = 0,
) -> bytes:
    """Header and message, ready to send; the payload follows as it is. Raises InvalidArgumentError over the bounds."""
    meta = b"" if message is None else encode_message(message)
    if len(meta) > META_BYTES_MAX:
        raise InvalidArgumentError(
            f"the message is {len(meta)} bytes long, over the limit of {META_BYTES_MAX}: ask for less at a time"
        )
    if payload_bytes > PAYLOAD_BYTES_MAX:
        raise InvalidArgumentError(
            f"the payload is {payload_bytes} bytes long, over the limit of {PAYLOAD_BYTES_MAX}: send it in parts"
        )
    return pack_header(len(meta), payload_bytes, call_id, deadline_ms, method, kind, flags, 0) + meta


def decode_request(number: int, meta: Bytes) -> Any:
    """The request of method `number`. Raises KeyError for an unknown method, ProtocolError for a malformed message."""
    decoder = request_decoders[number]
    try:
        return decoder.decode(meta)
    except msgspec.MsgspecError as problem:
        raise ProtocolError(f"the request of {METHODS[number].name} is malformed: {problem}") from problem


def decode_reply(number: int, meta: Bytes) -> Any:
    """The reply of method `number`. Raises ProtocolError for a malformed message."""
    try:
        return reply_decoders[number].decode(meta)
    except msgspec.MsgspecError as problem:
        raise ProtocolError(f"the reply of {METHODS[number].name} is malformed: {problem}") from problem


def decode_error(meta: Bytes) -> ErrorReply:
    """The message of an ERROR frame. Raises ProtocolError when malformed."""
    try:
        return _decode_error(meta)
    except msgspec.MsgspecError as problem:
        raise ProtocolError(f"an error frame is malformed: {problem}") from problem


def decode_hello(meta: Bytes) -> Hello:
    """The message of a HELLO frame. Raises ProtocolError when malformed."""
    try:
        return _decode_hello(meta)
    except msgspec.MsgspecError as problem:
        raise ProtocolError(f"the hello is malformed: {problem}") from problem


def decode_welcome(meta: Bytes) -> Welcome:
    """The message of a WELCOME frame. Raises ProtocolError when malformed."""
    try:
        return _decode_welcome(meta)
    except msgspec.MsgspecError as problem:
        raise ProtocolError(f"the welcome is malformed: {problem}") from problem
