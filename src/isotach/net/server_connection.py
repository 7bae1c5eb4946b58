"""One connection of the asynchronous server: drives a `ServerSession`, runs handlers, writes answers.

Owns: the order of things on one connection: back-pressure, the joining of answers into few writes, cancellation.
Never: listens or counts connections (`server.py`).
"""

import asyncio
import socket
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, cast

import msgspec

from isotach.base.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    IsotachError,
    ProtocolError,
    UnavailableError,
)
from isotach.base.limits import HANDSHAKE_TIMEOUT_S, INLINE_PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MAX, REFUSAL_LINGER_S
from isotach.base.types import ReadBuffer
from isotach.net.dispatch import Reply, Route, buffers_of
from isotach.net.peer import Peer, direct_access, peer_of
from isotach.obs.log import get_logger
from isotach.wire import handshake
from isotach.wire.messages import AnyMethod
from isotach.wire.session import (
    Cancelled,
    ConnectionEnded,
    Event,
    HelloReceived,
    RequestReceived,
    ServerSession,
    State,
    UnknownMethodReceived,
)

if TYPE_CHECKING:
    from isotach.net.server import RpcServer

log = get_logger("net.server")

_EXPECTED = (OSError, IsotachError)  # what handlers raise on purpose; anything else is our bug and is logged as one


class ServerConnection(asyncio.Protocol):
    """The transport's other half."""

    def __init__(self, server: "RpcServer") -> None:
        self._server = server
        self._dispatcher = server.dispatcher
        self._metrics = server.metrics
        self._session = ServerSession(PAYLOAD_BYTES_MAX if server.dispatcher.takes_payloads else 0)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._peer = Peer("")
        self._out: list[bytes] = []  # answers to be written together
        self._flush_is_due = False
        self._running: dict[int, asyncio.Task[None] | asyncio.Future[Any]] = {}  # cancellable calls only
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_busy(self) -> bool:
        """Whether calls wait for their answer, or answers for the network."""
        waiting = self._transport.get_write_buffer_size() if self._transport is not None else 0
        return self._session.calls_in_flight > 0 or bool(self._out) or waiting > 0

    # --- what the transport calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._server.is_full:
            self._refuse(
                UnavailableError("the server has all the connections it takes: close some, or try again later")
            )
            return
        self._server.connection_opened(self)
        self._timer = self._loop.call_later(HANDSHAKE_TIMEOUT_S, self._handshake_expired)

    def data_received(self, data: bytes) -> None:
        events = self._session.receive_data(data)
        if not events:
            return
        dispatcher = self._dispatcher
        if dispatcher.before_batch is not None:
            dispatcher.before_batch()
        for event in events:
            if type(event) is RequestReceived:
                self._serve(event)
            else:
                self._take(event)
        if dispatcher.after_batch is not None:
            dispatcher.after_batch()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._session.close()
        if self._timer is not None:
            self._timer.cancel()
        for work in list(self._running.values()):
            work.cancel()
        self._running.clear()
        self._out.clear()
        self._transport = None
        self._server.connection_ended(self)

    def pause_writing(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # --- what the server calls ---

    def say_goodbye(self) -> None:
        """Asks the client for no new calls; closes an idle connection that has not even been welcomed."""
        if self._session.state is State.OPEN:
            self._write(self._session.send_goodbye())
            self._flush()
        else:
            self.close()

    def close(self) -> None:
        """Closes at once, after what is written already."""
        self._session.close()
        if self._transport is not None:
            self._transport.close()

    # --- the session's events ---

    def _take(self, event: Event) -> None:
        if isinstance(event, HelloReceived):
            self._greet(event)
        elif isinstance(event, Cancelled):
            work = self._running.get(event.call_id)
            if work is not None:
                work.cancel()
        elif isinstance(event, UnknownMethodReceived):
            problem = InvalidArgumentError(f"this server does not know the method {event.number}: upgrade it")
            self._write(self._session.send_error(event.call_id, event.number, problem))
        elif isinstance(event, ConnectionEnded):
            log.warning("connection_refused", peer=self._peer.user, reason=str(event.error))
            self._refuse(event.error)

    def _greet(self, event: HelloReceived) -> None:
        if self._transport is None or self._session.state is not State.GREETING:
            return  # a violation follows in the same data
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        descriptor = self._transport.get_extra_info("socket").fileno()
        sock = socket.socket(fileno=descriptor)
        try:
            self._peer = peer_of(sock, event.hello, self._server.users)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        finally:
            sock.detach()
        welcome = self._server.welcome()
        self._write(
            self._session.send_welcome(
                msgspec.structs.replace(
                    welcome,
                    protocol=event.protocol,
                    user=self._peer.user,
                    direct=direct_access(self._peer, self._server.direct_folders),
                )
            )
        )

    def _refuse(self, error: BaseException) -> None:
        """Says why, then closes; lingers so that the words arrive before the reset that unread data would cause."""
        self._session.close()
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._write(handshake.refusal_bytes(error))
        self._flush()
        if transport.can_write_eof():
            transport.write_eof()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(REFUSAL_LINGER_S, transport.abort)

    def _handshake_expired(self) -> None:
        self._refuse(ProtocolError(f"no complete hello came within {HANDSHAKE_TIMEOUT_S:g} s"))

    # --- calls ---

    def _serve(self, call: RequestReceived) -> None:
        started = time.perf_counter()
        method = call.method
        route = self._dispatcher.route(method.number)
        if route is None:
            self._fail(call, started, InvalidArgumentError(f"this server does not serve the method {method.name}"))
            return
        try:
            if route.takes_payload:
                result = route.handler(call.request, self._peer, call.payload)
            else:
                result = route.handler(call.request, self._peer)
        except Exception as problem:  # every failure of a handler becomes the answer of its call
            self._fail(call, started, problem)
            return
        if isinstance(result, asyncio.Future):
            self._await_future(call, route, started, result)
        elif isinstance(result, Coroutine):
            self._start_task(call, route, started, result)
        else:
            self._answer(call, started, result)

    def _await_future(self, call: RequestReceived, route: Route, started: float, future: asyncio.Future[Any]) -> None:
        if not route.detach:
            self._running[call.call_id] = future
        future.add_done_callback(lambda done: self._future_done(call, started, done))

    def _future_done(self, call: RequestReceived, started: float, future: asyncio.Future[Any]) -> None:
        self._running.pop(call.call_id, None)
        if future.cancelled():
            self._fail(call, started, UnavailableError("the call was cancelled"))
        elif (problem := future.exception()) is not None:
            self._fail(call, started, problem)
        else:
            self._answer(call, started, future.result())
        self._flush_soon()

    def _start_task(self, call: RequestReceived, route: Route, started: float, work: Coroutine[Any, Any, Any]) -> None:
        task = self._loop.create_task(self._run(call, route, started, work))
        task.add_done_callback(lambda _done: work.close())  # one cancelled before its first step never began the work
        if not route.detach:
            self._running[call.call_id] = task
        self._server.start_task(task)

    async def _run(self, call: RequestReceived, route: Route, started: float, work: Coroutine[Any, Any, Any]) -> None:
        try:
            if route.detach or not call.deadline_ms:
                result = await work
            else:
                result = await self._within_deadline(call, work)
            self._answer(call, started, result)
        except asyncio.CancelledError:
            self._fail(call, started, UnavailableError("the call was cancelled"))
            raise
        except Exception as problem:  # as in _serve
            self._fail(call, started, problem)
        finally:
            self._running.pop(call.call_id, None)
            self._flush_soon()

    async def _within_deadline(self, call: RequestReceived, work: Coroutine[Any, Any, Any]) -> Any:
        scope = asyncio.timeout(call.deadline_ms / 1000)
        try:
            async with scope:
                return await work
        except TimeoutError as problem:
            if not scope.expired():
                raise
            raise DeadlineExceededError(f"{call.method.name} took longer than {call.deadline_ms} ms") from problem

    # --- answers ---

    def _answer(self, call: RequestReceived, started: float, result: Any) -> None:
        if self._session.state is not State.OPEN:
            return
        method: AnyMethod = call.method
        try:
            if type(result) is Reply:
                buffers, size = buffers_of(result.payload)
                self._write(self._session.send_reply(call.call_id, method.number, result.reply, size))
                self._write_payload(buffers, size)
            else:
                self._out.append(self._session.send_reply(call.call_id, method.number, result))
        except (IsotachError, TypeError) as problem:  # over the bounds, or not a message
            self._fail(call, started, problem)
            return
        if self._metrics is not None:
            self._metrics.observe_call(method.name, time.perf_counter() - started, True)
        self._server.call_answered()

    def _fail(self, call: RequestReceived, started: float, problem: BaseException) -> None:
        if not isinstance(problem, _EXPECTED):
            log.error("handler_failed", method=call.method.name, error=repr(problem), exc_info=problem)
        if self._session.state is not State.OPEN:
            return
        self._write(self._session.send_error(call.call_id, call.method.number, problem))
        if self._metrics is not None:
            self._metrics.observe_call(call.method.name, time.perf_counter() - started, False)
        self._server.call_answered()

    def _write(self, frame: bytes) -> None:
        self._out.append(frame)

    def _write_payload(self, buffers: list[ReadBuffer], size: int) -> None:
        if size <= INLINE_PAYLOAD_BYTES_MAX:
            self._out.extend(bytes(part) for part in buffers)
            return
        self._flush()
        if self._transport is not None:
            self._transport.writelines(buffers)

    def _flush_soon(self) -> None:
        """Answers that became ready in the same turn of the loop leave in one write."""
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        out = self._out
        if out and self._transport is not None:
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))
        out.clear()
