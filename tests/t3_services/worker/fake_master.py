"""A master that speaks the real protocol and keeps everything in dicts: what a worker needs of one.

Owns: its thread and loop. Never: checks permissions or persists.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from isotach.base.errors import StaleVersionError
from isotach.base.types import BlockHolder, Inode, Kind, Mount
from isotach.net.address import Address, host_key
from isotach.net.dispatch import Dispatcher
from isotach.net.server import RpcServer
from isotach.wire import messages as wire
from isotach.wire.grants import check_proof, seal, unseal

#: By how much the version of a renewed grant is later.
RENEWED = 1_000_000


class FakeMaster:
    """Knows workers, what they reported, and what was completed. Any thread may look at its fields."""

    def __init__(self, socket_path: Path, secret: bytes, mounts: list[Mount]) -> None:
        self.address = f"isotach+unix://{socket_path}"
        self.secret = secret
        self.mounts = mounts
        self.epoch = 1
        self.known: dict[str, wire.RegisterRequest] = {}
        self.cached: dict[int, wire.ReportedVersion] = {}
        self.obsolete: set[int] = set()
        self.completed: dict[int, wire.CompleteRequest] = {}
        self.begun: list[wire.BeginCommitRequest] = []
        self.ended: list[wire.EndCommitRequest] = []
        self.aborted: list[int] = []
        self.results: dict[int, wire.CommandResult] = {}
        self.persist_path = b""
        self.refuse_complete: Exception | Callable[[int], Exception | None] | None = None
        self.refuse_begin: Exception | None = None
        self.refuse_create: Exception | None = None
        self.moved_to = b""  # where files being written are by now
        self.renewed: list[int] = []
        self._commands: list[wire.Command] = []
        self._next_command = 0
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> "FakeMaster":
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)
        self._loop.close()

    def start_again(self) -> None:
        """After `stop`: a new life, with the same memory."""
        self._ready.clear()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.start()

    def command(self, kind: str, version: int, **fields) -> int:
        """Queues a command; its id."""
        self._next_command += 1
        self._commands.append(wire.Command(self._next_command, kind, version, **fields))
        self._loop.call_soon_threadsafe(self._arrived.set)
        return self._next_command

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self._stopping, self._arrived = asyncio.Event(), asyncio.Event()
        dispatcher = Dispatcher()
        for method, handler in (
            (wire.REGISTER, self._register),
            (wire.HEARTBEAT, self._heartbeat),
            (wire.REPORT, self._report),
            (wire.POLL, self._poll),
            (wire.WORKER_MOUNTS, lambda request, _peer: wire.WorkerMountsReply(self.mounts, self.epoch)),
            (wire.CREATE, self._create),
            (wire.BEGIN_COMMIT, self._begin),
            (wire.END_COMMIT, self._end),
            (wire.COMPLETE, self._complete),
            (wire.ABORT, self._abort),
            (wire.WORKERS, self._workers),
            (wire.LOCATIONS, self._locations),
        ):
            dispatcher.add(method, handler)
        server = RpcServer(dispatcher, lambda: wire.Welcome(1, "master", "fake", host_key()))
        await server.listen(Address.parse(self.address))
        self._ready.set()
        await self._stopping.wait()
        await server.close(0.1)

    def _register(self, request, _peer):
        check_proof(self.secret, request.proof, request.worker_id.encode(), request.address.encode())
        self.known[request.worker_id] = request
        return wire.RegisterReply(100, self.mounts, self.epoch)

    def _heartbeat(self, request, _peer):
        return wire.HeartbeatReply(request.worker_id in self.known, self.epoch)

    def _report(self, request, _peer):
        if request.first:
            self.cached.clear()
        changed = msgspec.msgpack.decode(request.changed, type=list[wire.ReportedVersion])
        for row in changed:
            self.cached[row.version] = row
        for version in request.removed:
            self.cached.pop(version, None)
        return wire.ReportReply([row.version for row in changed if row.version in self.obsolete])

    async def _poll(self, request, _peer):
        for result in request.done:
            self.results[result.command_id] = result
        if not self._commands and request.wait_ms:
            self._arrived.clear()
            try:
                async with asyncio.timeout(request.wait_ms / 1000):
                    await self._arrived.wait()
            except TimeoutError:
                pass
        commands, self._commands = self._commands, []
        return wire.PollReply(commands)

    def _begin(self, request, _peer):
        self.begun.append(request)
        if self.refuse_begin is not None:
            raise self.refuse_begin
        if request.grant:
            grant = unseal(self.secret, request.grant, wire.WriteGrant, 0)
            return wire.BeginCommitReply(7, grant.mount_id, self.moved_to or grant.ufs_path)
        if not self.persist_path:
            raise StaleVersionError("overtaken")
        return wire.BeginCommitReply(8, self.mounts[0].mount_id, self.persist_path)

    def _create(self, request, _peer):
        """Only a grant that is renewed."""
        if self.refuse_create is not None:
            raise self.refuse_create
        grant = unseal(self.secret, request.renews, wire.WriteGrant, 0)
        self.renewed.append(grant.version)
        grant = msgspec.structs.replace(grant, version=grant.version + RENEWED, expires_s=int(time.time()) + 60)
        return wire.CreateReply(grant.version, grant.write_type, grant.block_size, [], seal(self.secret, grant))

    def _end(self, request, _peer):
        self.ended.append(request)
        return wire.Empty()

    def _complete(self, request, _peer):
        grant = unseal(self.secret, request.grant, wire.WriteGrant, 0)
        refusal = self.refuse_complete(grant.version) if callable(self.refuse_complete) else self.refuse_complete
        if refusal is not None:
            raise refusal
        self.completed[grant.version] = request
        inode = Inode(
            grant.file_id, Kind.FILE, 0o644, "u", "g", request.length, 0, 0, 0, grant.version, grant.block_size, 0, 1
        )
        return wire.CompleteReply(inode)

    def _abort(self, request, _peer):
        self.aborted.append(unseal(self.secret, request.grant, wire.WriteGrant, 0).version)
        return wire.Empty()

    def _workers(self, _request, _peer):
        rows = [
            wire.WorkerRow(one.worker_id, one.host, one.address, one.local_socket, one.host_key, True, 0, one.tiers)
            for one in self.known.values()
        ]
        return wire.WorkersReply(rows)

    def _locations(self, request, _peer):
        holders = []
        for version in request.versions:
            row = self.cached.get(version)
            holders.append([] if row is None else [self._holder(worker_id, row) for worker_id in self.known])
        return wire.LocationsReply(holders)

    def _holder(self, worker_id, row):
        return BlockHolder(worker_id, row.memory_bytes, row.cached_bytes, row.blocks)
