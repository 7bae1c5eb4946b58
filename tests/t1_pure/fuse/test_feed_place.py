"""Where a mount stands in the feed of changes, and what it makes of each answer."""

from isotach.base.limits import FEED_RETRY_S_MAX
from isotach.fuse.feed import FeedPlace
from isotach.wire.messages import Change, ChangesReply, ChangesRequest

CHANGE = Change(1, b"a", None, 7)


def test_the_first_answer_gives_the_place_and_voids_what_was_learnt_before() -> None:
    place = FeedPlace()
    assert place.request(5) == ChangesRequest(0, 0, 0)
    assert place.took(ChangesReply(77, 12), 0.0).missed
    assert place.request(5) == ChangesRequest(77, 12, 5)


def test_changes_move_the_place_on() -> None:
    place = FeedPlace()
    place.took(ChangesReply(77, 12), 0.0)
    news = place.took(ChangesReply(77, 13, changes=[CHANGE]), 1.0)
    assert not news.missed
    assert news.changes == [CHANGE]
    assert place.request(5).after == 13


def test_another_feed_is_followed_from_where_it_says() -> None:
    place = FeedPlace()
    place.took(ChangesReply(77, 12), 0.0)
    assert place.took(ChangesReply(78, 3, missed=True), 1.0).missed
    assert place.request(5) == ChangesRequest(78, 3, 5)
    assert not place.took(ChangesReply(78, 3), 2.0).missed


def test_it_is_live_while_answers_come() -> None:
    place = FeedPlace(silence_s=7.0)
    assert not place.is_live(0.0)
    place.took(ChangesReply(77, 12), 100.0)
    assert place.is_live(106.9)
    place.failed()
    assert place.is_live(106.9)
    assert not place.is_live(107.1)
    place.took(ChangesReply(77, 12), 108.0)
    assert place.is_live(108.1)


def test_it_asks_less_often_the_longer_nobody_answers() -> None:
    place = FeedPlace()
    delays = [place.failed() for _ in range(30)]
    assert delays == sorted(delays)
    assert delays[0] < 0.1
    assert delays[-1] == FEED_RETRY_S_MAX
    place.took(ChangesReply(77, 12), 0.0)
    assert place.failed() == delays[0]
