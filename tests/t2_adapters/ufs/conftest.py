"""A real S3 server for the tests of this folder, one per test process."""

import itertools
from collections.abc import Callable, Iterator

import pytest

from isotach.testing.seaweed import SeaweedServer


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    with SeaweedServer.start(tmp_path_factory.mktemp("seaweed")) as server:
        server.create_bucket("contract")
        yield server


@pytest.fixture(scope="session")
def fresh_uri(seaweed: SeaweedServer) -> Callable[[], str]:
    """The URI of an empty prefix, another one each time."""
    counter = itertools.count()
    return lambda: f"s3://contract/prefix {next(counter)}/deep"
