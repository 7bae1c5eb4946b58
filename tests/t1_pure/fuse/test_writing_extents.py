"""The ranges that a file being written still takes from the version below, against a model of single bytes."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from isotach.fuse.writing.extents import BaseRanges

SIZE = 64
_places = st.integers(0, SIZE)
_steps = st.lists(st.tuples(st.sampled_from(["remove", "cut", "clear"]), _places, _places), max_size=24)


@given(length=_places, steps=_steps, look=st.tuples(_places, _places))
def test_ranges_are_what_single_bytes_say(
    length: int, steps: list[tuple[str, int, int]], look: tuple[int, int]
) -> None:
    ranges, model = BaseRanges(length), set(range(length))
    for step, start, stop in steps:
        if step == "remove":
            ranges.remove(start, stop)
            model -= set(range(start, stop))
        elif step == "cut":
            ranges.cut(start)
            model -= set(range(start, SIZE))
        elif start == 0:
            ranges.clear()
            model.clear()
    assert {byte for start, stop in ranges for byte in range(start, stop)} == model
    assert ranges.total == len(model)
    assert bool(ranges) == bool(model)
    flat = list(ranges)
    assert all(start < stop for start, stop in flat)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(flat))
    pieces = ranges.pieces(*look)
    assert [byte for start, stop, _ in pieces for byte in range(start, stop)] == list(range(*look))
    assert all((byte in model) == below for start, stop, below in pieces for byte in range(start, stop))
    assert all(before[2] != after[2] for before, after in itertools.pairwise(pieces))
