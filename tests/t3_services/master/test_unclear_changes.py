"""A store that fails in the middle of a change: what was begun is finished when it answers again, and nobody gets
between."""

import asyncio
from collections.abc import Iterator

import pytest

from isotach.base.errors import UfsAuthError, UfsError
from isotach.testing.faulty_http import Fault, FaultKind, FaultyHttp
from isotach.testing.seaweed import SeaweedServer
from isotach.wire import messages as wire

from .conftest import eventually
from .test_object_store import bucket_of, keys_of, options_of

OFTEN = 100_000


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[SeaweedServer]:
    with SeaweedServer.start(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def proxy(server) -> Iterator[FaultyHttp]:
    with FaultyHttp(server.endpoint) as proxy:
        yield proxy


async def mount(client, server, proxy, bucket: str) -> None:
    options = options_of(server, endpoint=proxy.endpoint)
    await client.call(wire.MOUNT, wire.MountRequest(b"/s3", f"s3://{bucket}", options))


def busy(**where) -> Fault:
    return Fault(kind=FaultKind.STATUS, times=OFTEN, **where)


async def is_settled(client) -> bool:
    return (await client.call(wire.STATUS, wire.Empty())).open_intents == 0


async def names_below(client, path: bytes) -> list[str]:
    """All files, as the namespace and the store have them."""
    found = []
    for name in await client.list(path, interval_ms=0):
        child = path + b"/" + name
        if (await client.stat(child)).inode.is_dir:
            found += await names_below(client, child)
        else:
            found.append(child.decode().removeprefix("/s3/"))
    return sorted(found)


FILES = ("t/a", "t/b", "t/s/c", "t/s/d")
#: Where a rename of /s3/t to /s3/u, and a removal of /s3/t, may meet a store that is busy.
RENAME_FAULTS = {"copies": busy(method="PUT", target_part="u/s/c"), "deletes": busy(method="POST")}


def change_of(client, kind: str):
    return client.rename(b"/s3/t", b"/s3/u") if kind == "rename" else client.remove(b"/s3/t", recursive=True)


CASES = [("rename", "copies"), ("rename", "deletes"), ("remove", "deletes")]


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(("kind", "fault"), CASES)
def test_what_a_busy_store_broke_off_is_finished(home, run, server, proxy, kind, fault, restart):
    name = f"unclear-{kind}-{fault}-{restart}".lower()
    bucket = bucket_of(server, name)
    for key in FILES:
        bucket.put_object(Key=key, Body=key.encode())
    after = sorted(key.replace("t/", "u/", 1) for key in FILES) if kind == "rename" else []

    async def scenario():
        async with home.client() as client:
            await mount(client, server, proxy, name)
            assert await names_below(client, b"/s3") == sorted(FILES)
            proxy.inject(RENAME_FAULTS[fault])
            with pytest.raises(UfsError, match="may still take effect"):
                await change_of(client, kind)
            assert not await is_settled(client)
            assert await client.exists(b"/s3/t/s/c"), "until it is settled, the namespace says what it said"
            if not restart:
                proxy.clear()
                await check(client)
        if restart:
            proxy.clear()
            async with home.client() as client:
                await check(client)

    async def check(client):
        assert await names_below(client, b"/s3") == after, "a look at the store waits for the outcome"
        assert keys_of(bucket) == after
        await eventually(lambda: is_settled(client))

    run(scenario)


def test_nobody_gets_in_before_the_outcome(home, run, server, proxy):
    bucket = bucket_of(server, "in-between")
    for key in FILES:
        bucket.put_object(Key=key, Body=b"old")

    async def scenario():
        async with home.client() as client:
            await mount(client, server, proxy, "in-between")
            await names_below(client, b"/s3")
            proxy.inject(busy(method="POST"))
            with pytest.raises(UfsError, match="may still take effect"):
                await client.remove(b"/s3/t", recursive=True)
            changes = [
                asyncio.create_task(client.write(b"/s3/t/a", 0)),
                asyncio.create_task(client.mkdir(b"/s3/t/new", parents=True)),
                asyncio.create_task(client.stat(b"/s3/t/b", interval_ms=0)),
            ]
            await client.mkdir(b"/s3/beside")  # what has nothing to do with it goes on
            assert not any(change.done() for change in changes)
            proxy.clear()
            await asyncio.wait(changes)
            changes[0].result()
            changes[1].result()
            with pytest.raises(FileNotFoundError):
                changes[2].result()
            assert sorted(await client.list(b"/s3/t")) == [b"a", b"new"]
            assert keys_of(bucket) == []

    run(scenario)


def test_a_mount_whose_store_never_answers_can_be_taken_away(home, run, server, proxy):
    bucket_of(server, "gone").put_object(Key="t/a", Body=b"a")

    async def scenario():
        async with home.client() as client:
            await mount(client, server, proxy, "gone")
            await names_below(client, b"/s3")
            proxy.inject(busy())
            with pytest.raises(UfsError, match="may still take effect"):
                await client.remove(b"/s3/t", recursive=True)
            await client.call(wire.UNMOUNT, wire.PathRequest(b"/s3"))
            await eventually(lambda: is_settled(client), 20.0)

    run(scenario)


def test_what_a_store_refuses_is_not_tried_again(home, run, server, proxy):
    bucket = bucket_of(server, "refused")
    bucket.put_object(Key="t/a", Body=b"a")

    async def scenario():
        async with home.client() as client:
            await mount(client, server, proxy, "refused")
            await names_below(client, b"/s3")
            proxy.inject(busy(method="POST", status=403, code="AccessDenied"))
            with pytest.raises(UfsAuthError):
                await client.remove(b"/s3/t", recursive=True)
            assert await is_settled(client)
            assert await client.exists(b"/s3/t/a")
            assert keys_of(bucket) == ["t/a"]

    run(scenario)
