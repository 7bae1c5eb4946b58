"""One call on the data path, as its handler sees it: the request, its payload, and the ways to answer.

Owns: that a call is answered once, and that an announced payload is sent whole or the connection dies. Never: listens,
or chooses the handler (`thread_server.py`).
"""

from typing import TYPE_CHECKING, Any

import msgspec

from isotach.base.errors import InvalidArgumentError, UnavailableError, to_reply
from isotach.base.types import ReadBuffer
from isotach.net.dispatch import Payload, buffers_of
from isotach.net.frame_socket import FrameSocket
from isotach.net.peer import Peer
from isotach.wire import frames

if TYPE_CHECKING:
    from isotach.net.thread_server import DataConnection


class Call:
    """A request that has been received, its payload still in the socket. Answer it exactly once."""

    def __init__(
        self, frame_socket: FrameSocket, peer: Peer, connection: "DataConnection", header: frames.Header, request: Any
    ) -> None:
        self.request = request
        self.peer = peer
        self.connection = connection
        self.payload_bytes = header[1]
        self.deadline_ms = header[3]  # what was left of the caller's patience when it sent the call; 0: no bound
        self.is_answered = False
        self._socket = frame_socket
        self._call_id = header[2]
        self._number = header[4]
        self._payload_left = header[1]  # of the request
        self._owed = 0  # bytes of the reply's payload announced and not sent yet

    # --- the request's payload ---

    @property
    def payload_left(self) -> int:
        """Bytes of the request's payload that have not been received yet."""
        return self._payload_left

    def receive_payload_into(self, view: memoryview) -> int:
        """Fills `view` (of bytes) with the next part of the payload; returns how many bytes came, 0 at its end. What is
        not received is dropped before the next call."""
        size = min(len(view), self._payload_left)
        if size:
            self._socket.receive_into(view if size == len(view) else view[:size])
            self._payload_left -= size
        return size

    def receive_payload(self) -> bytearray:
        """All that is left of the payload, in memory."""
        body = bytearray(self._payload_left)
        self.receive_payload_into(memoryview(body))
        return body

    # --- the answer ---

    def reply(self, reply: msgspec.Struct, payload: Payload = b"") -> None:
        """Answers, with the payload's buffers sent one after the other without joining them."""
        if isinstance(payload, bytes) and not payload:
            self._socket.send(self._begin(reply, 0))
            return
        buffers, size = buffers_of(payload)
        self._socket.send(self._begin(reply, size), buffers)

    def reply_with_fd(self, reply: msgspec.Struct, fd: int) -> None:
        """Answers, and passes a copy of `fd` to the caller. Unix sockets only. `fd` stays ours to close."""
        if not self.peer.local:
            raise InvalidArgumentError("descriptors pass over Unix sockets only: ask for the bytes instead")
        self._socket.send_with_fd(self._begin(reply, 0, frames.FLAG_HAS_FD), fd)

    def reply_file(self, reply: msgspec.Struct, fd: int, offset: int, length: int) -> None:
        """Answers with `length` bytes of a file as the payload, sent by the kernel."""
        self._socket.send(self._begin(reply, length))
        self._socket.send_file(fd, offset, length)

    def reply_stream(self, reply: msgspec.Struct, total_length: int) -> "ReplyStream":
        """Answers with a payload of `total_length` bytes that the handler then sends in pieces. If it fails before all
        are sent, the connection is closed: the peer sees a broken connection, never wrong bytes."""
        frame = self._begin(reply, total_length)
        self._owed = total_length
        self._socket.send(frame)
        return ReplyStream(self)

    def error(self, problem: BaseException) -> None:
        """Answers by the failure."""
        assert not self.is_answered, "a call is answered once"
        frame = frames.encode_frame(frames.ERROR, to_reply(problem), method=self._number, call_id=self._call_id)
        self.is_answered = True
        self._socket.send(frame)

    def finish(self) -> None:
        """After the handler: drops what it left of the request's payload; UnavailableError if the answer is not whole,
        so that the connection is closed."""
        if self._owed:
            raise UnavailableError(f"{self._owed} bytes of an announced payload were never sent")
        if self._payload_left:
            self._socket.discard(self._payload_left)
            self._payload_left = 0

    def _begin(self, reply: msgspec.Struct, payload_bytes: int, flags: int = 0) -> bytes:
        assert not self.is_answered, "a call is answered once"
        frame = frames.encode_frame(
            frames.REPLY, reply, method=self._number, call_id=self._call_id, payload_bytes=payload_bytes, flags=flags
        )
        self.is_answered = True  # only now: a reply over the bounds is answered by its error
        return frame


class ReplyStream:
    """The payload of one reply, sent in pieces; never more than was announced."""

    def __init__(self, call: Call) -> None:
        self._call = call

    @property
    def left(self) -> int:
        """Bytes still owed."""
        return self._call._owed

    def send(self, data: ReadBuffer) -> None:
        """Sends the next bytes."""
        view = memoryview(data).cast("B")
        self._count(len(view))
        self._call._socket.send_bytes(view)

    def send_file(self, fd: int, offset: int, length: int) -> None:
        """Sends the next bytes from a file, by the kernel."""
        self._count(length)
        self._call._socket.send_file(fd, offset, length)

    def _count(self, size: int) -> None:
        assert size <= self._call._owed, "more bytes than were announced"
        self._call._owed -= size
