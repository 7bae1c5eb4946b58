"""A worker without a cache: it speaks the real protocol to the master under test and does what a script says."""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

from isotach.base.types import BlockHolder, TierInfo
from isotach.net.async_client import AsyncConnection
from isotach.wire import messages as wire
from isotach.wire.grants import prove, unseal


class ScriptedWorker:
    """`contents` are the bytes it holds, by version. Commands are carried out at once and kept in `commands`."""

    def __init__(self, connection: AsyncConnection, worker_id: str, secret: bytes, store: Path) -> None:
        self.connection = connection
        self.worker_id = worker_id
        self.secret = secret
        self.store = store
        self.contents: dict[int, bytes] = {}
        self.file_ids: dict[int, int] = {}
        self.commands: list[wire.Command] = []
        self.refuse_persist = ""
        self.refuse_copies = ""
        self.silent = True
        self.dirty: set[int] = set()
        self.incarnation = ""
        self.sequence = 0

    async def call(self, method, request, deadline_s: float = 30.0):
        reply, _ = await self.connection.call(method, request, deadline_s=deadline_s)
        return reply

    async def register(self, sequence: int = -1) -> wire.RegisterReply:
        address = f"isotach://test:{len(self.worker_id)}"
        proof = prove(self.secret, self.worker_id.encode(), address.encode())
        tiers = [TierInfo("MEM", 1 << 30, 0)]
        request = wire.RegisterRequest(
            self.worker_id, f"host-{self.worker_id}", address, "", "kernel", tiers, proof, self.incarnation,
            sequence=sequence,
        )  # fmt: skip
        return await self.call(wire.REGISTER, request)

    async def heartbeat(self) -> wire.HeartbeatReply:
        return await self.call(wire.HEARTBEAT, wire.HeartbeatRequest(self.worker_id, []))

    def holder(self, length: int) -> BlockHolder:
        return BlockHolder(self.worker_id, length, length, b"\x01")

    async def report(self, *versions: int, removed: tuple[int, ...] = (), first: bool = False, dirty: bool = False):
        changed = [
            wire.ReportedVersion(
                version,
                self.file_ids[version],
                len(self.contents[version]),
                1 << 26,
                len(self.contents[version]),
                len(self.contents[version]),
                b"\x01",
                dirty,
            )
            for version in versions
        ]
        self.sequence += 1
        request = wire.ReportRequest(self.worker_id, changed, list(removed), first, last=first, sequence=self.sequence)
        return (await self.call(wire.REPORT, request)).obsolete

    async def write(self, client, path: bytes, data: bytes, write_type: str = "MUST_CACHE"):
        """What a client and this worker do together to write a file."""
        created = await client.create(path, write_type)
        grant = unseal(self.secret, created.grant, wire.WriteGrant, 0.0)
        self.contents[created.version] = data
        self.file_ids[created.version] = grant.file_id
        complete = wire.CompleteRequest(created.grant, len(data), holder=self.holder(len(data)))
        if write_type in ("CACHE_THROUGH", "THROUGH"):
            begun = await self.begin(grant=created.grant)
            self._put(begun.ufs_path.decode(), data)
            complete = wire.CompleteRequest(
                created.grant, len(data), "fingerprint", persisted=True, holder=self.holder(len(data))
            )
        return (await self.call(wire.COMPLETE, complete)).inode

    async def begin(self, grant: bytes = b"", version: int = 0) -> wire.BeginCommitReply:
        return await self.call(wire.BEGIN_COMMIT, wire.BeginCommitRequest(grant, version, self.worker_id))

    def _put(self, ufs_path: str, data: bytes) -> None:
        target = self.store / ufs_path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    async def beat(self) -> None:
        """Heartbeats for ever, or until it is `silent`."""
        while not self.silent:
            await self.heartbeat()
            await asyncio.sleep(0.1)

    async def serve(self) -> None:
        """Polls for ever and carries out what comes."""
        done: list[wire.CommandResult] = []
        while True:
            reply = await self.call(wire.POLL, wire.PollRequest(self.worker_id, 1000, done))
            done = [await self._carry_out(command) for command in reply.commands]

    async def _carry_out(self, command: wire.Command) -> wire.CommandResult:
        self.commands.append(command)
        if command.kind == "PERSIST":
            if self.refuse_persist:
                return wire.CommandResult(command.command_id, False, self.refuse_persist)
            begun = await self.begin(version=command.version)
            self._put(begun.ufs_path.decode(), self.contents[command.version])
            await self.call(wire.END_COMMIT, wire.EndCommitRequest(begun.intent_id, command.version, "fingerprint"))
        if command.kind == "REPLICATE":
            if self.refuse_copies:
                return wire.CommandResult(command.command_id, False, self.refuse_copies)
            grant = unseal(self.secret, command.grant, wire.ReadGrant, 0.0)
            self.contents[command.version] = b"r" * grant.length
            self.file_ids[command.version] = grant.file_id
            await self.report(command.version, dirty=command.dirty)
        if command.kind == "FREE":
            self.contents.pop(command.version, None)
        return wire.CommandResult(command.command_id, True)

    def kinds(self, version: int) -> list[str]:
        """The commands that came for a version."""
        return [command.kind for command in self.commands if command.version == version]


@asynccontextmanager
async def worker_of(
    home, master, worker_id: str = "w1", *, serve: bool = True, sequence: int | None = None, incarnation: str = ""
):
    """A registered worker on a connection of its own. With a `sequence` it says that it has reported up to there, and
    reports nothing by itself."""
    connection = await AsyncConnection.open(master.address)
    worker = ScriptedWorker(connection, worker_id, (home.path / "secret").read_bytes(), home.store)
    worker.incarnation = incarnation
    worker.reply = await worker.register(-1 if sequence is None else sequence)
    if sequence is None:
        await worker.report(first=True)
    worker.silent = not serve
    tasks = [asyncio.create_task(worker.serve()), asyncio.create_task(worker.beat())] if serve else []
    try:
        yield worker
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await connection.close()
