"""The pure parts: streams, page tables, eviction order, grants."""

from hypothesis import given
from hypothesis import strategies as st

from isotach.base.limits import MIB, PAGE_BYTES
from isotach.blockstore.index import page_rows
from isotach.blockstore.pages import PageTable, page_count
from isotach.eviction.lru import LeastRecentlyUsed
from isotach.worker.streams import Streams

UNIT = 8 * MIB
WINDOW = 64 * MIB


def test_a_stream_from_the_start_ramps_up_to_the_bound_in_whole_units():
    streams, length = Streams(), 1024 * MIB
    ends = [streams.note(at, at + MIB, length, WINDOW, UNIT) for at in range(0, 128 * MIB, MIB)]
    ahead = [end - (place + 1) * MIB for place, end in enumerate(ends)]
    assert ahead[0] == 2 * MIB
    assert max(ahead) <= WINDOW
    assert min(ahead[10:]) > WINDOW - UNIT
    assert all(end % UNIT == 0 for end in ends[10:])


def test_random_reads_never_read_ahead():
    streams = Streams()
    for at in (500, 100, 300, 900, 700):
        assert streams.note(at * MIB, at * MIB + 100, 1024 * MIB, WINDOW, UNIT) == at * MIB + 100


def test_readers_of_two_places_are_two_streams():
    streams = Streams()
    for step in range(20):
        for base in (0, 500 * MIB):
            at = base + step * MIB
            ahead = streams.note(at, at + MIB, 1024 * MIB, WINDOW, UNIT)
            assert ahead > at + MIB or step == 0


@given(st.lists(st.tuples(st.integers(0, 1 << 30), st.integers(1, 1 << 24)), max_size=60), st.integers(1, 1 << 30))
def test_reading_ahead_stays_within_the_file_and_the_window(reads, length):
    streams = Streams()
    for offset, size in reads:
        start = min(offset, length - 1)
        end = min(length, start + size)
        ahead = streams.note(start, end, length, WINDOW, UNIT)
        assert end <= ahead <= min(length, max(end, end + WINDOW + 4 * PAGE_BYTES + size))


@given(st.lists(st.tuples(st.integers(0, 199), st.integers(1, 80), st.booleans()), max_size=30))
def test_a_page_table_is_a_set(steps):
    table, model = PageTable(200), set()
    for first, count, adds in steps:
        stop = min(200, first + count)
        if adds:
            table.add(first, range(first, stop))
            model |= set(range(first, stop))
        else:
            table.remove(first, stop)
            model -= set(range(first, stop))
        assert table.count == len(model)
        assert table.has(first, stop) == (set(range(first, stop)) <= model)
        assert table.first_missing(first, stop) == next((p for p in range(first, stop) if p not in model), stop)
        assert {p for run in table.present_runs(0, 200) for p in range(*run)} == model
        assert {p for run in table.missing_runs(0, 200) for p in range(*run)} == set(range(200)) - model


@given(st.integers(1, 20 * PAGE_BYTES), st.integers(PAGE_BYTES // 4, 7 * PAGE_BYTES))
def test_a_block_is_there_when_all_its_bytes_are(length, block_bytes):
    table = PageTable(page_count(length))
    table.add(0, [0])
    bitmap = table.block_bitmap(length, block_bytes)
    for block in range((length + block_bytes - 1) // block_bytes):
        whole = min(length, (block + 1) * block_bytes) <= PAGE_BYTES
        assert bool(bitmap[block // 8] >> block % 8 & 1) == whole


def test_the_rows_of_a_chunk_are_what_they_were_in_format_1():
    table = PageTable(66)
    table.add(1, [0xDEADBEEF])
    table.add(65, [7])
    (first, second) = page_rows(0x1234, table, 0, 66)
    assert first[0] == b"p" + bytes.fromhex("0000000000001234") + bytes.fromhex("00000000")
    assert first[1] == bytes.fromhex("0200000000000000" + "00000000" + "efbeadde") + bytes(62 * 4)
    assert second[1] == bytes.fromhex("0200000000000000" + "00000000" + "07000000") + bytes(62 * 4)


def test_lru_gives_every_version_once_oldest_first():
    order = LeastRecentlyUsed(1 << 30)
    for version in range(200):
        order.added(version, 1)
    order.touched(0)
    order.touched(999)
    order.removed(1)
    assert list(order.candidates()) == [*range(2, 200), 0]
