"""The blocking client's one connection: plain sockets, the path of least latency for ordinary Python.

Owns: `BlockingConnection`, one call at a time (or a pipeline of them, in order), payloads straight into the caller's
memory, descriptors. Never: retries or pools (`blocking_channel.py`), or uses an event loop.

A connection on which anything went wrong except an ERROR answer is closed and never used again: nobody could tell what
its next bytes mean.
"""

import contextlib
import os
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Self, cast

from isotach.base.errors import DeadlineExceededError, InvalidArgumentError, ProtocolError, UnavailableError, from_reply
from isotach.base.limits import CALL_DEADLINE_S, CONNECT_TIMEOUT_S
from isotach.base.types import ReadBuffer
from isotach.net.address import Address
from isotach.net.dispatch import Payload, buffers_of
from isotach.net.frame_socket import FrameSocket
from isotach.net.peer import current_user
from isotach.net.sockets import connect_to
from isotach.wire import frames, handshake
from isotach.wire.messages import AnyMethod, Hello, Method, ReplyT, RequestT, Welcome

_CALL_ID_MAX = (1 << 32) - 1


class BlockingConnection:
    """One connection; one thread at a time. Made by `open`."""

    def __init__(self, address: Address, frame_socket: FrameSocket, welcome: Welcome) -> None:
        self.address = address
        self.welcome = welcome
        self.idle_since = 0.0
        self._socket = frame_socket
        self._pid = os.getpid()
        self._is_open = True
        self._saw_goodbye = False
        self._last_call_id = 0
        self._pending: deque[tuple[int, AnyMethod]] = deque()  # sent by `send`, answers in this order
        self._payload_left = 0  # bytes of the present reply's payload that the caller has not taken
        self._deadline = 0.0

    @classmethod
    def open(
        cls,
        address: Address | str,
        *,
        user: str | None = None,
        client: str = "python",
        token: bytes = b"",
        timeout_s: float = CONNECT_TIMEOUT_S,
        on_silence: Callable[[], None] | None = None,
    ) -> "BlockingConnection":
        """Connects and shakes hands. `on_silence` is called whenever nothing has moved for SILENCE_S within a call; it
        raises when it knows that the server is gone.

        Raises UnavailableError when nobody answers within `timeout_s`, ProtocolError when the versions do not meet,
        and whatever error the server refuses us by."""
        where = Address.parse(address)
        deadline = time.monotonic() + timeout_s
        sock = connect_to(where, timeout_s)
        frame_socket = FrameSocket(sock, str(where), on_silence=on_silence)
        try:
            frame_socket.set_timeout(max(0.001, deadline - time.monotonic()))
            hello = Hello(frames.PROTOCOL_MIN, frames.PROTOCOL_MAX, user or current_user(), client, os.getpid(), token)
            frame_socket.send(handshake.opening_bytes(hello))
            header = frame_socket.receive_header(deadline)
            meta = frame_socket.receive_message(header[0], deadline)
            welcome = handshake.read_answer(header[5], meta)
        except (EOFError, DeadlineExceededError) as problem:
            frame_socket.close()
            raise UnavailableError(f"{where} accepted the connection but did not answer: is it stopping?") from problem
        except BaseException:
            frame_socket.close()
            raise
        return cls(where, frame_socket, welcome)

    @property
    def is_usable(self) -> bool:
        """Whether new calls may be made here, in this process."""
        return self._is_open and not self._saw_goodbye and self._pid == os.getpid()

    @property
    def is_idle(self) -> bool:
        """Whether no answer is outstanding."""
        return not self._pending and not self._payload_left

    # --- one call at a time ---

    def call(
        self,
        method: Method[RequestT, ReplyT],
        request: RequestT,
        payload: Payload = b"",
        *,
        deadline_s: float = CALL_DEADLINE_S,
    ) -> tuple[ReplyT, ReadBuffer]:
        """(reply, payload). Raises what the server raised; DeadlineExceededError after `deadline_s`; UnavailableError
        when the connection breaks."""
        reply, size = self._exchange(method, request, payload, deadline_s, False)
        if not size:
            return reply, b""
        body = bytearray(size)
        self.receive_payload_into(memoryview(body))
        return reply, memoryview(body)

    def call_into(
        self,
        method: Method[RequestT, ReplyT],
        request: RequestT,
        view: memoryview,
        *,
        deadline_s: float = CALL_DEADLINE_S,
    ) -> tuple[ReplyT, int]:
        """(reply, n): the payload's n bytes go straight into `view`. ProtocolError when they do not fit."""
        reply, size = self._exchange(method, request, b"", deadline_s, False)
        if size > len(view):
            self.abort()
            raise ProtocolError(
                f"{self.address} sent a payload of {size} bytes where at most {len(view)} were asked for"
            )
        if size:
            self.receive_payload_into(view[:size])
        return reply, size

    def call_with_fd(
        self, method: Method[RequestT, ReplyT], request: RequestT, *, deadline_s: float = CALL_DEADLINE_S
    ) -> tuple[ReplyT, ReadBuffer, int | None]:
        """(reply, payload, descriptor or None); the caller owns the descriptor. Unix sockets only."""
        if not self.address.is_unix:
            raise InvalidArgumentError(f"descriptors pass over Unix sockets only, not over {self.address}")
        reply, size = self._exchange(method, request, b"", deadline_s, True)
        fd = self._socket.take_fd()
        if not size:
            return reply, b"", fd
        body = bytearray(size)
        try:
            self.receive_payload_into(memoryview(body))
        except BaseException:
            if fd is not None:
                os.close(fd)
            raise
        return reply, memoryview(body), fd

    # --- a pipeline of calls ---

    def send(
        self,
        method: Method[RequestT, ReplyT],
        request: RequestT,
        payload: Payload = b"",
        *,
        deadline_s: float = CALL_DEADLINE_S,
    ) -> int:
        """Sends a call without waiting; its answer is taken by `receive_header`, in the order of the sends. May be
        called while an earlier answer's payload is still being received. Returns the call id."""
        self._check_usable()
        if not self._pending and not self._payload_left:
            self._deadline = time.monotonic() + deadline_s
            self._socket.set_timeout(deadline_s)
        call_id = self._transmit(method, request, payload, deadline_s)
        self._pending.append((call_id, method))
        return call_id

    def receive_header(self, call_id: int, *, deadline_s: float = CALL_DEADLINE_S) -> tuple[Any, int]:
        """(reply, payload bytes) of the call, which must be the oldest one outstanding; then take the payload by
        `receive_payload_into`. Raises what the server raised (the connection stays good then)."""
        if self._payload_left:
            raise InvalidArgumentError("take the payload of the answer before, or close the connection")
        if not self._pending or self._pending[0][0] != call_id:
            raise InvalidArgumentError(f"the call {call_id} is not the oldest one outstanding")
        _, method = self._pending.popleft()
        self._deadline = time.monotonic() + deadline_s
        self._socket.set_timeout(deadline_s)
        return self._receive_answer(call_id, method, False)

    def receive_payload_into(self, view: memoryview) -> int:
        """Fills `view` (of bytes) with the next part of the present answer's payload; at its end with what is left.
        Returns how many bytes came: 0 when all is taken."""
        size = min(len(view), self._payload_left)
        if size:
            try:
                self._socket.receive_into(view if size == len(view) else view[:size], self._deadline)
            except BaseException as problem:
                raise self._broken(problem) from problem
            self._payload_left -= size
        return size

    @property
    def payload_left(self) -> int:
        """Bytes of the present answer's payload that have not been taken."""
        return self._payload_left

    # --- closing ---

    def close(self) -> None:
        """Says goodbye and closes. In a forked child it only drops the child's copy."""
        if self._is_open and self._pid == os.getpid():
            try:
                self._socket.sock.setblocking(False)
                self._socket.sock.send(frames.encode_frame(frames.GOODBYE, None))
            except OSError:
                pass  # gone already, which is what we want
        self.abort()

    def abort(self) -> None:
        """Closes at once, without a word."""
        self._is_open = False
        self._socket.close()

    def interrupt(self) -> None:
        """From any thread: the call under way fails with UnavailableError, and so does every later one."""
        with contextlib.suppress(OSError):
            self._socket.sock.shutdown(socket.SHUT_RDWR)

    def has_news(self) -> bool:
        """Whether an idle connection has become readable: closed, or told goodbye. Not to be used for a next call."""
        return self._socket.buffered_bytes > 0 or self._socket.has_news()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- inside ---

    def _check_usable(self) -> None:
        if not self._is_open:
            raise UnavailableError(f"the connection to {self.address} is closed: connect again")
        if self._pid != os.getpid():
            raise UnavailableError(f"the connection to {self.address} is the parent's: a forked process connects anew")

    def _exchange(
        self, method: Method[RequestT, ReplyT], request: RequestT, payload: Payload, deadline_s: float, with_fds: bool
    ) -> tuple[ReplyT, int]:
        self._check_usable()
        if self._pending or self._payload_left:
            raise InvalidArgumentError("the connection has answers outstanding: take them first, or use another one")
        self._deadline = time.monotonic() + deadline_s
        self._socket.set_timeout(deadline_s)
        call_id = self._transmit(method, request, payload, deadline_s)
        return cast(tuple[ReplyT, int], self._receive_answer(call_id, method, with_fds))

    def _transmit(self, method: AnyMethod, request: Any, payload: Payload, deadline_s: float) -> int:
        buffers, size = buffers_of(payload) if payload else (None, 0)
        self._last_call_id = call_id = self._last_call_id % _CALL_ID_MAX + 1
        frame = frames.encode_frame(
            frames.REQUEST,
            request,
            method=method.number,
            call_id=call_id,
            deadline_ms=min(int(deadline_s * 1000), 0xFFFFFFFF),
            payload_bytes=size,
        )
        try:
            self._socket.send(frame, buffers)
        except BaseException as problem:
            raise self._broken(problem) from problem
        return call_id

    def _receive_answer(self, call_id: int, method: AnyMethod, with_fds: bool) -> tuple[Any, int]:
        frame_socket, deadline = self._socket, self._deadline
        try:
            while True:
                size, payload_bytes, answered, _, number, kind, _, _ = frame_socket.receive_header(
                    deadline, with_fds=with_fds
                )
                meta = frame_socket.receive_message(size, deadline)
                if kind != frames.GOODBYE:
                    break
                self._saw_goodbye = True
            if kind == frames.REPLY and answered == call_id and number == method.number:
                reply = frames.decode_reply(number, meta)
                self._payload_left = payload_bytes
                return reply, payload_bytes
            if kind != frames.ERROR or answered not in (0, call_id) or payload_bytes:
                raise ProtocolError(
                    f"{self.address} answered another call than {method.name}, or not as the protocol says"
                )
            error = from_reply(frames.decode_error(meta))
        except BaseException as problem:
            raise self._broken(problem) from problem
        if answered == 0:
            self.abort()
        try:
            raise error
        finally:
            del error  # else the error holds this frame, and this frame the error, until the collector comes

    def _broken(self, problem: BaseException) -> BaseException:
        """Closes; gives the error to raise."""
        self.abort()
        if isinstance(problem, EOFError):
            return UnavailableError(f"the connection to {self.address} was closed by the server: try again")
        return problem
