"""When a tier is read around: only if it is slow, known well enough, and without flapping between equals."""

from hypothesis import given
from hypothesis import strategies as st

from isotach.base.limits import DETOUR_PROBE_S, DETOUR_RETRY_S, DETOUR_SAMPLES_MIN, MIB
from isotach.worker.detour import Detour, Speed


def detour_of(tier_s: float, store_s: float) -> Detour:
    """After enough reads of 1 MiB that took so long each."""
    detour = Detour()
    note(detour, tier_s, store_s)
    return detour


def note(detour: Detour, tier_s: float, store_s: float, times: int = DETOUR_SAMPLES_MIN) -> None:
    for _ in range(times):
        detour.note_tier("HDD", MIB, tier_s)
        detour.note_store(1, MIB, store_s)


def test_a_tier_much_slower_than_its_store_is_read_around():
    detour = detour_of(0.5, 0.1)
    assert detour.goes_around("HDD", 1)
    assert detour.around() == {"HDD"}
    assert not detour.goes_around("HDD", 2), "nothing is known of that store"
    assert not detour.goes_around("SSD", 1), "nothing is known of that tier"


def test_a_quick_tier_is_used_although_the_store_is_quicker():
    assert not detour_of(0.005, 0.0001).goes_around("HDD", 1)


def test_equals_do_not_alternate():
    detour = detour_of(0.15, 0.1)
    assert not detour.goes_around("HDD", 1)
    detour = detour_of(0.5, 0.1)
    assert detour.goes_around("HDD", 1)
    note(detour, 0.15, 0.1, times=100)
    assert detour.goes_around("HDD", 1), "half as slow again is not yet a reason to come back"
    note(detour, 0.1, 0.1, times=100)
    assert not detour.goes_around("HDD", 1)


def test_one_bad_read_decides_nothing():
    detour = detour_of(0.02, 0.1)
    detour.note_tier("HDD", MIB, 0.5)
    assert not detour.goes_around("HDD", 1)


def test_measuring_is_a_bounded_share():
    detour = Detour()
    due = [detour.tier_is_due("HDD", step * DETOUR_PROBE_S / 100) for step in range(1000)]
    assert 10 <= sum(due) <= 11
    assert not detour.store_is_due("HDD", 1, 0.0), "nothing says that the tier is slow"
    note(detour, 0.5, 0.1, times=DETOUR_SAMPLES_MIN - 1)
    detour.note_tier("HDD", MIB, 0.5)
    assert detour.store_is_due("HDD", 1, 0.0)
    assert not detour.store_is_due("HDD", 1, DETOUR_RETRY_S / 2)
    assert detour.store_is_due("HDD", 1, 2 * DETOUR_RETRY_S)
    detour.note_store(1, MIB, 0.1)
    assert not detour.store_is_due("HDD", 1, 9 * DETOUR_RETRY_S), "it is known, and its readers measure it"


@given(st.lists(st.tuples(st.integers(1, 8 * MIB), st.floats(1e-6, 10)), min_size=1, max_size=50))
def test_an_estimate_stays_within_what_was_measured(samples):
    speed = Speed()
    for size, seconds in samples:
        speed.note(size, seconds)
    counted = [seconds / size for size, seconds in samples if size >= 64 * 1024]
    assert speed.samples == len(counted)
    if counted:
        assert min(counted) * 0.999 <= speed.seconds_per_byte <= max(counted) * 1.001
