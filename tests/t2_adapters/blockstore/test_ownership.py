"""Folders that another cluster left: emptied where nothing is lost by it, else left alone, and never served."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from isotach.base.limits import FOLDER_CHECK_S, MIB, PAGE_BYTES
from isotach.blockstore import ownership
from isotach.blockstore.ownership import cluster_stamp
from isotach.blockstore.store import BlockStore
from isotach.client.direct.tiers import NOT_HERE, DirectTier
from isotach.conf.kinds import TierSpec
from isotach.kv.lmdb_store import LmdbStore

from .conftest import bytes_of, content, fill_all, write_all

OURS, THEIRS = cluster_stamp(b"our secret" * 4), cluster_stamp(b"their secret" * 4)


@pytest.fixture
def open_as(tmp_path: Path) -> Iterator[Callable[..., BlockStore]]:
    """`open_as(OURS, "SSD", "MEM")` gives the store of that cluster with folders of 16 MiB, found again by later calls;
    it closes the one before."""
    opened: list[BlockStore] = []

    def build(cluster: bytes, *names: str) -> BlockStore:
        if opened:
            opened.pop().close()
        specs = [TierSpec(name.rstrip("2"), tmp_path / name, 16 * MIB) for name in names]
        opened.append(BlockStore(specs, cluster=cluster))
        return opened[0]

    yield build
    opened.pop().close()


def failure(store: BlockStore, name: str = "SSD") -> str:
    return next(
        folder.failure for tier in store.tiers() for folder in tier.folders if os.path.basename(folder.path) == name
    )


def check_folders(store: BlockStore) -> None:
    store.mover._monotonic_s, store.mover._checked_s = lambda: FOLDER_CHECK_S, 0.0
    store.mover.run_once()


def containers(folder: Path) -> list[str]:
    return sorted(os.listdir(folder / "containers"))


def unstamp(folder: Path) -> None:
    """As folders were before there were stamps."""
    index = LmdbStore(folder / "index")
    index.commit([(b"c", None)])
    index.close()


def test_the_stamp_tells_clusters_apart_and_is_no_secret():
    assert len(OURS) == 16
    assert OURS != THEIRS
    assert cluster_stamp(b"our secret" * 4) == OURS


def test_our_own_folder_is_found_again(open_as):
    write_all(open_as(OURS, "SSD"), 1, PAGE_BYTES)
    again = open_as(OURS, "SSD")
    assert again.get(1).dirty
    assert bytes_of(again, 1) == content(1, PAGE_BYTES)


@pytest.mark.parametrize("is_stamped", [True, False])
def test_what_their_store_has_too_is_removed(open_as, tmp_path, monkeypatch, is_stamped):
    monkeypatch.setattr(ownership, "INDEX_REMOVAL_ROWS", 3)
    theirs = open_as(THEIRS, "SSD")
    for version in range(1, 8):
        assert fill_all(theirs, version, PAGE_BYTES)
    theirs.close()
    if not is_stamped:
        unstamp(tmp_path / "SSD")
    ours = open_as(OURS, "SSD")
    assert ours.versions() == []
    assert failure(ours) == ""
    assert (containers(tmp_path / "SSD"), ours.tiers()[0].used_bytes) == ([], 0)
    assert fill_all(ours, 2, 100)
    again = open_as(OURS, "SSD")
    assert again.versions() == [2]
    assert bytes_of(again, 2) == content(2, 100)


def test_a_memory_folder_is_emptied_whatever_is_in_it(open_as, tmp_path):
    write_all(open_as(THEIRS, "MEM"), 1, PAGE_BYTES)
    ours = open_as(OURS, "MEM")
    assert (ours.versions(), failure(ours, "MEM"), containers(tmp_path / "MEM")) == ([], "", [])


@pytest.mark.parametrize("is_stamped", [True, False])
def test_what_only_they_have_is_left_alone_and_we_serve_without_it(open_as, tmp_path, is_stamped):
    theirs = open_as(THEIRS, "SSD")
    write_all(theirs, 1, PAGE_BYTES)
    assert fill_all(theirs, 2, PAGE_BYTES)
    theirs.close()
    if not is_stamped:
        unstamp(tmp_path / "SSD")
    ours = open_as(OURS, "SSD", "SSD2")
    assert ours.versions() == []
    assert "another cluster" in failure(ours)
    assert "holds 1 file (1.00MiB)" in failure(ours)
    assert "give this tier another path, or remove the folder" in failure(ours)
    check_folders(ours)
    check_folders(ours)
    assert "another cluster" in failure(ours)
    assert fill_all(ours, 1, 200)
    assert bytes_of(ours, 1) == content(1, 200)
    assert len(containers(tmp_path / "SSD")) == 2
    if is_stamped:
        back = open_as(THEIRS, "SSD")
        assert sorted(back.versions()) == [1, 2]
        assert bytes_of(back, 1) == content(1, PAGE_BYTES)


def test_it_is_taken_once_they_have_stored_it(open_as, tmp_path):
    write_all(open_as(THEIRS, "SSD"), 1, PAGE_BYTES)
    ours = open_as(OURS, "SSD")
    check_folders(ours)
    theirs = BlockStore([TierSpec("SSD", tmp_path / "SSD", 16 * MIB)], cluster=THEIRS)
    theirs.mark_persisted(1, "etag")
    theirs.close()
    check_folders(ours)
    assert (ours.versions(), failure(ours), containers(tmp_path / "SSD")) == ([], "", [])


def test_their_folder_in_the_place_of_one_that_failed(open_as, tmp_path):
    write_all(open_as(THEIRS, "SSD"), 1, PAGE_BYTES)
    open_as(OURS, "SSD2").close()
    (tmp_path / "SSD").rename(tmp_path / "theirs")
    ours = open_as(OURS, "SSD")
    assert fill_all(ours, 1, 300)
    (tmp_path / "SSD").rename(tmp_path / "ours")
    check_folders(ours)
    (tmp_path / "theirs").rename(tmp_path / "SSD")
    check_folders(ours)
    assert ours.versions() == []
    assert "another cluster" in failure(ours)
    (tmp_path / "SSD").rename(tmp_path / "theirs")
    (tmp_path / "ours").rename(tmp_path / "SSD")
    check_folders(ours)
    assert (ours.versions(), failure(ours)) == ([1], "")


def test_readers_beside_the_worker_ask_whose_it_is(open_as, tmp_path):
    """A client that was told the path comes when another cluster's folder stands there, its incarnation in order."""
    theirs = open_as(THEIRS, "SSD")
    write_all(theirs, 1, PAGE_BYTES)
    theirs.close()
    for stamp, is_read in ((THEIRS, True), (OURS, False), (b"", False)):
        tier = DirectTier(tmp_path / "SSD", stamp)
        descriptor = tier.open(1, PAGE_BYTES)
        tier.close()
        assert (descriptor != NOT_HERE) == is_read
        if is_read:
            os.close(descriptor)
