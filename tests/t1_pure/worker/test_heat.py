"""Counting opens from other hosts in windows of time: what is hot, told once, in bounded memory."""

from isotach.base.limits import HEAT_VERSIONS_MAX, HOT_OPENS, HOT_TOLD_MAX, HOT_WINDOW_S
from isotach.worker.heat import Heat


def test_what_is_opened_often_within_a_window_is_told_once():
    now = [0.0]
    heat = Heat(lambda: now[0])
    for _ in range(HOT_OPENS):
        heat.note(1)
        heat.note(2)
    heat.note(2)
    heat.note(3)
    assert heat.take() == []
    now[0] = HOT_WINDOW_S
    assert heat.take() == [2, 1]
    now[0] *= 2
    assert heat.take() == []


def test_it_keeps_and_tells_a_bounded_number():
    now = [0.0]
    heat = Heat(lambda: now[0])
    for version in range(HOT_TOLD_MAX * 2):
        for _ in range(HOT_OPENS):
            heat.note(version)
    for version in range(HEAT_VERSIONS_MAX + 10):
        heat.note(version)
    assert len(heat._opens) == HEAT_VERSIONS_MAX
    now[0] = HOT_WINDOW_S
    assert len(heat.take()) == HOT_TOLD_MAX
