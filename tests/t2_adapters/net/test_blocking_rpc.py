"""The blocking client and its channel, against both servers, over real sockets."""

import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from isotach.base.errors import (
    AlreadyRunningError,
    DeadlineExceededError,
    InvalidArgumentError,
    IsotachError,
    ProtocolError,
    UnavailableError,
)
from isotach.net.address import Address
from isotach.net.blocking_channel import BlockingChannel
from isotach.net.blocking_client import BlockingConnection
from isotach.net.retry import RetryPolicy
from isotach.net.sockets import listen_on
from isotach.wire.messages import (
    FREE,
    LIST,
    OPEN,
    READ,
    REMOVE,
    RESOLVE_ID,
    STAT,
    UNMOUNT,
    WORKERS,
    WRITE,
    CountReply,
    Empty,
    ListRequest,
    OpenRequest,
    PathReply,
    PathRequest,
    ReadReply,
    ReadRequest,
    RemoveRequest,
    ResolveIdRequest,
    StatRequest,
    WriteRequest,
)

pytestmark = pytest.mark.usefixtures("no_leaks")

QUICK = RetryPolicy(base_s=0.01, max_s=0.05, total_s=5.0, first_connect_s=0.2)


@pytest.mark.parametrize("which", [0, 1], ids=["unix", "tcp"])
def test_calls_to_the_asynchronous_server(service, which):
    with BlockingConnection.open(service.addresses[which], user="ann") as connection:
        assert connection.welcome.role == "master"
        assert connection.call(RESOLVE_ID, ResolveIdRequest(5)) == (PathReply(b"/5"), b"")
        for size in (2, 60_000, 3_000_000):
            assert connection.call(LIST, ListRequest(b"/", limit=size))[1] == b"ab" * (size // 2)
        many = [bytes([number % 256]) * 3 for number in range(2000)]  # more buffers than one system call takes
        for payload in (b"x", os.urandom(5_000_000), [b"a", memoryview(b"bc"), bytearray(300_000)], many):
            _, back = connection.call(WRITE, WriteRequest(1, 0), payload)
            assert back == (b"".join(payload) if isinstance(payload, list) else payload)
        with pytest.raises(FileNotFoundError):
            connection.call(STAT, StatRequest(b"/x"))
        assert connection.call(REMOVE, RemoveRequest(b"/"))[0] == CountReply(1), "an error leaves the connection good"


@pytest.mark.parametrize("which", ["unix", "tcp"])
def test_bulk_data(data, which):
    with BlockingConnection.open(getattr(data, which)) as connection:
        view = memoryview(bytearray(len(data.content)))
        reply, size = connection.call_into(READ, ReadRequest(1, 0, len(view)), view)
        assert (reply, size, bytes(view)) == (ReadReply(len(view)), len(view), data.content)
        reply, size = connection.call_into(READ, ReadRequest(1, len(view) - 10, 100), view)
        assert (reply, bytes(view[:size])) == (ReadReply(10), data.content[-10:])
        assert connection.call(FREE, PathRequest(b"/")) == (CountReply(1), data.content[:3000])

        with pytest.raises(OSError, match="no space"):
            connection.call(WRITE, WriteRequest(1, 1), b"refused" * 1000)
        connection.call(WRITE, WriteRequest(1, 0), [data.content[:5000], data.content[5000:]])
        assert data.written == data.content
        with pytest.raises(FileNotFoundError):
            connection.call(STAT, StatRequest(b"/x"))
        with pytest.raises(InvalidArgumentError, match="workers"):
            connection.call(WORKERS, Empty())
        with pytest.raises(IsotachError, match="gave no answer"):
            connection.call(REMOVE, RemoveRequest(b"/"))
        assert connection.call(RESOLVE_ID, ResolveIdRequest(1))[0] == PathReply(b"/1")
        with pytest.raises(ProtocolError, match="at most 10"):
            connection.call_into(READ, ReadRequest(1, 0, 11), view[:10])
        assert not connection.is_usable


def test_a_pipeline_keeps_its_order(data):
    with BlockingConnection.open(data.unix) as connection:
        part = memoryview(bytearray(70_000))
        waiting = [connection.send(READ, ReadRequest(1, place * 1000, 70_000)) for place in range(3)]
        for place, call_id in enumerate(waiting):
            reply, size = connection.receive_header(call_id)
            assert (reply, size) == (ReadReply(70_000), 70_000)
            if place == 0:
                waiting.append(connection.send(STAT, StatRequest(b"/x")))
                waiting.append(connection.send(RESOLVE_ID, ResolveIdRequest(9)))
                with pytest.raises(InvalidArgumentError, match="take the payload"):
                    connection.receive_header(waiting[1])
                with pytest.raises(InvalidArgumentError, match="outstanding"):
                    connection.call(RESOLVE_ID, ResolveIdRequest(9))
            taken = b""
            while count := connection.receive_payload_into(part[: 1 + len(taken)]):
                taken += part[:count]
            assert taken == data.content[place * 1000 : place * 1000 + 70_000]
            if place == 2:
                break
        with pytest.raises(InvalidArgumentError, match="oldest"):
            connection.receive_header(waiting[4])
        with pytest.raises(FileNotFoundError):
            connection.receive_header(waiting[3])
        assert connection.receive_header(waiting[4]) == (PathReply(b"/9"), 0)
        assert connection.is_idle


def test_descriptors_pass_over_unix_sockets_only(data):
    with BlockingConnection.open(data.unix) as connection:
        for _ in range(3):
            reply, _, fd = connection.call_with_fd(OPEN, OpenRequest(b""))
            assert reply.has_fd
            assert not os.get_inheritable(fd)
            assert os.pread(fd, 100, 0) == data.content[:100]
            os.close(fd)
        assert connection.call_with_fd(RESOLVE_ID, ResolveIdRequest(2)) == (PathReply(b"/2"), b"", None)
        connection.call(OPEN, OpenRequest(b""))  # nobody asked for the descriptor: the kernel drops it
        assert data.opened[0].pid == os.getpid()
    with BlockingConnection.open(data.tcp, user="ann") as connection:
        with pytest.raises(InvalidArgumentError, match="Unix sockets only"):
            connection.call_with_fd(OPEN, OpenRequest(b""))
        with pytest.raises(InvalidArgumentError, match="Unix sockets only"):
            connection.call(OPEN, OpenRequest(b""))
        assert connection.call(RESOLVE_ID, ResolveIdRequest(2))[0] == PathReply(b"/2")


@pytest.mark.parametrize("path", [b"/dies", b"/short"])
def test_an_answer_that_breaks_off_is_a_broken_connection(data, path, eventually):
    connection = BlockingConnection.open(data.unix)
    with pytest.raises(UnavailableError, match="in the middle"):
        connection.call(FREE, PathRequest(path))
    assert not connection.is_usable
    with pytest.raises(UnavailableError, match="connect again"):
        connection.call(RESOLVE_ID, ResolveIdRequest(1))
    eventually(lambda: len(data.closed) == 1, message="the handles of the connection are dropped")


def test_a_late_answer_closes_the_connection(service):
    connection = BlockingConnection.open(service.addresses[0])
    with pytest.raises(DeadlineExceededError):
        connection.call(UNMOUNT, PathRequest(b"/slow"), deadline_s=0.05)
    assert not connection.is_usable
    connection.close()


def test_a_slow_trickle_does_not_stretch_the_deadline():
    listener = listen_on(Address.tcp("127.0.0.1", 0))
    stop = threading.Event()

    def trickle() -> None:
        with listener.sock.accept()[0] as sock:
            while not stop.wait(0.02):
                try:
                    sock.send(b"\x01")
                except OSError:
                    return

    thread = threading.Thread(target=trickle)
    thread.start()
    with pytest.raises(UnavailableError, match="did not answer"):
        BlockingConnection.open(listener.address, timeout_s=0.2)
    stop.set()
    thread.join()
    listener.close()


def test_a_server_that_closes_at_once_is_told():
    listener = listen_on(Address.tcp("127.0.0.1", 0))

    def accept_and_close() -> None:
        listener.sock.accept()[0].close()

    thread = threading.Thread(target=accept_and_close)
    thread.start()
    with pytest.raises(UnavailableError):
        BlockingConnection.open(listener.address)
    thread.join()
    listener.close()


def test_threads_share_a_bounded_channel(service):
    channel = BlockingChannel(service.addresses[0], connections_max=3)
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda n: channel.call(RESOLVE_ID, ResolveIdRequest(n))[0].path, range(400)))
    assert replies == [b"/%d" % number for number in range(400)]
    assert service.connection_count() <= 3

    leases = [channel.lease() for _ in range(3)]
    with pytest.raises(DeadlineExceededError, match="all 3 connections"):
        channel.call(RESOLVE_ID, ResolveIdRequest(1), deadline_s=0.05)
    for leased in leases:
        channel.give_back(leased)
    with channel.connection() as leased:
        assert leased.call(RESOLVE_ID, ResolveIdRequest(1))[0] == PathReply(b"/1")
    channel.close()
    with pytest.raises(IsotachError, match="closed"):
        channel.call(RESOLVE_ID, ResolveIdRequest(1))


def test_a_channel_outlives_its_server(start_service, tmp_path):
    address = Address.unix(tmp_path / "s")
    channel = BlockingChannel([Address.unix(tmp_path / "none"), address], policy=QUICK)
    with pytest.raises(UnavailableError, match="isotach start"):
        channel.call(RESOLVE_ID, ResolveIdRequest(1))
    for number in range(3):
        service = start_service([address])
        with pytest.raises(AlreadyRunningError):
            start_service([address])
        assert channel.call(REMOVE, RemoveRequest(b"/"))[0] == CountReply(1), "a lost idle connection is noticed"
        assert channel.call(RESOLVE_ID, ResolveIdRequest(number))[0] == PathReply(b"/%d" % number)
        service.stop()
    channel.close()


def test_what_is_not_safe_is_not_sent_again(data):
    channel = BlockingChannel(data.tcp, policy=QUICK)
    view = memoryview(bytearray(10))
    assert channel.call_into(READ, ReadRequest(1, 0, 10), view)[1] == 10
    taken = threading.Event()
    listener = listen_on(Address.tcp("127.0.0.1", 0))

    def answer_hello_only() -> None:
        real = socket.create_connection((data.tcp.host, data.tcp.port))
        with listener.sock.accept()[0] as sock, real:
            real.sendall(sock.recv(4096))
            sock.sendall(real.recv(4096))
            assert sock.recv(4096)  # the call itself
            taken.set()

    thread = threading.Thread(target=answer_hello_only)
    thread.start()
    broken = BlockingChannel(listener.address, policy=QUICK)
    with pytest.raises(UnavailableError, match="closed by the server"):
        broken.call(WRITE, WriteRequest(1, 0), b"x")
    assert taken.is_set()
    thread.join()
    listener.close()
    broken.close()
    channel.close()


def test_a_forked_child_leaves_its_parents_connections_alone(service):
    channel = BlockingChannel(service.addresses[0], policy=QUICK)
    assert channel.call(RESOLVE_ID, ResolveIdRequest(1))[0] == PathReply(b"/1")
    leased = channel.lease()
    assert channel.call(RESOLVE_ID, ResolveIdRequest(1))[0] == PathReply(b"/1")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for number in range(50):
                assert channel.call(RESOLVE_ID, ResolveIdRequest(number))[0] == PathReply(b"/%d" % number)
            with pytest.raises(UnavailableError, match="forked"):
                leased.call(RESOLVE_ID, ResolveIdRequest(1))
            channel.give_back(leased)
            channel.close()
            code = 0
        finally:
            os._exit(code)
    signal_after = threading.Timer(20, lambda: os.kill(child, signal.SIGKILL))
    signal_after.start()
    for number in range(50):
        assert channel.call(RESOLVE_ID, ResolveIdRequest(number))[0] == PathReply(b"/%d" % number)
        assert leased.call(RESOLVE_ID, ResolveIdRequest(number))[0] == PathReply(b"/%d" % number)
    assert os.waitpid(child, 0)[1] == 0
    signal_after.cancel()
    signal_after.join()
    assert leased.call(RESOLVE_ID, ResolveIdRequest(7))[0] == PathReply(b"/7")
    channel.give_back(leased)
    channel.close()


def test_closing_the_threaded_server_breaks_waiting_clients(data, eventually):
    idle = BlockingConnection.open(data.unix)
    results: list[BaseException] = []
    half = BlockingConnection.open(data.tcp)
    half._socket.sock.sendall(b"\x00" * 10)  # the server waits for the rest

    eventually(lambda: data.server.connection_count == 2)
    data.server.close()
    for connection in (idle, half):
        try:
            connection.call(RESOLVE_ID, ResolveIdRequest(1))
        except UnavailableError as problem:
            results.append(problem)
        connection.close()
    assert len(results) == 2
    assert len(data.closed) == 2
    assert data.server.connection_count == 0
    assert not os.path.exists(data.unix.path)


def test_a_full_threaded_server_says_so(data, eventually):
    open_ones = [BlockingConnection.open(data.unix) for _ in range(4)]
    with pytest.raises(UnavailableError, match="all its 4 connections"):
        BlockingConnection.open(data.unix)
    for connection in open_ones:
        connection.close()
    eventually(lambda: data.server.connection_count == 0)
    BlockingConnection.open(data.tcp).close()
