"""Intents that a former life of the master left open are finished or undone by the next one."""

import pytest

from isotach.kv.lmdb_store import LmdbStore
from isotach.namespace import intents
from isotach.namespace.counters import IdAllocator
from isotach.namespace.intents import Intent
from isotach.namespace.view import View
from isotach.wire import messages as wire

from .conftest import eventually


def leave_open(home, intent: Intent) -> None:
    """What a master that was killed just after recording an intent leaves behind."""
    store = LmdbStore(home.path / "master" / "meta")
    with store.snapshot() as snapshot:
        view = View(snapshot)
        intents.put(view, intent, IdAllocator.open(view))
        store.commit(view.batch())
    store.close()


async def settled(client) -> None:
    async def none_open() -> bool:
        return (await client.call(wire.STATUS, wire.Empty())).open_intents == 0

    await eventually(none_open, 20.0)


def intent_of(kind: str, path: bytes, **fields) -> Intent:
    return Intent(kind, path, mount_id=1, ufs_path=path[1:], user="root", superuser=True, **fields)


def test_a_directory_is_made_in_the_end(home, run):
    async def scenario():
        async with home.client():
            pass
        leave_open(home, intent_of("MKDIR", b"/d/e", parents=True))
        async with home.client() as client:
            await settled(client)
            assert (home.store / "d" / "e").is_dir()
            assert await client.list(b"/d") == [b"e"]

    run(scenario)


@pytest.mark.parametrize("moved", [False, True])
def test_a_rename_is_finished(home, run, moved):
    async def scenario():
        async with home.client() as client:
            inode = await client.write(b"/a", write_type="CACHE_THROUGH")
        if moved:
            (home.store / "a").rename(home.store / "b")
        leave_open(home, intent_of("RENAME", b"/a", dst=b"/b", ufs_dst=b"b", replace=True, file_id=inode.id))
        async with home.client() as client:
            await settled(client)
            assert not await client.exists(b"/a")
            assert (await client.stat(b"/b")).inode.id == inode.id
            assert (home.store / "b").exists()

    run(scenario)


@pytest.mark.parametrize("gone", [False, True])
def test_a_removal_is_finished(home, run, gone):
    async def scenario():
        async with home.client() as client:
            inode = await client.write(b"/a", write_type="CACHE_THROUGH")
        if gone:
            (home.store / "a").unlink()
        leave_open(home, intent_of("REMOVE", b"/a", file_id=inode.id))
        async with home.client() as client:
            await settled(client)
            assert await client.list(b"/") == []
            assert not (home.store / "a").exists()

    run(scenario)


def test_a_removal_of_what_was_replaced_since_is_given_up(home, run):
    async def scenario():
        async with home.client() as client:
            await client.write(b"/a", write_type="CACHE_THROUGH")
        leave_open(home, intent_of("REMOVE", b"/a", file_id=999_999))
        async with home.client() as client:
            await settled(client)
            assert await client.exists(b"/a")

    run(scenario)


@pytest.mark.parametrize("committed", [False, True])
def test_a_commit_whose_worker_died_shows_what_the_store_has(home, run, committed):
    async def scenario():
        async with home.client():
            pass
        if committed:
            (home.store / "f").write_text("whole")
        leave_open(home, intent_of("COMMIT", b"/f", version=5000, file_id=5001))
        async with home.client() as client:
            await settled(client)
            assert await client.list(b"/", interval_ms=0) == ([b"f"] if committed else [])

    run(scenario)
