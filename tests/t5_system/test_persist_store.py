"""What persistence costs a store in requests, and what it leaves there when a worker dies.

Owns: one cluster before a real S3 server that can fail. Never: random changes (`test_persist_stress.py`).
"""

import os
import signal
import threading

import pytest

import isotach
from isotach.testing.faulty_http import Fault, FaultKind, FaultyHttp

MIB = 1 << 20


@pytest.fixture
def proxied(start, seaweed, prefix):
    """(cluster, client, proxy): /s3 is mounted through a proxy that can fail and keeps a log."""
    cluster = start(master__persist_retry_initial="50ms", master__persist_retry_max="300ms")
    with FaultyHttp(seaweed.endpoint) as proxy, isotach.connect(cluster.address) as fs:
        fs.mount("/s3", f"s3://system/{prefix}", options={**seaweed.options(), "endpoint": proxy.endpoint})
        proxy.clear()
        yield cluster, fs, proxy


def test_a_persisted_file_costs_the_store_one_request(proxied, eventually, prefix):
    _, fs, proxy = proxied
    for index in range(5):
        fs.write(f"/s3/d/{index}", b"small", write_type="ASYNC_THROUGH")
    fs.write("/s3/d/0", b"again", write_type="ASYNC_THROUGH")
    eventually(lambda: not fs.status().persist_queue)
    asked = [(method, target.partition("?")[0].rpartition("/")[2]) for method, target in proxy.requests]
    assert {method for method, _ in asked} == {"PUT"}
    assert sorted(set(asked)) == [("PUT", str(index)) for index in range(5)]
    assert len(asked) <= 6


def test_the_upload_of_a_killed_worker_is_dropped_and_no_other(proxied, eventually, s3, prefix):
    cluster, fs, proxy = proxied
    foreign = s3.create_multipart_upload(Bucket="system", Key=f"{prefix}/d/foreign")["UploadId"]
    proxy.inject(Fault(kind=FaultKind.STALL, target_part="partNumber=2"))
    data = os.urandom(17 * MIB)
    fs.write("/s3/d/large", data, write_type="ASYNC_THROUGH")

    def pending() -> set[str]:
        found = s3.list_multipart_uploads(Bucket="system", Prefix=f"{prefix}/").get("Uploads", [])
        return {row["UploadId"] for row in found}

    eventually(lambda: len(pending()) == 2)
    eventually(lambda: any("partNumber=2" in target for _, target in proxy.requests))
    assert cluster.worker_pid > 0
    os.kill(cluster.worker_pid, signal.SIGKILL)
    eventually(lambda: fs.stat("/s3/d/large").persisted, timeout=30)
    eventually(lambda: pending() == {foreign}, timeout=30)
    assert s3.get_object(Bucket="system", Key=f"{prefix}/d/large")["Body"].read() == data


def test_a_store_that_hangs_holds_up_no_other(proxied, eventually, tmp_path):
    _, fs, proxy = proxied
    other = tmp_path / "other"
    other.mkdir()
    fs.mount("/other", f"file://{other}")
    proxy.inject(Fault(kind=FaultKind.STALL, times=1_000))
    for index in range(20):
        fs.write(f"/s3/d/{index}", b"waits", write_type="ASYNC_THROUGH")
    fs.write("/other/f", b"goes", write_type="ASYNC_THROUGH")
    eventually(lambda: fs.stat("/other/f").persisted, timeout=5)
    assert not fs.stat("/s3/d/0").persisted
    proxy.clear()
    eventually(lambda: all(info.persisted for info in fs.list("/s3/d")), timeout=30)


def test_a_wait_for_a_subtree_tells_how_many_failed_and_goes_on_alone(proxied, eventually):
    _, fs, proxy = proxied
    for index in range(30):
        fs.write(f"/s3/d/{index}", b"waits", write_type="MUST_CACHE")
    proxy.inject(Fault(kind=FaultKind.STATUS, times=100_000, status=403, code="AccessDenied"))
    failure: list[BaseException] = []

    def wait() -> None:
        try:
            fs.persist("/s3/d", wait=True)
        except isotach.IsotachError as error:
            failure.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    waiting.join(20)
    assert not waiting.is_alive()
    assert "of 30 files could not be persisted so far" in str(failure[0])
    proxy.clear()
    eventually(lambda: all(info.persisted for info in fs.list("/s3/d")), timeout=40)
