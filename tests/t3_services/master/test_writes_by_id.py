"""Content that goes to a file by its id: wherever the file stands when the write completes, or nowhere.

Owns: CREATE, BEGIN_COMMIT and COMPLETE with `by_id`. Never: moves bytes (the worker's tests do).
"""

import errno
import time

import msgspec
import pytest

from isotach.base.errors import AuthenticationError, StaleVersionError
from isotach.base.paths import id_path
from isotach.base.types import Flag
from isotach.master import pending_writes
from isotach.wire import messages as wire
from isotach.wire.grants import seal, unseal

from .conftest import connected
from .scripted_worker import worker_of


async def create_by_id(client, file_id: int, write_type: str = "MUST_CACHE", **fields) -> wire.CreateReply:
    return await client.create(id_path(file_id), write_type, by_id=True, **fields)


async def complete(client, grant: bytes, length: int = 7, **fields):
    return (await client.call(wire.COMPLETE, wire.CompleteRequest(grant, length, **fields))).inode


def test_content_follows_the_file_and_takes_nothing_else_along(home, run):
    async def scenario():
        async with home.client() as client:
            first = await client.write(b"/a", 3)
            created = await create_by_id(client, first.id)
            change = wire.SetAttrRequest(b"/a", mode=0o600, pinned=True, set_xattrs={"user.x": b"1"}, ttl_ms=10**9)
            await client.call(wire.SET_ATTR, change)
            await client.mkdir(b"/d")
            await client.rename(b"/a", b"/d/b")
            done = await complete(client, created.grant, 9, mtime_ns=12_345)
            found = (await client.stat(b"/d/b")).inode
            assert done == found
            assert (found.id, found.version, found.length, found.mtime_ns) == (first.id, created.version, 9, 12_345)
            assert (found.mode, found.xattrs, found.ttl_ms) == (0o600, {"user.x": b"1"}, 10**9)
            assert found.flags & Flag.PINNED
            assert not await client.exists(b"/a")
            assert await complete(client, created.grant, 9, mtime_ns=12_345) == found  # sent again: the same answer

    run(scenario)


@pytest.mark.parametrize("how", ["file", "directory"])
def test_what_is_removed_meanwhile_stays_removed(home, run, how):
    async def scenario():
        async with home.master() as master, connected(master) as client, worker_of(home, master) as worker:
            await client.mkdir(b"/d")
            first = await client.write(b"/d/f", 3)
            created = await create_by_id(client, first.id)
            await client.remove(b"/d/f" if how == "file" else b"/d", recursive=how == "directory")
            for method, request in (
                (wire.COMPLETE, wire.CompleteRequest(created.grant, 7, holder=worker.holder(7))),
                (wire.BEGIN_COMMIT, wire.BeginCommitRequest(created.grant, worker_id="w")),
            ):
                with pytest.raises(StaleVersionError, match="removed") as stale:
                    await worker.call(method, request)
                assert stale.value.errno == errno.ENOENT
            assert not await client.exists(b"/d/f")

    run(scenario)


def test_a_new_file_of_the_old_name_is_let_be(home, run):
    async def scenario():
        async with home.client() as client:
            first = await client.write(b"/f", 3)
            created = await create_by_id(client, first.id)
            await client.rename(b"/f", b"/g")
            other = await client.write(b"/f", 5)
            await complete(client, created.grant)
            assert (await client.stat(b"/f")).inode == other
            assert (await client.stat(b"/g")).inode.version == created.version

    run(scenario)


def test_the_later_write_wins(home, run):
    async def scenario():
        async with home.client() as client:
            first = await client.write(b"/f", 3)
            earlier, later = await create_by_id(client, first.id), await create_by_id(client, first.id)
            await complete(client, later.grant, 2)
            with pytest.raises(StaleVersionError, match="later write"):
                await complete(client, earlier.grant, 1)
            assert (await client.stat(b"/f")).inode.length == 2

    run(scenario)


def test_a_commit_names_the_place_where_the_file_is_now(home, run):
    async def scenario():
        async with home.client() as client:
            first = await client.write(b"/f", 3)
            created = await create_by_id(client, first.id, "CACHE_THROUGH")
            await client.rename(b"/f", b"/g")
            begun = await client.call(wire.BEGIN_COMMIT, wire.BeginCommitRequest(created.grant, worker_id="w"))
            assert begun.ufs_path == b"g"
            (home.store / "g").write_text("content")
            done = await complete(client, created.grant, 7, persisted=True, fingerprint="x")
            assert done.flags & Flag.PERSISTED
            assert (await client.stat(b"/g")).inode.version == created.version
            late = await create_by_id(client, first.id, "CACHE_THROUGH")
            with pytest.raises(StaleVersionError, match="not open any more"):
                await complete(client, late.grant, 7, persisted=True, fingerprint="x")

    run(scenario)


def test_an_empty_content_goes_through_to_where_the_file_is_now(home, run):
    async def scenario():
        async with home.client() as client:
            first = await client.write(b"/f", 3)
            created = await create_by_id(client, first.id, "THROUGH")
            await client.rename(b"/f", b"/g")
            done = await complete(client, created.grant, 0)
            assert done.flags & Flag.PERSISTED
            assert (home.store / "g").read_bytes() == b""
            assert not (home.store / "f").exists()

    run(scenario)


def test_only_files_are_written_by_id(home, run):
    async def scenario():
        async with home.client() as client:
            await client.mkdir(b"/d")
            directory = (await client.stat(b"/d")).inode
            with pytest.raises(IsADirectoryError):
                await create_by_id(client, directory.id)
            with pytest.raises(FileNotFoundError):
                await create_by_id(client, 10**12)

    run(scenario)


def test_an_expired_grant_is_renewed_unless_the_file_was_written_since(home, run):
    async def scenario():
        async with home.client() as client:
            first = await client.write(b"/f", 3)
            created = await create_by_id(client, first.id)
            secret = (home.path / "secret").read_bytes()
            grant = unseal(secret, created.grant, wire.WriteGrant, 0.0)
            old = seal(secret, msgspec.structs.replace(grant, expires_s=int(time.time()) - 10))
            with pytest.raises(AuthenticationError, match="expired"):
                await complete(client, old)
            renewed = await client.create(b"", "MUST_CACHE", renews=old)
            assert renewed.version > created.version
            await complete(client, renewed.grant, 4)
            assert (await client.stat(b"/f")).inode.length == 4
            with pytest.raises(StaleVersionError, match="later write"):
                await client.create(b"", "MUST_CACHE", renews=old)

    run(scenario)


def test_grants_that_nobody_uses_are_given_up_the_oldest_first(home, run, monkeypatch):
    monkeypatch.setattr(pending_writes, "PENDING_WRITES_MAX", 3)

    async def scenario():
        async with home.client() as client:
            first = await client.write(b"/f", 3)
            unused = [await create_by_id(client, first.id) for _ in range(4)]
            with pytest.raises(StaleVersionError, match="given up"):
                await complete(client, unused[0].grant)
            assert (await complete(client, unused[1].grant)).version == unused[1].version

    run(scenario)


@pytest.mark.parametrize("write_type", ["MUST_CACHE", "CACHE_THROUGH"])
def test_a_file_of_several_names_has_one_content(home, run, write_type):
    async def scenario():
        async with home.client() as client:
            first = await client.write(b"/f", 3)
            await client.mkdir(b"/d")
            await client.call(wire.LINK, wire.LinkRequest(b"/f", b"/d/g"))
            created = await create_by_id(client, first.id, write_type)
            if write_type == "CACHE_THROUGH":
                begun = await client.call(wire.BEGIN_COMMIT, wire.BeginCommitRequest(created.grant, worker_id="w"))
                assert begun.ufs_path == b"f"
            await client.remove(b"/f") if write_type == "MUST_CACHE" else None
            done = await complete(client, created.grant, 9, persisted=write_type == "CACHE_THROUGH", fingerprint="x")
            found = (await client.stat(b"/d/g")).inode
            assert (found, found.version, found.length) == (done, created.version, 9)
            assert found.links == (1 if write_type == "MUST_CACHE" else 2)

    run(scenario)
