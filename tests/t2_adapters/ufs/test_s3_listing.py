"""Listings of a real bucket as other programs leave it: markers, clashes of names, keys that are no paths, resuming."""

from collections.abc import Callable, Iterator

import pytest
from obstore.store import MemoryStore

from isotach.testing.contracts.under_storage import get, names, put
from isotach.testing.seaweed import SeaweedServer
from isotach.ufs.interface import UfsStatus
from isotach.ufs.objectstore import open_object_store
from isotach.ufs.objectstore.api import ObjectEntry
from isotach.ufs.objectstore.driver import ObjectUnderStorage
from isotach.ufs.objectstore.faults import Classifier
from isotach.ufs.objectstore.obstore_api import ObstoreApi
from isotach.ufs.uri import parse_uri


@pytest.fixture
def storage(seaweed: SeaweedServer, fresh_uri: Callable[[], str]) -> Iterator[ObjectUnderStorage]:
    storage = open_object_store(parse_uri(fresh_uri()), seaweed.options())
    yield storage
    storage.close()


class Scripted(ObstoreApi):
    """A store whose listings hold what no real server here would let in."""

    has_markers = True

    def __init__(self, pages: list[list[ObjectEntry]]) -> None:
        super().__init__(MemoryStore(), Classifier("s3://bucket", "memory", ()))
        self._pages = pages

    def list_children(self, prefix: str, start_after: str) -> Iterator[list[ObjectEntry]]:
        return iter(self._pages)


def listed(*keys: str) -> list[UfsStatus]:
    """What a listing of the root shows when the store gives these keys."""
    entries = [ObjectEntry(key, is_prefix=key.endswith("/")) for key in keys]
    storage = ObjectUnderStorage(Scripted([entries[:3], entries[3:]]), "s3://bucket", "")
    try:
        return [status for page in storage.list_pages("") for status in page]
    finally:
        storage.close()


def test_object_hides_a_directory_of_its_name() -> None:
    found = listed("d", "d!", "d-x", "d/", "e/")
    assert [(status.path, status.is_dir) for status in found] == [
        ("d", False), ("d!", False), ("d-x", False), ("e", True),
    ]  # fmt: skip


def test_keys_that_are_no_paths_are_not_shown() -> None:
    assert [status.path for status in listed("/", "./", "../", "a\x01b", "good", ".isotach-directory")] == ["good"]


def test_marker_of_another_program_is_a_directory(storage: ObjectUnderStorage) -> None:
    storage.mkdir("made/by others")
    assert storage.stat("made/by others").is_dir
    put(storage, "made/by others/file", b"x")
    assert names(storage.list_pages("made/by others")) == ["made/by others/file"]


def test_listing_can_be_resumed_behind_a_directory(storage: ObjectUnderStorage) -> None:
    for path in ("a", "b-1", "b/x/1", "b/x/2", "b0", "c"):
        put(storage, path, b"x")
    order = [status.path for page in storage.list_pages("") for status in page]
    assert order == ["a", "b-1", "b", "b0", "c"]
    assert [status.path for page in storage.list_pages("", start_after="b/") for status in page] == ["b0", "c"]
    assert [status.path for page in storage.list_pages("", start_after="b0") for status in page] == ["c"]


def test_subtrees_are_not_walked_for_a_listing() -> None:
    """obstore alone: the stream is begun anew behind each subtree, and past the bound the level is asked for whole."""
    api = ObstoreApi(MemoryStore(), Classifier("memory://bucket", "memory", ()))
    storage = ObjectUnderStorage(api, "memory://bucket", "")
    expected = [f"d{number:02d}" for number in range(30)]
    for directory in expected:
        for number in range(20):
            put(storage, f"{directory}/sub/f{number}", b"x")
    put(storage, "zz", b"x")
    assert [status.path for page in storage.list_pages("") for status in page] == [*expected, "zz"]
    assert names(storage.list_pages("", start_after="d27/")) == ["d28", "d29", "zz"]
    storage.close()


def test_whole_bucket_can_be_mounted(seaweed: SeaweedServer) -> None:
    seaweed.create_bucket("whole")
    storage = open_object_store(parse_uri("s3://whole"), seaweed.options())
    put(storage, "top", b"x")
    put(storage, "d/below", b"y")
    assert names(storage.list_pages("")) == ["d", "top"]
    assert get(storage, "d/below") == b"y"
    with pytest.raises(PermissionError, match="root of a mount"):
        storage.delete_directory("", recursive=True)
    storage.close()
