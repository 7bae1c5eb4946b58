"""Workers that read from one another: instead of the under storage where they can, never worse than it."""

import threading
import time

import pytest

from isotach.base.errors import DataCorruptionError
from isotach.base.limits import MIB, PAGE_BYTES
from isotach.blockstore.checksum import page_checksums
from isotach.conf.load import load_settings
from isotach.net.address import host_key
from isotach.net.blocking_client import BlockingConnection
from isotach.net.thread_server import ThreadRpcServer
from isotach.wire import messages as wire
from isotach.worker.metrics import WorkerMetrics
from isotach.worker.peers import CopiesElsewhere, PeerWorkers
from isotach.worker.server import Worker

from .conftest import SECRET
from .test_reading import content


@pytest.fixture
def second(world):
    """Another worker of the same cluster."""
    folder = world.folder / "second"
    settings = load_settings(
        {
            "dir": str(folder),
            "worker.mem_dir": str(folder / "mem"),
            "worker.mem_size": "64MiB",
            "worker.port": "0",
            "worker.web_port": "-1",
            "worker.heartbeat_interval": "100ms",
        },
        env={},
        file=None,
    )
    worker = Worker(settings, world.master.address, SECRET)
    worker.start()
    yield worker
    worker.stop()


def read_all(worker: Worker, grant: bytes, length: int, holders: list[str]) -> bytes:
    with BlockingConnection.open(worker.address) as connection:
        opened, _ = connection.call(wire.OPEN, wire.OpenRequest(grant, "CACHE", False, holders))
        requests = [wire.ReadRequest(opened.handle, at, 4 * MIB) for at in range(0, length, 4 * MIB)]
        return b"".join(bytes(connection.call(wire.READ, request)[1]) for request in requests)


def value(worker: Worker, name: str, **labels: str) -> float:
    return worker.metrics.registry.counter(name, **labels).value


def cached_at_first(world, data: bytes) -> bytes:
    grant = world.put_ufs("f", data)
    reply, _ = world.connect().call(wire.LOAD, wire.LoadRequest(grant))
    assert reply.cached_bytes == len(data)
    return grant


@pytest.mark.parametrize("size", [100_000, 20 * MIB + 5])
def test_what_another_worker_holds_is_read_from_there(world, second, size, eventually):
    data = content(size)
    grant = cached_at_first(world, data)
    eventually(lambda: world.master.cached)
    (world.ufs / "f").unlink()
    assert read_all(second, grant, size, [world.worker.worker_id]) == data
    assert value(second, "read_bytes", source="remote") >= size
    assert value(second, "read_bytes", source="ufs") == 0
    assert value(world.worker, "shared_bytes") >= size


def test_a_dead_worker_costs_one_short_wait(world, second):
    data = content(20 * MIB)
    grant = cached_at_first(world, data)
    first = world.worker.worker_id
    second._reading._peers.rows()  # the table in memory still calls it live
    world.stop_worker()
    began = time.monotonic()
    assert read_all(second, grant, len(data), [first]) == data
    assert time.monotonic() - began < 5
    assert value(second, "read_bytes", source="remote") == 0


def test_a_flipped_bit_at_the_holder_is_found_dropped_there_and_never_passed_on(world, second, eventually):
    data = content(6 * MIB)
    grant = cached_at_first(world, data)
    eventually(lambda: world.master.cached)
    version = world.worker.store.versions()[0]
    container = next((world.folder / "mem").rglob(f"{version:016x}"))
    with container.open("r+b") as file:
        file.seek(2 * PAGE_BYTES + 77)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 4]))
    assert read_all(second, grant, len(data), [world.worker.worker_id]) == data
    assert value(second, "transfer_crc_errors") == 1
    assert world.worker.store.checksum_errors == 1
    assert not world.worker.store.get(version).complete


def _row(worker_id: str, address: str) -> wire.WorkerRow:
    return wire.WorkerRow(worker_id, "host", address, "", "another host", True, 0, [])


class StubPeer:
    """Serves FETCH_VERSION as `answer` does."""

    def __init__(self, answer) -> None:
        self.calls: list[wire.FetchVersionRequest] = []

        def handle(call) -> None:
            self.calls.append(call.request)
            answer(call)

        self.server = ThreadRpcServer(
            {wire.FETCH_VERSION: handle}, lambda: wire.Welcome(1, "worker", "stub", host_key())
        )
        self.row = _row("stub", str(self.server.listen("isotach://127.0.0.1:0")))
        self.peers = PeerWorkers(SECRET, "me", "my host", lambda: [self.row], WorkerMetrics())
        self.copies = CopiesElsewhere(self.peers, 7, 3 * PAGE_BYTES, 64 * MIB, ["stub"], lambda _: ([], []))

    def close(self) -> None:
        self.peers.close()
        self.server.close()


@pytest.fixture
def stub_peer():
    made = []

    def make(answer) -> StubPeer:
        made.append(StubPeer(answer))
        return made[-1]

    yield make
    for stub in made:
        stub.close()


def test_bytes_that_change_on_the_way_are_refused(stub_peer):
    good = content(3 * PAGE_BYTES)
    bad = bytearray(good)
    bad[PAGE_BYTES + 9] ^= 1
    stub = stub_peer(lambda call: call.reply(wire.ReadReply(len(bad), page_checksums(good)), bytes(bad)))
    with pytest.raises(DataCorruptionError, match="check the network"):
        stub.peers.fetch(stub.row, 7, 0, len(good), 5.0)
    assert [request.checked for request in stub.calls] == [False, True]
    assert stub.copies.read(0, len(good)) is None


def test_bytes_that_change_once_are_asked_for_again(stub_peer):
    good = content(3 * PAGE_BYTES)
    answers = [b"\1" + good[1:], good]
    stub = stub_peer(lambda call: call.reply(wire.ReadReply(len(good), page_checksums(good)), answers.pop(0)))
    assert stub.copies.read(0, len(good)) == good


def test_a_slow_worker_is_given_up_and_left_alone(stub_peer):
    gate = threading.Event()
    stub = stub_peer(lambda call: (gate.wait(10), call.reply(wire.ReadReply(0))))
    began = time.monotonic()
    assert stub.copies.read(0, PAGE_BYTES) is None
    assert time.monotonic() - began < 3
    assert stub.peers.is_left_alone("stub")
    assert not stub.copies.may_help
    assert len(stub.calls) == 1
    gate.set()


def test_near_workers_are_asked_first():
    own = wire.WorkerRow("me", "h", "a:1", "", "k1", True, 0, [], "LIVE", [("node", "n1"), ("rack", "r1")])
    far = wire.WorkerRow("far", "h", "a:2", "", "k2", True, 0, [], "LIVE", [("node", "n2"), ("rack", "r2")])
    rack = wire.WorkerRow("rack", "h", "a:3", "", "k3", True, 0, [], "LIVE", [("node", "n3"), ("rack", "r1")])
    host = wire.WorkerRow("host", "h", "a:4", "", "k1", True, 0, [])
    dead = wire.WorkerRow("dead", "h", "a:5", "", "k1", False, 0, [])
    peers = PeerWorkers(SECRET, "me", "k1", lambda: [far, rack, own, host, dead], WorkerMetrics())
    assert [row.worker_id for row in peers.rows()] == ["host", "rack", "far"]
