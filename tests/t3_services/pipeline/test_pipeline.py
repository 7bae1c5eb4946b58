"""The commit pipeline: order, group commit, isolation of failures, and no reply before the commit is durable."""

import asyncio
import contextlib
import errno
import threading

import pytest

from isotach.kv.lmdb_store import LmdbStore
from isotach.kv.memory_store import MemoryStore
from isotach.master.pipeline import CommitPipeline, StoreJournal


class GatedJournal:
    """Appends wait for `go`; `batches` are those that reached the store."""

    def __init__(self, store):
        self._inner = StoreJournal(store)
        self.go = threading.Semaphore(0)
        self.entered = threading.Semaphore(0)
        self.batches = []
        self.failures = []

    def append(self, batch):
        self.entered.release()
        assert self.go.acquire(timeout=10)
        if self.failures:
            raise self.failures.pop(0)
        self._inner.append(batch)
        self.batches.append(batch)

    def open(self, times=1000):
        self.go.release(times)


@contextlib.asynccontextmanager
async def running(store=None, journal=None, **options):
    pipeline = CommitPipeline(store if store is not None else MemoryStore(), journal, **options)
    await pipeline.start()
    try:
        yield pipeline
    finally:
        await asyncio.wait_for(pipeline.close(), 10)


def put(key, value=b"1"):
    return lambda view: view.put(key, value)


def get(key):
    return lambda view: view.get(key)


async def entered(journal):
    """The writer holds a batch inside `append`."""
    assert await asyncio.to_thread(journal.entered.acquire, timeout=10)


def test_what_changes_nothing_is_answered_without_a_commit_unless_it_saw_what_is_not_durable():
    async def scenario():
        _, journal, pipeline = await gated()
        assert await asyncio.wait_for(pipeline.submit(get(b"a")), 10) is None
        assert journal.batches == []
        first = pipeline.submit(put(b"a", b"2"))
        seen = pipeline.submit(get(b"a"))
        await entered(journal)
        assert not first.done()
        assert not seen.done(), "it saw what may be lost yet"
        journal.open()
        assert await asyncio.wait_for(seen, 10) == b"2"
        assert first.done()
        await asyncio.wait_for(pipeline.close(), 10)

    asyncio.run(scenario())


async def gated():
    """A pipeline whose first commit (of ids) is through, and whose journal is shut again."""
    store = MemoryStore()
    journal = GatedJournal(store)
    journal.open(1)
    pipeline = CommitPipeline(store, journal)
    await pipeline.start()
    await entered(journal)
    journal.batches.clear()
    return store, journal, pipeline


def test_handlers_see_each_other_in_order_and_give_their_results():
    async def scenario():
        async with running() as pipeline:

            def append(letter):
                def handler(view):
                    view.put(b"k", (view.get(b"k") or b"") + letter)
                    return view.get(b"k")

                return handler

            return await asyncio.gather(*(pipeline.submit(append(bytes([letter]))) for letter in b"abc"))

    assert asyncio.run(scenario()) == [b"a", b"ab", b"abc"]


def test_no_reply_before_the_commit_is_durable_and_what_waits_goes_together():
    async def scenario():
        store, journal, pipeline = await gated()
        first = pipeline.submit(put(b"a"))
        await entered(journal)
        others = [pipeline.submit(put(b"b%d" % index)) for index in range(50)]
        reader = pipeline.submit(get(b"a"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not first.done()
        assert not reader.done(), "it saw what is not durable yet"
        assert pipeline.view().get(b"b49") == b"1"
        assert store.frozen().get(b"a") is None
        journal.open()
        await asyncio.gather(first, *others)
        assert await reader == b"1"
        await pipeline.close()
        return [len(batch) for batch in journal.batches]

    assert asyncio.run(scenario()) == [1, 50]


def test_a_handler_that_fails_fails_alone():
    def fails(view):
        view.put(b"bad", b"1")
        raise FileExistsError(errno.EEXIST, "there already", "/x")

    async def scenario():
        store = MemoryStore()
        async with running(store) as pipeline:
            results = await asyncio.gather(
                pipeline.submit(put(b"a")), pipeline.submit(fails), pipeline.submit(put(b"b")), return_exceptions=True
            )
        assert isinstance(results[1], FileExistsError)
        return [store.frozen().get(key) for key in (b"a", b"bad", b"b")]

    assert asyncio.run(scenario()) == [b"1", None, b"1"]


def test_a_failed_commit_fails_all_that_was_built_on_it_and_nothing_else():
    async def scenario():
        store, journal, pipeline = await gated()
        journal.failures = [OSError(errno.ENOSPC, "the disk is full", "/disk")]
        first = pipeline.submit(put(b"a"))
        await entered(journal)
        second = pipeline.submit(put(b"b"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        journal.open()
        results = await asyncio.gather(first, second, return_exceptions=True)
        assert [(each.errno, each.filename) for each in results] == [(errno.ENOSPC, "/disk")] * 2
        assert results[0] is not results[1]
        assert await pipeline.submit(get(b"a")) is None
        await pipeline.submit(put(b"c"))
        await pipeline.close()
        return {key: store.frozen().get(key) for key in (b"a", b"b", b"c")}

    assert asyncio.run(scenario()) == {b"a": None, b"b": None, b"c": b"1"}


def test_many_failures_under_load_leave_exactly_what_was_acknowledged():
    async def scenario():
        store = MemoryStore()
        acknowledged, refused = {}, []
        async with running(store) as pipeline:

            async def client(number):
                for step in range(50):
                    key = b"k%d" % number
                    try:
                        await pipeline.submit(put(key, b"%d" % step))
                        acknowledged[key] = b"%d" % step
                    except OSError as error:
                        refused.append(error.errno)
                    if step % 10 == number:
                        store.fail_next(OSError(errno.ENOSPC, "full"))

            await asyncio.gather(*(client(number) for number in range(10)))
        assert set(refused) == {errno.ENOSPC}
        return {key: store.frozen().get(key) for key in acknowledged}, acknowledged

    found, acknowledged = asyncio.run(scenario())
    assert found == acknowledged


def test_a_caller_that_gives_up_does_not_undo_its_change():
    async def scenario():
        store, journal, pipeline = await gated()
        future = pipeline.submit(put(b"a"))
        await entered(journal)
        future.cancel()
        journal.open()
        await pipeline.close()
        return store.frozen().get(b"a")

    assert asyncio.run(scenario()) == b"1"


def test_the_change_feed_has_every_batch_once_in_order():
    async def scenario():
        feed = []
        async with running() as pipeline:
            pipeline.on_commit(lambda index, batch: feed.append((index, dict(batch))))
            for step in range(3):
                await pipeline.submit(put(b"k", b"%d" % step))
                await pipeline.submit(get(b"k"))
        return feed

    feed = asyncio.run(scenario())
    assert [batch for _, batch in feed] == [{b"k": b"0"}, {b"k": b"1"}, {b"k": b"2"}]
    assert [index for index, _ in feed] == sorted({index for index, _ in feed})


def test_ids_are_reserved_before_they_run_out(monkeypatch):
    monkeypatch.setattr("isotach.namespace.counters.ID_RESERVE", 8)

    async def scenario():
        store = MemoryStore()
        async with running(store) as pipeline:
            given = []
            for _ in range(40):
                given.append(pipeline.ids.allocate())
                await pipeline.drain()
        async with running(store) as pipeline:
            return [*given, pipeline.ids.allocate()]

    given = asyncio.run(scenario())
    assert given == sorted(set(given))


def test_submits_after_close_are_refused():
    async def scenario():
        async with running() as pipeline:
            pass
        with pytest.raises(ConnectionError):
            await pipeline.submit(put(b"a"))

    asyncio.run(scenario())


def test_on_a_real_disk_everything_acknowledged_is_there_after_reopening(tmp_path):
    async def scenario():
        store = LmdbStore(tmp_path)
        async with running(store) as pipeline:
            await asyncio.gather(*(pipeline.submit(put(b"k%03d" % index)) for index in range(500)))
        store.close()

    asyncio.run(scenario())
    with contextlib.closing(LmdbStore(tmp_path)) as store, store.snapshot() as snapshot:
        assert len(list(snapshot.scan(b"k", b"l"))) == 500
