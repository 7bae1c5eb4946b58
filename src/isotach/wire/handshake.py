"""The handshake: what the two sides say before the first call, as pure functions for every kind of driver.

Owns: the choice of the protocol version, and the words for a refusal. Never: reads or writes a socket.
"""

from typing import Final

from isotach.base.errors import ProtocolError, from_reply, to_reply
from isotach.wire import frames
from isotach.wire.messages import Hello, Welcome

OPENING_BYTES_MAX: Final = 64 * 1024


def opening_bytes(hello: Hello) -> bytes:
    """What a client sends first: the magic and its HELLO."""
    return frames.MAGIC + frames.encode_frame(frames.HELLO, hello)


def check_magic(first: frames.Bytes) -> None:
    """Raises ProtocolError unless these eight bytes (or fewer, so far) are how a client of ours begins."""
    if not frames.MAGIC.startswith(bytes(first)):
        raise ProtocolError(
            f"the connection starts with {bytes(first)!r}: this port speaks the protocol of Isotach only"
        )


def agree_protocol(hello: Hello) -> int:
    """The highest version that both sides speak. Raises ProtocolError that names both ranges when there is none."""
    agreed = min(hello.protocol_max, frames.PROTOCOL_MAX)
    if agreed < max(hello.protocol_min, frames.PROTOCOL_MIN):
        raise ProtocolError(
            f"the client speaks protocol versions {hello.protocol_min} to {hello.protocol_max}, this server "
            f"{frames.PROTOCOL_MIN} to {frames.PROTOCOL_MAX}: upgrade the older of the two"
        )
    return agreed


def check_hello_header(header: frames.Header) -> None:
    """Raises ProtocolError unless the header may begin a HELLO of sensible size."""
    if header[5] != frames.HELLO or header[1] or header[0] > OPENING_BYTES_MAX:
        raise ProtocolError("the first frame of a client must be a small HELLO")


def read_answer(kind: int, meta: frames.Bytes) -> Welcome:
    """The server's answer to HELLO. Raises the error that an ERROR frame carries, ProtocolError for other frames."""
    if kind == frames.ERROR:
        raise from_reply(frames.decode_error(meta))
    if kind != frames.WELCOME:
        raise ProtocolError(
            f"the server answered the hello with a frame of kind {kind}: it does not speak this protocol"
        )
    welcome = frames.decode_welcome(meta)
    if not frames.PROTOCOL_MIN <= welcome.protocol <= frames.PROTOCOL_MAX:
        raise ProtocolError(
            f"the server chose protocol version {welcome.protocol}, this client speaks {frames.PROTOCOL_MIN} to "
            f"{frames.PROTOCOL_MAX}: upgrade the older of the two"
        )
    return welcome


def refusal_bytes(error: BaseException) -> bytes:
    """An ERROR frame for the connection itself: the last thing a server says before it closes."""
    return frames.encode_frame(frames.ERROR, to_reply(error))
