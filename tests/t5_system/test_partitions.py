"""A worker behind a network that is cut or slow: nobody hangs, reads go elsewhere, and it is taken back afterwards.

Owns: faults of the network, made with namespaces of the kernel. Never: kills a process.
"""

import os
import time
from collections.abc import Iterator

import pytest

import isotach
from isotach.testing.netns import NetNamespace, missing

MIB = 1 << 20
WORKER_TIMEOUT_S = 2
pytestmark = pytest.mark.root


@pytest.fixture
def far(start) -> Iterator[tuple[isotach.Cluster, NetNamespace]]:
    """A cluster with one worker here and one in a network of its own, called `far`."""
    problem = missing()
    if problem is not None:
        pytest.skip(problem)
    with NetNamespace() as net:
        cluster = start(
            mem="128MiB",
            master__bind_host=net.here,
            worker__bind_host=net.here,
            worker__host_key="here",
            worker__heartbeat_interval="0.3s",
            master__worker_timeout=f"{WORKER_TIMEOUT_S}s",
        )
        cluster.add_worker(
            launcher=net.launcher, address=cluster.tcp_address, worker__bind_host=net.inside, worker__host="far"
        )
        try:
            yield cluster, net
        finally:
            net.heal()
            cluster.stop()


def live_hosts(fs: isotach.FileSystem) -> set[str]:
    return {worker.host for worker in fs.workers() if worker.live}


def hosts_of(fs: isotach.FileSystem, path: str) -> set[str]:
    return {host for location in fs.locations(path) for host in location.hosts}


def written_on(fs: isotach.FileSystem, host: str, data: bytes, write_type: str) -> str:
    """The path of a file with these bytes that lies on that host alone."""
    for number in range(12):
        path = f"/{write_type}-{host}-{number}"
        fs.write(path, data, write_type=write_type)
        if hosts_of(fs, path) == {host}:
            return path
    pytest.fail(f"no file came to {host}")


@pytest.mark.fault(
    "network of a worker cut", "reads fall to the store within seconds; it is lost, then taken back as it is"
)
def test_a_cut_network(far, eventually):
    cluster, net = far
    data = os.urandom(16 * MIB)
    with isotach.connect(cluster.address, write_location_policy="ROUND_ROBIN", block_size=64 * MIB) as fs:
        eventually(lambda: len(live_hosts(fs)) == 2)
        persisted = written_on(fs, "far", data, "CACHE_THROUGH")
        only_there = written_on(fs, "far", data[:MIB], "MUST_CACHE")
        with fs.open(persisted) as stream:
            got = [stream.read(MIB)]
            net.cut()
            started = time.monotonic()
            got.append(stream.read())
            assert b"".join(got) == data
            assert fs.read(persisted) == data
            fs.write("/meanwhile", data, write_type="CACHE_THROUGH")
            assert fs.read("/meanwhile") == data
            assert time.monotonic() - started < 30
        eventually(lambda: "far" not in live_hosts(fs), timeout=10, message="a worker that is cut off counts as live")
        with pytest.raises(OSError, match="worker"):
            fs.read(only_there)

        net.heal()
        eventually(lambda: "far" in live_hosts(fs), timeout=20, message="the worker is not taken back")
        eventually(lambda: hosts_of(fs, only_there) == {"far"} and not list(fs.lost("/")), timeout=15)
        assert fs.read(only_there) == data[:MIB]


@pytest.mark.fault("network of a worker slow (1 MB/s)", "its readers are slow, all others are not")
def test_a_slow_network(far, eventually):
    cluster, net = far
    data = os.urandom(3 * MIB)
    with isotach.connect(cluster.address, write_location_policy="ROUND_ROBIN", block_size=64 * MIB) as fs:
        eventually(lambda: len(live_hosts(fs)) == 2)
        there = written_on(fs, "far", data, "MUST_CACHE")
        here = written_on(fs, min(live_hosts(fs) - {"far"}), data, "MUST_CACHE")
        net.slow(MIB)
        with fs.open(there) as slow:
            got = [slow.read(100_000)]
            worst = 0.0
            for _ in range(20):
                started = time.monotonic()
                assert fs.read(here) == data
                fs.write("/small", b"s" * 1000, write_type="CACHE_THROUGH")
                worst = max(worst, time.monotonic() - started)
            assert worst < 3, "a slow worker holds up others"
            got.append(slow.read())
        assert b"".join(got) == data
        assert live_hosts(fs) >= {"far"}
