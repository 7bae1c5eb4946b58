"""The short form of `make soak`: eight clients and an exact model, while processes die.

Owns: that the soak works and finds nothing. Never: takes long; ten minutes of it are for `make soak`.
"""

import pytest

from isotach.testing.soak.content import SIZE_MIN, Stamp, content_of, fault_of
from isotach.testing.soak.run import SoakPlan, soak


@pytest.mark.fault("clients, renames and deletes while processes die", "every answer is what the model says")
def test_a_short_soak():
    plan = SoakPlan(
        seed="short", seconds=8, clients=8, processes=0, workers=2, with_s3=False, pause_s=(2.0, 3.0), grace_s=4.0
    )
    report = soak(plan)
    assert report.problems == [], report.text()
    assert report.operations > 100
    assert report.faults.total() >= 2


def test_what_the_soak_takes_for_damage():
    """A judge that finds nothing wrong must be able to."""
    stamp = Stamp(3, 7, 5000)
    good = content_of(stamp)
    assert fault_of(good) is None
    assert "differs" in (fault_of(good[:-1] + bytes([good[-1] ^ 1])) or "")
    assert "5000" in (fault_of(good[:-1]) or "")
    assert "no client" in (fault_of(b"\0" * SIZE_MIN) or "")
