"""The blocking channel: a bounded pool of connections for any number of threads, with retries of what is safe.

Owns: the pool, what happens to it in a forked child, reconnecting. Never: decides the waiting times (`retry.py`).
"""

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from isotach.base.errors import DeadlineExceededError, IsotachError, UnavailableError
from isotach.base.limits import CALL_DEADLINE_S, CONNECT_TIMEOUT_S, CONNECTIONS_PER_CHANNEL_MAX
from isotach.base.types import ReadBuffer
from isotach.net.address import Address
from isotach.net.blocking_client import BlockingConnection
from isotach.net.dispatch import Payload
from isotach.net.retry import RetryPolicy, may_resend
from isotach.wire.messages import Method, ReplyT, RequestT, Welcome

ResultT = TypeVar("ResultT")


class _Pool:
    """Connections of one process. A forked child makes a new one and forgets its parent's."""

    def __init__(self, connections_max: int) -> None:
        self.pid = os.getpid()
        self.idle: list[BlockingConnection] = []  # the last one returned is used first
        self.places = threading.BoundedSemaphore(connections_max)


class BlockingChannel:
    """Calls to a service at one address or several equivalent ones (tried in turn). Thread-safe and fork-safe.

    Idempotent calls are sent again after a lost connection, others only when they never left.
    """

    def __init__(
        self,
        addresses: Address | str | Sequence[Address | str],
        *,
        user: str | None = None,
        client: str = "python",
        token: bytes = b"",
        policy: RetryPolicy | None = None,
        connections_max: int = CONNECTIONS_PER_CHANNEL_MAX,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        on_silence: Callable[[], None] | None = None,
    ) -> None:
        """`on_silence`: see `BlockingConnection.open`."""
        rows = [addresses] if isinstance(addresses, Address | str) else list(addresses)
        self._addresses = [Address.parse(row) for row in rows]
        self._user = user
        self._client = client
        self._token = token
        self._policy = policy or RetryPolicy()
        self._connections_max = connections_max
        self._connect_timeout_s = connect_timeout_s
        self._on_silence = on_silence
        self._pool = _Pool(connections_max)
        self._turn = 0  # index of the address to try next
        self._welcome: Welcome | None = None
        self._closed = False

    @property
    def addresses(self) -> list[Address]:
        """Where the channel connects to."""
        return list(self._addresses)

    @property
    def welcome(self) -> Welcome | None:
        """What the server said at the latest connection; None before the first."""
        return self._welcome

    def connect(self) -> Welcome:
        """Makes sure of a connection, with the same patience as a call."""
        return self._run(
            lambda connection, _left_s: connection.welcome, idempotent=True, deadline_s=self._policy.total_s
        )

    def call(
        self,
        method: Method[RequestT, ReplyT],
        request: RequestT,
        payload: Payload = b"",
        *,
        deadline_s: float = CALL_DEADLINE_S,
    ) -> tuple[ReplyT, ReadBuffer]:
        """(reply, payload), as `BlockingConnection.call`. Raises UnavailableError that names the address and says what
        to do when attempts have run out."""

        def attempt(connection: BlockingConnection, left_s: float) -> tuple[ReplyT, ReadBuffer]:
            return connection.call(method, request, payload, deadline_s=left_s)

        return self._run(attempt, idempotent=method.idempotent, deadline_s=deadline_s)

    def call_into(
        self,
        method: Method[RequestT, ReplyT],
        request: RequestT,
        view: memoryview,
        *,
        deadline_s: float = CALL_DEADLINE_S,
    ) -> tuple[ReplyT, int]:
        """(reply, n), as `BlockingConnection.call_into`."""

        def attempt(connection: BlockingConnection, left_s: float) -> tuple[ReplyT, int]:
            return connection.call_into(method, request, view, deadline_s=left_s)

        return self._run(attempt, idempotent=method.idempotent, deadline_s=deadline_s)

    @contextlib.contextmanager
    def connection(self, *, deadline_s: float = CALL_DEADLINE_S) -> Iterator[BlockingConnection]:
        """Leases one connection, connecting (with retries) if need be; what happens on it is the caller's. It returns
        to the pool if it is still in order and idle, else it is closed."""
        leased = self.lease(deadline_s=deadline_s)
        try:
            yield leased
        finally:
            self.give_back(leased)

    def lease(self, *, deadline_s: float = CALL_DEADLINE_S) -> BlockingConnection:
        """As `connection`, for a lease that outlives a block; `give_back` ends it."""
        pool = self._own_pool()
        self._take_place(pool, deadline_s)
        try:
            leased = self._retry(lambda found, _left_s: found, True, deadline_s, pool, keep=True)
        except BaseException:
            pool.places.release()
            raise
        return leased

    def give_back(self, leased: BlockingConnection) -> None:
        """Ends a lease. In a forked child, a connection leased by the parent is only forgotten."""
        pool = self._own_pool()
        if leased.is_usable and leased.is_idle and not self._closed:
            pool.idle.append(leased)
        else:
            leased.close()
        with contextlib.suppress(ValueError):  # a place of the parent's pool
            pool.places.release()

    def close(self) -> None:
        """Closes idle connections; leased ones close when given back. Later calls raise IsotachError."""
        self._closed = True
        pool = self._own_pool()
        while pool.idle:
            pool.idle.pop().close()

    # --- inside ---

    def _own_pool(self) -> _Pool:
        pool = self._pool
        if pool.pid != os.getpid():
            for inherited in pool.idle:
                inherited.abort()  # closes this process's copy of the socket, nothing else
            pool = self._pool = _Pool(self._connections_max)
        return pool

    def _take_place(self, pool: _Pool, deadline_s: float) -> None:
        if not pool.places.acquire(timeout=max(0.0, deadline_s)):
            raise DeadlineExceededError(
                f"all {self._connections_max} connections to {self._addresses[0]} were busy for {deadline_s:g} s"
            )

    def _run(
        self, attempt: Callable[[BlockingConnection, float], ResultT], *, idempotent: bool, deadline_s: float
    ) -> ResultT:
        pool = self._own_pool()
        if not pool.places.acquire(blocking=False):
            self._take_place(pool, deadline_s)
        try:
            return self._retry(attempt, idempotent, deadline_s, pool)
        finally:
            pool.places.release()

    def _retry(
        self,
        attempt: Callable[[BlockingConnection, float], ResultT],
        idempotent: bool,
        deadline_s: float,
        pool: _Pool,
        keep: bool = False,
    ) -> ResultT:
        started = time.monotonic()
        failures = resends = 0
        left_s = deadline_s
        while True:
            connection: BlockingConnection | None = None
            try:
                connection = self._take(pool, left_s, check=not idempotent or keep)
                result = attempt(connection, left_s)
                if not keep:
                    self._put(pool, connection)
                return result
            except UnavailableError:
                if connection is not None and connection.is_usable:  # an answer: something behind the server is away
                    self._put(pool, connection)
                    raise
                if not may_resend(idempotent=idempotent, was_sent=connection is not None) or self._closed:
                    raise
                failures += 1
                resends += connection is not None
                delay_s = self._delay_s(failures, resends, time.monotonic() - started, deadline_s)
                if delay_s is None:
                    raise
            except BaseException:
                if connection is not None:
                    self._put(pool, connection)
                raise
            time.sleep(delay_s)
            left_s = deadline_s - (time.monotonic() - started)

    def _delay_s(self, failures: int, resends: int, elapsed_s: float, deadline_s: float) -> float | None:
        return self._policy.next_delay_s(
            failures=failures,
            resends=resends,
            elapsed_s=elapsed_s,
            budget_s=self._policy.budget_s(deadline_s=deadline_s, ever_connected=self._welcome is not None),
            jitter=random.random(),
        )

    def _put(self, pool: _Pool, connection: BlockingConnection) -> None:
        if connection.is_usable and connection.is_idle and not self._closed:
            pool.idle.append(connection)
        else:
            connection.close()

    def _take(self, pool: _Pool, left_s: float, check: bool) -> BlockingConnection:
        """An idle connection, else a new one. `check`: make sure that the server has not closed an idle one meanwhile,
        for calls that could not be sent again."""
        if self._closed:
            raise IsotachError("this channel is closed: make a new one")
        while True:
            try:
                idle = pool.idle.pop()
            except IndexError:
                return self._open(left_s)
            if not (check and idle.has_news()):
                return idle
            idle.close()

    def _open(self, left_s: float) -> BlockingConnection:
        turn = self._turn
        address = self._addresses[turn % len(self._addresses)]
        timeout_s = max(0.001, min(self._connect_timeout_s, left_s))
        try:
            fresh = BlockingConnection.open(
                address,
                user=self._user,
                client=self._client,
                token=self._token,
                timeout_s=timeout_s,
                on_silence=self._on_silence,
            )
        except UnavailableError:
            self._turn = turn + 1  # several threads may fail at once: they all move on by one
            raise
        self._welcome = fresh.welcome
        return fresh
