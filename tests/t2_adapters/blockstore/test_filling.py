"""Filling a container as bytes arrive: what is seen when, what stays after failures, and that the count is right."""

import os
from collections.abc import Callable

import pytest

from isotach.base.limits import MIB
from isotach.blockstore.entry import CachedVersion
from isotach.blockstore.index import load_pages
from isotach.blockstore.store import BlockStore

from .conftest import content, meta_of

LENGTH = 3 * MIB + 5
META = meta_of(1, LENGTH)
DATA = content(1, LENGTH)


def handed_out(store: BlockStore) -> CachedVersion:
    entry = store.prepare(META)
    assert entry is not None
    assert store.hand_out(entry)
    return entry


def put(fill, start: int, end: int, piece: int = MIB // 4) -> bool:
    """Puts the file's bytes [start, end), never over the border of a page."""
    while start < end:
        stop = min(end, start + piece, (start // MIB + 1) * MIB)
        if not fill.put(memoryview(DATA)[start:stop]):
            return False
        start = stop
    return True


def read(store: BlockStore, entry: CachedVersion, start: int, end: int) -> bytes:
    descriptor = store.open_for_sending(entry)
    try:
        return os.pread(descriptor, end - start, start)
    finally:
        os.close(descriptor)


def test_each_page_is_seen_when_it_is_whole_and_not_before(open_store: Callable[..., BlockStore]) -> None:
    store = open_store(MEM=8)
    entry = handed_out(store)
    fill = store.begin_fill(META, 0, 4)
    assert put(fill, 0, MIB - 1)
    assert (fill.reached, entry.present_to(0)) == (0, 0)
    assert put(fill, MIB - 1, MIB + 10)
    assert (fill.reached, entry.present_to(0)) == (1, MIB)
    assert read(store, entry, 0, MIB) == DATA[:MIB]
    assert put(fill, MIB + 10, LENGTH)
    assert entry.present_to(0) == LENGTH
    assert fill.close()
    assert entry.complete
    assert read(store, entry, 0, LENGTH) == DATA


@pytest.mark.parametrize("by_page", [True, False])
def test_the_index_never_says_complete_without_every_row(open_store, by_page: bool) -> None:
    store = open_store(MEM=8)
    handed_out(store)
    fills = [store.begin_fill(META, 0, 1), store.begin_fill(META, 1, 3)]
    put(fills[0], 0, MIB)
    put(fills[1], MIB, 3 * MIB)
    if by_page:
        rest = store.begin_fill(META, 3, 4)
        put(rest, 3 * MIB, LENGTH)
        assert rest.close()
    else:
        assert store.fill(META, 3, DATA[3 * MIB :])
    other = load_pages(store.get(1).folder.index, 1, LENGTH)  # what a crash would leave now
    assert other.has(0, 4)
    for fill in fills:
        assert fill.close()
    assert store.tiers()[0].used_bytes == 3 * MIB + 4096


def test_after_a_break_whole_pages_stay_and_the_rest_is_filled_later(open_store) -> None:
    store = open_store(MEM=8)
    entry = handed_out(store)
    fill = store.begin_fill(META, 0, 4)
    put(fill, 0, 2 * MIB + 100)
    assert fill.close()
    assert entry.present_to(0) == 2 * MIB
    assert store.tiers()[0].used_bytes == 2 * MIB
    assert store.begin_fill(META, 0, 4) is None, "parts of it are here"
    fill = store.begin_fill(META, 2, 4)
    assert put(fill, 2 * MIB, LENGTH)
    assert fill.close()
    assert read(store, entry, 0, LENGTH) == DATA
    store.close()
    store = open_store(MEM=8)
    entry = store.get(1)
    store.verify(entry)
    assert entry.complete


def test_a_version_freed_meanwhile_keeps_nothing(open_store) -> None:
    store = open_store(MEM=8)
    handed_out(store)
    fill = store.begin_fill(META, 0, 4)
    put(fill, 0, MIB)
    assert store.free(1)
    assert not put(fill, MIB, 2 * MIB)
    assert not fill.close()
    assert store.tiers()[0].used_bytes == 0


def test_only_containers_that_a_client_has(open_store) -> None:
    store = open_store(MEM=8)
    assert store.begin_fill(META, 0, 4) is None
    store.prepare(META)
    assert store.begin_fill(META, 0, 4) is None
