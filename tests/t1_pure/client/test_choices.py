"""The client's pure choices: modes, workers, blocks, endpoints, arguments."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotach.base.errors import InvalidArgumentError
from isotach.base.types import BlockHolder, CacheState, Inode, Kind
from isotach.client import operations
from isotach.client.endpoints import better_master_address, reader_routes
from isotach.client.modes import OpenMode, parse_mode
from isotach.client.routing import block_locations, is_spread, rank_workers, worker_address
from isotach.net.address import Address
from isotach.wire.messages import Welcome, WorkerRow


def row(worker_id: str, host_key: str = "far") -> WorkerRow:
    return WorkerRow(worker_id, f"host-{worker_id}", "isotach://h:1", "", host_key, True, 0, [])


def holder(worker_id: str, blocks: int, cached: int = 1) -> BlockHolder:
    return BlockHolder(worker_id, 0, cached, blocks.to_bytes(2, "little"))


def test_modes():
    assert parse_mode("rb") == OpenMode(writes=False, exclusive=False, text=False)
    assert parse_mode("w") == OpenMode(writes=True, exclusive=False, text=True)
    assert parse_mode("bx") == OpenMode(writes=True, exclusive=True, text=False)


def test_local_worker_first_then_holder():
    rows = [row("a"), row("b", "here"), row("c")]
    cache = CacheState(0, 0, [holder("c", 1, 10)])
    assert [each.worker_id for each in rank_workers(rows, "here", 1, cache)] == ["b", "c", "a"]


@given(st.integers(1, 1 << 40))
def test_without_reasons_all_clients_choose_the_same_worker(version):
    rows = [row(name) for name in "abcdef"]
    first = rank_workers(rows, "x", version, None)
    assert list(first) == list(rank_workers(rows[::-1], "y", version, None))


def test_versions_spread_over_workers():
    rows = [row(name) for name in "abcd"]
    chosen = [rank_workers(rows, "x", version, None)[0].worker_id for version in range(400)]
    assert all(chosen.count(name) > 40 for name in "abcd")


def test_spread_only_when_nobody_holds_all():
    assert is_spread(CacheState(0, 0, [holder("a", 0b01), holder("b", 0b10)]), 2)
    assert not is_spread(CacheState(0, 0, [holder("a", 0b11), holder("b", 0b10)]), 2)
    assert not is_spread(CacheState(0, 0, [holder("a", 0b01)]), 2)
    assert not is_spread(None, 2)


def test_block_locations_name_live_workers_only():
    inode = Inode(1, Kind.FILE, 0o644, "u", "g", 25, 0, 0, 0, 7, 10, 0, 1)
    found = block_locations(inode, [holder("a", 0b101), holder("gone", 0b111)], [row("a")])
    assert [(each.offset, each.length, each.workers) for each in found] == [
        (0, 10, ["a"]),
        (10, 10, []),
        (20, 5, ["a"]),
    ]
    assert found[0].hosts == ["host-a"]


def test_worker_address_by_socket_only_when_local(tmp_path):
    socket = tmp_path / "w.sock"
    socket.touch()
    local = WorkerRow("a", "h", "isotach://h:1", str(socket), "here", True, 0, [])
    assert worker_address(local, "here", True) == Address.unix(socket)
    assert worker_address(local, "here", False) == Address.tcp("h", 1)
    assert worker_address(local, "elsewhere", True) == Address.tcp("h", 1)


def test_better_master_address(tmp_path):
    socket = tmp_path / "m.sock"
    socket.touch()
    tcp, unix = Address.tcp("h", 1), Address.unix(socket)
    welcome = Welcome(1, "master", "id", "here", [], "root", str(socket), str(tcp))

    def better(address, user=None, short=True, key="here"):
        return better_master_address(address, welcome, host_key=key, declared_user=user, short_circuit=short)

    assert better(tcp) == unix
    assert better(tcp, key="elsewhere") is None
    assert better(tcp, short=False) is None
    assert better(tcp, user="alice") is None
    assert better(unix) is None
    assert better(unix, user="root") is None
    assert better(unix, user="alice") == tcp


def test_every_reader_route_ends_at_the_master():
    welcome = Welcome(1, "master", "id", "here", ["isotach://r:1", "isotach://r:2"])
    routes = reader_routes(Address.tcp("m", 9), welcome)
    assert [[str(address) for address in route] for route in routes] == [
        ["isotach://r:1", "isotach://r:2", "isotach://m:9"],
        ["isotach://r:2", "isotach://r:1", "isotach://m:9"],
    ]


def test_arguments_become_wire_values():
    assert operations.interval_ms(None) is None
    assert operations.interval_ms(-1) == -1
    assert operations.interval_ms(1.5) == 1500
    assert operations.ttl_ms(None) == -1
    assert operations.ttl_ms(0.0001) == 1
    assert operations.ttl_action("free") == "FREE"
    assert operations.mode_bits(None) == -1
    mounted = operations.mount("/a", "s3://b", {"allow_http": True, "region": None, "n": 3}, False, None).request
    assert mounted.options == {"allow_http": "true", "n": "3"}


@pytest.mark.parametrize(
    "call",
    [
        lambda: operations.mode_bits(0o10000),
        lambda: operations.ttl_ms(0),
        lambda: operations.ttl_action("BURN"),
        lambda: operations.block_bytes(1),
        lambda: operations.chown("/a", None, None, False),
        lambda: operations.stat("relative", None),
        lambda: operations.stat("/a/../b", None),
        lambda: operations.read_type("SLOWLY"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_sent(call):
    with pytest.raises(InvalidArgumentError):
        call()
