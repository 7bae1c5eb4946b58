"""Two entries that change places: in the namespace, in the store, and after a crash between the store's steps.

Owns: RENAME with `exchange`, over a real master and a folder as its store. Never: moves bytes but those of the store.
"""

import errno
import os

import pytest

from isotach.base.errors import IsotachError
from isotach.base.types import Flag, Kind
from isotach.wire import messages as wire

from .conftest import eventually


async def exchange(client, src: bytes, dst: bytes):
    return (await client.call(wire.RENAME, wire.RenameRequest(src, dst, exchange=True))).inode


async def inode_at(client, path: bytes):
    return (await client.call(wire.STAT, wire.StatRequest(path, follow=False))).inode


def content(home, path: str) -> bytes:
    return (home.store / path).read_bytes()


def test_what_is_only_here_changes_places_with_one_commit(home, run):
    async def scenario():
        async with home.client() as client:
            await client.mkdir(b"/d")
            file = await client.write(b"/d/f", 3)
            link = (await client.call(wire.MAKE, wire.MakeRequest(b"/link", int(Kind.SYMLINK), target=b"x"))).inode
            await client.call(wire.LINK, wire.LinkRequest(b"/d/f", b"/d/g"))
            assert (await exchange(client, b"/d/f", b"/link")).id == file.id
            assert ((await inode_at(client, b"/d/f")).id, (await inode_at(client, b"/link")).id) == (link.id, file.id)
            assert (await inode_at(client, b"/d/g")).links == 2
            assert sorted(await client.list(b"/d")) == [b"f", b"g"]
            for src, dst, number in ((b"/d", b"/d/f", errno.EINVAL), (b"/d", b"/none", errno.ENOENT)):
                with pytest.raises(OSError, match=r".") as refused:
                    await exchange(client, src, dst)
                assert refused.value.errno == number

    run(scenario)


def test_what_the_store_has_changes_places_there(home, run):
    async def scenario():
        async with home.client() as client:
            for name in ("a", "b"):
                (home.store / name).mkdir()
                (home.store / name / name).write_bytes(name.encode())
            (home.store / "f").write_bytes(b"file")
            assert await client.list(b"/a") == [b"a"]
            assert await client.list(b"/b") == [b"b"]
            await exchange(client, b"/a", b"/b")
            assert (content(home, "a/b"), content(home, "b/a")) == (b"b", b"a")
            assert await client.list(b"/a", interval_ms=0) == [b"b"]
            await exchange(client, b"/f", b"/a")
            assert (content(home, "a"), content(home, "f/b")) == (b"file", b"b")
            assert await client.list(b"/f", interval_ms=0) == [b"b"]
            here = await client.write(b"/here", 5)
            moved = await exchange(client, b"/here", b"/a")
            assert (moved.id, (await inode_at(client, b"/a")).id) == (here.id, here.id)
            assert content(home, "here") == b"file"
            assert sorted(os.listdir(home.store)) == ["b", "f", "here"]
            assert (await inode_at(client, b"/here")).flags & Flag.PERSISTED

    run(scenario)


@pytest.mark.parametrize("point", ["master.exchange_moved", "master.exchange_step"])
@pytest.mark.parametrize("passes", [0, 1, 2])
def test_a_crash_between_any_two_steps_is_gone_on_from(home, run, monkeypatch, point, passes):
    async def scenario():
        async with home.client() as client:
            (home.store / "a").write_bytes(b"aaa")
            (home.store / "b").write_bytes(b"b")
            first, second = await inode_at(client, b"/a"), await inode_at(client, b"/b")
            left = [passes]

            def dies(name: str) -> None:
                if name == point:
                    left[0] -= 1
                    if left[0] < 0:
                        raise SystemError

            with monkeypatch.context() as patched:
                patched.setattr("isotach.master.exchange.fail_at", dies)
                with pytest.raises(IsotachError):
                    await exchange(client, b"/a", b"/b")
        async with home.client() as client:

            async def done() -> bool:
                return (await inode_at(client, b"/a")).id == second.id

            await eventually(done)
            assert (await inode_at(client, b"/b")).id == first.id
            assert (content(home, "a"), content(home, "b")) == (b"b", b"aaa")
            assert sorted(os.listdir(home.store)) == ["a", "b"]

    run(scenario)


def test_a_refused_step_takes_the_others_back(home, run, monkeypatch):
    async def scenario():
        async with home.client() as client:
            (home.store / "a").write_bytes(b"aaa")
            (home.store / "b").write_bytes(b"b")
            first = await inode_at(client, b"/a")
            await client.stat(b"/b")
            real = __import__("isotach.master.exchange", fromlist=["_move"])._move

            def refuses(driver, source: bytes, target: bytes) -> None:
                if (source, target) == (b"b", b"a"):
                    raise PermissionError(errno.EACCES, "refused")
                real(driver, source, target)

            monkeypatch.setattr("isotach.master.exchange._move", refuses)
            with pytest.raises(PermissionError):
                await exchange(client, b"/a", b"/b")
            assert (content(home, "a"), content(home, "b")) == (b"aaa", b"b")
            assert (await inode_at(client, b"/a")).id == first.id
            await client.remove(b"/a")

    run(scenario)
