"""The namespace over the wire, with a local folder underneath."""

import errno
import os

import pytest

from isotach.base.errors import AlreadyRunningError, InvalidPathError, StaleVersionError
from isotach.base.types import Flag
from isotach.master.server import Master
from isotach.wire import messages as wire

from .conftest import connected, eventually


def test_a_file_is_invisible_until_it_is_complete(home, run):
    async def scenario():
        async with home.client() as client:
            created = await client.create(b"/d/f")
            assert not await client.exists(b"/d/f")
            inode = (await client.call(wire.COMPLETE, wire.CompleteRequest(created.grant, 0))).inode
            assert (await client.stat(b"/d/f")).inode == inode
            again = (await client.call(wire.COMPLETE, wire.CompleteRequest(created.grant, 0))).inode
            assert again == inode  # a retry changes nothing

    run(scenario)


def test_an_aborted_write_leaves_nothing(home, run):
    async def scenario():
        async with home.client() as client:
            created = await client.create(b"/f")
            await client.call(wire.ABORT, wire.AbortRequest(created.grant))
            await client.call(wire.ABORT, wire.AbortRequest(created.grant))
            assert await client.list(b"/") == []

    run(scenario)


def test_an_empty_through_file_is_in_the_store(home, run):
    async def scenario():
        async with home.client() as client:
            inode = await client.write(b"/a/f", write_type="CACHE_THROUGH")
            assert inode.flags & Flag.PERSISTED
            assert inode.fingerprint
            assert (home.store / "a" / "f").read_bytes() == b""

    run(scenario)


def test_an_empty_async_file_reaches_the_store_later(home, run):
    async def scenario():
        async with home.client() as client:
            await client.write(b"/a/f", write_type="ASYNC_THROUGH")

            async def persisted() -> bool:
                return bool((await client.stat(b"/a/f")).inode.flags & Flag.PERSISTED)

            await eventually(persisted)
            assert (home.store / "a" / "f").exists()
            assert (await client.call(wire.STATUS, wire.Empty())).persist_queue == 0

    run(scenario)


def test_persist_waits_until_all_below_is_in_the_store(home, run):
    async def scenario():
        async with home.client() as client:
            for name in (b"/t/a", b"/t/sub/b"):
                await client.write(name)
            assert (await client.call(wire.PERSIST, wire.PersistRequest(b"/t"))).count == 2
            assert (home.store / "t" / "sub" / "b").exists()

    run(scenario)


def test_directories_follow_in_the_store(home, run):
    async def scenario():
        async with home.client() as client:
            await client.mkdir(b"/a/b/c", parents=True)
            await client.write(b"/a/b/c/f", write_type="THROUGH")
            await client.write(b"/a/b/c/m")
            assert (home.store / "a/b/c").is_dir()
            await client.rename(b"/a", b"/z")
            assert (home.store / "z/b/c/f").exists()
            assert await client.list(b"/z/b/c") == [b"f", b"m"]
            with pytest.raises(OSError, match="not empty") as caught:
                await client.remove(b"/z/b")
            assert caught.value.errno == errno.ENOTEMPTY
            await client.remove(b"/z", recursive=True)
            assert os.listdir(home.store) == []
            assert await client.list(b"/") == []

            async def reclaimed() -> bool:
                return (await client.call(wire.STATUS, wire.Empty())).inodes == 1

            await eventually(reclaimed)
            assert (await client.call(wire.STATUS, wire.Empty())).open_intents == 0

    run(scenario)


def test_what_the_store_refuses_changes_nothing(home, run):
    async def scenario():
        async with home.client() as client:
            await client.mkdir(b"/d")
            (home.store / "d" / "hidden").write_text("made behind the back of Isotach")
            with pytest.raises(OSError, match="not empty"):
                await client.remove(b"/d")
            assert await client.exists(b"/d")
            assert (await client.call(wire.STATUS, wire.Empty())).open_intents == 0

    run(scenario)


def test_rename_replaces_a_file_and_keeps_the_persisted_content(home, run):
    async def scenario():
        async with home.client() as client:
            (home.store / "new").write_text("new")
            (home.store / "old").write_text("older")
            await client.rename(b"/new", b"/old")
            found = (await client.stat(b"/old", interval_ms=0)).inode
            assert (home.store / "old").read_text() == "new"
            assert (found.length, await client.exists(b"/new")) == (3, False)
            await client.write(b"/other")
            with pytest.raises(FileExistsError):
                await client.rename(b"/other", b"/old", replace=False)

    run(scenario)


def test_a_removed_overwrite_does_not_bring_the_old_content_back(home, run):
    async def scenario():
        async with home.client() as client:
            await client.write(b"/f", write_type="CACHE_THROUGH")
            await client.write(b"/f")  # only in memory now; the store still has the old one
            await client.remove(b"/f")
            assert not await client.exists(b"/f")
            assert not (home.store / "f").exists()

    run(scenario)


def test_hostile_paths_are_refused(home, run):
    async def scenario():
        async with home.client() as client:
            for path in (b"/../etc/passwd", b"//x", b"/a/", b"relative", b"/a\0b", b"/" + b"n" * 300):
                with pytest.raises((InvalidPathError, OSError)):
                    await client.stat(path)
                with pytest.raises((InvalidPathError, OSError)):
                    await client.mkdir(path, parents=True)
            with pytest.raises(OSError) as caught:
                await client.rename(b"/", b"/x")
            assert caught.value.errno in (errno.EBUSY, errno.EINVAL)

    run(scenario)


def test_a_recursive_chmod_changes_all_below(home, run):
    async def scenario():
        async with home.client() as client:
            for name in (b"/t/a", b"/t/s/b"):
                await client.write(name, write_type="CACHE_THROUGH")
            request = wire.SetAttrRequest(b"/t", mode=0o700, recursive=True)
            assert (await client.call(wire.SET_ATTR, request)).count == 4
            assert (await client.stat(b"/t/s/b")).inode.mode == 0o700
            assert (home.store / "t").stat().st_mode & 0o777 == 0o700

    run(scenario)


def test_a_time_to_live_removes_the_file_everywhere(home, run):
    async def scenario():
        async with home.client(master__ttl_check_interval="50ms") as client:
            await client.write(b"/gone", write_type="CACHE_THROUGH")
            await client.call(wire.SET_ATTR, wire.SetAttrRequest(b"/gone", ttl_ms=20))

            async def gone() -> bool:
                return not await client.exists(b"/gone")

            await eventually(gone)
            assert not (home.store / "gone").exists()

    run(scenario)


def test_a_restart_keeps_everything_acknowledged(home, run):
    async def scenario():
        async with home.client() as client:
            await client.write(b"/a/f", write_type="CACHE_THROUGH")
            created = await client.create(b"/a/late")
            before = (await client.stat(b"/a/f")).inode
        async with home.client() as client:
            assert (await client.stat(b"/a/f")).inode == before
            done = (await client.call(wire.COMPLETE, wire.CompleteRequest(created.grant, 0))).inode
            assert done.version == created.version  # a grant of the former life is good
            assert (await client.create(b"/a/new")).version > created.version

    run(scenario)


def test_a_second_master_on_the_folder_is_refused(home, run):
    async def scenario():
        async with home.master() as first:
            with pytest.raises(AlreadyRunningError):
                async with home.master():
                    pass
            async with connected(first) as client:
                assert await client.exists(b"/")

    run(scenario)


def test_stop_is_quick_and_complete(home, run):
    async def scenario():
        async with home.master() as master:
            assert isinstance(master, Master)
        assert not (home.path / "master.sock").exists()

    run(scenario)


def test_an_overwrite_of_what_only_the_store_has_is_checked_and_keeps_its_mode(home, run):
    async def scenario():
        async with home.client() as client:
            (home.store / "d").mkdir(mode=0o750)
            (home.store / "d" / "f").write_bytes(b"of others")
            (home.store / "d" / "f").chmod(0o640)
            inode = await client.write(b"/d/f", write_type="ASYNC_THROUGH")
            assert inode.mode == 0o640
            assert (await client.stat(b"/d")).inode.mode == 0o750

    run(scenario)


def test_a_complete_that_is_sent_again_brings_nothing_back(home, run):
    async def scenario():
        async with home.client() as client:
            created = await client.create(b"/d/f", write_type="ASYNC_THROUGH")
            request = wire.CompleteRequest(created.grant, 0, persist_later=True)
            await client.call(wire.COMPLETE, request)
            await client.call(wire.RENAME, wire.RenameRequest(b"/d/f", b"/d/g"))
            assert (await client.call(wire.COMPLETE, request)).inode.version == created.version
            await client.call(wire.REMOVE, wire.RemoveRequest(b"/d/g"))
            with pytest.raises(StaleVersionError, match="removed"):
                await client.call(wire.COMPLETE, request)
            assert await client.list(b"/d") == []
        async with home.client() as client:  # another life of the master knows as well
            with pytest.raises(StaleVersionError, match="removed"):
                await client.call(wire.COMPLETE, request)
            assert os.listdir(home.store / "d") == []

    run(scenario)


def test_a_folder_that_loses_its_last_file_before_it_was_stored_is_in_the_store(home, run):
    async def scenario():
        async with home.client() as client:
            for name, change in (
                (b"/r/f", wire.RemoveRequest(b"/r/f")),
                (b"/m/f", wire.RenameRequest(b"/m/f", b"/elsewhere")),
            ):
                created = await client.create(name, write_type="ASYNC_THROUGH")
                inode = wire.CompleteRequest(created.grant, 3, persist_later=True)  # nobody holds it: it waits
                await client.call(wire.COMPLETE, inode)
                await client.call(wire.REMOVE if isinstance(change, wire.RemoveRequest) else wire.RENAME, change)
            assert (home.store / "r").is_dir()
            assert (home.store / "m").is_dir()
            status = await client.call(wire.PERSIST_STATUS, wire.PersistStatusRequest(7))
            assert not status.known

    run(scenario)


def test_a_persist_tells_how_far_it_was(home, run):
    async def scenario():
        async with home.client() as client:
            for name in (b"/p/a", b"/p/b"):
                await client.write(name, write_type="MUST_CACHE")
            done = await client.call(wire.PERSIST, wire.PersistRequest(b"/p", True, ticket=7))
            assert done.count == 2
            status = await client.call(wire.PERSIST_STATUS, wire.PersistStatusRequest(7))
            assert (status.known, status.total, status.done, status.failing, status.finished) == (True, 2, 2, 0, True)

    run(scenario)
