"""Servers for the tests of the network layer: one asynchronous, in a thread of its own, and one threaded."""

import asyncio
import errno
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from isotach.net.address import Address, host_key
from isotach.net.dispatch import Dispatcher, Reply
from isotach.net.peer import Peer
from isotach.net.server import RpcServer
from isotach.net.thread_server import ThreadRpcServer
from isotach.run.loop import run_loop
from isotach.wire.messages import (
    CLOSE_HANDLE,
    FREE,
    LIST,
    MKDIR,
    OPEN,
    PERSIST,
    READ,
    REMOVE,
    RESOLVE_ID,
    STAT,
    UNMOUNT,
    WRITE,
    CountReply,
    Empty,
    ListReply,
    OpenReply,
    PathReply,
    ReadReply,
    Welcome,
)

WELCOME = Welcome(1, "master", "test", host_key())


class AsyncService:
    """An `RpcServer` in a thread of its own, with handlers of every shape, and what happened to them."""

    def __init__(self, addresses: list[Address | str], **options: int) -> None:
        self.addresses: list[Address] = []
        self.batches = 0
        self.peers: list[Peer] = []
        self.started: list[str] = []
        self.cancelled: list[str] = []
        self.finished: list[str] = []
        self.release = threading.Event()  # lets `hold` calls go
        self._wanted = addresses
        self._options = options
        self._ready = threading.Event()
        self._stop: asyncio.Event
        self._loop: asyncio.AbstractEventLoop
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name="service", daemon=True)
        self._thread.start()
        self._ready.wait(10)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        self.release.set()
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)

    def connection_count(self) -> int:
        return len(self.server.connections)

    def _main(self) -> None:
        run_loop(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self.server = RpcServer(self._dispatcher(), lambda: WELCOME, **self._options)
        try:
            for address in self._wanted:
                self.addresses.append(await self.server.listen(address))
        except BaseException as problem:
            self._failure = problem
            await self.server.close(0.0)
            return
        finally:
            self._ready.set()
        await self._stop.wait()
        await self.server.close(0.2)

    def _dispatcher(self) -> Dispatcher:
        dispatcher = Dispatcher(before_batch=self._count_batch)
        dispatcher.add(RESOLVE_ID, lambda request, peer: PathReply(b"/%d" % request.id))
        dispatcher.add(MKDIR, lambda request, peer: PathReply(b"/"))  # not the reply that the method says
        dispatcher.add(REMOVE, self._remove)
        dispatcher.add(LIST, lambda request, peer: Reply(ListReply(False), [b"ab" * (request.limit // 2)]))
        dispatcher.add(STAT, self._stat)
        dispatcher.add(WRITE, self._write, takes_payload=True)
        dispatcher.add(FREE, self._wait)
        dispatcher.add(UNMOUNT, self._wait, detach=True)
        dispatcher.add(PERSIST, self._future, detach=True)
        return dispatcher

    def _count_batch(self) -> None:
        self.batches += 1

    def _remove(self, request, peer):
        self.peers.append(peer)
        return CountReply(1)

    def _stat(self, request, peer):
        if request.path == b"/bug":
            raise ZeroDivisionError("a bug")
        raise FileNotFoundError(errno.ENOENT, "there is no such path", os.fsdecode(request.path))

    def _write(self, request, peer, payload):
        return Reply(Empty(), payload)

    async def _wait(self, request, peer):
        name = os.fsdecode(request.path)
        self.started.append(name)
        try:
            while not self.release.is_set():  # noqa: ASYNC110  (set from another thread)
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        self.finished.append(name)
        return CountReply(7) if request.path.startswith(b"/count") else Empty()

    def _future(self, request, peer):
        """As the master's writer answers: from another thread, without a task."""
        future = self._loop.create_future()
        if request.path == b"/fail":
            answer = lambda: future.set_exception(IsADirectoryError(errno.EISDIR, "no"))  # noqa: E731
        else:
            answer = lambda: future.set_result(CountReply(3))  # noqa: E731
        threading.Thread(target=lambda: self._loop.call_soon_threadsafe(answer)).start()
        return future


@pytest.fixture
def service(tmp_path: Path) -> Iterator[AsyncService]:
    """On a Unix socket (first) and TCP (second)."""
    running = AsyncService([Address.unix(tmp_path / "s"), "isotach://127.0.0.1:0"])
    yield running
    running.stop()


@pytest.fixture
def start_service() -> Iterator[object]:
    """`start_service(addresses, **options)`; stopped with the test."""
    started: list[AsyncService] = []

    def start(addresses: list[Address | str], **options: int) -> AsyncService:
        started.append(AsyncService(addresses, **options))
        return started[-1]

    yield start
    for running in started:
        running.stop()


class DataService:
    """A `ThreadRpcServer` over one file, with an answer of every kind."""

    def __init__(self, folder: Path) -> None:
        self.content = bytes(range(256)) * 4096  # 1 MiB
        self.path = folder / "content"
        self.path.write_bytes(self.content)
        self.fd = os.open(self.path, os.O_RDONLY)
        self.written = bytearray()
        self.opened: list[object] = []
        self.closed: list[object] = []
        self.server = ThreadRpcServer(
            {
                RESOLVE_ID: lambda call: call.reply(PathReply(b"/%d" % call.request.id)),
                READ: self._read,
                OPEN: lambda call: call.reply_with_fd(OpenReply(0, True, True, len(self.content)), self.fd),
                WRITE: self._write,
                STAT: self._stat,
                REMOVE: lambda call: None,  # forgets to answer
                FREE: self._stream,
                CLOSE_HANDLE: lambda call: call.reply(Empty()),
            },
            lambda: WELCOME,
            on_connection=self._opened,
            on_close=lambda connection: self.closed.append(connection.state),
            connections_max=4,
        )
        self.unix = self.server.listen(Address.unix(folder / "d"))
        self.tcp = self.server.listen("isotach://127.0.0.1:0")

    def stop(self) -> None:
        self.server.close()
        os.close(self.fd)

    def _opened(self, connection) -> object:
        self.opened.append(connection.peer)
        return object()

    def _read(self, call):
        request = call.request
        length = max(0, min(request.length, len(self.content) - request.offset))
        call.reply_file(ReadReply(length), self.fd, request.offset, length)

    def _write(self, call):
        if call.request.offset == 1:
            raise OSError(errno.ENOSPC, "no space")  # without taking the payload
        part = memoryview(bytearray(1000))
        while size := call.receive_payload_into(part):
            self.written += part[:size]
        call.reply(Empty())

    def _stat(self, call):
        raise FileNotFoundError(errno.ENOENT, "there is no such path", os.fsdecode(call.request.path))

    def _stream(self, call):
        stream = call.reply_stream(CountReply(1), 3000)
        stream.send(self.content[:1000])
        if call.request.path == b"/dies":
            raise OSError(errno.EIO, "the source failed")
        if call.request.path == b"/short":
            return
        stream.send_file(self.fd, 1000, 2000)


@pytest.fixture
def data(tmp_path: Path) -> Iterator[DataService]:
    running = DataService(tmp_path)
    yield running
    running.stop()


@pytest.fixture
def raw_connect():
    """`raw_connect(address)`: a socket with a time-out, for talking as no client of ours would."""
    opened: list[socket.socket] = []

    def connect(address: Address) -> socket.socket:
        if address.is_unix:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.connect(address.path)
        else:
            sock = socket.create_connection((address.host, address.port))
        sock.settimeout(10)
        opened.append(sock)
        return sock

    yield connect
    for sock in opened:
        sock.close()
