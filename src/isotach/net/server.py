"""The asynchronous RPC server of masters and readers: many connections, many calls in flight, one event loop.

Owns: listening, the bound on connections, graceful closing. `server_connection.py` drives one connection. Never: knows
what the methods do.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from isotach.base.limits import CONNECTIONS_MAX, LISTEN_BACKLOG
from isotach.net.address import Address
from isotach.net.dispatch import Dispatcher
from isotach.net.peer import UserTable
from isotach.net.server_connection import ServerConnection
from isotach.net.sockets import Listener, listen_on
from isotach.obs.log import get_logger
from isotach.wire.messages import Welcome

log = get_logger("net.server")


class RpcMetrics(Protocol):
    """Where a server tells how its calls went."""

    def observe_call(self, method: str, seconds: float, ok: bool) -> None:
        """One call answered after `seconds`; `ok` False when by an error."""


class RpcServer:
    """Serves a dispatcher's methods on any number of addresses.

    `welcome` is called for each new client, so that it may tell the present state (who the readers are).
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        welcome: Callable[[], Welcome],
        metrics: RpcMetrics | None = None,
        *,
        direct_folders: Sequence[str] = (),
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        self.dispatcher = dispatcher
        self.welcome = welcome
        self.metrics = metrics
        self.direct_folders = direct_folders  # told to those who may read them anyway
        self.users = UserTable()
        self.tasks: set[asyncio.Task[None]] = set()  # of calls in progress, also of those whose client left
        self.connections: set[ServerConnection] = set()
        self._connections_max = connections_max
        self._listening: list[tuple[Listener, asyncio.AbstractServer]] = []
        self._closing = False
        self._change = asyncio.Event()  # a connection or a call ended

    @property
    def addresses(self) -> list[Address]:
        """Where the server listens, ports resolved."""
        return [listener.address for listener, _ in self._listening]

    @property
    def is_full(self) -> bool:
        """Whether one more connection is refused."""
        return len(self.connections) >= self._connections_max

    async def listen(self, address: Address | str, *, reuse_port: bool = False, mode: int = 0o666) -> Address:
        """Starts serving on one more address; returns it with port 0 resolved.

        `reuse_port` lets several processes share a TCP port; `mode` is of the socket file. Raises AlreadyRunningError
        when a live server owns the address, InvalidArgumentError when it cannot be listened on.
        """
        listener = listen_on(Address.parse(address), reuse_port=reuse_port, mode=mode)
        loop = asyncio.get_running_loop()
        try:
            if listener.address.is_unix:
                server = await loop.create_unix_server(
                    lambda: ServerConnection(self), sock=listener.sock, backlog=LISTEN_BACKLOG
                )
            else:
                server = await loop.create_server(
                    lambda: ServerConnection(self), sock=listener.sock, backlog=LISTEN_BACKLOG
                )
        except BaseException:
            listener.close()
            raise
        self._listening.append((listener, server))
        return listener.address

    async def close(self, grace_s: float = 2.0) -> None:
        """Stops listening, says goodbye, lets calls in flight finish for up to `grace_s`, then closes what is left.
        Calls added with `detach` are waited for within the same time, then cancelled."""
        self._closing = True
        for listener, server in self._listening:
            listener.remove_file()
            server.close()
        for connection in list(self.connections):
            connection.say_goodbye()
        loop = asyncio.get_running_loop()
        end = loop.time() + grace_s
        while (self.tasks or any(connection.is_busy for connection in self.connections)) and loop.time() < end:
            self._change.clear()
            timer = loop.call_at(end, self._change.set)
            await self._change.wait()
            timer.cancel()
        for connection in list(self.connections):  # first, so that clients see a lost connection, and retry
            connection.close()
        for task in list(self.tasks):
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=1.0)
        for _, server in self._listening:
            await server.wait_closed()
        self._listening.clear()

    def connection_opened(self, connection: ServerConnection) -> None:
        """A connection counts from now on."""
        self.connections.add(connection)

    def connection_ended(self, connection: ServerConnection) -> None:
        """It no longer does."""
        self.connections.discard(connection)
        self._change.set()

    def start_task(self, task: asyncio.Task[None]) -> None:
        """Keeps the task of a call until it ends."""
        self.tasks.add(task)
        task.add_done_callback(self._task_ended)

    def call_answered(self) -> None:
        """One call less in flight; only of interest while closing."""
        if self._closing:
            self._change.set()

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self._change.set()
        if not task.cancelled() and task.exception() is not None:
            log.error("call_task_failed", error=repr(task.exception()))
