"""The order of fetches: demand first, users in turn by bytes, mounts within their limit, everything at last."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from isotach.worker.fair_queue import AHEAD, DEMAND, FairQueue

_ITEM = st.tuples(st.sampled_from("abc"), st.integers(1, 3), st.integers(1, 20), st.sampled_from((DEMAND, AHEAD)))


@given(limit=st.integers(1, 4), items=st.lists(_ITEM, max_size=60), ends=st.randoms(use_true_random=False))
def test_everything_comes_once_and_no_mount_passes_its_limit(limit, items, ends):
    queue: FairQueue[int] = FairQueue(limit, 8)
    for number, (user, mount, size, priority) in enumerate(items):
        queue.push(number, user, mount, size, priority)
    running: list[int] = []
    seen = []
    while len(queue) or running:
        found = queue.pop()
        if found is None:
            assert running, "items wait, nothing runs, and nothing may run"
            queue.end(running.pop(ends.randrange(len(running))))
            continue
        seen.append(found[0])
        running.append(found[1])
        assert items[found[0]][1] == found[1]
        assert max(Counter(running).values()) <= limit
    assert sorted(seen) == list(range(len(items)))
    for user in "abc":
        for mount in (1, 2, 3):
            of_one = [each for each in seen if items[each][:2] == (user, mount) and items[each][3] == DEMAND]
            assert of_one == sorted(of_one), "one user's reads of one mount keep their order"


def test_ten_thousand_requests_of_one_user_do_not_hold_up_another_one():
    queue: FairQueue[str] = FairQueue(1, 8)
    for number in range(10_000):
        queue.push(f"greedy-{number}", "greedy", 1, 8, DEMAND)
    queue.push("modest", "modest", 1, 8, DEMAND)
    order = []
    while "modest" not in order:
        item, mount = queue.pop()
        queue.end(mount)
        order.append(item)
    assert len(order) <= 4


def test_users_share_by_bytes_and_not_by_requests():
    queue: FairQueue[str] = FairQueue(1, 8)
    for _ in range(100):
        queue.push("large", "large", 1, 8, DEMAND)
    for _ in range(800):
        queue.push("small", "small", 1, 1, DEMAND)
    counts: Counter[str] = Counter()
    for _ in range(180):
        item, mount = queue.pop()
        queue.end(mount)
        counts[item] += 1
    assert 0.6 < counts["small"] / (8 * counts["large"]) < 1.7


def test_demand_comes_before_reading_ahead():
    queue: FairQueue[str] = FairQueue(4, 8)
    queue.push("ahead", "a", 1, 1, AHEAD)
    queue.push("demand", "b", 1, 1, DEMAND)
    assert [queue.pop()[0], queue.pop()[0]] == ["demand", "ahead"]


def test_a_mount_that_hangs_holds_up_only_itself():
    queue: FairQueue[str] = FairQueue(2, 8)
    for number in range(5):
        queue.push(f"slow-{number}", "a", "slow", 8, DEMAND)
    queue.push("quick", "a", "quick", 8, DEMAND)
    taken = [queue.pop()[0] for _ in range(3)]
    assert "quick" in taken
    assert queue.pop() is None


def test_a_place_without_queueing_is_given_only_when_nobody_waits():
    queue: FairQueue[str] = FairQueue(2, 8)
    assert queue.begin("m")
    queue.push("waits", "a", "m", 1, DEMAND)
    assert not queue.begin("m")
    assert queue.pop() == ("waits", "m")
    assert not queue.begin("m")
    assert queue.running("m") == 2
    queue.end("m")
    assert queue.begin("m")
