"""Several tiers of several folders: where versions go, sink to, climb to, and that nobody notices."""

import os
import threading

import pytest

from isotach.base.limits import MIB, PAGE_BYTES
from isotach.blockstore.container import note_access
from isotach.blockstore.store import BlockStore
from isotach.blockstore.tier import Watermarks
from isotach.conf.kinds import TierSpec

from .conftest import bytes_of, content, fill_all, meta_of, places_of, write_all


def test_the_folder_with_the_most_room_takes_the_next_version(open_store):
    store = open_store(SSD=4, SSD2=8)
    for version in range(6):
        assert fill_all(store, version, PAGE_BYTES)
    assert list(places_of(store).values()).count("SSD2") == 5
    assert store.evictions == 0
    (tier,) = store.tiers()
    assert (tier.alias, tier.capacity_bytes, tier.used_bytes) == ("SSD", 12 * MIB, 6 * MIB)
    assert [folder.used_bytes for folder in tier.folders] == [MIB, 5 * MIB]
    assert [os.path.basename(folder.path) for folder in tier.folders] == ["SSD", "SSD2"]


def test_a_quota_as_a_share_of_the_file_system(tmp_path):
    store = BlockStore([TierSpec("SSD", tmp_path / "a", 0, 50.0), TierSpec("SSD", tmp_path / "b", 0, 25.0)])
    first, second = store.tiers()[0].folders
    disk = os.statvfs(tmp_path)
    assert abs(first.capacity_bytes - disk.f_blocks * disk.f_frsize // 2) <= 2 * PAGE_BYTES
    assert abs(first.capacity_bytes - 2 * second.capacity_bytes) <= 2 * PAGE_BYTES
    assert fill_all(store, 1, PAGE_BYTES)
    store.close()


def test_what_is_cold_sinks_until_the_low_watermark_and_dirty_data_sinks_too(open_store):
    store = open_store(MEM=20, SSD=40)
    for version in range(10):
        assert fill_all(store, version, PAGE_BYTES)
    for version in range(10, 20):
        write_all(store, version, PAGE_BYTES)
    store.touch(0)
    store.mover.run_once()
    sunk = {version for version, place in places_of(store).items() if place == "SSD"}
    assert sunk == {1, 2}, "18 of 20 MiB stay; version 0 was used"
    assert store.evictions == 0
    for version in range(20):
        assert bytes_of(store, version) == content(version, PAGE_BYTES)
    for version in range(1, 10):
        store.free(version)
    for version in range(20, 30):
        write_all(store, version, PAGE_BYTES)
    store.mover.run_once()
    places = places_of(store)
    assert places[10] == "SSD"
    assert store.get(10).dirty
    assert all(bytes_of(store, version) == content(version, PAGE_BYTES) for version in store.versions())
    store.close()
    again = open_store(MEM=20, SSD=40)
    assert places_of(again) == places
    assert {version for version in again.versions() if again.get(version).dirty} == set(range(10, 30))


def test_the_last_tier_evicts_what_is_clean_and_keeps_the_rest(open_store):
    store = open_store(SSD=20)
    for version in range(10):
        write_all(store, version, PAGE_BYTES)
    for version in range(10, 20):
        assert fill_all(store, version, PAGE_BYTES, pinned=version < 12)
    store.mover.run_once()
    assert sorted(store.versions()) == [*range(12), *range(14, 20)]


def test_a_writer_goes_past_a_tier_above_its_high_watermark(open_store):
    store = open_store(MEM=20, SSD=40)
    for version in range(20):
        write_all(store, version, PAGE_BYTES)
    assert set(places_of(store).values()) == {"MEM"}
    write_all(store, 20, PAGE_BYTES)
    assert places_of(store)[20] == "SSD"
    store.mover.run_once()
    write_all(store, 21, PAGE_BYTES)
    assert places_of(store)[21] == "MEM", "the mover made room"


def test_who_finds_no_room_has_it_made_for_the_next_one(open_store):
    """Files larger than the room above the high watermark would else pass memory by for ever."""
    store = open_store(MEM=20, SSD=80)
    for version in range(6):
        write_all(store, version, 3 * PAGE_BYTES)
    assert set(places_of(store).values()) == {"MEM"}
    write_all(store, 6, 3 * PAGE_BYTES)
    assert places_of(store)[6] == "SSD"
    store.mover.run_once()
    assert places_of(store)[0] == "MEM", "18 of 20 MiB is the low watermark"
    write_all(store, 7, 5000)
    write_all(store, 8, 3 * PAGE_BYTES)
    assert places_of(store)[8] == "SSD"
    store.mover.run_once()
    assert places_of(store)[0] == "SSD"
    write_all(store, 9, 3 * PAGE_BYTES)
    assert places_of(store)[9] == "MEM"


def test_a_large_write_moves_below_once_it_takes_half_of_memory(open_store):
    store = open_store(MEM=16, SSD=64)
    entry = write_all(store, 1, 20 * PAGE_BYTES + 77)
    assert entry.complete
    assert entry.folder.alias == "SSD"
    assert bytes_of(store, 1) == content(1, 20 * PAGE_BYTES + 77)
    store.verify(entry, force=True)
    assert [tier.used_bytes for tier in store.tiers()] == [0, 20 * PAGE_BYTES + 4096]
    small = write_all(store, 2, 7 * PAGE_BYTES)
    assert small.folder.alias == "MEM"


def test_a_draft_on_its_way_reads_and_rewrites_what_was_written(open_store):
    store = open_store(MEM=16, SSD=64)
    length = 12 * PAGE_BYTES
    data = content(1, length)
    draft = store.begin_write(meta_of(1, 0))
    draft.write(0, data[: 8 * PAGE_BYTES])
    draft.write(8 * PAGE_BYTES, data[8 * PAGE_BYTES : 8 * PAGE_BYTES + 10])
    assert draft.tier_alias == "SSD"
    assert draft.read(PAGE_BYTES - 5, 8 * PAGE_BYTES) == data[PAGE_BYTES - 5 : 8 * PAGE_BYTES + 10]
    draft.write(2 * PAGE_BYTES, data[2 * PAGE_BYTES : 3 * PAGE_BYTES])
    draft.write(9 * PAGE_BYTES, data[9 * PAGE_BYTES :])
    draft.write(8 * PAGE_BYTES + 10, data[8 * PAGE_BYTES + 10 : 9 * PAGE_BYTES])
    assert draft.seal(length, dirty=True).complete
    assert bytes_of(store, 1) == data


def test_an_aborted_draft_on_its_way_leaves_nothing(open_store, tmp_path):
    store = open_store(MEM=16, SSD=64)
    draft = store.begin_write(meta_of(1, 0))
    draft.write(0, bytes(8 * PAGE_BYTES))
    draft.write(8 * PAGE_BYTES, b"x")
    draft.abort()
    assert [tier.used_bytes for tier in store.tiers()] == [0, 0]
    assert os.listdir(tmp_path / "MEM" / "containers") == os.listdir(tmp_path / "SSD" / "containers") == []


def test_two_uses_lift_a_version_and_one_does_not(open_store):
    clock = [100.0]
    store = open_store(MEM=8, SSD=40)
    store.mover._monotonic_s = lambda: clock[0]
    for version in range(12):
        assert fill_all(store, version, PAGE_BYTES)
    assert [places_of(store)[version] for version in (7, 8, 9)] == ["MEM", "SSD", "SSD"]
    for version in (8, 9, 9):
        store.touch(version)
    store.mover.run_once()
    assert places_of(store)[9] == "SSD", "two uses at once are one"
    clock[0] += 2
    store.touch(9)
    store.mover.run_once()
    assert places_of(store)[9] == "MEM"
    assert places_of(store)[8] == "SSD"
    clock[0] += 1000
    store.touch(8)
    store.mover.run_once()
    assert places_of(store)[8] == "SSD", "its first use is forgotten"
    assert store.evictions == 0
    assert all(bytes_of(store, version) == content(version, PAGE_BYTES) for version in range(12))


def test_readers_beside_the_worker_lift_a_version_by_its_access_time(open_store, tmp_path):
    clock = [100.0]
    store = open_store(MEM=8, SSD=40)
    store.mover._monotonic_s = lambda: clock[0]
    for version in range(10):
        assert fill_all(store, version, PAGE_BYTES)
    assert places_of(store)[9] == "SSD"
    descriptor = os.open(tmp_path / "SSD" / "containers" / f"{9:016x}", os.O_RDONLY)
    for _ in range(2):
        clock[0] += 2
        note_access(descriptor, os.fstat(descriptor).st_mtime_ns)
        store.mover.run_once()
        store.mover.run_once()
    os.close(descriptor)
    assert places_of(store)[9] == "MEM"
    assert places_of(store)[8] == "SSD"


def test_dirty_data_on_a_disk_does_not_climb(open_store):
    store = open_store(MEM=8, SSD=40)
    write_all(store, 1, PAGE_BYTES, tier="SSD")
    store.set_pinned(1, False)
    assert not store.promote(1)
    assert places_of(store)[1] == "SSD"
    store.mark_persisted(1, "e")
    assert store.promote(1)


def test_a_version_bound_to_a_tier_is_brought_there_and_stays(open_store):
    store = open_store(MEM=8, SSD=16)
    assert fill_all(store, 1, PAGE_BYTES)
    store.set_pinned(1, True, "SSD")
    store.mover.run_once()
    assert places_of(store)[1] == "SSD"
    assert store.get(1).pinned
    for _ in range(5):
        store.touch(1)
        store.mover.run_once()
    assert places_of(store)[1] == "SSD"
    store.set_pinned(1, True, "MEM")
    store.mover.run_once()
    assert places_of(store)[1] == "MEM"
    assert fill_all(store, 2, PAGE_BYTES, tier="SSD")
    assert places_of(store)[2] == "SSD"
    write_all(store, 3, PAGE_BYTES, tier="NVME")
    assert places_of(store)[3] == "MEM", "this worker has no such tier"
    store.close()
    again = open_store(MEM=8, SSD=16)
    assert again.get(1).meta.tier == "MEM"
    assert again.get(2).meta.tier == "SSD"


def test_a_partial_version_sinks_with_its_pages(open_store):
    store = open_store(MEM=8, SSD=16, marks=Watermarks(0.3, 0.1))
    meta = meta_of(1, 4 * PAGE_BYTES)
    data = content(1, 4 * PAGE_BYTES)
    assert store.fill(meta, 1, data[PAGE_BYTES : 3 * PAGE_BYTES])
    assert fill_all(store, 2, PAGE_BYTES)
    store.mover.run_once()
    assert places_of(store)[1] == "SSD"
    assert store.get(1).has(1, 3)
    assert not store.get(1).has(0, 1)
    assert store.fill(meta, 0, data[:PAGE_BYTES])
    assert store.fill(meta, 3, data[3 * PAGE_BYTES :])
    assert bytes_of(store, 1) == data
    store.verify(store.get(1), force=True)


def test_readers_find_every_version_while_all_of_them_move(open_store, eventually):
    store = open_store(MEM=16, SSD=64, marks=Watermarks(0.5, 0.25))
    for version in range(12):
        assert fill_all(store, version, PAGE_BYTES + version)
    store.start()
    over = threading.Event()
    failures: list[object] = []

    def read(seed: int) -> None:
        turn = seed
        while not over.is_set():
            turn += 1
            version = turn % 12
            try:
                if bytes_of(store, version) != content(version, PAGE_BYTES + version):
                    failures.append(version)
            except (AssertionError, OSError) as error:
                failures.append(error)
            store.touch(version)

    readers = [threading.Thread(target=read, args=(seed,)) for seed in range(2)]
    for reader in readers:
        reader.start()
    for turn in range(24):
        store.promote(turn % 12)
        store.mover.run_once()
    over.set()
    for reader in readers:
        reader.join()
    assert not failures
    assert sum(tier.demoted_bytes for tier in store._shelves.tiers) > 0

    def all_is_counted() -> bool:
        entries = [entry for version in store.versions() if (entry := store.get(version)) is not None]
        held = {
            tier.alias: sum(each.allocated_all() for each in entries if each.tier.alias == tier.alias)
            for tier in store.tiers()
        }
        return {tier.alias: tier.used_bytes for tier in store.tiers()} == held

    eventually(all_is_counted, message="bytes are counted twice, or not")  # the mover may be in the middle of a move


@pytest.mark.parametrize("what", ["free", "rewrite", "persist"])
def test_a_change_in_the_middle_of_a_move_wins(open_store, what):
    """The pace of a move is where others get their turn."""
    store = open_store(MEM=8, SSD=16)
    write_all(store, 1, 2 * PAGE_BYTES)
    store.set_pinned(1, True, "SSD")

    def meanwhile(_size: int) -> None:
        if what == "free":
            store.free(1, force=True)
        elif what == "rewrite":
            write_all(store, 1, PAGE_BYTES, dirty=False)
        else:
            store.mark_persisted(1, "fingerprint")

    store.mover._pace = meanwhile
    store.mover.run_once()
    if what == "free":
        assert store.versions() == []
        assert [tier.used_bytes for tier in store.tiers()] == [0, 0]
    elif what == "rewrite":
        assert bytes_of(store, 1) == content(1, PAGE_BYTES)
    else:
        entry = store.get(1)
        assert (entry.tier.alias, entry.dirty, entry.meta.fingerprint) == ("SSD", False, "fingerprint")
    places = places_of(store)
    store.close()
    again = open_store(MEM=8, SSD=16)
    assert places_of(again) == places
    if what == "persist":
        assert not again.get(1).dirty


def test_three_tiers_drain_into_one_another(open_store):
    store = open_store(MEM=4, SSD=8, HDD=40)
    for version in range(30):
        write_all(store, version, PAGE_BYTES)
        store.mover.run_once()
    store.mover.run_once()
    counts = {tier.alias: tier.used_bytes // MIB for tier in store.tiers()}
    assert counts["MEM"] <= 3
    assert counts["SSD"] <= 7
    assert sum(counts.values()) == 30
    assert all(bytes_of(store, version) == content(version, PAGE_BYTES) for version in range(30))
    assert all(store.get(version).dirty for version in range(30))
