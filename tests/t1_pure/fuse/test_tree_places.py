"""Offsets of directories: a reader that goes on meets every name that stays, once."""

from bisect import bisect_right

from hypothesis import given
from hypothesis import strategies as st

from isotach.fuse.tree.places import AFTER_DOT_DOT, Places


def _read_on(names: list[bytes], places: Places, offset: int, count: int) -> tuple[list[bytes], int]:
    """As a listing does: some entries from an offset on."""
    name, skip = places.resume(offset)
    first = bisect_right(names, name) if name else 0
    given_out = names[first + skip : first + skip + count]
    for each in given_out:
        offset += 1
        places.note(offset, each)
    return given_out, offset


@given(
    st.sets(st.integers(0, 200), max_size=120),
    st.lists(st.tuples(st.integers(1, 20), st.sets(st.integers(0, 200)), st.sets(st.integers(0, 200))), max_size=40),
)
def test_names_that_stay_are_met_once_whatever_comes_and_goes(
    start: set[int], steps: list[tuple[int, set[int], set[int]]]
) -> None:
    present, stayed = set(start), set(start)
    places, offset, met = Places(8), AFTER_DOT_DOT, []
    for count, come, go in steps:
        given_out, offset = _read_on(sorted(b"%03d" % each for each in present), places, offset, count)
        met += [int(name) for name in given_out]
        present = (present | come) - go
        stayed -= go
    rest, _ = _read_on(sorted(b"%03d" % each for each in present), places, offset, 10_000)
    met += [int(name) for name in rest]
    assert len(met) == len(set(met))
    assert stayed <= set(met)


@given(st.integers(0, 3000), st.integers(0, 3000), st.integers(2, 64))
def test_seeking_back_in_a_directory_at_rest_is_exact_and_bounded(read: int, back_to: int, places_max: int) -> None:
    names = [b"%05d" % number for number in range(3000)]
    places = Places(places_max)
    _, offset = _read_on(names, places, AFTER_DOT_DOT, read)
    assert len(places) <= max(4, places_max) + 1
    target = min(AFTER_DOT_DOT + back_to, offset)
    again, _ = _read_on(names, places, target, 3)
    assert again == names[target - AFTER_DOT_DOT : target - AFTER_DOT_DOT + 3]


def test_the_start_is_the_start() -> None:
    places = Places()
    places.note(3, b"x")
    assert places.resume(0) == (b"", 0)
    assert places.resume(AFTER_DOT_DOT) == (b"", 0)
    assert places.resume(3) == (b"x", 0)
