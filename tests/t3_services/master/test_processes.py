"""The master and its readers as processes: who starts, dies, is replaced and ends with whom."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager

import psutil

from isotach.net.async_client import AsyncConnection
from isotach.wire import messages as wire

from .conftest import Client, eventually


class MasterProcess:
    """One running master process, as its parent sees it."""

    def __init__(self, home, **overrides) -> None:
        given = {"dir": str(home.path), "master.port": "0", "master.web_port": "-1", "master.readers": "1"} | overrides
        read, write = os.pipe()
        command = [sys.executable, "-m", "isotach.run.master_main", "--overrides", json.dumps(given)]
        self.process = subprocess.Popen([*command, "--ready-fd", str(write)], pass_fds=(write,))
        os.close(write)
        with os.fdopen(read) as stream:
            self.report = json.loads(stream.readline())

    @property
    def address(self) -> str:
        return self.report["ready"]["address"]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(20)


@asynccontextmanager
async def client_of(address: str):
    connection = await AsyncConnection.open(address)
    try:
        yield Client(connection)
    finally:
        await connection.close()


def test_a_reader_sees_every_acknowledged_write(home, run):
    async def scenario():
        master = MasterProcess(home)
        try:
            async with client_of(master.address) as client:
                async with client_of(client.connection.welcome.readers[0]) as reader:
                    for number in range(50):
                        inode = await client.write(b"/f%d" % number)
                        assert (await reader.stat(b"/f%d" % number)).inode == inode
                    (home.store / "behind").write_text("hello")
                    assert (await reader.stat(b"/behind")).inode.length == 5
                    assert len(await reader.list(b"/")) == 51
        finally:
            assert master.stop() == 0

    run(scenario)


def test_a_reader_that_dies_is_replaced(home, run):
    async def scenario():
        master = MasterProcess(home)
        try:
            async with client_of(master.address) as client:
                (first,) = (await client.call(wire.STATUS, wire.Empty())).reader_pids
                os.kill(first, signal.SIGKILL)

                async def replaced() -> bool:
                    pids = (await client.call(wire.STATUS, wire.Empty())).reader_pids
                    return len(pids) == 1 and pids != [first]

                await eventually(replaced, 20.0)
        finally:
            master.stop()

    run(scenario)


def test_readers_end_with_their_master_and_a_new_one_takes_over(home, run):
    async def scenario():
        master = MasterProcess(home)
        async with client_of(master.address) as client:
            inode = await client.write(b"/kept")
            (reader,) = (await client.call(wire.STATUS, wire.Empty())).reader_pids
        master.kill()

        async def ended() -> bool:
            return not psutil.pid_exists(reader) or psutil.Process(reader).status() == psutil.STATUS_ZOMBIE

        await eventually(ended)
        again = MasterProcess(home)
        try:
            async with client_of(again.address) as client:
                async with client_of(client.connection.welcome.readers[0]) as reader_client:
                    assert (await reader_client.stat(b"/kept")).inode == inode
        finally:
            again.stop()

    run(scenario)


def test_a_second_master_says_why_it_does_not_start(home, run):
    async def scenario():
        master = MasterProcess(home, **{"master.readers": "0"})
        try:
            second = await asyncio.to_thread(MasterProcess, home)
            assert second.report["error"][0] == "already_running"
            assert second.process.wait(10) == 1
        finally:
            master.stop()

    run(scenario)
