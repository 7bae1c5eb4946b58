"""Bounded memory: two hundred slow readers of a file far larger than the cache, and nobody who waits for ever."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from isotach.base.limits import GIB, MIB
from isotach.base.types import Mount
from isotach.blockstore.checksum import extend
from isotach.net.blocking_client import BlockingConnection
from isotach.wire import messages as wire
from isotach.wire.grants import seal
from isotach.worker.buffers import BufferBudget

from .conftest import MOUNT_ID, SECRET
from .fake_master import FakeMaster
from .test_reading import content

READERS = 200
LENGTH = 10 * GIB
LIMIT = 64 * MIB
REQUEST = 2 * MIB
#: Stacks, heap and sockets of as many connections and threads, which are not fetched bytes.
PROCESS_BYTES = 48 * MIB


@pytest.fixture
def worker_process(tmp_path):
    master = FakeMaster(tmp_path / "m.sock", SECRET, [Mount(MOUNT_ID, 1, b"/", f"file://{tmp_path}/ufs", {})]).start()
    (tmp_path / "ufs").mkdir()
    (tmp_path / "w").mkdir()
    command = [sys.executable, "-m", "worker.slow_readers_worker", str(tmp_path / "w"), master.address, str(LIMIT)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent, env={**os.environ, "MALLOC_ARENA_MAX": "2"}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"serving\n"
        yield tmp_path, process
        process.kill()
    master.stop()


def _sparse_file(folder: Path) -> str:
    """Ten GiB without a block, and the fingerprint that the driver gives it."""
    from isotach.ufs.registry import open_under_storage

    with (folder / "ufs" / "large").open("wb") as file:
        file.truncate(LENGTH)
    storage = open_under_storage(f"file://{folder}/ufs", {})
    try:
        fingerprint = storage.stat("large").fingerprint
    finally:
        storage.close()
    assert fingerprint is not None
    return fingerprint


def test_two_hundred_slow_readers_stay_within_the_buffer_memory(worker_process):
    folder, process = worker_process
    grant = wire.ReadGrant(50, 1, LENGTH, 64 * MIB, MOUNT_ID, b"large", _sparse_file(folder), False, 1 << 40, "reader")
    sealed = seal(SECRET, grant)
    address = "isotach+unix://" + (folder / "w" / "address").read_text()
    measured = psutil.Process(process.pid)
    before = measured.memory_info().rss - measured.memory_info().shared
    connections = [BlockingConnection.open(address) for _ in range(READERS)]
    peak = 0

    def look() -> None:
        nonlocal peak
        info = measured.memory_info()
        peak = max(peak, info.rss - info.shared)

    def begin(number: int) -> int:
        """Asks for two ranges of its own part of the file, and takes next to nothing of the first."""
        connection = connections[number]
        opened, _ = connection.call(wire.OPEN, wire.OpenRequest(sealed, "CACHE", False))
        start = number * (LENGTH // READERS // MIB) * MIB
        calls = [
            connection.send(wire.READ, wire.ReadRequest(opened.handle, start + REQUEST * step, REQUEST))
            for step in range(2)
        ]
        connection.receive_header(calls[0])
        connection.receive_payload_into(memoryview(bytearray(64 * 1024)))
        look()
        return calls[1]

    second_calls = [begin(number) for number in range(READERS)]
    look()
    zeros = extend(0, bytes(REQUEST))
    wrong: list[int] = []

    def finish(number: int) -> None:
        connection = connections[number]
        rest = memoryview(bytearray(REQUEST))
        connection.receive_payload_into(rest[: REQUEST - 64 * 1024])
        connection.receive_header(second_calls[number])
        connection.receive_payload_into(rest)
        look()
        if extend(0, rest) != zeros:
            wrong.append(number)

    threads = []
    for start in range(0, READERS, 20):  # now they all go on, some at a time; the others still hold what they hold
        threads = [threading.Thread(target=finish, args=(number,)) for number in range(start, start + 20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive(), "a reader waits for ever"
    for connection in connections:
        connection.close()
    assert wrong == []
    assert peak - before < LIMIT + PROCESS_BYTES, f"{(peak - before) // MIB} MiB"


@pytest.mark.parametrize("write_type", ["MUST_CACHE", "CACHE_THROUGH"])
def test_writers_without_memory_for_large_pieces_go_on_in_small_ones(make_world, write_type):
    world = make_world(worker__buffer_memory="32MiB", worker__mem_size="256MiB")
    budget = world.worker._writes._budget
    data = content(20 * MIB + 3)
    grants = [world.write_grant(f"f{number}", write_type) for number in range(6)]
    hoarded = budget.take(5 * MIB)
    peaks = []

    def write(version: int, grant: bytes) -> None:
        with BlockingConnection.open(f"isotach+unix://{world.worker.local_socket}") as connection:
            handle = connection.call(wire.WRITE_OPEN, wire.WriteOpenRequest(grant))[0].handle
            for at in range(0, len(data), 4 * MIB):
                connection.call(wire.WRITE, wire.WriteRequest(handle, at), data[at : at + 4 * MIB])
                peaks.append(budget.used_bytes)
            connection.call(wire.COMMIT, wire.CommitRequest(handle, len(data)))

    threads = [threading.Thread(target=write, args=pair) for pair in grants]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert max(peaks) <= 8 * MIB
    for version, _ in grants:
        assert world.master.completed[version].length == len(data)
        container = next((world.folder / "mem").rglob(f"{version:016x}"))
        assert container.read_bytes() == data
    assert hoarded is not None
    hoarded.give_back()


def test_shares_end_with_those_who_hold_them():
    budget = BufferBudget(100)
    first = budget.take(30)
    assert first is not None
    assert budget.is_tight
    assert budget.take(1, is_ahead=True) is None
    second = budget.take(20)
    assert second is not None
    assert budget.take(1) is None
    del first
    assert budget.used_bytes == 20
    second.give_back()
    second.give_back()
    assert (budget.used_bytes, budget.refusals) == (0, 2)
