"""The session machines, with no socket: any cut of the stream gives the same events, any bytes only a ProtocolError."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isotach.base.errors import ErrorReply, InvalidArgumentError, ProtocolError, UnavailableError
from isotach.base.limits import INLINE_PAYLOAD_BYTES_MAX, META_BYTES_MAX
from isotach.wire import frames, handshake
from isotach.wire.messages import (
    LIST,
    RESOLVE_ID,
    STAT,
    WRITE,
    Empty,
    Hello,
    ListReply,
    PathReply,
    ResolveIdRequest,
    StatRequest,
    Welcome,
    WriteRequest,
)
from isotach.wire.session import (
    Cancelled,
    ClientSession,
    ConnectionEnded,
    ErrorReceived,
    GoodbyeReceived,
    HelloReceived,
    ReplyReceived,
    RequestReceived,
    ServerSession,
    State,
    UnknownMethodReceived,
    WelcomeReceived,
)

HELLO = Hello(1, 1, "ann", "test", 42)
WELCOME = Welcome(1, "master", "id", "key")


def request(call_id: int, method=RESOLVE_ID, message=None, payload: bytes = b"") -> bytes:
    """A request frame with its payload."""
    message = ResolveIdRequest(call_id) if message is None else message
    frame = frames.encode_frame(
        frames.REQUEST, message, method=method.number, call_id=call_id, deadline_ms=5, payload_bytes=len(payload)
    )
    return frame + payload


def open_server(**bounds: int) -> ServerSession:
    """A server's session after the handshake."""
    session = ServerSession(**bounds)
    session.receive_data(handshake.opening_bytes(HELLO))
    session.send_welcome(WELCOME)
    return session


def open_client(**bounds: int) -> ClientSession:
    """A client's session after the handshake."""
    session = ClientSession(**bounds)
    session.receive_data(frames.encode_frame(frames.WELCOME, WELCOME))
    return session


def plain(events):
    """Events with payloads as bytes and errors as their words, fit to be compared."""
    rows = []
    for event in events:
        if isinstance(event, RequestReceived):
            rows.append((event.call_id, event.method.name, event.request, bytes(event.payload)))
        elif isinstance(event, ReplyReceived):
            rows.append((event.call_id, event.reply, bytes(event.payload)))
        elif isinstance(event, ConnectionEnded):
            rows.append((type(event.error), str(event.error)))
        else:
            rows.append(event)
    return rows


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    """The stream cut at these places."""
    places = sorted({cut % (len(stream) + 1) for cut in cuts} | {0, len(stream)})
    return [stream[start:end] for start, end in itertools.pairwise(places)]


def test_both_sides_agree_on_a_whole_conversation():
    server, client = ServerSession(), ClientSession()

    (hello,) = server.receive_data(client.send_opening(HELLO))
    assert hello == HelloReceived(HELLO, 1)
    assert client.receive_data(server.send_welcome(WELCOME)) == [WelcomeReceived(WELCOME)]

    call_id, frame = client.send_request(WRITE, WriteRequest(1, 2), 3, 1000)
    (call,) = server.receive_data(frame + b"abc")
    assert (call.call_id, call.method, call.deadline_ms) == (call_id, WRITE, 1000)
    assert (call.request, bytes(call.payload)) == (WriteRequest(1, 2), b"abc")
    assert server.receive_data(client.send_cancel(call_id)) == [Cancelled(call_id)]
    assert server.calls_in_flight == client.calls_in_flight == 1

    (reply,) = client.receive_data(server.send_reply(call_id, WRITE.number, Empty(), 2) + b"xy")
    assert (reply.call_id, reply.reply, bytes(reply.payload)) == (call_id, Empty(), b"xy")
    assert server.calls_in_flight == client.calls_in_flight == 0
    assert server.receive_data(client.send_cancel(call_id)) == [], "a CANCEL that crossed with the answer is no event"

    call_id, frame = client.send_request(STAT, StatRequest(b"/x"))
    server.receive_data(frame)
    (error,) = client.receive_data(server.send_error(call_id, STAT.number, FileNotFoundError(2, "gone", "/x")))
    assert error == ErrorReceived(call_id, ErrorReply("not_found", 2, "gone", b"/x"))
    assert client.receive_data(server.send_goodbye()) == [GoodbyeReceived()]
    assert server.receive_data(client.send_goodbye()) == [GoodbyeReceived()]


big = st.integers(0, 3 * INLINE_PAYLOAD_BYTES_MAX).map(lambda size: bytes(range(256)) * (size // 256) + b"z")
small = st.binary(max_size=50)


@settings(max_examples=60, deadline=None)
@given(st.lists(small | big, max_size=6), st.lists(st.integers(0, 10**7), max_size=30), st.booleans())
def test_any_cut_of_the_clients_stream_gives_the_same_events(payloads, cuts, is_broken):
    stream = handshake.opening_bytes(HELLO)
    for call_id, payload in enumerate(payloads, 1):
        stream += request(call_id, payload=payload)
    if is_broken:
        stream += b"\xff" * 24 + b"rest"

    def run(parts: list[bytes]):
        session, events = ServerSession(), []
        for part in parts:
            if session.state is State.GREETING:
                session.send_welcome(WELCOME)
            events += session.receive_data(part)
        return plain(events)

    opening, rest = stream[: len(handshake.opening_bytes(HELLO))], stream[len(handshake.opening_bytes(HELLO)) :]
    whole = run([opening, rest])

    assert run(pieces(opening, cuts) + pieces(rest, cuts)) == whole
    assert len(whole) == 1 + len(payloads) + is_broken


@settings(max_examples=40, deadline=None)
@given(st.lists(small | big, min_size=1, max_size=6), st.lists(st.integers(0, 10**7), max_size=30))
def test_any_cut_of_the_servers_stream_gives_the_same_events(payloads, cuts):
    stream = b"".join(
        frames.encode_frame(frames.REPLY, ListReply(False), method=LIST.number, call_id=number, payload_bytes=len(data))
        + data
        for number, data in enumerate(payloads, 1)
    )

    def run(parts: list[bytes]):
        session = open_client()
        for _ in payloads:
            session.send_request(LIST, Empty())
        return plain([event for part in parts for event in session.receive_data(part)])

    assert run(pieces(stream, cuts)) == run([stream])
    assert [row[2] for row in run([stream])] == payloads


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=80), max_size=8), st.booleans(), st.booleans())
def test_random_bytes_only_ever_end_the_connection(parts, is_server, is_open):
    if is_server:
        session = open_server() if is_open else ServerSession()
    else:
        session = open_client() if is_open else ClientSession()
    events = [event for part in parts for event in session.receive_data(part)]

    for event in events:
        if isinstance(event, ConnectionEnded):
            assert isinstance(event.error, ProtocolError)
            assert event is events[-1]
            assert session.state is State.CLOSED


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 200), st.integers(0, 255), st.lists(st.integers(0, 200), max_size=4))
def test_one_changed_byte_never_raises(place, value, cuts):
    stream = bytearray(request(1) + request(2, STAT, StatRequest(b"/abc")) + request(3, payload=b"p" * 20))
    stream[place % len(stream)] = value
    session = open_server()

    for part in pieces(bytes(stream), cuts):
        for event in session.receive_data(part):
            allowed = (RequestReceived, UnknownMethodReceived, Cancelled, GoodbyeReceived, ConnectionEnded)
            assert isinstance(event, allowed)


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "protocol of Isotach"),
        (frames.MAGIC + request(1), "HELLO"),
        (handshake.opening_bytes(HELLO) + request(1), "wait for the welcome"),
        (handshake.opening_bytes(Hello(7, 9, "ann", "test", 1)), "7 to 9, this server 1 to 1"),
    ],
)
def test_a_bad_opening_is_refused_in_words(stream, words):
    last = ServerSession().receive_data(stream)[-1]

    assert isinstance(last, ConnectionEnded)
    assert words in str(last.error)


def test_a_server_refuses_what_its_bounds_do_not_allow():
    too_many = open_server(calls_in_flight_max=2).receive_data(request(1) + request(2) + request(3))
    twice = open_server().receive_data(request(1) + request(1))
    no_payloads = open_server(payload_bytes_max=0).receive_data(request(1, payload=b"x"))
    reply = open_server().receive_data(frames.encode_frame(frames.REPLY, Empty(), method=1, call_id=1))
    loaded = open_server().receive_data(frames.encode_frame(frames.CANCEL, Empty(), call_id=1))

    assert "more than 2 calls" in str(too_many[-1].error)
    assert len(too_many) == 3, "what came before the violation is not lost"
    assert "in use" in str(twice[-1].error)
    assert "over the limit of 0" in str(no_payloads[-1].error)
    assert "kind 4" in str(reply[-1].error)
    assert "nothing" in str(loaded[-1].error)


def test_an_unknown_method_is_answered_and_the_connection_goes_on():
    server = open_server()
    frame = frames.encode_frame(frames.REQUEST, Empty(), method=999, call_id=4)

    assert server.receive_data(frame) == [UnknownMethodReceived(4, 999)]
    server.send_error(4, 999, InvalidArgumentError("no"))
    assert len(server.receive_data(request(4))) == 1


def test_a_client_refuses_answers_it_did_not_ask_for():
    stray = open_client().receive_data(frames.encode_frame(frames.REPLY, PathReply(b"/"), method=7, call_id=1))
    client = open_client()
    client.send_request(STAT, StatRequest(b"/"))
    other = client.receive_data(frames.encode_frame(frames.REPLY, PathReply(b"/"), method=7, call_id=1))
    early = ClientSession().receive_data(frames.encode_frame(frames.GOODBYE, None))

    assert "not made" in str(stray[-1].error)
    assert "another method" in str(other[-1].error)
    assert isinstance(early[-1].error, ProtocolError)


def test_a_refusal_reaches_the_client_as_the_servers_error():
    for session in (ClientSession(), open_client()):
        (event,) = session.receive_data(handshake.refusal_bytes(UnavailableError("full")))
        assert isinstance(event, ConnectionEnded)
        assert isinstance(event.error, UnavailableError)
        assert session.state is State.CLOSED
        assert session.receive_data(b"more") == []


def test_call_ids_wrap_round_those_in_flight():
    client = open_client()
    first, _ = client.send_request(RESOLVE_ID, ResolveIdRequest(1))
    client._last_call_id = 2**32 - 2
    last, _ = client.send_request(RESOLVE_ID, ResolveIdRequest(1))
    wrapped, _ = client.send_request(RESOLVE_ID, ResolveIdRequest(1))

    assert (first, last, wrapped) == (1, 2**32 - 1, 2)


def test_a_client_knows_when_it_is_full():
    client = open_client(calls_in_flight_max=1)
    call_id, _ = client.send_request(RESOLVE_ID, ResolveIdRequest(1))
    assert client.is_full
    client.receive_data(frames.encode_frame(frames.REPLY, PathReply(b"/"), method=RESOLVE_ID.number, call_id=call_id))
    assert not client.is_full


def test_a_reply_over_the_bounds_leaves_the_call_to_be_answered():
    server = open_server()
    server.receive_data(request(1))
    with pytest.raises(InvalidArgumentError):
        server.send_reply(1, RESOLVE_ID.number, PathReply(b"x" * (META_BYTES_MAX + 1)))
    assert server.calls_in_flight == 1
    server.send_error(1, RESOLVE_ID.number, InvalidArgumentError("too large"))
    assert server.calls_in_flight == 0


def test_a_version_that_the_client_does_not_know_is_refused():
    with pytest.raises(ProtocolError, match="upgrade"):
        handshake.read_answer(frames.WELCOME, frames.encode_message(Welcome(9, "master", "id", "key")))
    with pytest.raises(ProtocolError):
        handshake.read_answer(frames.REPLY, b"")
