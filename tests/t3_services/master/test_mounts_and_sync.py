"""Mounts of local folders, and what the namespace learns of changes that were made behind Isotach's back."""

import asyncio
import errno
import os

import pytest

from isotach.base.errors import InvalidArgumentError, UfsBucketMissingError, UfsUnreachableError
from isotach.base.types import Flag
from isotach.wire import messages as wire

from .conftest import connected, eventually
from .scripted_worker import worker_of


async def mount(client, path: bytes, uri: object, **fields) -> None:
    await client.call(wire.MOUNT, wire.MountRequest(path, os.fspath(uri), **fields))


@pytest.fixture
def other(home):
    folder = home.path / "other"
    folder.mkdir()
    return folder


def test_a_mounted_folder_appears_and_disappears(home, other, run):
    async def scenario():
        (other / "sub").mkdir()
        (other / "sub" / "f").write_text("hello")
        async with home.client() as client:
            await mount(client, b"/m/here", other)
            assert await client.list(b"/m") == [b"here"]
            found = await client.stat(b"/m/here/sub/f", 4)
            assert (found.inode.length, found.ufs_uri) == (5, f"{other}/sub/f")
            assert await client.list(b"/m/here") == [b"sub"]
            await client.call(wire.UNMOUNT, wire.PathRequest(b"/m/here"))
            assert not await client.exists(b"/m/here")
            assert (other / "sub" / "f").exists()
            mounts = (await client.call(wire.MOUNTS, wire.Empty())).mounts
            assert [row.path for row in mounts] == [b"/"]

    run(scenario)


def test_bad_mounts_are_refused_with_the_reason(home, other, run):
    async def scenario():
        async with home.client() as client:
            await mount(client, b"/m", other)
            with pytest.raises(FileExistsError, match="mounted here already"):
                await mount(client, b"/m", other)
            await client.write(b"/full/f")
            with pytest.raises(OSError, match="not empty") as caught:
                await mount(client, b"/full", other)
            assert caught.value.errno == errno.ENOTEMPTY
            with pytest.raises((UfsBucketMissingError, FileNotFoundError)):
                await mount(client, b"/n", home.path / "missing")
            with pytest.raises(InvalidArgumentError, match="s3"):
                await mount(client, b"/n", "s4://bucket")
            with pytest.raises(InvalidArgumentError, match="endpoint"):
                await mount(client, b"/n", "s3://bucket", options={"endpoimt": "http://127.0.0.1:1"})
            dead = {"endpoint": "http://127.0.0.1:1", "access_key_id": "k", "secret_access_key": "very-secret"}
            with pytest.raises(UfsUnreachableError) as unreachable:
                await mount(client, b"/n", "s3://bucket", options=dead)
            assert "very-secret" not in str(unreachable.value)
            assert not await client.exists(b"/n")
            with pytest.raises(OSError) as root:
                await client.call(wire.UNMOUNT, wire.PathRequest(b"/"))
            assert root.value.errno == errno.EBUSY

    run(scenario)


def test_a_read_only_mount_refuses_every_change(home, other, run):
    async def scenario():
        (other / "f").write_text("kept")
        async with home.client() as client:
            await mount(client, b"/m", other, read_only=True)
            for change in (
                lambda: client.write(b"/m/g"),
                lambda: client.mkdir(b"/m/d"),
                lambda: client.remove(b"/m/f"),
                lambda: client.rename(b"/m/f", b"/m/g"),
            ):
                with pytest.raises(OSError) as caught:
                    await change()
                assert caught.value.errno == errno.EROFS
            assert (other / "f").read_text() == "kept"

    run(scenario)


def test_renames_stay_inside_a_mount(home, other, run):
    async def scenario():
        async with home.client() as client:
            await mount(client, b"/m", other)
            await client.write(b"/f")
            with pytest.raises(OSError, match="copy it instead") as caught:
                await client.rename(b"/f", b"/m/f")
            assert caught.value.errno == errno.EXDEV
            with pytest.raises(OSError) as busy:
                await client.rename(b"/m", b"/n")
            assert busy.value.errno == errno.EBUSY

    run(scenario)


def test_an_unmount_waits_for_what_is_not_persisted(home, other, run):
    async def scenario():
        async with home.master() as master, connected(master) as client:
            await mount(client, b"/m", other)
            async with worker_of(home, master, serve=False) as worker:
                await worker.write(client, b"/m/f", b"data", "ASYNC_THROUGH")
                with pytest.raises(OSError, match="persist") as caught:
                    await client.call(wire.UNMOUNT, wire.PathRequest(b"/m"))
                assert caught.value.errno == errno.EBUSY

    run(scenario)


def test_the_interval_decides_when_a_change_is_seen(home, other, run):
    async def scenario():
        (other / "f").write_text("one")
        async with home.client() as client:
            await mount(client, b"/never", other)
            before = (await client.stat(b"/never/f")).inode
            (other / "f").write_text("three")
            assert (await client.stat(b"/never/f")).inode == before
            after = (await client.stat(b"/never/f", interval_ms=0)).inode
            assert (after.length, after.id) == (5, before.id)
            assert after.version != before.version
            (other / "f").unlink()
            assert await client.exists(b"/never/f")
            with pytest.raises(FileNotFoundError):
                await client.stat(b"/never/f", interval_ms=0)

    run(scenario)


def test_a_finite_interval_asks_only_when_it_has_passed(home, other, run):
    async def scenario():
        (other / "f").write_text("one")
        async with home.master() as master, connected(master) as client:
            await mount(client, b"/m", other, metadata_sync_interval_ms=3_600_000)
            await client.stat(b"/m/f")
            asked = master.services.syncer.asked
            for _ in range(5):
                await client.stat(b"/m/f")
            assert master.services.syncer.asked == asked

    run(scenario)


def test_a_listing_takes_in_what_came_and_went(home, other, run):
    async def scenario():
        for name in ("a", "b", "c"):
            (other / name).write_text(name)
        async with home.client() as client:
            await mount(client, b"/m", other)
            assert await client.list(b"/m") == [b"a", b"b", b"c"]
            (other / "b").unlink()
            (other / "d").write_text("d")
            await client.write(b"/m/mine")
            assert await client.list(b"/m") == [b"a", b"b", b"c", b"mine"]
            assert await client.list(b"/m", interval_ms=0) == [b"a", b"c", b"d", b"mine"]

    run(scenario)


def test_a_large_listing_comes_in_pages(home, other, run):
    async def scenario():
        names = [f"{number:05}" for number in range(2500)]
        for name in names:
            (other / name).touch()
        async with home.client() as client:
            await mount(client, b"/m", other)
            assert await client.list(b"/m") == [name.encode() for name in names]

    run(scenario)


def test_many_who_ask_for_one_path_make_one_question(home, other, run):
    async def scenario():
        (other / "f").write_text("x")
        async with home.master() as master, connected(master) as client:
            await mount(client, b"/m", other)
            asked = master.services.syncer.asked
            async with asyncio.TaskGroup() as group:
                for _ in range(50):
                    group.create_task(client.stat(b"/m/f"))
            assert master.services.syncer.asked == asked + 1
            for _ in range(3):
                assert not await client.exists(b"/m/absent")
            assert master.services.syncer.asked == asked + 2

    run(scenario)


def test_the_cached_pages_of_a_changed_file_are_freed(home, run):
    async def scenario():
        async with home.master() as master, connected(master) as client, worker_of(home, master) as worker:
            (home.store / "f").write_text("one")
            before = (await client.stat(b"/f")).inode
            worker.contents[before.version], worker.file_ids[before.version] = b"one", before.id
            assert await worker.report(before.version) == []
            (home.store / "f").write_text("three")
            await client.stat(b"/f", interval_ms=0)

            async def freed() -> bool:
                return worker.kinds(before.version) == ["FREE"]

            await eventually(freed)

    run(scenario)


def test_a_store_that_went_away_is_an_error_not_an_old_answer(home, other, run):
    async def scenario():
        (other / "f").write_text("x")
        async with home.client() as client:
            await mount(client, b"/m", other, metadata_sync_interval_ms=0)
            await client.stat(b"/m/f")
            other.rename(other.with_name("moved"))
            with pytest.raises(OSError, match="other"):
                await client.stat(b"/m/f")

    run(scenario)


def test_directories_that_live_only_here_are_listed_without_the_store(home, run):
    async def scenario():
        async with home.master() as master, connected(master) as client:
            await client.write(b"/mem/f")
            assert await client.list(b"/mem") == [b"f"]
            asked = master.services.syncer.asked
            assert await client.list(b"/mem") == [b"f"]
            assert master.services.syncer.asked == asked
            assert not (await client.stat(b"/mem")).inode.flags & Flag.PERSISTED

    run(scenario)
