"""A whole cluster and a real S3 server for the tests of the system.

Owns: starting and stopping them. Never: reaches into a process; these tests use what users use, and signals.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest

import isotach
from isotach.run.standalone import Cluster
from isotach.testing.seaweed import SeaweedServer

BUCKET = "system"
#: Of the cluster `three`: short, so that a frozen worker is found out soon.
WORKER_TIMEOUT_S = 2


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    """One S3 server for the session, with the bucket `system`."""
    with SeaweedServer.start(tmp_path_factory.mktemp("seaweed")) as server:
        server.create_bucket(BUCKET)
        yield server


@pytest.fixture(scope="session")
def s3(seaweed: SeaweedServer) -> "boto3.client":
    """The plain S3 client: what is really in the bucket."""
    return boto3.client(
        "s3",
        endpoint_url=seaweed.endpoint,
        aws_access_key_id=seaweed.access_key,
        aws_secret_access_key=seaweed.secret_key,
        region_name="us-east-1",
    )


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """A key prefix of the test's own."""
    return f"{request.node.name[:40].strip('[]')}-{os.urandom(3).hex()}".replace("[", "-")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Starts clusters that end with the test; the same `dir` again restarts one."""
    started: list[Cluster] = []
    memory = tempfile.mkdtemp(prefix="isotach-test-", dir="/dev/shm")

    def begin(name: str = "cluster", mem: str = "256MiB", **overrides: object) -> Cluster:
        given = {"worker__mem_dir": f"{memory}/{name}"} | overrides
        cluster = isotach.start(dir=tmp_path / name, mem=mem, **given)
        started.append(cluster)
        return cluster

    yield begin
    for cluster in started:
        cluster.stop()
    shutil.rmtree(memory, ignore_errors=True)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three workers for a module's tests, each a host of its own, with a memory tier of 48 MiB over a disk tier.

    Tests may kill and freeze them; whatever they break, they put right again before they end.
    """
    folder = tmp_path_factory.mktemp("three")
    memory = tempfile.mkdtemp(prefix="isotach-test-", dir="/dev/shm")
    with isotach.start(
        dir=folder / "cluster",
        mem="48MiB",
        workers=3,
        worker__mem_dir=f"{memory}/mem",
        worker__tiers=f"SSD:{folder / 'ssd'}:256MiB",
        worker__host_key="elsewhere",
        worker__heartbeat_interval="0.3s",
        master__worker_timeout=f"{WORKER_TIMEOUT_S}s",
        master__pending_write_timeout="4s",  # for so long after its start the master keeps what nobody knows
    ) as cluster:
        yield cluster
    shutil.rmtree(memory, ignore_errors=True)


@pytest.fixture
def three_fs(three: Cluster, eventually: Callable[..., object]) -> Iterator[isotach.FileSystem]:
    """A client of `three` on no worker's host, once all of them live; its directory /t is empty."""
    with isotach.connect(three.address) as client:
        eventually(lambda: sum(worker.live for worker in client.workers()) == 3, timeout=20)
        if client.exists("/t"):
            client.remove("/t", recursive=True)
        client.mkdir("/t")
        yield client


@pytest.fixture
def cluster(start: Callable[..., Cluster]) -> Cluster:
    """A fresh standalone cluster."""
    return start()


@pytest.fixture
def fs(cluster: Cluster) -> Iterator[isotach.FileSystem]:
    """A blocking client of it."""
    with isotach.connect(cluster.address) as client:
        yield client


@pytest.fixture
def bucket(fs: isotach.FileSystem, seaweed: SeaweedServer, prefix: str) -> str:
    """The S3 bucket's folder of this test, mounted at /s3; gives the key prefix."""
    fs.mount("/s3", f"s3://{BUCKET}/{prefix}", options=seaweed.options())
    return prefix
