"""Writes whose end comes late: from a worker that was frozen, after its client gave up, or while a report is judged.

Owns: the order of COMPLETE, ABORT and REPORT for one version. Never: freezes real processes (the soak does).
"""

import asyncio

import pytest

from isotach.base.errors import StaleVersionError
from isotach.wire import messages as wire
from isotach.wire.grants import unseal

from .conftest import connected
from .scripted_worker import worker_of


def complete_request(worker, grant: bytes, data: bytes) -> wire.CompleteRequest:
    return wire.CompleteRequest(grant, len(data), mtime_ns=1, holder=worker.holder(len(data)))


def test_a_write_that_was_given_up_never_appears(home, run):
    async def scenario():
        async with home.master() as master, connected(master) as client, worker_of(home, master) as worker:
            created = await client.create(b"/f")
            await client.call(wire.ABORT, wire.AbortRequest(created.grant))
            with pytest.raises(StaleVersionError, match="given up"):
                await worker.call(wire.COMPLETE, complete_request(worker, created.grant, b"late"))
            with pytest.raises(FileNotFoundError):
                await client.stat(b"/f")

    run(scenario)


def test_a_completed_write_survives_a_late_abort(home, run):
    async def scenario():
        async with home.master() as master, connected(master) as client, worker_of(home, master) as worker:
            created = await client.create(b"/f")
            await worker.call(wire.COMPLETE, complete_request(worker, created.grant, b"data"))
            await client.call(wire.ABORT, wire.AbortRequest(created.grant))
            assert (await client.stat(b"/f")).inode.version == created.version
            assert "FREE" not in worker.kinds(created.version)

    run(scenario)


def test_completing_while_reports_are_judged_never_drops_the_version(home, run):
    """Each version is reported again and again, as dirty, around the very moment of its COMPLETE."""

    async def scenario():
        async with (
            home.master(master__pending_write_timeout="1s") as master,  # after that no doubt protects them
            connected(master) as client,
            worker_of(home, master) as worker,
        ):
            await asyncio.sleep(1.1)  # the master's grace itself is what has to pass
            for number in range(60):
                created = await client.create(b"/%d" % number)
                version = created.version
                worker.contents[version] = b"data"
                worker.file_ids[version] = unseal(worker.secret, created.grant, wire.WriteGrant, 0.0).file_id
                reports = [asyncio.create_task(worker.report(version, dirty=True)) for _ in range(4)]
                completed = asyncio.create_task(
                    worker.call(wire.COMPLETE, complete_request(worker, created.grant, b"data"))
                )
                obsolete = await asyncio.gather(*reports)
                assert (await completed).inode.version == version
                assert not any(version in rows for rows in obsolete), f"version {version} was called obsolete"

    run(scenario)


def test_what_a_dead_writer_left_in_the_store_is_no_later_write(home, run):
    async def scenario():
        async with home.client() as client:
            first = await client.create(b"/f", "CACHE_THROUGH")
            second = await client.create(b"/f", "CACHE_THROUGH")
            begun = await client.call(wire.BEGIN_COMMIT, wire.BeginCommitRequest(first.grant, worker_id="w"))
            (home.store / "f").write_text("first")
            await client.call(wire.END_COMMIT, wire.EndCommitRequest(begun.intent_id, first.version, failed=True))
            assert (await client.stat(b"/f")).inode.length == 5, "it was taken in, after the second write had begun"
            await client.call(wire.BEGIN_COMMIT, wire.BeginCommitRequest(second.grant, worker_id="w"))
            (home.store / "f").write_text("the second")
            request = wire.CompleteRequest(second.grant, 10, "any", persisted=True)
            assert (await client.call(wire.COMPLETE, request)).inode.version == second.version
            assert (await client.stat(b"/f")).inode.length == 10

    run(scenario)
