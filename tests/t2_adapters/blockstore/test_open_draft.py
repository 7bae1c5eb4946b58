"""Files that others write, as the block store has them: checksums over data and holes, and moves that keep holes.

Owns: `summing`, `page_runs` and `OpenDraft` against real files. Never: calls a worker.
"""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isotach.base.limits import MIB, PAGE_BYTES
from isotach.blockstore.checksum import page_checksums
from isotach.blockstore.container import data_ranges, is_open_for_writing
from isotach.blockstore.entry import VersionMeta
from isotach.blockstore.moving import move
from isotach.blockstore.pages import page_count, page_runs
from isotach.blockstore.store import BlockStore
from isotach.blockstore.summing import sum_pages
from isotach.conf.kinds import TierSpec

LENGTH_MAX = 6 * PAGE_BYTES


@pytest.fixture
def scratch(tmp_path):
    descriptor = os.open(tmp_path / "scratch", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    length=st.integers(0, LENGTH_MAX),
    writes=st.lists(st.tuples(st.integers(0, LENGTH_MAX), st.integers(1, 70_000)), max_size=5),
    piece=st.sampled_from([4096, 100_000, PAGE_BYTES, 4 * MIB]),
    is_passed_on=st.booleans(),
)
def test_checksums_are_those_of_the_bytes(scratch, length, writes, piece, is_passed_on):
    os.ftruncate(scratch, 0)
    for offset, size in writes:
        os.pwrite(scratch, os.urandom(size), offset)
    os.ftruncate(scratch, length)
    data = os.pread(scratch, length, 0)
    passed = bytearray()
    lend, take = (lambda size: memoryview(bytearray(min(size, piece))), passed.extend) if is_passed_on else (None, None)
    summed = sum_pages(scratch, length, lend, take)
    assert list(summed.pages.crcs) == page_checksums(data)
    assert summed.pages.count == page_count(length)
    assert bytes(passed) == (data if is_passed_on else b"")
    assert summed.stored_bytes < length or not length


@given(
    length=st.integers(0, 10 * PAGE_BYTES),
    cuts=st.lists(st.integers(0, 10 * PAGE_BYTES), max_size=8, unique=True),
)
def test_runs_are_all_pages_once_and_holes_have_no_data(length, cuts):
    cuts = sorted(cut for cut in cuts if cut <= length)
    ranges = list(zip(cuts[::2], cuts[1::2], strict=False))
    runs = list(page_runs(ranges, length))
    assert [page for first, stop, _ in runs for page in range(first, stop)] == list(range(page_count(length)))
    for first, stop, is_hole in runs:
        for page in range(first, stop):
            start, end = page * PAGE_BYTES, (page + 1) * PAGE_BYTES
            has_data = any(one < end and start < other for one, other in ranges)
            assert is_hole == (not has_data and end <= length)


def test_whether_anybody_writes_is_the_kernels_word(tmp_path):
    path = tmp_path / "file"
    writer = os.open(path, os.O_RDWR | os.O_CREAT)
    reader = os.open(path, os.O_RDONLY)
    assert is_open_for_writing(reader)
    os.close(writer)
    assert not is_open_for_writing(reader)
    os.close(reader)


@pytest.fixture
def two_tiers(tmp_path):
    folders = [TierSpec("MEM", tmp_path / "mem", 16 * MIB), TierSpec("SSD", tmp_path / "ssd", 64 * MIB)]
    store = BlockStore(folders)
    yield store
    store.close()


def sealed(store: BlockStore, version: int, length: int, data: bytes, offset: int, *, dirty: bool = True):
    meta = VersionMeta(version, version, length, 4 * MIB)
    draft = store.begin_open_draft(meta, 0)
    descriptor = draft.open()
    os.pwrite(descriptor, data, offset)
    os.ftruncate(descriptor, length)
    summed = sum_pages(descriptor, length)
    os.close(descriptor)
    entry = draft.seal(meta, summed, dirty=dirty)
    draft.finish()
    return entry


def test_a_file_with_holes_keeps_them_in_another_tier(two_tiers):
    store, length = two_tiers, 1 << 40
    entry = sealed(store, 1, length, b"data", 5 << 30)
    assert [tier.used_bytes for tier in store.tiers()] == [entry.allocated_all(), 0]
    assert entry.allocated_all() < MIB
    assert move(store._shelves, [entry], store._shelves.tiers[1].folders[0]) == 1
    moved = store.get(1)
    assert moved.tier.alias == "SSD"
    assert [tier.used_bytes for tier in store.tiers()] == [0, moved.allocated_all()]
    descriptor = store.open_for_sending(moved)
    assert os.fstat(descriptor).st_size == length
    assert sum(end - start for start, end in data_ranges(descriptor, length)) < MIB
    assert os.pread(descriptor, 4, 5 << 30) == b"data"
    os.close(descriptor)
    assert store.verify(moved, force=True) == 0


def test_what_rots_in_a_file_with_holes_is_found(two_tiers):
    store = two_tiers
    for version, offset in ((1, 0), (2, 20 * MIB + 1)):  # where there was data, and where there was none
        entry = sealed(store, version, 32 * MIB, b"data", 0, dirty=False)
        descriptor = entry.folder.open(version, os.O_RDWR)
        os.pwrite(descriptor, b"rot", offset)
        os.close(descriptor)
        used = store.tiers()[0].used_bytes
        assert store.verify(entry, force=True) == 1
        assert store.tiers()[0].used_bytes <= used
        store.free(version)
    assert store.tiers()[0].used_bytes == 0


def test_a_version_that_is_not_to_be_is_a_draft_again(two_tiers):
    store, meta = two_tiers, VersionMeta(1, 1, 4, 4 * MIB)
    draft = store.begin_open_draft(meta, MIB)
    descriptor = draft.open()
    os.pwrite(descriptor, b"data", 0)
    summed = sum_pages(descriptor, 4)
    draft.seal(meta, summed, dirty=True)
    assert store.get(1).complete
    draft.unseal()
    assert store.get(1) is None
    os.pwrite(descriptor, b"DATA", 0)
    os.close(descriptor)
    assert draft.room_bytes == 4096
    draft.drop()
    draft.drop()
    assert [tier.used_bytes for tier in store.tiers()] == [0, 0]
    assert not list((store._places[0].spec.path / "containers").iterdir())
