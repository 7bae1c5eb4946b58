"""CHANGES of a real master: what is told, in which order, to whom, and when it is said that something was missed."""

import asyncio

from isotach.base.types import Inode
from isotach.master.change_ring import ChangeRing
from isotach.net.async_client import AsyncConnection
from isotach.wire import messages as wire

from .conftest import Client, connected


class Follower:
    """Asks for changes as a mount does."""

    def __init__(self, client) -> None:
        self.client = client
        self.feed = self.after = 0

    async def poll(self, wait_ms: int = 0) -> wire.ChangesReply:
        reply = await self.client.call(wire.CHANGES, wire.ChangesRequest(self.feed, self.after, wait_ms))
        self.feed, self.after = reply.feed, reply.after
        return reply

    async def begin(self) -> None:
        """Follows from now on: a batch that was under way when somebody first asked counts as missed."""
        await self.poll()
        async with asyncio.timeout(10):
            while (await self.poll(20)).missed:
                pass

    async def entries(self) -> list[tuple[int, bytes, Inode | None, int]]:
        """All that has not been told yet, without the touches of directories."""
        found = []
        while (reply := await self.poll()).changes:
            found += [(c.directory_id, c.name, c.inode, c.gone_id) for c in reply.changes]
        return [row for row in found if row[2] is None or not row[2].is_dir]


def test_changes_come_in_order_with_what_was_before(home, run) -> None:
    async def scenario() -> None:
        async with home.client() as client:
            follower = Follower(client)
            await client.mkdir(b"/d")
            await follower.begin()
            directory = (await client.stat(b"/d")).inode
            first = await client.write(b"/d/a")
            second = await client.write(b"/d/b")
            assert await follower.entries() == [
                (directory.id, b"a", first, 0),
                (directory.id, b"b", second, 0),
            ]
            await client.rename(b"/d/a", b"/d/c")
            moved = (await client.stat(b"/d/c")).inode
            assert sorted(await follower.entries(), key=str) == sorted(
                [(directory.id, b"a", None, first.id), (directory.id, b"c", moved, 0)], key=str
            )
            await client.rename(b"/d/c", b"/d/b")
            over = await follower.entries()
            assert (directory.id, b"c", None, first.id) in over
            assert [(row[1], row[2].id, row[3]) for row in over if row[2]] == [(b"b", first.id, second.id)]
            await client.call(wire.SET_ATTR, wire.SetAttrRequest(b"/d/b", mode=0o600))
            changed = await follower.entries()
            assert [(row[1], row[2].mode, row[3]) for row in changed] == [(b"b", 0o600, 0)]
            await client.remove(b"/d/b")
            assert (directory.id, b"b", None, first.id) in await follower.entries()

    run(scenario)


def test_who_waits_is_woken_by_a_change(home, run) -> None:
    async def scenario() -> None:
        async with home.master() as master, connected(master) as client, connected(master) as other:
            follower = Follower(other)
            await follower.poll()
            assert (await follower.poll(1)).changes == []
            await client.mkdir(b"/x")  # the first change after listening may have been under way: settle
            await follower.poll(5_000)
            waiting = asyncio.create_task(follower.poll(20_000))
            await asyncio.sleep(0)
            await client.write(b"/x/f")
            reply = await asyncio.wait_for(waiting, 5)
            names = [change.name for change in reply.changes]
            while b"f" not in names:
                names += [change.name for change in (await follower.poll(5_000)).changes]

    run(scenario)


def test_overflow_and_another_life_of_the_master_are_missed(home, run) -> None:
    async def scenario() -> None:
        async with home.master() as master, connected(master) as client:
            assert master._feed is not None
            master._feed._ring = ChangeRing(kept_max=8)
            follower = Follower(client)
            await follower.poll()
            for number in range(12):
                await client.mkdir(b"/d%d" % number)
            assert (await follower.poll()).missed
            assert not (await follower.poll()).missed
        async with home.master() as master, connected(master) as client:
            follower.client = client
            assert (await follower.poll(10_000)).missed
            assert not (await follower.poll()).missed

    run(scenario)


def test_nothing_is_noted_while_nobody_asks(home, run) -> None:
    async def scenario() -> None:
        async with home.master() as master, connected(master) as client:
            assert master._feed is not None
            await client.mkdir(b"/a")
            assert len(master._feed._ring) == 0
            follower = Follower(client)
            await follower.poll()
            await client.mkdir(b"/b")
            assert len(master._feed._ring) > 0
            master._feed._asked_at -= 1_000
            await master._feed.stop_when_idle()
            await client.mkdir(b"/c")
            assert len(master._feed._ring) == 0
            assert (await follower.poll()).missed

    run(scenario)


def test_the_stop_of_the_master_answers_who_waits(home, run) -> None:
    async def scenario() -> None:
        async with home.master() as master, connected(master) as client:
            follower = Follower(client)
            await follower.poll()
            waiting = asyncio.create_task(follower.poll(20_000))
            async with asyncio.timeout(5):
                while not master._feed.waiting:  # noqa: ASYNC110 - nothing signals that a call has arrived
                    await asyncio.sleep(0.005)
            master._feed.close()
            assert (await asyncio.wait_for(waiting, 5)).changes == []

    run(scenario)


def test_a_file_with_several_names_is_told_under_each_and_by_itself(home, run) -> None:
    async def scenario() -> None:
        async with home.client() as client:
            await client.mkdir(b"/d")
            file = await client.write(b"/d/a")
            follower = Follower(client)
            await follower.begin()
            await client.call(wire.LINK, wire.LinkRequest(b"/d/a", b"/d/b"))
            told = await follower.entries()
            assert {(row[1], row[2].id, row[2].links) for row in told if row[2]} == {
                (b"a", file.id, 2),
                (b"b", file.id, 2),
                (b"", file.id, 2),
            }
            await client.call(wire.SET_ATTR, wire.SetAttrRequest(b"/d/b", mode=0o600))
            assert [(row[0], row[1], row[2].mode) for row in await follower.entries()] == [(0, b"", 0o600)]
            await client.remove(b"/d/a")
            told = await follower.entries()
            assert {(row[1], row[2] and row[2].links, row[3]) for row in told} == {
                (b"a", None, 0),  # the file is still there: nothing is gone but this name
                (b"b", 1, 0),
                (b"", None, 0),
            }
            await client.remove(b"/d/b")
            assert any(row[2] is None and row[3] == file.id for row in await follower.entries())

    run(scenario)


def test_others_are_told_only_of_what_they_may_list(home, run) -> None:
    async def scenario() -> None:
        async with home.master() as master, connected(master) as client:
            for name, mode in ((b"/open", 0o755), (b"/searched", 0o711), (b"/closed", 0o700)):
                await client.mkdir(name, mode=mode)
            connection = await AsyncConnection.open(master.tcp_address, user="nobody-of-note")
            try:
                follower = Follower(Client(connection))
                await follower.begin()
                files = [await client.write(folder + b"/f") for folder in (b"/open", b"/searched", b"/closed")]
                told = await follower.entries()
                assert [(row[1], row[2].id) for row in told] == [(b"f", files[0].id), (b"", files[1].id)]
            finally:
                await connection.close()

    run(scenario)
