"""The client's pure choices: modes, workers, blocks, endpoints, arguments."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotach.base.errors import InvalidArgumentError
from isotach.base.types import BlockHolder, CacheState, Inode, Kind, TierInfo
from isotach.client import operations
from isotach.client.endpoints import better_master_address, reader_routes
from isotach.client.modes import OpenMode, parse_mode
from isotach.client.routing import ReadRule, block_locations, is_spread, rank_workers, worker_address
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


def placed(worker_id: str, rack: str, host_key: str = "far", state: str = "LIVE", free: int = 100) -> WorkerRow:
    locality = [("node", worker_id), ("rack", rack)]
    tiers = [TierInfo("MEM", 1000, 1000 - free)]
    return WorkerRow(worker_id, f"host-{worker_id}", "isotach://h:1", "", host_key, True, 0, tiers, state, locality)


def ranked(rows, cache, rule: ReadRule, length: int = 10) -> list[str]:
    return [each.worker_id for each in rank_workers(rows, "here", 7, cache, length, rule)]


def test_the_nearest_of_equals_goes_first_and_who_leaves_last():
    mine = (("node", "me"), ("rack", "r2"))
    rows = [placed("a", "r1"), placed("b", "r2"), placed("c", "r2", state="DECOMMISSIONING")]
    assert ranked(rows, None, ReadRule(locality=mine)) == ["b", "a", "c"]
    assert ranked(rows, CacheState(0, 0, [holder("c", 1, 10)]), ReadRule(locality=mine))[0] == "c"
    assert ranked(rows, CacheState(0, 0, [holder("a", 1, 10)]), ReadRule(locality=mine))[0] == "a"


def test_clients_of_a_hot_file_spread_over_its_copies():
    rows = [placed(name, "r1") for name in "abcd"]
    cache = CacheState(0, 0, [holder(name, 1, 10) for name in "abc"])
    firsts = [ranked(rows, cache, ReadRule(asker=bytes([number])))[0] for number in range(200)]
    assert set(firsts) == set("abc")
    assert all(firsts.count(name) > 40 for name in "abc")


def test_a_policy_decides_who_caches_what_nobody_holds_and_only_that():
    rows = [placed("a", "r1", free=10), placed("b", "r1", "here", free=5), placed("c", "r2", free=50)]
    assert ranked(rows, None, ReadRule())[0] == "b"
    assert ranked(rows, None, ReadRule("MOST_AVAILABLE")) == ["c", "a", "b"]
    assert ranked(rows, CacheState(0, 0, [holder("b", 1, 10)]), ReadRule("MOST_AVAILABLE"))[0] == "b"
    assert ranked(rows, CacheState(0, 0, [holder("b", 1, 5)]), ReadRule("MOST_AVAILABLE"))[0] == "c"
    assert ranked(rows, None, ReadRule("SPECIFIC_HOST", host="host-a")) == ["a", "b", "c"]
    turns = [ranked(rows, None, ReadRule("ROUND_ROBIN", turn=turn))[0] for turn in range(6)]
    assert turns == ["a", "b", "c"] * 2


@given(st.integers(1, 1 << 40), st.integers(1, 3))
def test_under_hash_every_client_asks_one_of_the_same_few(file_id, shards):
    rows = [placed(name, "r1") for name in "abcdef"]
    askers = [ReadRule("HASH", shards=shards, file_id=file_id, locality=(("node", name),)) for name in "abcdefx"]
    assert len({ranked(rows, None, asker)[0] for asker in askers}) <= shards
    assert sorted(ranked(rows[::-1], None, askers[0])) == list("abcdef")
