"""Fetches that bring a unit in page by page: who wakes when, and what is left of one that fails."""

import threading

import pytest

from isotach.base.errors import UfsError
from isotach.base.limits import MIB
from isotach.blockstore.entry import VersionMeta
from isotach.blockstore.store import BlockStore
from isotach.conf.kinds import TierSpec
from isotach.worker.buffers import BufferBudget
from isotach.worker.fetch import Fetcher, Wanted
from isotach.worker.metrics import WorkerMetrics
from isotach.worker.reader import VersionReader

LENGTH = 4 * MIB
DATA = bytes(range(256)) * (LENGTH // 256)


class GatedSource:
    """Streams up to `gate`, then waits for `opened`; fails there if told to."""

    name = "ufs"

    def __init__(self, gate: int) -> None:
        self.gate, self.opened, self.failure, self.closed = gate, threading.Event(), None, 0
        self.at = 0

    def read(self, offset: int, length: int) -> bytes:
        return DATA[offset : offset + length]

    def stream(self, offset: int, length: int) -> "GatedSource":
        self.at = offset
        return self

    def read_into(self, view: memoryview) -> int:
        if self.at >= self.gate:
            assert self.opened.wait(10)
            if self.failure is not None:
                raise self.failure
        view[:] = DATA[self.at : self.at + len(view)]
        self.at += len(view)
        return len(view)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def store(tmp_path):
    store = BlockStore([TierSpec("MEM", tmp_path, 16 * MIB)])
    yield store
    store.close()


@pytest.fixture
def reader_of(store):
    budget = BufferBudget(64 * MIB)
    fetcher = Fetcher(store, WorkerMetrics(), threads=2, unit_bytes=8 * MIB, read_ahead_max=8 * MIB, budget=budget)

    def build(source: GatedSource):
        reader = VersionReader(store, fetcher, Wanted(VersionMeta(1, 2, LENGTH, 4 * MIB, "etag"), source))
        entry = store.prepare(reader.wanted.meta)
        assert store.hand_out(entry)
        return reader, entry

    yield build
    fetcher.close()


def test_a_reader_wakes_at_its_page_and_not_at_the_end_of_the_unit(store, reader_of) -> None:
    source = GatedSource(2 * MIB)
    reader, entry = reader_of(source)
    assert reader.ensure(entry, 0, 100) >= MIB
    assert reader.ensure(entry, MIB, 2 * MIB) == 2 * MIB
    assert not source.opened.is_set()
    source.opened.set()
    assert reader.ensure(entry, 2 * MIB, LENGTH) == LENGTH
    assert entry.complete, "the end of the file is told when the index has it"
    assert source.closed == 1


def test_what_arrived_before_a_failure_stays(store, reader_of) -> None:
    source = GatedSource(2 * MIB + 10)
    reader, entry = reader_of(source)
    source.failure = UfsError(5, "broke off", "s3://bucket/key")
    source.opened.set()
    with pytest.raises(UfsError, match="s3://bucket/key"):
        reader.ensure(entry, 0, LENGTH)
    assert entry.present_to(0) == 2 * MIB
    source.failure = None
    assert reader.ensure(entry, 0, LENGTH) == LENGTH
    assert store.tiers()[0].used_bytes == LENGTH
