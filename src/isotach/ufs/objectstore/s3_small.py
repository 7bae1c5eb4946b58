"""One small GET over a kept-alive connection: the request in one send, head and body usually in one receive.

Owns: the bytes of that exchange. Never: signs, keeps connections or retries (`s3_request.py` does), or reads a chunked
body: those answers are left to http.client.

http.client parses headers as mail, which costs more than all the rest of reading a small object: measured for 100 KB
from a server on this host, 65 us of CPU here, 240 us through obstore, 330 us through http.client.
"""

import http.client
import socket
from collections.abc import Mapping
from typing import Final

import msgspec

_HEAD_BYTES_MAX: Final = 32 << 10
_HEAD_ROOM: Final = 1 << 10


class SmallAnswer(msgspec.Struct, frozen=True):
    """A whole answer. `headers` have names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: memoryview

    def close(self) -> None:
        """Nothing is held: as `S3Body.close`."""


class OddAnswerError(Exception):
    """An answer of a form that is not read here; the connection is of no further use."""


def request_bytes(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """A request without a body."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")


def receive(plain: socket.socket, wanted: int) -> SmallAnswer:
    """The answer, whose body is expected to have about `wanted` bytes.

    Raises http.client.RemoteDisconnected when the server closed before a first byte, http.client.IncompleteRead for a
    body shorter than announced, OddAnswerError, OSError.
    """
    buffer = memoryview(bytearray(wanted + _HEAD_ROOM))
    got, end = 0, -1
    while end < 0:
        if got == len(buffer):
            if got > _HEAD_BYTES_MAX + wanted:
                raise OddAnswerError("a head without an end")
            buffer = _grown(buffer, got, 2 * got)
        count = plain.recv_into(buffer[got:])
        if not count:
            raise http.client.RemoteDisconnected("the connection was closed without an answer")
        start = max(0, got - 3)
        got += count
        end = bytes(buffer[start : min(got, start + _HEAD_BYTES_MAX)]).find(b"\r\n\r\n")
        end = end if end < 0 else end + start
    status, headers = _head(bytes(buffer[:end]))
    body_start = end + 4
    length = headers.get("content-length", "")
    if not length.isdigit() or "transfer-encoding" in headers or status < 200:
        raise OddAnswerError("a body of unknown length")
    stop = body_start + int(length)
    if stop > len(buffer):
        buffer = _grown(buffer, got, stop)
    while got < stop:
        count = plain.recv_into(buffer[got:stop], 0, 0)
        if not count:
            raise http.client.IncompleteRead(b"", stop - got)
        got += count
    return SmallAnswer(status, headers, buffer[body_start:stop])


def _grown(buffer: memoryview, got: int, size: int) -> memoryview:
    larger = memoryview(bytearray(size))
    larger[:got] = buffer[:got]
    return larger


def _head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if version != "HTTP/1.1" or not rest[:3].isdigit():
        raise OddAnswerError(f"not an answer of HTTP/1.1: {first[:40]!r}")
    pairs = (line.partition(":") for line in lines)
    return int(rest[:3]), {name.lower(): value.strip() for name, _, value in pairs}
