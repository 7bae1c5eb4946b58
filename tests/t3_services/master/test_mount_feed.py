"""The feed of a mount against a real master: changes heard in order, restarts, a quick stop."""

import asyncio
import queue
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager

from isotach.fuse.feed import Feed
from isotach.net.blocking_client import BlockingConnection
from isotach.wire.messages import Change

from .conftest import connected, eventually


class Ear:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: queue.SimpleQueue[Change | None] = queue.SimpleQueue()  # None: missed

    def listen(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self.heard.put(change)

    def missed(self) -> None:
        self.heard.put(None)

    async def next(self, wanted: Callable[[Change | None], bool]) -> Change | None:
        """The next news of that kind; others are passed over."""
        while not wanted(news := await asyncio.to_thread(self.heard.get, timeout=10)):
            pass
        return news


@contextmanager
def following(address: str, ear: Ear, **options):
    feed = Feed(lambda: BlockingConnection.open(address), ear.listen, ear.missed, **options)
    try:
        yield feed
    finally:
        feed.stop()


def test_changes_are_heard_in_order(home, run) -> None:
    async def scenario() -> None:
        async with home.master() as master, connected(master) as client:
            ear = Ear()
            with following(master.address, ear) as feed:
                assert await asyncio.to_thread(feed.start)
                assert feed.is_live
                for number in range(20):
                    await client.write(b"/f%d" % number)
                await client.rename(b"/f3", b"/g")
                await client.remove(b"/f4")
                names = []
                while len(names) < 23:
                    change = await ear.next(lambda news: news is not None and not (news.inode and news.inode.is_dir))
                    names.append((change.name, change.inode is not None))
                assert names[:20] == [(b"f%d" % number, True) for number in range(20)]
                assert sorted(names[20:22]) == [(b"f3", False), (b"g", True)]
                assert names[22] == (b"f4", False)
                await asyncio.to_thread(feed.stop)

    run(scenario)


def test_a_restart_of_the_master_is_missed_and_followed_on(home, run) -> None:
    async def scenario() -> None:
        ear = Ear()
        with ExitStack() as stack:
            async with home.master() as master:
                feed = stack.enter_context(following(master.address, ear, silence_s=0.2, wait_ms=50))
                assert await asyncio.to_thread(feed.start)

            async def is_silent() -> bool:
                return not feed.is_live

            await eventually(is_silent)
            async with home.master() as master, connected(master) as client:
                assert await ear.next(lambda news: news is None) is None
                await client.mkdir(b"/later")
                change = await ear.next(lambda news: news is not None and news.name == b"later")
                assert change.inode.is_dir
                assert feed.is_live
                assert feed.reconnects > 0
                await asyncio.to_thread(feed.stop)

    run(scenario)


def test_a_stop_ends_a_wait_at_once(home, run) -> None:
    async def scenario() -> None:
        async with home.master() as master:
            ear = Ear()
            with following(master.address, ear, wait_ms=20_000) as feed:
                assert await asyncio.to_thread(feed.start)

                async def is_waiting() -> bool:
                    return master._feed.waiting == 1

                await eventually(is_waiting)
                started = time.monotonic()
                await asyncio.to_thread(feed.stop)
                assert time.monotonic() - started < 5
                assert not feed._thread.is_alive()

    run(scenario)


def test_a_listener_that_fails_is_as_good_as_missed(home, run) -> None:
    async def scenario() -> None:
        async with home.master() as master, connected(master) as client:
            ear = Ear()

            def fail(_changes: Sequence[Change]) -> None:
                raise KeyError("a bug")

            ear.listen = fail
            with following(master.address, ear) as feed:
                assert await asyncio.to_thread(feed.start)
                await client.mkdir(b"/a")
                assert await ear.next(lambda _news: True) is None
                await client.mkdir(b"/b")
                assert await ear.next(lambda _news: True) is None
                await asyncio.to_thread(feed.stop)

    run(scenario)
