"""Files with several names, and the one name under which the store has them.

Owns: LINK, and what REMOVE, RENAME and a sync do to such files, over a real master and a folder as its store. Never:
moves bytes but empty files.
"""

import errno
import os

import pytest

from isotach.base.errors import IsotachError
from isotach.base.paths import id_path
from isotach.base.types import Flag
from isotach.wire import messages as wire

from .conftest import connected, eventually


async def link(client, src: bytes, dst: bytes):
    return (await client.call(wire.LINK, wire.LinkRequest(src, dst))).inode


async def inode_at(client, path: bytes):
    return (await client.stat(path)).inode


async def stored(home, client, path: str, content: bytes = b"abc"):
    """A file that the store has."""
    (home.store / path).write_bytes(content)
    return await inode_at(client, b"/" + path.encode())


def files_of(home) -> list[str]:
    return sorted(str(path.relative_to(home.store)) for path in home.store.rglob("*") if path.is_file())


def test_all_names_are_one_file(home, run):
    async def scenario():
        async with home.client() as client:
            await client.mkdir(b"/d")
            first = await client.write(b"/a", 5)
            assert (await link(client, b"/a", b"/d/b")).links == 2
            assert (await link(client, id_path(first.id), b"/c")).links == 3
            await client.call(wire.SET_ATTR, wire.SetAttrRequest(b"/d/b", mode=0o600))
            seen = [await inode_at(client, path) for path in (b"/a", b"/d/b", b"/c", id_path(first.id))]
            assert all(each == seen[0] and (each.id, each.mode, each.links) == (first.id, 0o600, 3) for each in seen)
            _, payload = await client.connection.call(wire.LIST, wire.ListRequest(b"/d"))
            assert b"/d" not in payload
            await client.write(b"/d/b", 9)
            assert (await inode_at(client, b"/a")).length == 9
        async with home.client() as client:
            assert (await inode_at(client, b"/c")).links == 3
            await client.remove(b"/a")
            await client.rename(b"/d/b", b"/d/e")
            assert (await inode_at(client, b"/d/e")) == (await inode_at(client, b"/c"))
            await client.rename(b"/d/e", b"/c")  # two names of one file: nothing happens
            assert (await inode_at(client, b"/d/e")).links == 2
            await client.remove(b"/c")
            last = await inode_at(client, b"/d/e")
            assert (last.id, last.links, last.length) == (first.id, 1, 9)
            assert (await inode_at(client, id_path(first.id))) == last
            await client.remove(b"/d", recursive=True)
            with pytest.raises(FileNotFoundError):
                await client.stat(id_path(first.id))

    run(scenario)


def test_what_cannot_be_linked(home, run):
    async def scenario():
        async with home.client() as client:
            await client.mkdir(b"/d")
            await client.write(b"/f", 1)
            for src, dst, error in (
                (b"/d", b"/e", PermissionError),
                (b"/none", b"/e", FileNotFoundError),
                (b"/f", b"/none/e", FileNotFoundError),
                (b"/f", b"/d", FileExistsError),
                (b"/f", b"/f", FileExistsError),
            ):
                with pytest.raises(error):
                    await link(client, src, dst)
            await client.call(wire.MOUNT, wire.MountRequest(b"/m", (home.path / "other").as_uri(), {}))
            with pytest.raises(OSError, match="different mounts") as crossed:
                await link(client, b"/f", b"/m/f")
            assert crossed.value.errno == errno.EXDEV

    (home.path / "other").mkdir()
    run(scenario)


@pytest.mark.parametrize("how", ["remove", "replace", "tree"])
def test_the_store_has_it_under_the_next_name_when_the_first_goes(home, run, how):
    async def scenario():
        async with home.client() as client:
            await client.mkdir(b"/d")
            await client.mkdir(b"/e")
            first = await stored(home, client, "d/a")
            await link(client, b"/d/a", b"/d/too")
            await link(client, b"/d/a", b"/e/b")
            if how == "remove":
                await client.remove(b"/d/a")
                await client.remove(b"/d/too")
            elif how == "tree":
                await client.remove(b"/d", recursive=True)
                await eventually(lambda: _has_links(client, b"/e/b", 1))
            else:
                await stored(home, client, "x", b"other")
                await client.rename(b"/x", b"/d/a")
                await client.remove(b"/d/too")
            left = await inode_at(client, b"/e/b")
            assert (left.id, left.version, left.links) == (first.id, first.version, 1)
            assert left.flags & Flag.PERSISTED
            assert (home.store / "e" / "b").read_bytes() == b"abc"
            assert files_of(home) == (["d/a", "e/b"] if how == "replace" else ["e/b"])
            assert (await client.list(b"/e", interval_ms=0)) == [b"b"]

    run(scenario)


async def _has_links(client, path: bytes, links: int) -> bool:
    return (await inode_at(client, path)).links == links


def test_a_sync_leaves_further_names_and_lets_the_first_one_go(home, run):
    async def scenario():
        async with home.client() as client:
            first = await stored(home, client, "a")
            await link(client, b"/a", b"/b")
            (home.store / "b").write_bytes(b"foreign")
            assert await client.list(b"/", interval_ms=0) == [b"a", b"b"]
            assert (await inode_at(client, b"/b")).version == first.version
            (home.store / "a").write_bytes(b"newer content")
            await client.stat(b"/a", interval_ms=0)
            assert (await inode_at(client, b"/b")).length == 13
            (home.store / "a").unlink()
            assert await client.list(b"/", interval_ms=0) == [b"b"]
            left = await inode_at(client, b"/b")
            assert (left.id, left.links, left.flags & Flag.PERSISTED) == (first.id, 1, 0)

    run(scenario)


def test_a_move_to_the_next_name_that_a_crash_cut_off_is_finished(home, run, monkeypatch):
    async def scenario():
        async with home.client() as client:
            first = await stored(home, client, "a")
            await link(client, b"/a", b"/b")

            def dies(_name: str) -> None:
                raise SystemError

            with monkeypatch.context() as patched:
                patched.setattr("isotach.master.store_operations.fail_at", dies)
                with pytest.raises(IsotachError):
                    await client.remove(b"/a")
        async with home.client() as client:
            await eventually(lambda: _is_stored_as(home, "b"))
            for path in (b"/a", b"/b"):
                assert (await inode_at(client, path)).id == first.id
            await client.remove(b"/a")
            assert (home.store / "b").read_bytes() == b"abc"

    run(scenario)


async def _is_stored_as(home, name: str) -> bool:
    return os.listdir(home.store) == [name]


def test_a_write_by_any_name_goes_to_the_first_in_the_store(home, run):
    async def scenario():
        async with home.master() as master, connected(master) as client:
            await stored(home, client, "a")
            await link(client, b"/a", b"/b")
            created = await client.create(b"/b", "THROUGH")
            done = await client.call(wire.COMPLETE, wire.CompleteRequest(created.grant, 0))
            assert done.inode.links == 2
            assert (await inode_at(client, b"/a")).length == 0
            assert files_of(home) == ["a"]
            assert (home.store / "a").read_bytes() == b""

    run(scenario)
