"""What every eviction policy keeps, whatever its order: the protocol's own promises."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotach.conf.settings import KEYS
from isotach.eviction import POLICIES, make

CAPACITY = 1000
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["added", "touched", "removed", "evicted", "missed"]),
        st.integers(0, 15),
        st.integers(0, 400),
    ),
    max_size=120,
)


@pytest.fixture(params=sorted(POLICIES))
def name(request):
    return request.param


@given(ACTIONS)
@pytest.mark.parametrize("name", sorted(POLICIES))
def test_candidates_are_what_is_here_each_once(name, actions):
    policy, here = make(name, CAPACITY), {}
    for action, version, size in actions:
        if action == "added":
            policy.added(version, size)
            here[version] = size
        elif action == "touched":
            policy.touched(version)
        elif action == "missed":
            assert policy.admits(version, size) in (True, False)
            while sum(here.values()) + size > CAPACITY:
                victim = next(policy.candidates())
                policy.evicted(victim)
                del here[victim]
            policy.added(version, size)
            here[version] = size
        else:
            getattr(policy, action)(version)
            here.pop(version, None)
        listed = list(policy.candidates())
        assert sorted(listed) == sorted(here)


def test_candidates_survive_evictions_and_additions_on_the_way(name):
    policy = make(name, CAPACITY)
    for version in range(300):
        policy.added(version, 3)
    met = []
    for version in policy.candidates():
        met.append(version)
        if version % 3 == 0:
            policy.evicted(version)
        elif version % 3 == 1:
            policy.touched(version)
        else:
            policy.removed(version)
        if len(met) == 150:
            policy.added(1000, 3)
    assert len(met) == len(set(met))
    assert set(met) - {1000} == set(range(300))
    assert set(policy.candidates()) == set(range(1, 300, 3)) | {1000}


def test_all_in_front_may_stay_the_rest_is_still_reached(name):
    policy = make(name, 10_000)
    for version in range(5000):
        policy.added(version, 2)
    assert len(set(policy.candidates())) == 5000


def test_two_searches_at_once_do_not_disturb_one_another(name):
    policy = make(name, CAPACITY)
    for version in range(200):
        policy.added(version, 5)
    slow = policy.candidates()
    begun = [next(slow) for _ in range(50)]
    assert set(policy.candidates()) == set(range(200))
    victim = next(policy.candidates())
    policy.evicted(victim)
    assert set(begun) | set(slow) >= set(range(200)) - {victim}
    assert set(policy.candidates()) == set(range(200)) - {victim}


def test_touches_from_other_threads_tear_nothing(name):
    policy = make(name, 100_000)
    for version in range(5000):
        policy.added(version, 20)
    stopping = threading.Event()

    def touch_all():
        while not stopping.is_set():
            for version in range(0, 6000, 7):
                policy.touched(version)

    threads = [threading.Thread(target=touch_all) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for fresh in range(5000, 5300):
            victim = next(policy.candidates())
            policy.evicted(victim)
            policy.added(fresh, 20)
        assert len(set(policy.candidates())) == 5000
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="LRU"):
        make("FIFO2", CAPACITY)


def test_the_configuration_offers_every_policy():
    offered = next(row.key.kind.accepts for row in KEYS if row.name == "worker.eviction")
    assert sorted(offered.split(", ")) == sorted(POLICIES)
