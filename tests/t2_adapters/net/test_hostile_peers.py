"""What bad clients send: each one loses its own connection, with words, and nobody else notices."""

import pytest

from isotach.base.errors import ErrorReply
from isotach.base.limits import META_BYTES_MAX, PAYLOAD_BYTES_MAX
from isotach.net.blocking_client import BlockingConnection
from isotach.wire import frames, handshake
from isotach.wire.messages import RESOLVE_ID, STAT, Empty, Hello, PathReply, ResolveIdRequest

pytestmark = pytest.mark.usefixtures("no_leaks")

HELLO = handshake.opening_bytes(Hello(1, 1, "ann", "test", 1))


def header(meta=0, payload=0, call_id=1, method=STAT.number, kind=frames.REQUEST) -> bytes:
    """A header alone."""
    return frames.pack_header(meta, payload, call_id, 0, method, kind, 0, 0)


def receive_all(sock) -> bytes:
    """Everything until the server closes."""
    received = b""
    while part := sock.recv(65536):
        received += part
    return received


def last_error(received: bytes) -> ErrorReply:
    """The ERROR frame at the end of what the server sent."""
    position = 0
    while True:
        head = frames.read_header(received, position)
        end = position + 24 + head[0]
        if end == len(received):
            assert head[5] == frames.ERROR
            assert head[2] == 0, "it is about the connection"
            return frames.decode_error(received[position + 24 : end])
        position = end


STREAMS = {
    "http": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "protocol of Isotach"),
    "no hello": (frames.MAGIC + header(), "HELLO"),
    "huge hello": (frames.MAGIC + header(META_BYTES_MAX, kind=frames.HELLO), "HELLO"),
    "malformed hello": (frames.MAGIC + header(1, kind=frames.HELLO) + b"\xc1", "malformed"),
    "old client": (handshake.opening_bytes(Hello(0, 0, "ann", "test", 1)), "0 to 0, this server 1 to 1"),
    "oversize message": (HELLO + header(META_BYTES_MAX + 1), "over the limit"),
    "oversize payload": (HELLO + header(0, PAYLOAD_BYTES_MAX + 1), "over the limit"),
    "unknown kind": (HELLO + header(kind=99), "unknown kind 99"),
    "a reply": (HELLO + header(kind=frames.REPLY), "kind 4"),
    "malformed request": (HELLO + header(3) + b"abc", "stat is malformed"),
}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("kind", ["asynchronous", "threaded"])
@pytest.mark.parametrize("which", ["unix", "tcp"])
def test_violations_end_only_their_own_connection(service, data, raw_connect, name, kind, which):
    if kind == "asynchronous":
        address = service.addresses[which == "tcp"]
    else:
        address = getattr(data, which)
    stream, words = STREAMS[name]
    with BlockingConnection.open(address) as good:
        bad = raw_connect(address)
        if stream.startswith(HELLO):  # a client waits for its welcome
            bad.sendall(HELLO)
            welcome = bad.recv(65536)
            bad.sendall(stream[len(HELLO) :])
        else:
            welcome = b""
            bad.sendall(stream)
        error = last_error(welcome + receive_all(bad))

        assert error.code == "protocol"
        assert words in error.message
        assert good.call(RESOLVE_ID, ResolveIdRequest(3))[0] == PathReply(b"/3")


@pytest.mark.parametrize("kind", ["asynchronous", "threaded"])
@pytest.mark.parametrize("length", [0, 3, 8, 20, len(HELLO), len(HELLO) + 5, len(HELLO) + 30])
def test_truncated_streams_are_forgotten(service, data, raw_connect, kind, length, eventually):
    address = service.addresses[1] if kind == "asynchronous" else data.tcp
    stream = HELLO + header(100, call_id=1) + b"x" * 50
    bad = raw_connect(address)
    bad.sendall(stream[:length])
    bad.close()

    count = service.connection_count if kind == "asynchronous" else lambda: data.server.connection_count
    eventually(lambda: count() == 0)


def test_calling_before_the_welcome_is_refused(service, raw_connect):
    bad = raw_connect(service.addresses[0])
    bad.sendall(HELLO + frames.encode_frame(frames.REQUEST, ResolveIdRequest(1), method=RESOLVE_ID.number, call_id=1))

    assert "wait for the welcome" in last_error(receive_all(bad)).message


def test_a_method_that_this_version_does_not_know_leaves_the_connection_good(service, data, raw_connect):
    for address in (service.addresses[0], data.unix):
        sock = raw_connect(address)
        sock.sendall(HELLO)
        assert sock.recv(65536)
        for number in (1, 2):
            sock.sendall(frames.encode_frame(frames.REQUEST, Empty(), method=999, call_id=number))
            received = sock.recv(65536)
            head = frames.read_header(received)
            assert (head[2], head[5]) == (number, frames.ERROR)
            assert frames.decode_error(received[24:]).code == "invalid_argument"
        sock.close()
