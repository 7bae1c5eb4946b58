"""What a master keeps in memory: nothing for each file, and nothing that grows while workers come by and idle."""

import asyncio
import gc
import tracemalloc
from contextlib import AsyncExitStack

from isotach.net.async_client import AsyncConnection
from isotach.wire import messages as wire

from .conftest import connected
from .scripted_worker import ScriptedWorker

FILES = 2500
#: A file's record alone has more bytes than this on disk: it cannot be in memory.
BYTES_PER_FILE_MAX = 50
WORKERS = 200
ROUNDS = 6
GROWTH_MAX = 256 * 1024


def _python_bytes() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def test_files_live_in_the_store_and_not_in_memory(home, run):
    async def scenario():
        for index in range(FILES):
            target = home.store / f"d{index % 20}" / f"{index:06}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        async with home.client() as client:
            await client.list(b"/d0", 0)  # what is set up at the first use is no growth
            before = _python_bytes()
            submitted = await client.call(wire.JOB_SUBMIT, wire.JobSubmitRequest("LOAD", b"/", metadata_only=True))
            row = (await client.call(wire.JOB_STATUS, wire.JobRequest(submitted.job.job_id, 60_000))).job
            assert (row.state, row.files_done) == ("DONE", FILES), row
            assert _python_bytes() - before < FILES * BYTES_PER_FILE_MAX

    tracemalloc.start()
    try:
        run(scenario)
    finally:
        tracemalloc.stop()


def test_hundreds_of_workers_register_at_once_and_idle_without_growth(home, run):
    async def scenario():
        async with home.master() as master, connected(master) as client, AsyncExitStack() as stack:
            secret = (home.path / "secret").read_bytes()
            workers = []
            for index in range(WORKERS):
                connection = await AsyncConnection.open(master.address)
                stack.push_async_callback(connection.close)
                workers.append(ScriptedWorker(connection, f"w{index:03}", secret, home.store))
            await asyncio.gather(*(worker.register() for worker in workers))
            await asyncio.gather(*(worker.report(first=True) for worker in workers))
            listed = (await client.call(wire.WORKERS, wire.Empty())).workers
            assert sum(row.live for row in listed) == WORKERS
            before = 0
            for number in range(2 * ROUNDS):
                if number == ROUNDS:
                    before = _python_bytes()
                await asyncio.gather(*(worker.heartbeat() for worker in workers))
            assert _python_bytes() - before < GROWTH_MAX

    tracemalloc.start()
    try:
        run(scenario)
    finally:
        tracemalloc.stop()
