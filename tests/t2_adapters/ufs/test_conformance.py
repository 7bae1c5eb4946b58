"""Every under storage against the one suite: folders, S3 (a real server), obstore alone, and the wrappers."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from isotach.testing.contracts.under_storage import UnderStorageContract
from isotach.testing.seaweed import SeaweedServer
from isotach.ufs.interface import UnderStorage
from isotach.ufs.local import LocalUnderStorage
from isotach.ufs.objectstore import open_object_store
from isotach.ufs.objectstore.driver import ObjectUnderStorage
from isotach.ufs.objectstore.faults import Classifier
from isotach.ufs.objectstore.obstore_api import ObstoreApi
from isotach.ufs.registry import open_under_storage
from isotach.ufs.uri import parse_uri


class TestLocal(UnderStorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> UnderStorage:  # type: ignore[override]  # nothing to close
        return LocalUnderStorage(str(tmp_path))


class TestRetriedLocal(UnderStorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Iterator[UnderStorage]:
        storage = open_under_storage(f"file://{tmp_path}", {})
        yield storage
        storage.close()


class TestS3(UnderStorageContract):
    @pytest.fixture
    def storage(self, seaweed: SeaweedServer, fresh_uri: Callable[[], str]) -> Iterator[UnderStorage]:
        storage = open_object_store(parse_uri(fresh_uri()), seaweed.options())
        yield storage
        storage.close()


class TestRetriedS3(UnderStorageContract):
    @pytest.fixture
    def storage(self, seaweed: SeaweedServer, fresh_uri: Callable[[], str]) -> Iterator[UnderStorage]:
        storage = open_under_storage(fresh_uri(), seaweed.options())
        yield storage
        storage.close()


class TestObstoreAlone(UnderStorageContract):
    """The way to Google Cloud Storage and Azure, here over obstore's store in memory."""

    @pytest.fixture(params=[8, -1], ids=["stream", "delimiter"])
    def storage(self, request: pytest.FixtureRequest) -> Iterator[UnderStorage]:
        classifier = Classifier("memory://bucket", "memory", ())
        api = ObstoreApi(MemoryStore(), classifier, subtree_skips_max=request.param)
        storage = ObjectUnderStorage(api, "memory://bucket/prefix", "prefix")
        yield storage
        storage.close()
