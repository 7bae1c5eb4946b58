"""A real master in this process: LMDB, sockets, a local folder as the root under storage."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from isotach.conf.load import load_settings
from isotach.master.clock import Clock
from isotach.master.server import Master
from isotach.net.async_client import AsyncConnection
from isotach.wire import messages as wire


class Client:
    """One connection to the master under test, with the calls that tests make all the time."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection

    async def call(self, method, request):
        reply, _ = await self.connection.call(method, request)
        return reply

    async def stat(self, path: bytes, access: int = 0, interval_ms: int | None = None) -> wire.StatReply:
        return await self.call(wire.STAT, wire.StatRequest(path, access, interval_ms))

    async def exists(self, path: bytes) -> bool:
        try:
            await self.stat(path)
        except FileNotFoundError:
            return False
        return True

    async def list(self, path: bytes, interval_ms: int | None = None) -> list[bytes]:
        _, payload = await self.connection.call(wire.LIST, wire.ListRequest(path, sync_interval_ms=interval_ms))
        return [entry.name for entry in msgspec.msgpack.decode(payload, type=list[wire.ListEntry])]

    async def mkdir(self, path: bytes, **fields) -> None:
        await self.call(wire.MKDIR, wire.MkdirRequest(path, **fields))

    async def create(self, path: bytes, write_type: str = "MUST_CACHE", **fields) -> wire.CreateReply:
        return await self.call(wire.CREATE, wire.CreateRequest(path, write_type, **fields))

    async def write(self, path: bytes, length: int = 0, write_type: str = "MUST_CACHE", **fields):
        """create and complete, as a client does for an empty file (or a worker that holds `length` bytes)."""
        created = await self.create(path, write_type)
        return (await self.call(wire.COMPLETE, wire.CompleteRequest(created.grant, length, **fields))).inode

    async def rename(self, src: bytes, dst: bytes, replace: bool = True) -> None:
        await self.call(wire.RENAME, wire.RenameRequest(src, dst, replace))

    async def remove(self, path: bytes, recursive: bool = False) -> None:
        await self.call(wire.REMOVE, wire.RemoveRequest(path, recursive))


class Home:
    """The folder of one master, over any number of its lives."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = path / "underFSStorage"

    @asynccontextmanager
    async def master(self, clock: Clock | None = None, **overrides) -> AsyncIterator[Master]:
        given = {"dir": self.path, "master.port": 0, "master.web_port": -1, "master.readers": 0}
        given |= {name.replace("__", "."): value for name, value in overrides.items()}
        master = Master(load_settings(given, env={"HOME": str(self.path)}), "test", lambda _index: [], clock)
        await master.start()
        try:
            yield master
        finally:
            await master.stop()

    @asynccontextmanager
    async def client(self, **overrides) -> AsyncIterator[Client]:
        async with self.master(**overrides) as master, connected(master) as client:
            yield client


@asynccontextmanager
async def connected(master: Master) -> AsyncIterator[Client]:
    connection = await AsyncConnection.open(master.address)
    try:
        yield Client(connection)
    finally:
        await connection.close()


async def eventually(condition: Callable[[], Awaitable[bool]], timeout_s: float = 10.0) -> None:
    """Waits until an asynchronous condition holds."""
    async with asyncio.timeout(timeout_s):
        while not await condition():  # noqa: ASYNC110 - the condition is asked over the wire: nothing signals it
            await asyncio.sleep(0.01)


@pytest.fixture
def home() -> Iterator[Home]:
    path = Path(tempfile.mkdtemp(prefix="iso"))  # short: a socket's path has at most 107 bytes
    yield Home(path)
    shutil.rmtree(path)


@pytest.fixture
def run() -> Callable[[Callable[[], Awaitable[None]]], None]:
    """Runs an asynchronous scenario on a loop of its own."""
    return lambda scenario: asyncio.run(scenario())
