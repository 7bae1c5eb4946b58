"""The asynchronous client's one connection: many calls in flight, each with its deadline, any of them cancellable.

Owns: `AsyncConnection`, which drives a `ClientSession`. Never: retries or reconnects (`async_client.py`), or blocks the
loop: connecting itself happens in a thread.
"""

import asyncio
import os
import socket
from typing import Any, cast

from isotach.base.errors import DeadlineExceededError, UnavailableError, from_reply
from isotach.base.limits import CALL_DEADLINE_S, CONNECT_TIMEOUT_S, INLINE_PAYLOAD_BYTES_MAX
from isotach.net.address import Address
from isotach.net.dispatch import Payload, buffers_of
from isotach.net.peer import current_user
from isotach.net.sockets import connect_to
from isotach.wire.frames import PROTOCOL_MAX, PROTOCOL_MIN
from isotach.wire.messages import Hello, Method, ReplyT, RequestT, Welcome
from isotach.wire.session import (
    ClientSession,
    ConnectionEnded,
    ErrorReceived,
    Event,
    GoodbyeReceived,
    ReplyReceived,
    State,
    WelcomeReceived,
)

_NO_DEADLINE = float("inf")


class NotSentError(UnavailableError):
    """The connection was gone before the call left: the server cannot have seen it."""


class _Call:
    """One call that waits: its future and when (loop time) patience ends."""

    __slots__ = ("deadline", "future", "name")

    def __init__(self, future: asyncio.Future[Any], deadline: float, name: str) -> None:
        self.future = future
        self.deadline = deadline
        self.name = name


class AsyncConnection(asyncio.Protocol):
    """One connection. Made by `open`; broken for good once `is_usable` is False."""

    def __init__(self, address: Address, hello: Hello) -> None:
        self.address = address
        self._hello = hello
        self._loop = asyncio.get_running_loop()
        self._session = ClientSession()
        self._transport: asyncio.Transport | None = None
        self._welcome: asyncio.Future[Welcome] = self._loop.create_future()
        self._calls: dict[int, _Call] = {}
        self._out: list[bytes] = []
        self._flush_is_due = False
        self._writable: asyncio.Future[None] | None = None  # while the transport asks us to wait
        self._places: list[asyncio.Future[None]] = []  # calls that wait for the number in flight to fall
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = _NO_DEADLINE
        self._saw_goodbye = False
        self._lost: asyncio.Future[None] = self._loop.create_future()

    @classmethod
    async def open(
        cls,
        address: Address | str,
        *,
        user: str | None = None,
        client: str = "python",
        token: bytes = b"",
        timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> "AsyncConnection":
        """Connects and shakes hands. Raises UnavailableError when nobody answers within `timeout_s`, ProtocolError when
        the versions do not meet, and whatever error the server refuses us by."""
        where = Address.parse(address)
        hello = Hello(PROTOCOL_MIN, PROTOCOL_MAX, user or current_user(), client, os.getpid(), token)
        loop = asyncio.get_running_loop()
        connection = cls(where, hello)
        scope = asyncio.timeout(timeout_s)
        try:
            async with scope:
                connecting = loop.run_in_executor(None, connect_to, where, timeout_s)
                try:
                    sock = await asyncio.shield(connecting)
                except asyncio.CancelledError:
                    connecting.add_done_callback(_close_unwanted)
                    raise
                sock.setblocking(False)
                try:
                    if where.is_unix:
                        await loop.create_unix_connection(lambda: connection, sock=sock)
                    else:
                        await loop.create_connection(lambda: connection, sock=sock)
                except BaseException:
                    sock.close()
                    raise
                await asyncio.shield(connection._welcome)
        except TimeoutError as problem:
            connection.abort()
            if not scope.expired():
                raise
            raise UnavailableError(f"{where} did not answer within {timeout_s:g} s: is it overloaded?") from problem
        except BaseException:
            connection.abort()
            raise
        return connection

    @property
    def welcome(self) -> Welcome:
        """What the server said of itself."""
        return self._welcome.result()

    @property
    def is_open(self) -> bool:
        """Whether the connection lives; after a goodbye it still brings the answers of calls in flight."""
        return self._session.state is State.OPEN

    @property
    def is_usable(self) -> bool:
        """Whether new calls may be made."""
        return self._session.state is State.OPEN and not self._saw_goodbye

    async def call(
        self,
        method: Method[RequestT, ReplyT],
        request: RequestT,
        payload: Payload = b"",
        deadline_s: float = CALL_DEADLINE_S,
    ) -> tuple[ReplyT, memoryview]:
        """(reply, payload). Raises what the server raised; DeadlineExceededError after `deadline_s`; UnavailableError
        when the connection breaks. Cancelling the caller cancels the call."""
        if self._writable is not None or self._session.is_full:
            await self._wait_for_place()
        if self._session.state is not State.OPEN or self._transport is None:
            raise NotSentError(f"the connection to {self.address} is closed: connect again")
        loop = self._loop
        future: asyncio.Future[Any] = loop.create_future()
        deadline = loop.time() + deadline_s
        if payload:
            buffers, size = buffers_of(payload)
            call_id, frame = self._session.send_request(method, request, size, int(deadline_s * 1000))
            self._send(frame)
            if size <= INLINE_PAYLOAD_BYTES_MAX:
                self._out.extend(bytes(part) for part in buffers)
            else:
                self._flush()
                self._transport.writelines(buffers)
        else:
            call_id, frame = self._session.send_request(method, request, 0, int(deadline_s * 1000))
            self._send(frame)
        self._calls[call_id] = _Call(future, deadline, method.name)
        if deadline < self._timer_at:
            self._set_timer(deadline)
        try:
            return cast(tuple[ReplyT, memoryview], await future)
        except asyncio.CancelledError:
            self._abandon(call_id)
            raise

    async def close(self) -> None:
        """Says goodbye and closes; calls in flight fail with UnavailableError."""
        if self._session.state is State.OPEN:
            self._send(self._session.send_goodbye())
            self._flush()
        self._session.close()
        if self._transport is not None:
            self._transport.close()
            await asyncio.wait([self._lost], timeout=1.0)
            self.abort()

    def abort(self) -> None:
        """Closes at once, without a word."""
        self._session.close()
        if self._welcome.done():
            if not self._welcome.cancelled():
                self._welcome.exception()  # seen
        else:
            self._welcome.cancel()
        if self._transport is not None:
            self._transport.abort()

    # --- what the transport calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._session.send_opening(self._hello))

    def data_received(self, data: bytes) -> None:
        calls = self._calls
        for event in self._session.receive_data(data):
            if type(event) is ReplyReceived:
                call = calls.pop(event.call_id, None)
                if call is not None and not call.future.done():
                    call.future.set_result((event.reply, event.payload))
            else:
                self._take(event)
        if self._places:
            self._grant_places()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._end(UnavailableError(f"the connection to {self.address} was lost{f' ({exc})' if exc else ''}: try again"))
        if not self._lost.done():
            self._lost.set_result(None)

    def pause_writing(self) -> None:
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # --- the rest ---

    def _take(self, event: Event) -> None:
        if isinstance(event, ErrorReceived):
            call = self._calls.pop(event.call_id, None)
            if call is not None and not call.future.done():
                call.future.set_exception(from_reply(event.error))
        elif isinstance(event, WelcomeReceived):
            if not self._welcome.done():
                self._welcome.set_result(event.welcome)
        elif isinstance(event, GoodbyeReceived):
            self._saw_goodbye = True
        elif isinstance(event, ConnectionEnded):
            self._end(event.error)
            if self._transport is not None:
                self._transport.close()

    def _end(self, error: Exception) -> None:
        self._session.close()
        if not self._welcome.done():
            self._welcome.set_exception(error)
        for call in self._calls.values():
            if not call.future.done():
                call.future.set_exception(error)
        self._calls.clear()
        self.resume_writing()
        self._grant_places()
        if self._timer is not None:
            self._timer.cancel()

    def _send(self, frame: bytes) -> None:
        """Frames of one turn of the loop leave in one write."""
        self._out.append(frame)
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        out = self._out
        if out and self._transport is not None:
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))
        out.clear()

    async def _wait_for_place(self) -> None:
        while self._session.state is State.OPEN:
            if self._writable is not None:
                await asyncio.shield(self._writable)
            elif self._session.is_full:
                place: asyncio.Future[None] = self._loop.create_future()
                self._places.append(place)
                await place
            else:
                return

    def _grant_places(self) -> None:
        waiting, self._places = self._places, []
        for place in waiting:
            if not place.done():
                place.set_result(None)

    def _abandon(self, call_id: int) -> None:
        if self._calls.pop(call_id, None) is not None and self._session.state is State.OPEN:
            self._send(self._session.send_cancel(call_id))

    def _set_timer(self, at: float) -> None:
        """One timer for all calls, at the earliest deadline known."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._expire)

    def _expire(self) -> None:
        now = self._loop.time()
        self._timer, self._timer_at = None, _NO_DEADLINE
        for call_id, call in list(self._calls.items()):
            if call.deadline <= now:
                self._abandon(call_id)
                if not call.future.done():
                    message = f"{call.name} at {self.address} was not answered in time: its outcome is unknown"
                    call.future.set_exception(DeadlineExceededError(message))
        if self._calls:
            self._set_timer(min(call.deadline for call in self._calls.values()))


def _close_unwanted(connecting: asyncio.Future[socket.socket]) -> None:
    """Closes what a thread connected after its caller had gone."""
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().close()
