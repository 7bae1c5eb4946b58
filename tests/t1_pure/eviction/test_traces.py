"""What the policies are chosen for, on short traces; and that the known ones hit as often as libCacheSim's."""

import pytest

from isotach.bench import libcachesim
from isotach.bench.replay import replay, replay_belady
from isotach.bench.traces import KINDS, make_trace
from isotach.eviction import make

READS = 12_000
BY_NAME = {kind[0]: kind for kind in KINDS}


def share(policy, trace):
    return replay(trace, make(policy, trace.cache_bytes)).of_bytes


def short(name, mixed=False, reads=READS):
    return make_trace(BY_NAME[name], mixed, seed=3, reads=reads)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("name", ["epochs 30 %", "epochs 80 %", "loop"])
def test_epochs_keep_nearly_all_that_can_be_kept(name, mixed):
    trace = short(name, mixed)
    best = replay_belady(trace).of_bytes
    assert share("EPOCH", trace) > best - 0.02
    assert share("ADAPTIVE", trace) > best - 0.04


def test_a_loop_leaves_nothing_to_lru_and_much_to_the_default():
    trace = short("loop")
    assert share("LRU", trace) == 0
    assert share("ADAPTIVE", trace) > 0.3


def test_scans_leave_the_hot_set_in_peace():
    trace = short("scans over a hot set")
    assert share("ADAPTIVE", trace) > replay_belady(trace).of_bytes - 0.02
    assert share("LRU", trace) < share("ADAPTIVE", trace) - 0.05


@pytest.mark.parametrize("name", ["Zipf 1.0", "mix", "phases"])
def test_the_default_keeps_up_with_the_better_of_its_policies(name):
    trace = short(name, mixed=True)
    assert share("ADAPTIVE", trace) > max(share("WTINYLFU", trace), share("EPOCH", trace)) - 0.02


@pytest.mark.skipif(not libcachesim.is_installed(), reason=libcachesim.WHY_MISSING)
@pytest.mark.parametrize(
    ("ours", "theirs", "mixed", "tolerance"),
    [
        ("LRU", "LRU", False, 0),
        ("LRU", "LRU", True, 0),
        ("SIEVE", "Sieve", False, 0),
        ("SIEVE", "Sieve", True, 0),
        ("S3FIFO", "S3FIFO", False, 0.005),
        ("S3FIFO", "S3FIFO", True, 0.005),
        ("WTINYLFU", "WTinyLFU", False, 0.015),  # with mixed sizes, theirs refuses what is larger than its window
    ],
)
@pytest.mark.parametrize("name", ["Zipf 0.8", "Zipf 1.2"])
def test_known_policies_hit_as_often_as_in_the_simulator(name, mixed, ours, theirs, tolerance):
    trace = short(name, mixed, reads=30_000)
    assert share(ours, trace) == pytest.approx(libcachesim.replay_there(trace, theirs).of_bytes, abs=tolerance + 1e-9)
