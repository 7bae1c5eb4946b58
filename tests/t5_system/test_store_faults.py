"""An S3 server that is slow, refuses, or breaks its answers off, and bits that flip between workers.

Owns: faults between a worker and what it reads from, made by proxies. Never: a store that is gone (`test_faults.py`).
"""

import os
import time
from collections.abc import Iterator

import pytest

import isotach
from isotach.testing.faulty_http import Fault, FaultKind, FaultyHttp
from isotach.testing.tcp_proxy import TcpProxy

MIB = 1 << 20
OFTEN = 1_000_000


@pytest.fixture
def proxy(seaweed) -> Iterator[FaultyHttp]:
    with FaultyHttp(seaweed.endpoint) as running:
        yield running


@pytest.fixture
def mounted(fs, seaweed, proxy, s3, prefix) -> bytes:
    """16 MiB at /s3/cold of which nothing is cached, behind the proxy; and a hot file at /hot."""
    data = os.urandom(16 * MIB)
    s3.put_object(Bucket="system", Key=f"{prefix}/cold", Body=data)
    fs.mount("/s3", f"s3://system/{prefix}", options=seaweed.options() | {"endpoint": proxy.endpoint})
    fs.write("/hot", data[:MIB], write_type="MUST_CACHE")
    return data


@pytest.mark.fault(
    "store slow (200 ms, 1 MB/s)", "cold reads are slow and right, hot reads and other writes are not held up"
)
def test_a_slow_store(fs, proxy, mounted):
    proxy.inject(Fault(kind=FaultKind.SLOW, times=OFTEN, method="GET", delay_s=0.2, bytes_per_s=1e6))
    worst = 0.0
    with fs.open("/s3/cold") as stream:
        assert stream.read(100_000) == mounted[:100_000]
        for _ in range(20):
            started = time.monotonic()
            assert fs.read("/hot") == mounted[:MIB]
            fs.write("/other", b"o" * 1000, write_type="MUST_CACHE")
            worst = max(worst, time.monotonic() - started)
        proxy.clear()
        assert stream.read() == mounted[100_000:]
    assert worst < 1.5


@pytest.mark.fault(
    "store answers 503", "asked again until it gives in; the reader sees whole bytes, the writer no error"
)
@pytest.mark.parametrize("kind", [FaultKind.STATUS, FaultKind.DROP, FaultKind.LOSE_ANSWER])
def test_a_store_that_refuses_now_and_then(fs, proxy, mounted, s3, prefix, kind):
    proxy.inject(Fault(kind=kind, times=3))
    assert fs.read("/s3/cold") == mounted
    proxy.inject(Fault(kind=kind, times=2, method="PUT"))
    fs.write("/s3/new", mounted[: 2 * MIB], write_type="CACHE_THROUGH")
    assert s3.get_object(Bucket="system", Key=f"{prefix}/new")["Body"].read() == mounted[: 2 * MIB]


@pytest.mark.fault("store truncates its answers", "the missing part is asked for; never a short or mixed file")
@pytest.mark.parametrize("cut_at", [0, 1, 700_001])
def test_bodies_that_break_off(fs, proxy, mounted, cut_at):
    proxy.inject(Fault(kind=FaultKind.TRUNCATE, times=3, method="GET", body_bytes=cut_at))
    assert fs.read("/s3/cold") == mounted
    assert fs.read("/s3/cold") == mounted
    assert fs.stat("/s3/cold").cached_percent == 100


@pytest.mark.fault("bit flipped between two workers", "the page's checksum tells; it is read again, and counted")
def test_a_bit_flipped_between_workers(start, eventually):
    """The second worker is reached through a proxy, and the first one copies a file from it."""
    with TcpProxy() as proxy:
        cluster = start(worker__host_key="one")
        holder = cluster.add_worker(
            worker__host_key="two", worker__public_address=f"isotach://127.0.0.1:{proxy.port}", worker__host="second"
        )
        proxy.forward_to("127.0.0.1", holder.port)
        data = os.urandom(8 * MIB)
        with isotach.connect(cluster.address, client__host_key="two") as fs:
            eventually(lambda: sum(worker.live for worker in fs.workers()) == 2)
            fs.write("/f", data, write_type="MUST_CACHE", block_size=64 * MIB)
            assert fs.locations("/f")[0].hosts == ["second"]
            proxy.flip_bit(3 * MIB + 5)
            with isotach.connect(cluster.address, client__host_key="one") as other:
                assert other.read("/f") == data
                assert other.read("/f") == data
            assert proxy.flipped == 1, "nothing was copied through the proxy"
        cluster.stop()
