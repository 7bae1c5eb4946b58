"""LRU against a plain list."""

from hypothesis import given
from hypothesis import strategies as st

from isotach.eviction import make

USES = st.lists(st.tuples(st.sampled_from(["added", "touched", "removed"]), st.integers(0, 9)), max_size=60)


@given(USES)
def test_the_order_is_that_of_the_last_uses(uses):
    policy, order = make("LRU", 100), []
    for action, version in uses:
        if action == "added":
            policy.added(version, 1)
            if version not in order:
                order.append(version)
        elif version in order:
            order.remove(version)
            if action == "touched":
                order.append(version)
            getattr(policy, action)(version)
        else:
            getattr(policy, action)(version)
    assert list(policy.candidates()) == order
