"""The token bucket against the definition of a rate: any span sees no more than burst, rate times span and one debt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotach.base.token_bucket import TokenBucket


@given(
    rate=st.integers(1, 1000),
    burst=st.integers(0, 500),
    steps=st.lists(st.tuples(st.floats(0, 2), st.integers(1, 300)), min_size=1, max_size=40),
)
def test_no_span_sees_more_than_the_rate_allows(rate, burst, steps):
    bucket, now, passed = TokenBucket(rate, burst), 0.0, []
    for pause, size in steps:
        now += pause
        passed.append((now + bucket.reserve(size, now), size))
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            span = passed[last][0] - passed[first][0]
            total = sum(size for _, size in passed[first:last])  # the last one may be in debt
            assert total <= burst + rate * span + passed[first][1] + 1e-6


def test_no_rate_never_waits():
    bucket = TokenBucket(0, 0)
    assert [bucket.reserve(1 << 40, 0.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert bucket.wait_s(0.0) == 0.0


def test_what_is_larger_than_the_burst_passes_and_is_paid_for_by_the_next():
    bucket = TokenBucket(10, 5)
    assert bucket.reserve(100, 0.0) == 0.0
    assert bucket.wait_s(0.0) == pytest.approx(9.5)
    assert bucket.reserve(1, 0.0) == pytest.approx(9.5)


def test_negative_rates_are_refused():
    with pytest.raises(ValueError, match="not be negative"):
        TokenBucket(-1, 0)
