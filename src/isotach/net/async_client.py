"""The asynchronous channel: calls to a service, over a connection that is made when needed and made again when lost.

Owns: `AsyncChannel`, which resends only what is safe, at the times that `retry.py` says. Never: touches a socket.
"""

import asyncio
import random
from collections.abc import Sequence
from typing import Any, cast

from isotach.base.errors import IsotachError, UnavailableError
from isotach.base.limits import CALL_DEADLINE_S, CONNECT_TIMEOUT_S
from isotach.net.address import Address
from isotach.net.async_connection import AsyncConnection, NotSentError
from isotach.net.dispatch import Payload
from isotach.net.retry import RetryPolicy, may_resend
from isotach.wire.messages import Method, ReplyT, RequestT, Welcome

__all__ = ["AsyncChannel", "AsyncConnection"]


class AsyncChannel:
    """Calls to a service at one address or several equivalent ones (tried in turn); connects when first needed, and
    again after a loss. Idempotent calls are sent again after a lost connection, others only when they never left."""

    def __init__(
        self,
        addresses: Address | str | Sequence[Address | str],
        *,
        user: str | None = None,
        client: str = "python",
        token: bytes = b"",
        policy: RetryPolicy | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        rows = [addresses] if isinstance(addresses, Address | str) else list(addresses)
        self._addresses = [Address.parse(row) for row in rows]
        self._user = user
        self._client = client
        self._token = token
        self._policy = policy or RetryPolicy()
        self._connect_timeout_s = connect_timeout_s
        self._connection: AsyncConnection | None = None
        self._connecting = asyncio.Lock()
        self._turn = 0  # index of the address to try next
        self._ever_connected = False
        self._closed = False

    @property
    def addresses(self) -> list[Address]:
        """Where the channel connects to."""
        return list(self._addresses)

    @property
    def welcome(self) -> Welcome | None:
        """What the server said at the latest connection; None before the first."""
        return None if self._connection is None else self._connection.welcome

    async def connect(self) -> Welcome:
        """Makes sure of a connection, with the same patience as a call."""
        connection = await self._retry(idempotent=True, deadline_s=self._policy.total_s, attempt=_give_connection)
        return cast(AsyncConnection, connection).welcome

    async def call(
        self,
        method: Method[RequestT, ReplyT],
        request: RequestT,
        payload: Payload = b"",
        deadline_s: float = CALL_DEADLINE_S,
    ) -> tuple[ReplyT, memoryview]:
        """(reply, payload), as `AsyncConnection.call`. Raises UnavailableError that names the address and says what to
        do when attempts have run out."""
        connection = self._connection
        if connection is not None and connection.is_usable:  # the ordinary case, without the machinery of retries
            try:
                return await connection.call(method, request, payload, deadline_s)
            except UnavailableError as problem:
                if not self._is_lost(connection, problem):
                    raise
                if not may_resend(idempotent=method.idempotent, was_sent=not isinstance(problem, NotSentError)):
                    raise

        async def attempt(fresh: AsyncConnection, left_s: float) -> tuple[ReplyT, memoryview]:
            return await fresh.call(method, request, payload, left_s)

        result = await self._retry(idempotent=method.idempotent, deadline_s=deadline_s, attempt=attempt)
        return cast(tuple[ReplyT, memoryview], result)

    async def close(self) -> None:
        """Closes the connection; later calls raise UnavailableError."""
        self._closed = True
        if self._connection is not None:
            await self._connection.close()

    @staticmethod
    def _is_lost(connection: AsyncConnection, problem: UnavailableError) -> bool:
        """Whether the connection died, rather than the server answering that something else is unavailable."""
        return isinstance(problem, NotSentError) or not connection.is_open

    async def _retry(self, *, idempotent: bool, deadline_s: float, attempt: Any) -> Any:
        loop = asyncio.get_running_loop()
        started = loop.time()
        failures = resends = 0
        while True:
            connection: AsyncConnection | None = None
            left_s = deadline_s - (loop.time() - started)
            try:
                connection = await self._usable(left_s)
                return await attempt(connection, deadline_s - (loop.time() - started))
            except UnavailableError as problem:
                if self._closed:
                    raise
                was_sent = connection is not None and not isinstance(problem, NotSentError)
                if connection is not None and not self._is_lost(connection, problem):
                    raise
                if not may_resend(idempotent=idempotent, was_sent=was_sent):
                    raise
                failures += 1
                resends += was_sent
                delay_s = self._policy.next_delay_s(
                    failures=failures,
                    resends=resends,
                    elapsed_s=loop.time() - started,
                    budget_s=self._policy.budget_s(deadline_s=deadline_s, ever_connected=self._ever_connected),
                    jitter=random.random(),
                )
                if delay_s is None:
                    raise
            await asyncio.sleep(delay_s)

    async def _usable(self, left_s: float) -> AsyncConnection:
        if self._closed:
            raise IsotachError("this channel is closed: make a new one")
        async with self._connecting:
            if self._connection is not None and self._connection.is_usable:
                return self._connection
            address = self._addresses[self._turn % len(self._addresses)]
            self._turn += 1
            timeout_s = max(0.001, min(self._connect_timeout_s, left_s))
            self._connection = await AsyncConnection.open(
                address, user=self._user, client=self._client, token=self._token, timeout_s=timeout_s
            )
            self._turn -= 1  # stay with the one that answers
            self._ever_connected = True
            return self._connection


async def _give_connection(connection: AsyncConnection, _left_s: float) -> AsyncConnection:
    return connection
