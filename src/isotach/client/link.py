"""The blocking client's connections: one channel to the master, one per reader process, one per worker.

Owns: the channels, the choice of a reader for each thread, and the table of workers, kept for a moment. Never: knows
what the calls mean. Safe for many threads and after a fork, as the channels are.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from isotach.base.errors import IsotachError, UnavailableError
from isotach.base.limits import WORKER_CONNECTIONS_MAX, WORKER_TABLE_AGE_S
from isotach.client import operations
from isotach.client.endpoints import better_master_address, reader_routes
from isotach.client.operations import Operation, Where
from isotach.client.placing import read_rule
from isotach.client.routing import rank_workers, worker_address
from isotach.conf import ClientSettings
from isotach.net.address import Address, host_key
from isotach.net.blocking_channel import BlockingChannel
from isotach.net.retry import RetryPolicy
from isotach.wire.messages import StatReply, Welcome, WorkerRow

if TYPE_CHECKING:
    from isotach.client.direct.way import DirectWay

R = TypeVar("R")


class Link:
    """All connections of one file system."""

    def __init__(self, settings: ClientSettings, address: Address, user: str | None) -> None:
        """Connects to the master. Raises UnavailableError when nobody answers at `address`."""
        self.settings = settings
        self.host_key = settings.host_key or host_key()
        self.declared_user = user
        self._policy = RetryPolicy(total_s=settings.retry_total)
        self._lock = threading.Lock()
        self._worker_channels: dict[Address, BlockingChannel] = {}
        self._worker_addresses: dict[tuple[str, str], Address] = {}  # forgotten with each new table
        self._live: Sequence[WorkerRow] = ()
        self._live_until = -1.0
        self.address, self.welcome, self._master = self._connect_master(address)
        routes = reader_routes(self.address, self.welcome)
        self._readers = [self._channel(route) for route in routes] or [self._master]
        self._reader_count = len(self._readers)
        self.sync_interval_ms = operations.interval_ms(settings.metadata_sync_interval)
        self.direct = self._direct_way()

    def run(self, operation: Operation[R]) -> R:
        """Makes the call and gives its result. Raises what the server raised, or UnavailableError."""
        channel = self.reader() if operation.where is Where.READER else self._master
        deadline_s = operation.deadline_s or self.settings.deadline
        reply, payload = channel.call(operation.method, operation.request, b"", deadline_s=deadline_s)
        return operation.decode(reply, payload)

    def reader(self) -> BlockingChannel:
        """The reader that this thread asks; threads spread over the readers."""
        # Identities of threads are addresses of structures: their low bits are all the same.
        return self._readers[(threading.get_ident() >> 12) % self._reader_count]

    def live_workers(self, *, refresh: bool = False) -> Sequence[WorkerRow]:
        """The live workers, as of at most WORKER_TABLE_AGE_S ago."""
        if refresh or time.monotonic() >= self._live_until:
            rows = self.run(operations.worker_rows())
            # A worker that was starting may have its socket by now: how each is reached is found out again.
            self._worker_addresses = {}
            self._live = [row for row in rows if row.live]
            self._live_until = time.monotonic() + WORKER_TABLE_AGE_S
        return self._live

    def ranked_workers(self, found: StatReply, *, refresh: bool = False) -> Sequence[WorkerRow]:
        """The live workers, best first for reading this file."""
        live = self.live_workers(refresh=refresh)
        if len(live) < 2:
            return live
        inode = found.inode
        rule = read_rule(self.settings, inode)
        return rank_workers(live, self.host_key, inode.version, found.cache, inode.length, rule)

    def worker(self, row: WorkerRow) -> BlockingChannel:
        """The channel to a worker."""
        key = (row.worker_id, row.address)
        address = self._worker_addresses.get(key)
        if address is None:
            address = worker_address(row, self.host_key, self.settings.short_circuit)
            self._worker_addresses[key] = address
        channel = self._worker_channels.get(address)
        if channel is None:
            with self._lock:
                channel = self._worker_channels.get(address)
                if channel is None:
                    channel = self._channel(
                        [address], self.worker_policy, on_silence=lambda: self._check_lives(row.worker_id)
                    )
                    self._worker_channels[address] = channel
        return channel

    @property
    def worker_policy(self) -> RetryPolicy:
        """Less patience than with the master: another worker may do as well."""
        return RetryPolicy(total_s=min(1.0, self.settings.retry_total), first_connect_s=1.0)

    def close(self) -> None:
        """Closes every connection; open files that need one fail afterwards."""
        with self._lock:
            channels = [*self._worker_channels.values(), *self._readers, self._master]
            self._worker_channels.clear()
        for channel in channels:
            channel.close()
        if self.direct is not None:
            self.direct.close()

    def _direct_way(self) -> "DirectWay | None":
        """Hot reads without a call, where the master allows it and the settings do."""
        access, settings = self.welcome.direct, self.settings
        if access is None or not (settings.short_circuit and settings.direct_metadata):
            return None
        if access.pid != os.getpid() or self.welcome.host_key != self.host_key:
            return None
        from isotach.client.direct.way import DirectWay  # loads LMDB: only where it is of use

        return DirectWay(access, self.welcome.user)

    def _connect_master(self, address: Address) -> tuple[Address, Welcome, BlockingChannel]:
        channel = self._channel([address])
        welcome = channel.connect()
        better = better_master_address(
            address,
            welcome,
            host_key=self.host_key,
            declared_user=self.declared_user,
            short_circuit=self.settings.short_circuit,
        )
        if better is None:
            return address, welcome, channel
        candidate = self._channel([better])
        try:
            better_welcome = candidate.connect()
        except UnavailableError:
            candidate.close()
            return address, welcome, channel
        channel.close()
        return better, better_welcome, candidate

    def _check_lives(self, worker_id: str) -> None:
        """Asked when a worker is silent in the middle of a call. Raises UnavailableError when the master gave it up:
        frozen or cut off, it may be silent for ever, and others can serve."""
        try:
            live = self.live_workers(refresh=True)
        except (IsotachError, OSError):
            return  # nobody knows: waiting is all that is left
        if all(row.worker_id != worker_id for row in live):
            raise UnavailableError(f"the worker {worker_id} is silent, and the master counts it as lost: try again")

    def _channel(
        self,
        addresses: list[Address],
        policy: RetryPolicy | None = None,
        on_silence: Callable[[], None] | None = None,
    ) -> BlockingChannel:
        return BlockingChannel(
            addresses,
            user=self.settings.user,
            policy=policy or self._policy,
            connections_max=WORKER_CONNECTIONS_MAX,
            on_silence=on_silence,
        )
