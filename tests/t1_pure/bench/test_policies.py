"""The replay, the optimum and the judgement over policies."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotach.bench.measure import percentile
from isotach.bench.plot import draw_policies
from isotach.bench.policies import DEFAULT, PolicyTable, TraceLine, table_cells, table_columns
from isotach.bench.replay import Hits, next_reads, replay, replay_belady
from isotach.bench.traces import KINDS, Trace, make_trace
from isotach.eviction import POLICIES, make

READS = st.lists(st.integers(0, 12), min_size=1, max_size=150)


@given(READS)
def test_no_policy_hits_more_than_the_optimum(reads):
    trace = Trace("any", reads, dict.fromkeys(range(13), 1), 5)
    best = replay_belady(trace)
    for name in POLICIES:
        assert replay(trace, make(name, 5)).of_reads <= best.of_reads


@given(READS)
def test_the_next_read_is_that_of_the_same_item(reads):
    for at, following in enumerate(next_reads(reads)):
        rest = reads[at + 1 :]
        assert following == (at + 1 + rest.index(reads[at]) if reads[at] in rest else 1 << 62)


@pytest.mark.parametrize("kind", KINDS, ids=[kind[0] for kind in KINDS])
def test_a_trace_is_the_same_each_time_and_its_sizes_are_known(kind):
    trace = make_trace(kind, mixed=True, reads=3000)
    assert trace == make_trace(kind, mixed=True, reads=3000)
    assert len(trace.reads) == 3000
    assert set(trace.reads) == set(trace.sizes)
    assert trace.cache_bytes > 0


def line(lru, default, theirs):
    ours = {name: Hits(0.1, 0.1) for name in POLICIES} | {"LRU": Hits(lru, lru), DEFAULT: Hits(default, default)}
    return TraceLine("loop", ours, {"ARC": Hits(0.9, theirs)}, Hits(1.0, 0.95))


@pytest.mark.parametrize(
    ("lru", "default", "theirs", "passed"),
    [(0.2, 0.4, 0.42, True), (0.2, 0.4, 0.44, False), (0.0, 0.11, 0.12, True), (0.0, 0.0, 0.02, False)],
)
def test_the_default_must_be_near_the_best_and_above_nothing(lru, default, theirs, passed):
    assert line(lru, default, theirs).passed is passed


def test_the_table_in_all_its_forms(tmp_path):
    table = PolicyTable([line(0.2, 0.4, 0.42)], 100)
    told = json.loads(table.to_json())
    assert told["passed"] is True
    assert told["traces"][0]["best"] == "ARC (libCacheSim)"
    assert told["traces"][0]["behind_points"] == pytest.approx(2.0)
    assert len(table_columns()) == len(table_cells(table.lines[0]))
    draw_policies(table, tmp_path / "policies.svg")
    assert (tmp_path / "policies.svg").stat().st_size > 1000


def test_percentiles():
    assert percentile([5.0], 0.99) == 5.0
    assert percentile(list(range(1000)), 0.99) == 990
    assert percentile([3, 1, 2], 0.5) == 2
    with pytest.raises(ValueError, match="no value"):
        percentile([], 0.5)
