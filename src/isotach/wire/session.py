"""The session: one connection's protocol as a pure state machine, in the server's and in the client's role.

Owns: which frame may come in which state, the calls in flight, and the cutting of a byte stream into frames without
copying what is large. Never: touches a socket, a clock or a task; drivers live in `net`.

    server   OPENING --magic, HELLO--> GREETING --send_welcome--> OPEN --violation, close--> CLOSED
    client   OPENING --WELCOME-------> OPEN --violation, ERROR for call 0, close--> CLOSED

Every request is answered exactly once, by REPLY or ERROR, also after a CANCEL: so a call id is free again only then.
A violation never raises out of `receive_data`: it is the last event, `ConnectionEnded` with a ProtocolError, so that
what came before it is not lost and the cuts between the pieces of the stream make no difference.
"""

import enum
from typing import Any

import msgspec

from isotach.base.errors import ErrorReply, ProtocolError, from_reply, to_reply
from isotach.base.limits import CALLS_IN_FLIGHT_MAX, HEADER_BYTES, INLINE_PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MAX
from isotach.wire import frames, handshake
from isotach.wire.messages import METHODS, AnyMethod, Hello, Welcome

_CALL_ID_MAX = (1 << 32) - 1
_DEADLINE_MS_MAX = (1 << 32) - 1


class State(enum.Enum):
    """Where a session stands."""

    OPENING = "opening"
    GREETING = "greeting"
    OPEN = "open"
    CLOSED = "closed"


class HelloReceived(msgspec.Struct, gc=False):
    """A client wants in; the driver answers by `send_welcome` (or by a refusal). `protocol` is the agreed version."""

    hello: Hello
    protocol: int


class WelcomeReceived(msgspec.Struct, gc=False):
    """The server let us in."""

    welcome: Welcome


class RequestReceived(msgspec.Struct, gc=False):
    """One call to serve. `deadline_ms` is what was left of the caller's patience when it sent it; 0: none."""

    call_id: int
    method: AnyMethod
    deadline_ms: int
    request: Any
    payload: memoryview


class UnknownMethodReceived(msgspec.Struct, gc=False):
    """A newer client asked for what this server does not know; the connection stays usable."""

    call_id: int
    number: int


class ReplyReceived(msgspec.Struct, gc=False):
    """The answer to one of our calls."""

    call_id: int
    reply: Any
    payload: memoryview


class ErrorReceived(msgspec.Struct, gc=False):
    """The failure of one of our calls."""

    call_id: int
    error: ErrorReply


class Cancelled(msgspec.Struct, gc=False):
    """The client no longer waits for this call. It must be answered all the same."""

    call_id: int


class GoodbyeReceived(msgspec.Struct, gc=False):
    """The peer wants no new calls on this connection; what is in flight is still answered."""


class ConnectionEnded(msgspec.Struct, gc=False):
    """The session is over, by this error. Nothing more comes."""

    error: Exception


Event = (
    HelloReceived
    | WelcomeReceived
    | RequestReceived
    | UnknownMethodReceived
    | ReplyReceived
    | ErrorReceived
    | Cancelled
    | GoodbyeReceived
    | ConnectionEnded
)

_NOTHING = memoryview(b"")


class _Session:
    """What both roles share: the cutting of the stream into frames."""

    def __init__(self, payload_bytes_max: int) -> None:
        self.state = State.OPENING
        self._payload_bytes_max = payload_bytes_max
        self._tail = bytearray()  # the start of a frame whose rest has not come
        self._need = HEADER_BYTES  # bytes of the tail that are worth looking at again
        self._large: _LargeFrame | None = None

    def receive_data(self, data: bytes) -> list[Event]:
        """Takes what the socket gave; returns what happened. `data` must not be changed afterwards by the caller."""
        events: list[Event] = []
        if self.state is State.CLOSED:
            return events
        try:
            self._cut(data, events)
        except ProtocolError as violation:
            self.close()
            events.append(ConnectionEnded(violation))
        return events

    def close(self) -> None:
        """Forgets everything; later data is ignored."""
        self.state = State.CLOSED
        self._tail = bytearray()
        self._large = None

    def _cut(self, data: bytes | bytearray, events: list[Event]) -> None:
        position = 0
        if self._large is not None:
            position = self._large.fill(data)
            if not self._large.is_full:
                return
            large, self._large = self._large, None
            self._take_frame(large.header, large.meta, memoryview(large.payload), events)
        elif self._tail:
            self._tail += data
            if len(self._tail) < self._need:
                return
            data, self._tail = self._tail, bytearray()
        if self.state is State.OPENING:
            position = self._take_opening(data, position)
        size = len(data)
        view = memoryview(data)
        while size - position >= HEADER_BYTES:
            header = frames.read_header(data, position, self._payload_bytes_max)
            self._check_allowed(header)
            meta_start = position + HEADER_BYTES
            payload_start = meta_start + header[0]
            end = payload_start + header[1]
            if end > size:
                if header[1] > INLINE_PAYLOAD_BYTES_MAX and payload_start <= size:
                    self._large = _LargeFrame(header, bytes(view[meta_start:payload_start]), view[payload_start:])
                    return
                self._need = (payload_start if header[1] > INLINE_PAYLOAD_BYTES_MAX else end) - position
                self._tail = bytearray(view[position:])
                return
            payload = view[payload_start:end] if header[1] else _NOTHING
            self._take_frame(header, view[meta_start:payload_start], payload, events)
            position = end
        if position < size:
            self._need = HEADER_BYTES
            self._tail = bytearray(view[position:])

    def _take_opening(self, data: bytes | bytearray, position: int) -> int:
        """Where the first frame starts. The server's role checks the magic here."""
        return position

    def _check_allowed(self, header: frames.Header) -> None:
        raise NotImplementedError

    def _take_frame(self, header: frames.Header, meta: frames.Bytes, payload: memoryview, events: list[Event]) -> None:
        raise NotImplementedError


class _LargeFrame:
    """A frame whose payload is gathered into one buffer of its size as it comes: one copy, no concatenation."""

    __slots__ = ("_filled", "header", "meta", "payload")

    def __init__(self, header: frames.Header, meta: bytes, first: memoryview) -> None:
        self.header = header
        self.meta = meta
        self.payload = bytearray(header[1])  # within bounds by now; untouched pages cost nothing until they come
        self._filled = 0
        self.fill(first)

    @property
    def is_full(self) -> bool:
        return self._filled == len(self.payload)

    def fill(self, data: bytes | bytearray | memoryview) -> int:
        """Takes what belongs to the payload; returns how much that was."""
        taken = min(len(self.payload) - self._filled, len(data))
        self.payload[self._filled : self._filled + taken] = data if taken == len(data) else memoryview(data)[:taken]
        self._filled += taken
        return taken


class ServerSession(_Session):
    """The server's role on one connection."""

    def __init__(
        self, payload_bytes_max: int = PAYLOAD_BYTES_MAX, calls_in_flight_max: int = CALLS_IN_FLIGHT_MAX
    ) -> None:
        super().__init__(payload_bytes_max)
        self._calls_in_flight_max = calls_in_flight_max
        self._in_flight: set[int] = set()
        self._has_magic = False
        self._need = len(frames.MAGIC)

    @property
    def calls_in_flight(self) -> int:
        """How many requests wait for their answer."""
        return len(self._in_flight)

    def send_welcome(self, welcome: Welcome) -> bytes:
        """Lets the client in. Only after `HelloReceived`."""
        assert self.state is State.GREETING, self.state
        self.state = State.OPEN
        return frames.encode_frame(frames.WELCOME, welcome)

    def send_reply(self, call_id: int, number: int, reply: msgspec.Struct, payload_bytes: int = 0) -> bytes:
        """The answer to a call, to be followed by its payload. Raises InvalidArgumentError over the bounds; the call
        is then still to be answered. KeyError for a call that is not in flight: a bug of the driver."""
        frame = frames.encode_frame(frames.REPLY, reply, method=number, call_id=call_id, payload_bytes=payload_bytes)
        self._in_flight.remove(call_id)
        return frame

    def send_error(self, call_id: int, number: int, error: BaseException) -> bytes:
        """The failure of a call."""
        self._in_flight.remove(call_id)
        return frames.encode_frame(frames.ERROR, to_reply(error), method=number, call_id=call_id)

    def send_goodbye(self) -> bytes:
        """Asks the client to send no new calls."""
        return frames.encode_frame(frames.GOODBYE, None)

    def _take_opening(self, data: bytes | bytearray, position: int) -> int:
        if self._has_magic:
            return position
        handshake.check_magic(data[: len(frames.MAGIC)])
        if len(data) < len(frames.MAGIC):
            self._need = len(frames.MAGIC)
            self._tail = bytearray(data)
            return len(data)
        self._has_magic = True
        return len(frames.MAGIC)

    def _check_allowed(self, header: frames.Header) -> None:
        kind = header[5]
        if self.state is State.OPEN:
            if kind not in (frames.REQUEST, frames.CANCEL, frames.GOODBYE):
                raise ProtocolError(f"a client may not send a frame of kind {kind} now")
            if kind == frames.REQUEST:
                self._check_call_id(header[2])
            elif header[0] or header[1]:
                raise ProtocolError("a CANCEL or GOODBYE frame carries nothing")
        elif self.state is State.OPENING:
            handshake.check_hello_header(header)
        else:
            raise ProtocolError("a client must wait for the welcome before it calls")

    def _check_call_id(self, call_id: int) -> None:
        if call_id == 0 or call_id in self._in_flight:
            raise ProtocolError(f"the call id {call_id} is in use already")
        if len(self._in_flight) >= self._calls_in_flight_max:
            raise ProtocolError(f"more than {self._calls_in_flight_max} calls in flight on one connection")

    def _take_frame(self, header: frames.Header, meta: frames.Bytes, payload: memoryview, events: list[Event]) -> None:
        kind = header[5]
        if kind == frames.REQUEST:
            call_id, number = header[2], header[4]
            method = METHODS.get(number)
            if method is None:
                events.append(UnknownMethodReceived(call_id, number))
            else:
                request = frames.decode_request(number, meta)
                events.append(RequestReceived(call_id, method, header[3], request, payload))
            self._in_flight.add(call_id)
        elif kind == frames.CANCEL:
            if header[2] in self._in_flight:  # else it crossed with the answer
                events.append(Cancelled(header[2]))
        elif kind == frames.GOODBYE:
            events.append(GoodbyeReceived())
        else:
            hello = frames.decode_hello(meta)
            self.state = State.GREETING
            events.append(HelloReceived(hello, handshake.agree_protocol(hello)))


class ClientSession(_Session):
    """The client's role on one connection."""

    def __init__(self, calls_in_flight_max: int = CALLS_IN_FLIGHT_MAX) -> None:
        super().__init__(PAYLOAD_BYTES_MAX)
        self._calls_in_flight_max = calls_in_flight_max
        self._in_flight: dict[int, int] = {}  # call id -> method number
        self._last_call_id = 0

    @property
    def calls_in_flight(self) -> int:
        """How many calls wait for their answer, abandoned ones too."""
        return len(self._in_flight)

    @property
    def is_full(self) -> bool:
        """Whether one more call must wait for an answer first."""
        return len(self._in_flight) >= self._calls_in_flight_max

    def send_opening(self, hello: Hello) -> bytes:
        """The first bytes of the connection."""
        return handshake.opening_bytes(hello)

    def send_request(
        self, method: AnyMethod, request: msgspec.Struct, payload_bytes: int = 0, deadline_ms: int = 0
    ) -> tuple[int, bytes]:
        """(call id, frame), to be followed by the payload. Raises InvalidArgumentError over the bounds."""
        assert self.state is State.OPEN, self.state
        assert not self.is_full, "the driver waits for a free place first"
        call_id = self._last_call_id % _CALL_ID_MAX + 1
        while call_id in self._in_flight:
            call_id = call_id % _CALL_ID_MAX + 1
        number = method.number
        frame = frames.encode_frame(
            frames.REQUEST,
            request,
            method=number,
            call_id=call_id,
            deadline_ms=min(deadline_ms, _DEADLINE_MS_MAX),
            payload_bytes=payload_bytes,
        )
        self._last_call_id = call_id
        self._in_flight[call_id] = number
        return call_id, frame

    def send_cancel(self, call_id: int) -> bytes:
        """Tells the server that nobody waits for this call any more. Its answer still comes, and is for nobody."""
        return frames.encode_frame(frames.CANCEL, None, call_id=call_id)

    def send_goodbye(self) -> bytes:
        """Tells the server that no new call will come."""
        return frames.encode_frame(frames.GOODBYE, None)

    def _check_allowed(self, header: frames.Header) -> None:
        kind = header[5]
        if kind == frames.ERROR and header[2] == 0:
            return
        if self.state is State.OPENING:
            if kind != frames.WELCOME:
                raise ProtocolError(f"the server answered the hello with a frame of kind {kind}: not our protocol")
        elif kind in (frames.REPLY, frames.ERROR):
            if header[2] not in self._in_flight:
                raise ProtocolError(f"the server answered the call {header[2]}, which was not made")
            if kind == frames.REPLY and header[4] != self._in_flight[header[2]]:
                raise ProtocolError(f"the server answered the call {header[2]} as another method")
        elif kind != frames.GOODBYE:
            raise ProtocolError(f"a server may not send a frame of kind {kind} now")

    def _take_frame(self, header: frames.Header, meta: frames.Bytes, payload: memoryview, events: list[Event]) -> None:
        kind, call_id = header[5], header[2]
        if kind == frames.REPLY:
            reply = frames.decode_reply(header[4], meta)
            del self._in_flight[call_id]
            events.append(ReplyReceived(call_id, reply, payload))
        elif kind == frames.ERROR:
            error = frames.decode_error(meta)
            if call_id == 0:
                self.close()
                events.append(ConnectionEnded(from_reply(error)))
            else:
                del self._in_flight[call_id]
                events.append(ErrorReceived(call_id, error))
        elif kind == frames.GOODBYE:
            events.append(GoodbyeReceived())
        else:
            welcome = handshake.read_answer(kind, meta)
            self.state = State.OPEN
            events.append(WelcomeReceived(welcome))
