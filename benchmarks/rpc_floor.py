"""The floor under every call: what one request and its answer cost with handlers that do nothing.

Owns: the measurement of the wire and network layers alone, two processes on one machine. Never: starts a master or a
worker. Run it as `python -m benchmarks.rpc_floor`.
"""

import asyncio
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from multiprocessing.synchronize import Event
from statistics import median

from isotach.base.limits import MIB
from isotach.net.address import Address, host_key
from isotach.net.async_client import AsyncChannel
from isotach.net.blocking_channel import BlockingChannel
from isotach.net.blocking_client import BlockingConnection
from isotach.net.dispatch import Dispatcher
from isotach.net.peer import Peer
from isotach.net.server import RpcServer
from isotach.net.sockets import listen_on
from isotach.net.thread_call import Call
from isotach.net.thread_server import ThreadRpcServer
from isotach.run.loop import run_loop
from isotach.wire.messages import READ, RESOLVE_ID, PathReply, ReadReply, ReadRequest, ResolveIdRequest, Welcome

TASKS = 64
CALLS = 40_000
SERIAL_CALLS = 4_000
REPEATS = 5
PART_BYTES = 4 * MIB
PARTS = 128


def welcome() -> Welcome:
    """What both servers say."""
    return Welcome(1, "bench", "bench", host_key())


def serve_async(path: str, is_ready: Event) -> None:
    """The process of the asynchronous server."""

    async def main() -> None:
        def resolve(request: ResolveIdRequest, _peer: Peer) -> PathReply:
            return PathReply(b"/%d" % request.id)

        dispatcher = Dispatcher()
        dispatcher.add(RESOLVE_ID, resolve)
        server = RpcServer(dispatcher, welcome)
        await server.listen(Address.unix(path))
        is_ready.set()
        await asyncio.Event().wait()

    run_loop(main())


def serve_threaded(path: str, port: int, is_ready: Event) -> None:
    """The process of the threaded server, over one file in memory."""
    fd = os.memfd_create("rpc-floor")
    os.truncate(fd, PART_BYTES)
    os.pwrite(fd, os.urandom(PART_BYTES), 0)  # a hole would be faster than data

    def resolve(call: Call) -> None:
        call.reply(PathReply(b"/%d" % call.request.id))

    def read(call: Call) -> None:
        call.reply_file(ReadReply(call.request.length), fd, call.request.offset, call.request.length)

    server = ThreadRpcServer({RESOLVE_ID: resolve, READ: read}, welcome)
    server.listen(Address.unix(path))
    server.listen(Address.tcp("127.0.0.1", port))
    is_ready.set()
    time.sleep(3600)


def calls_per_second(address: Address) -> float:
    """Many tasks on one connection."""

    async def main() -> float:
        channel = AsyncChannel(address)
        await channel.connect()

        async def work() -> None:
            for number in range(CALLS // TASKS):
                await channel.call(RESOLVE_ID, ResolveIdRequest(number))

        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(TASKS):
                group.create_task(work())
        seconds = time.perf_counter() - started
        await channel.close()
        return CALLS / seconds

    return run_loop(main())


def serial_async_us(address: Address) -> float:
    """One task, one call after the other, in microseconds."""

    async def main() -> float:
        channel = AsyncChannel(address)
        await channel.connect()
        started = time.perf_counter()
        for number in range(SERIAL_CALLS):
            await channel.call(RESOLVE_ID, ResolveIdRequest(number))
        seconds = time.perf_counter() - started
        await channel.close()
        return seconds / SERIAL_CALLS * 1e6

    return run_loop(main())


def serial_blocking_us(address: Address) -> float:
    """One blocking call after the other, in microseconds."""
    channel = BlockingChannel(address)
    channel.connect()
    started = time.perf_counter()
    for number in range(SERIAL_CALLS):
        channel.call(RESOLVE_ID, ResolveIdRequest(number))
    seconds = time.perf_counter() - started
    channel.close()
    return seconds / SERIAL_CALLS * 1e6


def bulk_gigabytes_per_second(address: Address) -> float:
    """A pipeline of two reads, sendfile to recv_into, in GB/s."""
    view = memoryview(bytearray(PART_BYTES))
    with BlockingConnection.open(address) as connection:
        started = time.perf_counter()
        waiting = connection.send(READ, ReadRequest(1, 0, PART_BYTES))
        for part in range(PARTS):
            current = waiting
            if part + 1 < PARTS:
                waiting = connection.send(READ, ReadRequest(1, 0, PART_BYTES))
            connection.receive_header(current)
            connection.receive_payload_into(view)
        return PARTS * PART_BYTES / (time.perf_counter() - started) / 1e9


def show(work: str, unit: str, measure: Callable[[Address], float], address: Address) -> None:
    """Prints the median of a few runs, and their range."""
    figures = [measure(address) for _ in range(REPEATS)]
    print(f"{work:<52} {median(figures):>12,.1f} {unit:<8} ({min(figures):,.1f} to {max(figures):,.1f})")


def main() -> None:
    """Starts both servers, measures, stops them."""
    context = multiprocessing.get_context("spawn")
    ready = [context.Event(), context.Event()]
    with tempfile.TemporaryDirectory() as folder:
        async_address, data_address = Address.unix(f"{folder}/async"), Address.unix(f"{folder}/data")
        free_port = _free_port()
        processes = [
            context.Process(target=serve_async, args=(async_address.path, ready[0]), daemon=True),
            context.Process(target=serve_threaded, args=(data_address.path, free_port, ready[1]), daemon=True),
        ]
        for process in processes:
            process.start()
        try:
            for event in ready:
                if not event.wait(30):
                    raise SystemExit("a server did not start within 30 s")
            show(f"asynchronous client, {TASKS} tasks", "calls/s", calls_per_second, async_address)
            show("asynchronous client, serial", "us", serial_async_us, async_address)
            show("blocking client, serial, asynchronous server", "us", serial_blocking_us, async_address)
            show("blocking client, serial, threaded server", "us", serial_blocking_us, data_address)
            show("bulk, Unix socket", "GB/s", bulk_gigabytes_per_second, data_address)
            show("bulk, TCP loopback", "GB/s", bulk_gigabytes_per_second, Address.tcp("127.0.0.1", free_port))
        finally:
            for process in processes:
                process.terminate()
                process.join()


def _free_port() -> int:
    listener = listen_on(Address.tcp("127.0.0.1", 0))
    listener.close()
    return listener.address.port


if __name__ == "__main__":
    main()
