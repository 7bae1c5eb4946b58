"""The asynchronous client's connections: one channel to the master, one to a reader process.

Owns: these channels. Never: reads or writes file data (threads do, over a blocking `Link`).
"""

from typing import TypeVar

from isotach.base.errors import UnavailableError
from isotach.client.endpoints import better_master_address, reader_routes
from isotach.client.operations import Operation, Where
from isotach.conf import ClientSettings
from isotach.net.address import Address, host_key
from isotach.net.async_client import AsyncChannel
from isotach.net.retry import RetryPolicy
from isotach.wire.messages import Welcome

R = TypeVar("R")


class AsyncLink:
    """All connections of one asynchronous file system. Made by `open`; belongs to the event loop that made it."""

    def __init__(self, settings: ClientSettings, address: Address, master: AsyncChannel, reader: AsyncChannel) -> None:
        self.settings = settings
        self.address = address
        self._master = master
        self._reader = reader
        self._deadline_s = settings.deadline

    @classmethod
    async def open(cls, settings: ClientSettings, address: Address, user: str | None) -> "AsyncLink":
        """Connects to the master. Raises UnavailableError when nobody answers at `address`."""
        address, welcome, master = await _connect_master(settings, address, user)
        routes = reader_routes(address, welcome)
        # One loop is one thread: one reader serves it; loops spread over the readers by chance.
        reader = _channel(settings, routes[id(master) // 4096 % len(routes)]) if routes else master
        return cls(settings, address, master, reader)

    async def run(self, operation: Operation[R]) -> R:
        """Makes the call and gives its result. Raises what the server raised, or UnavailableError."""
        channel = self._reader if operation.where is Where.READER else self._master
        deadline_s = operation.deadline_s or self._deadline_s
        reply, payload = await channel.call(operation.method, operation.request, b"", deadline_s)
        return operation.decode(reply, payload)

    async def close(self) -> None:
        """Closes every connection."""
        await self._reader.close()
        if self._reader is not self._master:
            await self._master.close()


async def _connect_master(
    settings: ClientSettings, address: Address, user: str | None
) -> tuple[Address, Welcome, AsyncChannel]:
    channel = _channel(settings, [address])
    welcome = await channel.connect()
    better = better_master_address(
        address,
        welcome,
        host_key=settings.host_key or host_key(),
        declared_user=user,
        short_circuit=settings.short_circuit,
    )
    if better is None:
        return address, welcome, channel
    candidate = _channel(settings, [better])
    try:
        better_welcome = await candidate.connect()
    except UnavailableError:
        await candidate.close()
        return address, welcome, channel
    await channel.close()
    return better, better_welcome, candidate


def _channel(settings: ClientSettings, addresses: list[Address]) -> AsyncChannel:
    return AsyncChannel(addresses, user=settings.user, policy=RetryPolicy(total_s=settings.retry_total))
