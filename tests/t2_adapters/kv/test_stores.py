"""The stores' promises, for the LMDB store and the one in memory; then what LMDB alone must do."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isotach.base.errors import AlreadyRunningError, InvalidArgumentError
from isotach.kv.interface import FORMAT_KEY, format_stamp
from isotach.kv.lmdb_store import LmdbStore
from isotach.kv.memory_store import MemoryStore


@pytest.fixture(params=["lmdb", "memory"])
def store(request, tmp_path):
    store = LmdbStore(tmp_path / "kv", map_bytes=1 << 24) if request.param == "lmdb" else MemoryStore()
    yield store
    store.close()


def rows_of(snapshot, start=b"a", stop=b"\xff"):
    return list(snapshot.scan(start, stop))


def test_a_batch_puts_and_deletes_together(store):
    store.commit([(b"a", b"1"), (b"b", b"2")])
    store.commit([(b"b", None), (b"c", b"3"), (b"absent", None)])

    with store.snapshot() as snapshot:
        assert rows_of(snapshot) == [(b"a", b"1"), (b"c", b"3")]
        assert (snapshot.get(b"b"), snapshot.get(b"c")) == (None, b"3")


def test_a_scan_is_half_open(store):
    store.commit([(key, b"") for key in (b"a", b"b", b"b0", b"c")])
    with store.snapshot() as snapshot:
        assert [key for key, _ in snapshot.scan(b"b", b"c")] == [b"b", b"b0"]
        assert rows_of(snapshot, b"x", b"z") == []


def test_a_snapshot_stands_still_until_it_is_renewed(store):
    store.commit([(b"k", b"old")])
    snapshot = store.renewable_snapshot()
    number = snapshot.renew()
    store.commit([(b"k", b"new")])

    assert snapshot.get(b"k") == b"old"
    assert snapshot.renew() != number
    assert snapshot.get(b"k") == b"new"
    assert snapshot.renew() == snapshot.renew()
    snapshot.close()
    snapshot.close()


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.dictionaries(st.binary(min_size=1, max_size=3), st.one_of(st.none(), st.binary(max_size=3)), max_size=8),
        max_size=5,
    )
)
def test_both_stores_agree(tmp_path_factory, batches):
    memory = MemoryStore()
    with contextlib.closing(LmdbStore(tmp_path_factory.mktemp("kv"), map_bytes=1 << 24, sync=False)) as lmdb:
        for batch in batches:
            memory.commit(list(batch.items()))
            lmdb.commit(list(batch.items()))
        with memory.snapshot() as left, lmdb.snapshot() as right:
            assert rows_of(left, b"\0", b"\xff\xff\xff\xff") == rows_of(right, b"\0", b"\xff\xff\xff\xff")


def test_a_folder_has_one_writer_and_any_number_of_readers(tmp_path):
    with contextlib.closing(LmdbStore(tmp_path)) as writer:
        with pytest.raises(AlreadyRunningError, match=str(os.getpid())):
            LmdbStore(tmp_path)
        script = (
            "import sys; from pathlib import Path; from isotach.kv.lmdb_store import LmdbStore\n"
            "s = LmdbStore(Path(sys.argv[1]), readonly=True).renewable_snapshot()\n"
            "for line in sys.stdin: s.renew(); print((s.get(line.strip().encode()) or b'').decode(), flush=True)\n"
        )
        reader = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            for index in range(5):
                writer.commit([(b"k%d" % index, b"v%d" % index)])
                print(f"k{index}", file=reader.stdin, flush=True)
                assert reader.stdout.readline().strip() == f"v{index}"
        finally:
            reader.kill()
            reader.communicate()
        assert writer.clear_stale_readers() >= 1, "the killed reader's slots"
    LmdbStore(tmp_path).close()  # the lock went with its owner


def test_a_read_only_store_cannot_be_written(tmp_path):
    LmdbStore(tmp_path).close()
    with contextlib.closing(LmdbStore(tmp_path, readonly=True)) as reader, pytest.raises(OSError) as caught:
        reader.commit([(b"k", b"v")])
    assert caught.value.errno in (errno.EROFS, errno.EACCES)


def test_a_newer_format_is_refused(tmp_path):
    with contextlib.closing(LmdbStore(tmp_path)) as store:
        store.commit([(FORMAT_KEY, format_stamp(7))])
    with pytest.raises(InvalidArgumentError, match="has format 7, this program knows up to 1"):
        LmdbStore(tmp_path)
    LmdbStore(tmp_path, format_version=7).close()


def test_a_full_map_grows_while_nobody_reads_and_is_no_space_while_somebody_does(tmp_path):
    with contextlib.closing(LmdbStore(tmp_path, map_bytes=1 << 20)) as store:
        store.commit([(b"%d" % index, bytes(1000)) for index in range(2000)])  # twice the map
        snapshot = store.renewable_snapshot()
        with pytest.raises(OSError, match="the store is full") as caught:
            store.commit([(b"x%d" % index, bytes(1000)) for index in range(20_000)])
        assert caught.value.errno == errno.ENOSPC
        assert snapshot.get(b"x1") is None
        snapshot.close()
        store.commit([(b"small", b"1")])
        with store.snapshot() as after:
            assert (after.get(b"small"), after.get(b"x1")) == (b"1", None)


def test_a_write_cut_short_is_an_error_and_leaves_the_store_usable(tmp_path):
    """The disk is a file-size limit of a process of its own."""
    script = """
import resource, signal, sys
from pathlib import Path
from isotach.kv.lmdb_store import LmdbStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = LmdbStore(Path(sys.argv[1]))
store.commit([(b"first", b"1")])
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
try:
    store.commit([(b"%d" % index, bytes(4000)) for index in range(2000)])
except OSError as error:
    print(type(error).__name__, error.errno)
store.commit([(b"second", b"2")])
with store.snapshot() as snapshot:
    print(snapshot.get(b"first"), snapshot.get(b"second"), snapshot.get(b"1"))
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=30)
    first, second = done.stdout.splitlines()
    assert first in (f"OSError {errno.ENOSPC}", f"OSError {errno.EFBIG}", f"OSError {errno.EIO}")
    assert second == "b'1' b'2' None"


@pytest.mark.root
def test_a_full_disk_is_no_space_and_leaves_the_store_usable(tmp_path):
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "isotach-test", tmp_path], check=False)
    if done.returncode:
        pytest.skip("no permission to mount")
    try:
        with contextlib.closing(LmdbStore(tmp_path / "kv")) as store:
            store.commit([(b"first", b"1")])
            with pytest.raises(OSError, match="disk of the store is full") as caught:
                store.commit([(b"%d" % index, bytes(4000)) for index in range(2000)])
            assert caught.value.errno == errno.ENOSPC
            store.commit([(b"second", b"2")])
            with store.snapshot() as snapshot:
                assert [snapshot.get(key) for key in (b"first", b"second", b"1")] == [b"1", b"2", None]
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


@pytest.mark.parametrize(("point", "survives"), [("before_commit", False), ("after_commit", True)])
def test_a_kill_at_a_commit_loses_all_of_it_or_nothing(tmp_path, point, survives):
    script = (
        "import sys; from pathlib import Path; from isotach.kv.lmdb_store import LmdbStore\n"
        "store = LmdbStore(Path(sys.argv[1])); store.commit([(b'k', b'1'), (b'l', b'2')])\n"
    )
    LmdbStore(tmp_path).close()
    environment = {**os.environ, "ISOTACH_TEST_FAILPOINT": point}
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=environment, check=False, timeout=30)

    assert done.returncode == -signal.SIGKILL
    with contextlib.closing(LmdbStore(Path(tmp_path))) as store, store.snapshot() as snapshot:
        assert (snapshot.get(b"k"), snapshot.get(b"l")) == ((b"1", b"2") if survives else (None, None))
