"""Two workers in one cluster: blocks that go round, reads from the worker that holds them, its death.

Owns: what several workers do together. Never: partitions (`test_partitions.py`).
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import isotach

MIB = 1 << 20


@pytest.fixture
def cluster(start) -> isotach.Cluster:
    """Two workers, which count as two hosts of which a client is on neither."""
    return start(workers=2, worker__host_key="elsewhere")


@pytest.fixture
def spread(cluster) -> Iterator[isotach.FileSystem]:
    """A client whose blocks go round both workers."""
    with isotach.connect(cluster.address, write_location_policy="ROUND_ROBIN") as client:
        yield client


@pytest.mark.parametrize("write_type", ["MUST_CACHE", "CACHE_THROUGH", "ASYNC_THROUGH"])
def test_blocks_go_round_and_are_read_back(cluster, spread, fs, eventually, write_type):
    data = os.urandom(7 * MIB + 5)
    with spread.open("/spread", "wb", write_type=write_type, block_size=2 * MIB) as out:
        out.write(data)

    holders = [location.workers for location in fs.locations("/spread")]
    assert len(holders) == 4
    assert len({worker for workers in holders for worker in workers}) == 2
    assert fs.read("/spread") == data
    assert fs.stat("/spread").cached_percent == 100
    with fs.open("/spread") as stream:
        stream.seek(3 * MIB)
        assert stream.read(2 * MIB) == data[3 * MIB : 5 * MIB]
    if write_type != "MUST_CACHE":
        eventually(lambda: fs.stat("/spread").persisted)
        assert (Path(cluster.settings.master.root_ufs) / "spread").read_bytes() == data


def test_a_dead_worker_costs_speed_but_no_persisted_data(cluster, spread, fs):
    data = os.urandom(5 * MIB)
    with spread.open("/kept", "wb", write_type="CACHE_THROUGH", block_size=MIB) as out:
        out.write(data)
    cluster.stop_worker(2)
    assert fs.read("/kept") == data


@pytest.mark.parametrize("policy", ["LOCAL_FIRST", "MOST_AVAILABLE", "HASH"])
def test_other_policies(cluster, fs, policy):
    with isotach.connect(cluster.address, write_location_policy=policy) as client:
        client.write(f"/{policy}", b"p" * 3 * MIB, write_type="MUST_CACHE")
    assert fs.read(f"/{policy}") == b"p" * 3 * MIB
