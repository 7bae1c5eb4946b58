"""The asynchronous client against the asynchronous server, over real sockets."""

import asyncio
import os

import pytest

from isotach.base.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    IsotachError,
    ProtocolError,
    UnavailableError,
)
from isotach.net.address import Address
from isotach.net.async_client import AsyncChannel, AsyncConnection
from isotach.net.peer import current_user
from isotach.net.retry import RetryPolicy
from isotach.net.sockets import listen_on
from isotach.run.loop import run_loop
from isotach.wire.messages import (
    FREE,
    LIST,
    MKDIR,
    PERSIST,
    REMOVE,
    RESOLVE_ID,
    STAT,
    UNMOUNT,
    WORKERS,
    WRITE,
    CountReply,
    Empty,
    ListRequest,
    MkdirRequest,
    PathReply,
    PathRequest,
    PersistRequest,
    RemoveRequest,
    ResolveIdRequest,
    StatRequest,
    WriteRequest,
)

pytestmark = pytest.mark.usefixtures("no_leaks")

QUICK = RetryPolicy(base_s=0.01, max_s=0.05, total_s=5.0, first_connect_s=0.2)
RUNNERS = [run_loop, asyncio.run]


async def until(predicate):
    """Waits in the loop until `predicate()` is true."""
    async with asyncio.timeout(10):
        while not predicate():  # noqa: ASYNC110  (the state is another thread's)
            await asyncio.sleep(0.002)


@pytest.mark.parametrize("run", RUNNERS, ids=["uvloop", "asyncio"])
@pytest.mark.parametrize("which", [0, 1], ids=["unix", "tcp"])
def test_calls_and_their_payloads(service, run, which):
    async def main():
        connection = await AsyncConnection.open(service.addresses[which], user="ann")
        assert connection.welcome.user == (current_user() if which == 0 else "ann")
        assert (await connection.call(RESOLVE_ID, ResolveIdRequest(5)))[0] == PathReply(b"/5")
        for size in (0, 2, 60_000, 3_000_000):
            assert bytes((await connection.call(LIST, ListRequest(b"/", limit=size)))[1]) == b"ab" * (size // 2)
        for payload in (b"", b"x", os.urandom(5_000_000), [b"a", memoryview(b"bc"), b"", bytearray(300_000)]):
            _, back = await connection.call(WRITE, WriteRequest(1, 0), payload)
            assert back == (b"".join(payload) if isinstance(payload, list) else payload)
        assert (await connection.call(PERSIST, PersistRequest(b"/ok")))[0] == CountReply(3)
        with pytest.raises(IsADirectoryError):
            await connection.call(PERSIST, PersistRequest(b"/fail"))
        await connection.close()
        with pytest.raises(UnavailableError, match="connect again"):
            await connection.call(RESOLVE_ID, ResolveIdRequest(5))

    run(main())


def test_errors_cross_as_themselves(service):
    async def main():
        connection = await AsyncConnection.open(service.addresses[0])
        with pytest.raises(FileNotFoundError) as caught:
            await connection.call(STAT, StatRequest(b"/x"))
        assert (caught.value.strerror, caught.value.filename) == ("there is no such path", "/x")
        with pytest.raises(IsotachError, match="ZeroDivisionError: a bug"):
            await connection.call(STAT, StatRequest(b"/bug"))
        with pytest.raises(InvalidArgumentError, match="does not serve the method workers"):
            await connection.call(WORKERS, Empty())
        assert (await connection.call(REMOVE, RemoveRequest(b"/")))[0] == CountReply(1)
        with pytest.raises(ProtocolError, match="mkdir"):  # a reply of the wrong shape ends the connection
            await connection.call(MKDIR, MkdirRequest(b"/x"))
        assert not connection.is_usable
        await connection.close()

    run_loop(main())


def test_the_caller_is_who_the_kernel_says(service):
    async def main():
        for address in service.addresses:
            connection = await AsyncConnection.open(address, user="mallory")
            await connection.call(REMOVE, RemoveRequest(b"/"))
            await connection.close()

    run_loop(main())
    local, remote = service.peers
    assert (local.user, local.uid, local.pid, local.local) == (current_user(), os.geteuid(), os.getpid(), True)
    assert (remote.user, remote.uid, remote.local, remote.groups) == ("mallory", None, False, ())


def test_a_thousand_calls_in_flight(service):
    async def main():
        connection = await AsyncConnection.open(service.addresses[0])
        calls = [connection.call(FREE, PathRequest(b"/count")) for _ in range(1000)]
        work = asyncio.ensure_future(asyncio.gather(*calls))
        await until(lambda: len(service.started) == 1000)
        assert (await connection.call(RESOLVE_ID, ResolveIdRequest(1)))[0] == PathReply(b"/1"), "others are not held up"
        service.release.set()
        assert {reply for reply, _ in await work} == {CountReply(7)}
        batches = service.batches
        await asyncio.gather(*[connection.call(RESOLVE_ID, ResolveIdRequest(n)) for n in range(1000)])
        assert service.batches - batches < 200, "calls that come together are served together"
        await connection.close()

    run_loop(main())


def test_deadlines_and_cancellation_reach_the_server(service):
    async def main():
        connection = await AsyncConnection.open(service.addresses[0])
        with pytest.raises(DeadlineExceededError, match="free"):
            await connection.call(FREE, PathRequest(b"/late"), deadline_s=0.05)
        await until(lambda: service.cancelled == ["/late"])

        task = asyncio.ensure_future(connection.call(FREE, PathRequest(b"/cancelled")))
        await until(lambda: "/cancelled" in service.started)
        task.cancel()
        await until(lambda: "/cancelled" in service.cancelled)

        with pytest.raises(DeadlineExceededError):
            await connection.call(UNMOUNT, PathRequest(b"/detached"), deadline_s=0.05)
        task = asyncio.ensure_future(connection.call(FREE, PathRequest(b"/left")))
        await until(lambda: "/left" in service.started)
        connection.abort()
        with pytest.raises(UnavailableError):
            await task
        await until(lambda: "/left" in service.cancelled)
        service.release.set()
        await until(lambda: service.finished == ["/detached"])
        await until(lambda: service.connection_count() == 0)

    run_loop(main())


def test_a_channel_outlives_its_server(start_service, tmp_path):
    address = Address.unix(tmp_path / "s")

    async def main():
        channel = AsyncChannel(address, policy=QUICK)
        with pytest.raises(UnavailableError, match="isotach start"):
            await channel.call(RESOLVE_ID, ResolveIdRequest(1))
        first = start_service([address])
        assert (await channel.call(RESOLVE_ID, ResolveIdRequest(1)))[0] == PathReply(b"/1")
        held = asyncio.ensure_future(channel.call(FREE, PathRequest(b"/count")))
        detached = asyncio.ensure_future(channel.call(UNMOUNT, PathRequest(b"/")))
        await until(lambda: len(first.started) == 2)
        stopping = asyncio.get_running_loop().run_in_executor(None, kill, first)
        await stopping
        second = start_service([address])
        second.release.set()
        assert (await held)[0] == CountReply(7), "what is safe is sent again"
        with pytest.raises(UnavailableError):
            await detached
        assert (await channel.call(REMOVE, RemoveRequest(b"/")))[0] == CountReply(1)
        assert second.started == ["/count"], "what is not safe is not"
        await channel.close()
        with pytest.raises(IsotachError, match="closed"):
            await channel.call(RESOLVE_ID, ResolveIdRequest(1))

    run_loop(main())


def kill(service):
    """Stops a service without letting its held calls go."""
    service._loop.call_soon_threadsafe(service._stop.set)
    service._thread.join(10)


def test_a_channel_tries_its_addresses_in_turn(service, tmp_path):
    async def main():
        channel = AsyncChannel([Address.unix(tmp_path / "none"), service.addresses[1]], policy=QUICK)
        assert (await channel.connect()).role == "master"
        assert (await channel.call(RESOLVE_ID, ResolveIdRequest(2)))[0] == PathReply(b"/2")
        await channel.close()

    run_loop(main())


def test_closing_lets_calls_in_flight_finish(start_service, tmp_path):
    service = start_service([Address.unix(tmp_path / "s")])

    async def main():
        connection = await AsyncConnection.open(service.addresses[0])
        task = asyncio.ensure_future(connection.call(FREE, PathRequest(b"/count")))
        await until(lambda: service.started)
        loop = asyncio.get_running_loop()
        service._loop.call_soon_threadsafe(service._stop.set)
        await until(lambda: not connection.is_usable)
        service.release.set()
        assert (await task)[0] == CountReply(7)
        await loop.run_in_executor(None, service.stop)
        assert not os.path.exists(tmp_path / "s")  # noqa: ASYNC240
        await connection.close()

    run_loop(main())


def test_a_full_server_says_so(start_service, tmp_path):
    service = start_service([Address.unix(tmp_path / "s"), "isotach://127.0.0.1:0"], connections_max=1)

    async def main():
        first = await AsyncConnection.open(service.addresses[0])
        for address in service.addresses:
            with pytest.raises(UnavailableError, match="all the connections"):
                await AsyncConnection.open(address)
        await first.close()
        await until(lambda: service.connection_count() == 0)
        await (await AsyncConnection.open(service.addresses[1])).close()

    run_loop(main())


def test_a_server_that_says_nothing_is_given_up(tmp_path):
    async def main():
        listener = listen_on(Address.unix(tmp_path / "mute"))
        with pytest.raises(UnavailableError, match=r"within 0\.1 s"):
            await AsyncConnection.open(listener.address, timeout_s=0.1)
        listener.close()

    asyncio.run(main())


def test_a_client_that_does_not_read_stops_being_read(service, eventually):
    async def main():
        connection = await AsyncConnection.open(service.addresses[0])
        connection._transport.pause_reading()
        calls = [asyncio.ensure_future(connection.call(WRITE, WriteRequest(1, 0), bytes(4_000_000))) for _ in range(40)]
        await until(lambda: connection._writable is not None)
        held = connection._transport.get_write_buffer_size()
        assert held < 170_000_000
        connection._transport.resume_reading()
        assert {len(payload) for _, payload in await asyncio.gather(*calls)} == {4_000_000}
        await connection.close()

    run_loop(main())
