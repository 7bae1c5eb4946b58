"""Entries of all kinds, made at once and found by what they are: MAKE, id paths, symbolic links.

Owns: these calls over a real master. Never: moves bytes.
"""

import asyncio
import errno
import os

import pytest

from isotach.base.paths import id_path
from isotach.base.types import ROOT_ID, Flag, Kind
from isotach.wire import messages as wire

from .conftest import connected, eventually


async def make(client, path: bytes, kind: Kind = Kind.FILE, **fields) -> wire.MakeReply:
    return await client.call(wire.MAKE, wire.MakeRequest(path, int(kind), **fields))


async def symlink(client, target: bytes, path: bytes) -> wire.MakeReply:
    return await make(client, path, Kind.SYMLINK, target=target, exclusive=True)


async def inode_at(client, path: bytes, follow: bool = True):
    return (await client.call(wire.STAT, wire.StatRequest(path, follow=follow))).inode


def test_every_kind_is_there_at_once_and_after_a_restart(home, run):
    async def scenario():
        async with home.client() as client:
            await client.mkdir(b"/d")
            for kind in (Kind.FILE, Kind.FIFO, Kind.SOCKET, Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE):
                reply = await make(client, b"/d/%d" % kind, kind, mode=0o640, rdev=259, exclusive=True)
                assert reply.made
                assert reply.inode.rdev == (259 if "DEVICE" in kind.name else 0)
                assert bool(reply.inode.version) == (kind == Kind.FILE)
            await symlink(client, b"../d/1", b"/d/2")
        async with home.client() as client:
            for kind in list(Kind)[1:7]:
                found = await inode_at(client, b"/d/%d" % kind, follow=False)
                assert (found.kind, found.links, found.length) == (kind, 1, 0)
            assert (await inode_at(client, b"/d/2", follow=False)).target == b"../d/1"
            assert sorted(await client.list(b"/d")) == [b"%d" % kind for kind in list(Kind)[1:7]]
            await client.remove(b"/d", recursive=True)
            assert not await client.exists(b"/d")

    run(scenario)


def test_no_store_is_asked_about_names_beside_those_that_are_known(home, run):
    async def scenario():
        async with home.master() as master, connected(master) as client:
            syncer, calls = master.services.syncer, master.services.pool.calls
            await client.mkdir(b"/made")
            (home.store / "listed").mkdir()
            (home.store / "listed" / "old").write_bytes(b"x")
            assert await client.list(b"/listed") == [b"old"]
            asked = syncer.asked, calls["stat"]
            for folder in (b"/made", b"/listed"):
                await make(client, folder + b"/f", exclusive=True)
                await client.mkdir(folder + b"/d")
                await client.remove(folder + b"/f")
                await client.remove(folder + b"/d")
            assert (syncer.asked, calls["stat"]) == asked
            (home.store / "unlisted").mkdir()
            (home.store / "unlisted" / "old").write_bytes(b"x")
            with pytest.raises(FileExistsError):
                await make(client, b"/unlisted/old", exclusive=True)

    run(scenario)


def test_what_exists_is_an_error_only_when_exclusive(home, run):
    async def scenario():
        async with home.client() as client:
            first = await make(client, b"/f", exclusive=True)
            again = await make(client, b"/f", write=True, write_type="MUST_CACHE")
            assert (again.made, again.inode.id) == (False, first.inode.id)
            assert again.created is not None
            done = await client.call(wire.COMPLETE, wire.CompleteRequest(again.created.grant, 7))
            assert (done.inode.id, done.inode.length) == (first.inode.id, 7)
            with pytest.raises(FileExistsError):
                await make(client, b"/f", exclusive=True)
            with pytest.raises(FileExistsError):
                await make(client, b"/f", Kind.FIFO)
            with pytest.raises(FileNotFoundError):
                await make(client, b"/none/f")
            (home.store / "stored").write_bytes(b"xyz")
            with pytest.raises(FileExistsError):
                await make(client, b"/stored", exclusive=True)
            assert (await make(client, b"/stored")).inode.length == 3

    run(scenario)


def test_an_empty_file_that_is_to_be_stored_is_stored_after_a_while(home, run, monkeypatch):
    for module in ("isotach.namespace.making", "isotach.master.making"):
        monkeypatch.setattr(f"{module}.EMPTY_PERSIST_DELAY_S", 0.2)

    async def scenario():
        async with home.client() as client:
            made = await make(client, b"/late", write_type="ASYNC_THROUGH")
            assert made.inode.flags & Flag.TO_PERSIST
            await make(client, b"/never", write_type="MUST_CACHE")
            await make(client, b"/pipe", Kind.FIFO, write_type="ASYNC_THROUGH")
            await client.call(wire.PERSIST, wire.PersistRequest(b"/late"))
            assert (home.store / "late").read_bytes() == b""
            made = await make(client, b"/alone", write_type="CACHE_THROUGH")

            async def stored() -> bool:
                return (home.store / "alone").exists()

            await eventually(stored)
            assert sorted(os.listdir(home.store)) == ["alone", "late"]

    run(scenario)


def test_id_paths_reach_what_was_renamed_and_nothing_that_is_gone(home, run):
    async def scenario():
        async with home.client() as client:
            await client.mkdir(b"/d")
            directory = (await client.stat(b"/d")).inode.id
            made = await make(client, id_path(directory, b"f"))
            await client.rename(id_path(ROOT_ID, b"d"), id_path(ROOT_ID, b"e"))
            assert (await client.stat(id_path(directory, b"f"))).inode == made.inode
            assert (await client.stat(id_path(made.inode.id))).inode == made.inode
            assert await client.list(id_path(directory)) == [b"f"]
            await client.call(wire.SET_ATTR, wire.SetAttrRequest(id_path(made.inode.id), mode=0o600))
            assert (await client.stat(b"/e/f")).inode.mode == 0o600
            await client.rename(id_path(directory, b"f"), id_path(directory, b"g"))
            with pytest.raises(NotADirectoryError):
                await client.call(wire.REMOVE, wire.RemoveRequest(id_path(directory, b"g"), kind="directory"))
            with pytest.raises(IsADirectoryError):
                await client.call(wire.REMOVE, wire.RemoveRequest(id_path(directory), kind="other"))
            await client.call(wire.REMOVE, wire.RemoveRequest(id_path(directory, b"g"), kind="other"))
            await client.remove(b"/e")
            for path in (id_path(directory), id_path(directory, b"x"), id_path(made.inode.id)):
                with pytest.raises(FileNotFoundError):
                    await client.stat(path)

    run(scenario)


def test_links_are_followed_in_the_middle_always_and_at_the_end_where_asked(home, run):
    async def scenario():
        async with home.client() as client:
            await client.mkdir(b"/a/b", parents=True)
            await client.write(b"/a/b/f", 3)
            await symlink(client, b"b", b"/a/to")
            await symlink(client, b"/a/../a/to/f", b"/file")
            assert (await inode_at(client, b"/file")).length == 3
            assert (await inode_at(client, b"/a/to/f")).length == 3
            assert await client.list(b"/a/to") == [b"f"]
            await client.mkdir(b"/a/to/new")
            assert await client.exists(b"/a/b/new")
            await client.rename(b"/a/to/f", b"/a/to/g")
            await symlink(client, b"/a/b/g", b"/new")
            created = await client.create(b"/new")
            await client.call(wire.COMPLETE, wire.CompleteRequest(created.grant, 9))
            assert (await inode_at(client, b"/a/b/g")).length == 9
            await client.call(wire.SET_ATTR, wire.SetAttrRequest(b"/new", mode=0o600))
            assert (await inode_at(client, b"/a/b/g")).mode == 0o600
            link = await inode_at(client, b"/new", follow=False)
            assert (link.kind, link.mode) == (Kind.SYMLINK, 0o777)
            assert (await client.stat(id_path(link.id))).inode == link
            await client.remove(b"/new")
            assert await client.exists(b"/a/b/g")
            await symlink(client, b"/loop", b"/loop")
            with pytest.raises(OSError, match="symbolic links") as loop:
                await client.stat(b"/loop")
            assert loop.value.errno == errno.ELOOP
            with pytest.raises(FileNotFoundError):
                await inode_at(client, b"/file")

    run(scenario)


def test_links_outlive_the_store_and_its_directories(home, run):
    async def scenario():
        async with home.client() as client:
            (home.store / "d").mkdir()
            (home.store / "d" / "stored").write_bytes(b"1")
            assert await client.list(b"/d") == [b"stored"]
            await symlink(client, b"stored", b"/d/link")
            (home.store / "d" / "stored").unlink()
            assert await client.list(b"/d", interval_ms=0) == [b"link"]
            await client.rename(b"/d", b"/e")
            assert await client.list(b"/e") == [b"link"]
            (home.store / "e").rmdir()
            assert await client.list(b"/e", interval_ms=0) == [b"link"]
            assert await client.list(b"/", interval_ms=0) == [b"e"]

    run(scenario)


def test_two_who_make_one_name_exclusively(home, run):
    async def scenario():
        async with home.master() as master, connected(master) as one, connected(master) as other:
            tries = (make(one, b"/x", exclusive=True), make(other, b"/x", exclusive=True))
            results = await asyncio.gather(*tries, return_exceptions=True)
            assert sorted(isinstance(result, FileExistsError) for result in results) == [False, True]

    run(scenario)
