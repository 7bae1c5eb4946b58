"""The mount's ear at the master: hears of every entry that changed, whoever changed it.

Owns: the thread that asks for changes over a connection of its own, the place in the feed, and the judgement whether
the feed is live. Never: knows what the mount has cached, or filters what the mount itself has done.

While the feed is not live (the master has been silent for FEED_SILENCE_S), what is given to the kernel must be given
for a short time only. When the master is back as the same process, what happened meanwhile comes as changes; a
restarted master, or a pause longer than its memory, gives `on_missed`: everything known may be wrong.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec

from isotach.base.errors import IsotachError
from isotach.base.limits import (
    FEED_ANSWER_S,
    FEED_CATCH_UP_S,
    FEED_RETRY_S,
    FEED_RETRY_S_MAX,
    FEED_SILENCE_S,
    FEED_WAIT_MS,
)
from isotach.client.link import Link
from isotach.fuse.contract import ChangeListener
from isotach.net.address import Address
from isotach.net.blocking_client import BlockingConnection
from isotach.obs.log import get_logger
from isotach.wire.messages import CHANGES, Change, ChangesReply, ChangesRequest

_log: Final = get_logger("fuse.feed")


class News(msgspec.Struct, frozen=True):
    """What a reply means: first everything is void (`missed`), then these changes."""

    missed: bool
    changes: list[Change]


class FeedPlace:
    """Where the mount stands in the feed: pure, told of replies, failures and the time (s, monotonic)."""

    def __init__(self, silence_s: float = FEED_SILENCE_S) -> None:
        self._silence_s: Final = silence_s
        self._feed = 0
        self._after = 0
        self._failures = 0
        self._heard_at = float("-inf")

    def request(self, wait_ms: int) -> ChangesRequest:
        """The next question."""
        return ChangesRequest(self._feed, self._after, wait_ms if self._feed else 0)

    def took(self, reply: ChangesReply, now_s: float) -> News:
        """The answer to it. Where the place was unknown before, all that was learnt until now may be wrong."""
        missed = reply.missed or self._feed == 0
        self._feed, self._after = reply.feed, reply.after
        self._failures = 0
        self._heard_at = now_s
        return News(missed, reply.changes)

    def failed(self) -> float:
        """No answer: how many seconds to wait before the next question."""
        self._failures += 1
        return min(FEED_RETRY_S * 2.0 ** min(self._failures - 1, 16), FEED_RETRY_S_MAX)

    def is_live(self, now_s: float) -> bool:
        """Whether a change would have been heard of by now, give or take `silence_s`."""
        return now_s - self._heard_at < self._silence_s


class Feed:
    """The thread. `listener` gets changes in their order, `on_missed` is called when there is no telling what changed;
    both in the feed's thread, one at a time. What they raise is logged, and is as good as missed."""

    def __init__(
        self,
        connect: Callable[[], BlockingConnection],
        listener: ChangeListener,
        on_missed: Callable[[], None],
        *,
        wait_ms: int = FEED_WAIT_MS,
        silence_s: float = FEED_SILENCE_S,
    ) -> None:
        self._connect: Final = connect
        self._listener: Final = listener
        self._on_missed: Final = on_missed
        self._wait_ms: Final = wait_ms
        self._place: Final = FeedPlace(silence_s)
        self._stopping: Final = threading.Event()
        self._heard: Final = threading.Event()
        self._told: Final = threading.Condition()
        self._reached = (0, 0)  # feed and number of the last change that the listener has taken in
        self._thread: Final = threading.Thread(target=self._follow, name="isotach-feed", daemon=True)
        self._connection: BlockingConnection | None = None
        self._nothing_known = True  # until `start` returns
        self.changes = 0
        self.missed = 0
        self.reconnects = 0

    @property
    def is_live(self) -> bool:
        """Whether what is cached can be trusted for long."""
        return self._place.is_live(time.monotonic())

    def start(self, timeout_s: float = FEED_SILENCE_S) -> bool:
        """Follows from now on; whether the feed is live already. What is learnt after this returned is kept right."""
        self._thread.start()
        heard = self._heard.wait(timeout_s)
        self._nothing_known = False
        return heard

    def catch_up(self, feed: int, after: int, timeout_s: float = FEED_CATCH_UP_S) -> bool:
        """Returns once the listener has taken in all changes up to there; False: not in time. True at once for another
        feed than the present one: of that, everything is called in question anyway."""

        def is_there() -> bool:
            return self._reached[0] != feed or self._reached[1] >= after

        if is_there():
            return True
        with self._told:
            return self._told.wait_for(is_there, timeout_s)

    def stop(self) -> None:
        """Ends the thread, in the middle of a wait if need be. Safe to call twice, and before `start`."""
        self._stopping.set()
        connection = self._connection
        if connection is not None:
            connection.interrupt()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(FEED_RETRY_S_MAX + 1)

    # --- the thread ---

    def _follow(self) -> None:
        while not self._stopping.is_set():
            try:
                self._ask_on_one_connection()
            except (OSError, IsotachError) as problem:
                if self._stopping.is_set():
                    return
                self.reconnects += 1
                delay_s = self._place.failed()
                _log.debug("feed_interrupted", reason=str(problem), retry_s=delay_s)
                self._stopping.wait(delay_s)

    def _ask_on_one_connection(self) -> None:
        deadline_s = self._wait_ms / 1000 + FEED_ANSWER_S
        with self._connect() as connection:
            self._connection = connection
            while not self._stopping.is_set():
                reply, _ = connection.call(CHANGES, self._place.request(self._wait_ms), deadline_s=deadline_s)
                self._tell(self._place.took(reply, time.monotonic()))
                with self._told:
                    self._reached = (reply.feed, reply.after)
                    self._told.notify_all()
                self._heard.set()

    def _tell(self, news: News) -> None:
        if news.missed and not (self._nothing_known and not self._heard.is_set()):
            self._tell_missed()
        if news.changes:
            self.changes += len(news.changes)
            try:
                self._listener(news.changes)
            except Exception:  # a bug of a listener must not leave the mount deaf
                _log.exception("change_not_taken_in", changes=len(news.changes))
                self._tell_missed()

    def _tell_missed(self) -> None:
        self.missed += 1
        _log.info("changes_missed")
        try:
            self._on_missed()
        except Exception:  # as above
            _log.exception("missed_changes_not_taken_in")


def connections_to_master(link: Link) -> Callable[[], BlockingConnection]:
    """Connects to the master as `link` does, for a call that waits long."""

    def connect() -> BlockingConnection:
        return BlockingConnection.open(Address.parse(link.address), user=link.settings.user, client="mount")

    return connect
