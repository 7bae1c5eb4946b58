"""The processes that answer reads of the namespace.

Owns: starting them, starting them again when they die, and their addresses. Never: knows what a reader does; its
command line is an argument, its ready line (`run.lifecycle`) is all it says.

A reader holds the read end of a pipe whose other end the master holds: it ends when the master is gone, however.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Final

import msgspec

from isotach.base.limits import READER_RESTART_S_MAX
from isotach.master.background import Background
from isotach.net.async_client import AsyncConnection
from isotach.obs.log import get_logger
from isotach.obs.metrics import Metrics
from isotach.wire.messages import METRICS, Empty

log = get_logger("master.readers")
_READY_TIMEOUT_S: Final = 20.0
_FIRST_PAUSE_S: Final = 0.1
_STOP_TIMEOUT_S: Final = 5.0
_METRICS_TIMEOUT_S: Final = 2.0


class _Ready(msgspec.Struct):
    pid: int
    address: str
    ports: dict[str, int] = {}


class _Report(msgspec.Struct):
    ready: _Ready | None = None
    error: list[object] = []


class Readers:
    """`count` processes. `command` gives the command line of the reader with that index."""

    def __init__(self, count: int, command: Callable[[int], list[str]], tcp_host: str, background: Background) -> None:
        self._count = count
        self._command = command
        self._tcp_host = f"[{tcp_host}]" if ":" in tcp_host else tcp_host
        self._background = background
        self._ready: dict[int, _Ready] = {}
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._changed = asyncio.Event()
        self._life_read, self._life_write = os.pipe()
        self._stopping = False

    def start(self) -> None:
        """Begins to start all; `wait_ready` waits for them."""
        for index in range(self._count):
            self._background.spawn(f"reader-{index}", self._keep(index))

    async def wait_ready(self, timeout_s: float) -> bool:
        """Whether all serve within the time."""
        try:
            async with asyncio.timeout(timeout_s):
                while len(self._ready) < self._count:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    @property
    def pids(self) -> list[int]:
        return [ready.pid for _, ready in sorted(self._ready.items())]

    def unix_addresses(self) -> list[str]:
        """Of the readers that serve at present."""
        return [ready.address for _, ready in sorted(self._ready.items())]

    def tcp_addresses(self) -> list[str]:
        return [f"isotach://{self._tcp_host}:{ready.ports['rpc']}" for _, ready in sorted(self._ready.items())]

    async def collect(self, metrics: Metrics) -> None:
        """Takes in what the readers have counted."""
        for index, ready in list(self._ready.items()):
            try:
                connection = await AsyncConnection.open(ready.address, client="master", timeout_s=_METRICS_TIMEOUT_S)
                try:
                    reply, _ = await connection.call(METRICS, Empty(), deadline_s=_METRICS_TIMEOUT_S)
                finally:
                    await connection.close()
            except OSError as error:  # it is being started anew
                log.info("reader_not_counted", reader=index, error=str(error))
                metrics.drop_snapshot(f"reader-{index}")
            else:
                metrics.merge_snapshot(f"reader-{index}", reply.values)

    async def stop(self) -> None:
        """Asks all to end, waits, and kills what is left."""
        self._stopping = True
        os.close(self._life_write)
        os.close(self._life_read)
        processes = list(self._processes.values())
        for process in processes:
            _signal(process.terminate)
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                for process in processes:
                    await process.wait()
        except TimeoutError:
            for process in processes:
                _signal(process.kill)

    async def _keep(self, index: int) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._stopping:
            started = asyncio.get_running_loop().time()
            try:
                code = await self._run_once(index)
                if not self._stopping:
                    log.warning("reader_ended", reader=index, code=code)
            except (OSError, TimeoutError, msgspec.MsgspecError) as error:
                log.error("reader_failed", reader=index, error=str(error))
            finally:
                self._ready.pop(index, None)
            if asyncio.get_running_loop().time() - started > READER_RESTART_S_MAX:
                pause_s = _FIRST_PAUSE_S
            if not self._stopping:
                await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, READER_RESTART_S_MAX)

    async def _run_once(self, index: int) -> int:
        ready_read, ready_write = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command(index),
                "--ready-fd",
                str(ready_write),
                "--life-fd",
                str(self._life_read),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(ready_write, self._life_read),
            )
        finally:
            os.close(ready_write)
        self._processes[index] = process
        try:
            self._ready[index] = await _read_report(ready_read)
            self._changed.set()
            log.info("reader_started", reader=index, pid=process.pid, address=self._ready[index].address)
            return await process.wait()
        finally:
            if process.returncode is None:
                _signal(process.kill)
            self._processes.pop(index, None)


async def _read_report(descriptor: int) -> _Ready:
    """The reader's one line; an OSError when it ended without saying that it is ready."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb")
    )
    try:
        async with asyncio.timeout(_READY_TIMEOUT_S):
            line = await reader.readline()
    finally:
        transport.close()
    if not line:
        raise OSError("it ended before it was ready: see the log above")
    report = msgspec.json.decode(line, type=_Report)
    if report.ready is None:
        raise OSError(f"it could not start: {report.error}")
    return report.ready


def _signal(send: Callable[[], None]) -> None:
    try:
        send()
    except ProcessLookupError:
        pass  # ended by itself
