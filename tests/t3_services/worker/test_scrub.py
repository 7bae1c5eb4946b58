"""The scrub finds what nobody reads, and whole-file checksums tell what is really there."""

import pytest

from isotach.base.errors import DataCorruptionError, UnavailableError
from isotach.base.limits import GIB, MIB, PAGE_BYTES
from isotach.blockstore.checksum import extend
from isotach.blockstore.entry import VersionMeta
from isotach.wire import messages as wire
from isotach.worker.metrics import WorkerMetrics
from isotach.worker.scrub import Scrubber

from .test_reading import content

DATA = content(5 * PAGE_BYTES + 11)


def scrubber_of(world, others=None):
    def none(_entry, _offset, _length):
        raise UnavailableError("no other worker")

    return Scrubber(
        world.worker.store,
        world.folder,
        WorkerMetrics(),
        bandwidth=100 * GIB,
        interval_s=0.001,
        others=others or none,
    )


def flip(world, version: int, offset: int) -> None:
    container = next((world.folder / "mem").rglob(f"{version:016x}"))
    with container.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))


def load(world, name: str = "f") -> tuple[bytes, int]:
    grant = world.put_ufs(name, DATA)
    before = set(world.worker.store.versions())
    assert world.connect().call(wire.LOAD, wire.LoadRequest(grant))[0].cached_bytes == len(DATA)
    return grant, (set(world.worker.store.versions()) - before).pop()


def write(world, version: int) -> None:
    draft = world.worker.store.begin_write(VersionMeta(version, 1, 0, 4 * MIB))
    draft.write(0, memoryview(DATA))
    draft.seal(len(DATA), dirty=True)


def outcome(scrubber: Scrubber, name: str) -> float:
    return scrubber._metrics.scrub_errors(name).value


def test_a_damaged_page_is_dropped_counted_and_read_again(world):
    grant, version = load(world)
    flip(world, version, 3 * PAGE_BYTES + 5)
    scrubber = scrubber_of(world)
    assert scrubber.round() == len(DATA)
    assert outcome(scrubber, "dropped") == 1
    assert not world.worker.store.get(version).complete
    opened, _ = world.connect(tcp=True).call(wire.OPEN, wire.OpenRequest(grant, "CACHE", False))
    read, _ = world.connections[-1].call(wire.READ, wire.ReadRequest(opened.handle, 0, len(DATA)))[1], None
    assert bytes(read) == DATA
    assert scrubber.round() == len(DATA)
    assert outcome(scrubber, "dropped") == 1


def test_a_round_goes_on_where_the_last_process_stopped(world):
    first, second = load(world, "a")[1], load(world, "b")[1]
    stopped = scrubber_of(world)
    stopped._place.next_version = max(first, second)
    stopped._save()
    assert scrubber_of(world).round() == len(DATA)
    assert scrubber_of(world).round() == 2 * len(DATA)


def test_unpersisted_data_is_repaired_from_another_worker(world):
    write(world, 70)
    flip(world, 70, PAGE_BYTES + 1)
    scrubber = scrubber_of(world, lambda _entry, offset, length: DATA[offset : offset + length])
    scrubber.round()
    assert (outcome(scrubber, "repaired"), outcome(scrubber, "kept")) == (1, 0)
    container = next((world.folder / "mem").rglob(f"{70:016x}"))
    assert container.read_bytes() == DATA


@pytest.mark.parametrize("others", [None, lambda _entry, _offset, length: bytes(length)])
def test_unpersisted_data_without_a_good_copy_is_kept_and_told(world, others):
    write(world, 71)
    flip(world, 71, 7)
    scrubber = scrubber_of(world, others)
    scrubber.round()
    assert (outcome(scrubber, "repaired"), outcome(scrubber, "kept")) == (0, 1)
    assert world.worker.store.get(71) is not None
    with pytest.raises(DataCorruptionError, match="checksum"):
        world.connect().call(wire.OPEN, wire.OpenRequest(world.read_grant(None, len(DATA), version=71)))


def test_whole_file_checksums(world):
    grant, version = load(world)
    connection = world.connect()
    good = wire.ChecksumReply(len(DATA), extend(0, DATA), 0, False)
    assert connection.call(wire.CHECKSUM, wire.ChecksumRequest(grant))[0] == good
    assert connection.call(wire.CHECKSUM, wire.ChecksumRequest(grant, of_store=True))[0] == good
    flip(world, version, 5)
    damaged, _ = connection.call(wire.CHECKSUM, wire.ChecksumRequest(grant))
    assert damaged.bad_pages == 1
    assert damaged.crc32c != good.crc32c
    unknown = world.read_grant(None, 10)
    assert connection.call(wire.CHECKSUM, wire.ChecksumRequest(unknown))[0] == wire.ChecksumReply(0)
