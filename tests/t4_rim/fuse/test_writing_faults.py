"""Files being written through a mount when something fails: workers die, stores are away, tiers are full.

Owns: that every byte acknowledged by close or fsync is there in the end, and that every error is told. Never: mounts
anything.
"""

import contextlib
import errno
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import isotach
from isotach.base.types import WriteType
from isotach.fuse.writing.live_file import WrittenFile
from isotach.testing.mount_writer import MountWriter, put

MIB = 1 << 20


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[isotach.Cluster]:
    """A cluster that tests may hurt; whatever they break, they put right again before they end."""
    folder = tmp_path_factory.mktemp("own")
    with (
        tempfile.TemporaryDirectory(prefix="isotach-test-", dir="/dev/shm") as memory,
        isotach.start(
            dir=folder,
            mem="112MiB",
            worker__mem_dir=f"{memory}/mem",
            worker__heartbeat_interval="0.3s",
            log__level="error",
        ) as running,
    ):
        yield running


@pytest.fixture
def each(own: isotach.Cluster, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[MountWriter]:
    """A writer whose files all are drafts."""
    with isotach.connect(own.address) as fs:
        writer = MountWriter(fs, tmp_path / "spool", small_file=0, copy_ahead=32 * MIB)
        yield writer
        writer.close()


@pytest.fixture
def folder(each: MountWriter) -> Iterator[str]:
    path = f"/t{os.urandom(4).hex()}"
    each.fs.mkdir(path)
    yield path
    each.fs.remove(path, recursive=True)


@pytest.fixture
def stored(each: MountWriter, folder: str, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """(path in the namespace, folder of the store)."""
    store = tmp_path / "store"
    store.mkdir()
    each.fs.mount(f"{folder}/mnt", str(store))
    yield f"{folder}/mnt", store
    each.fs.unmount(f"{folder}/mnt")


def _kill_worker(own: isotach.Cluster, each: MountWriter, eventually: Callable[..., object]) -> None:
    """Kills the worker, and returns when the next one serves."""
    pid = own.worker_pids[0]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: own.worker_pids[0] not in (pid, -1, 0))

    def serves() -> bool:
        try:
            each.fs.write("/probe", b"x" * 10, write_type="MUST_CACHE")
        except OSError:
            return False
        return True

    eventually(serves, timeout=20)
    each.fs.remove("/probe")


def test_file_first_written_after_its_name_went(each: MountWriter, folder: str) -> None:
    file = each.create(f"{folder}/f")
    each.fs.remove(f"{folder}/f")
    file.removed()
    file._content._grants._created = None  # as if it had been opened long ago
    put(file, 0, b"x" * MIB)
    assert bytes(file.read(0, MIB)) == b"x" * MIB
    file.sync()
    assert file.flush() is None
    assert file.close() is None


def test_master_killed_before_a_close(
    own: isotach.Cluster, each: MountWriter, folder: str, eventually: Callable[..., object]
) -> None:
    file = each.create(f"{folder}/f")
    put(file, 0, b"x" * MIB)
    os.kill(own.master_pid, signal.SIGKILL)
    with contextlib.suppress(OSError):  # told, or waited for: either is right
        file.flush()
    file.close()
    eventually(lambda: each.fs.read(f"{folder}/f") == b"x" * MIB, timeout=20)


@pytest.mark.parametrize("synced", [False, True])
def test_worker_killed_in_the_middle_of_a_write(
    own: isotach.Cluster, each: MountWriter, folder: str, eventually: Callable[..., object], synced: bool
) -> None:
    write_type = WriteType.MUST_CACHE
    file = each.create(f"{folder}/f", write_type)
    content = bytearray(os.urandom(3 * MIB))
    put(file, 0, bytes(content))
    if synced:
        file.sync()
    _kill_worker(own, each, eventually)
    put(file, 2 * MIB, b"after")
    content[2 * MIB : 2 * MIB + 5] = b"after"
    assert bytes(file.read(0, 4 * MIB)) == content
    assert file.flush() is not None
    assert each.fs.read(f"{folder}/f") == content
    put(file, 0, b"again")
    content[:5] = b"again"
    file.close()
    assert each.fs.read(f"{folder}/f") == content


def test_draft_of_a_forgotten_session_is_written_anew(each: MountWriter, folder: str) -> None:
    """As after a pause so long that the worker took the mount for dead."""
    file = each.create(f"{folder}/f")
    put(file, 0, b"x" * MIB)
    session = each.writing._bodies.session
    session._session = os.urandom(16)
    session.close()
    put(file, MIB, b"y" * MIB)
    file.close()
    assert each.fs.read(f"{folder}/f") == b"x" * MIB + b"y" * MIB


def test_store_that_is_away_at_close_and_comes_back(
    each: MountWriter, stored: tuple[str, Path], eventually: Callable[..., object]
) -> None:
    path, store = stored
    file = each.create(f"{path}/f", WriteType.CACHE_THROUGH)
    put(file, 0, b"content" * MIB)
    store.rename(store.with_name("away"))
    with pytest.raises(OSError) as refused:
        file.flush()
    assert refused.value.errno == errno.EIO
    assert bytes(file.read(0, 7)) == b"content"
    assert file.close() is None
    assert each.writing.unpublished(file.file_id) is file
    again = each.open(f"{path}/f")
    assert again is file
    assert again.length == 7 * MIB
    put(again, 0, b"CONTENT")
    again.close()
    store.with_name("away").rename(store)
    eventually(lambda: (store / "f").exists() and (store / "f").stat().st_size == 7 * MIB, timeout=20)
    eventually(lambda: each.late)
    assert (store / "f").read_bytes()[:14] == b"CONTENTcontent"
    assert each.writing.unpublished(file.file_id) is None
    assert each.writing.counters.given_up == 0


def test_what_the_mount_cannot_publish_at_its_end_is_left_to_the_worker(
    own: isotach.Cluster, stored: tuple[str, Path], tmp_path: Path, eventually: Callable[..., object]
) -> None:
    path, store = stored
    with isotach.connect(own.address) as fs:
        each = MountWriter(fs, tmp_path / "spool", small_file=0)
        file = each.create(f"{path}/f", WriteType.CACHE_THROUGH)
        put(file, 0, b"content" * MIB)
        store.rename(store.with_name("away"))
        assert file.close() is None
        each.close()
        store.with_name("away").rename(store)
        eventually(lambda: fs.stat(f"{path}/f").length == 7 * MIB, timeout=20)
        eventually(lambda: (store / "f").exists() and (store / "f").stat().st_size == 7 * MIB, timeout=20)


def test_content_that_was_overtaken_is_not_published_late(
    own: isotach.Cluster, each: MountWriter, stored: tuple[str, Path], eventually: Callable[..., object]
) -> None:
    path, store = stored
    file = each.create(f"{path}/f", WriteType.CACHE_THROUGH)
    put(file, 0, b"old" * MIB)
    store.rename(store.with_name("away"))
    assert file.close() is None
    store.with_name("away").rename(store)
    each.fs.write(f"{path}/f", b"newer", write_type="CACHE_THROUGH")
    eventually(lambda: each.writing.counters.given_up == 1, timeout=20)
    assert each.fs.read(f"{path}/f") == b"newer"


def test_large_file_written_again_and_again_is_not_published_each_time(each: MountWriter, folder: str) -> None:
    file = each.create(f"{folder}/f")
    put(file, 0, bytes(17 * MIB))
    assert file.flush() is not None
    version = each.fs.stat(f"{folder}/f").version
    for number in range(1, 4):
        put(file, 17 * MIB, bytes([number]) * 10)
        assert file.flush() is None
    assert each.fs.stat(f"{folder}/f").version == version
    assert file.length == 17 * MIB + 10
    assert file.close() is not None
    assert each.fs.read(f"{folder}/f")[17 * MIB :] == b"\3" * 10


def test_part_of_a_large_file_is_rewritten(each: MountWriter, folder: str) -> None:
    content = bytearray(os.urandom(1 * MIB)) * 36
    each.fs.write(f"{folder}/f", content, write_type="MUST_CACHE")
    file = each.open(f"{folder}/f")
    put(file, 20 * MIB, b"new")
    content[20 * MIB : 20 * MIB + 3] = b"new"
    body = file._content.body
    assert body is not None
    assert body.descriptor is not None
    assert os.fstat(body.descriptor.number).st_blocks * 512 < MIB
    assert bytes(file.read(20 * MIB - 10, 30)) == content[20 * MIB - 10 : 20 * MIB + 20]
    file.close()
    assert each.fs.read(f"{folder}/f") == content


def _write_again_and_again(file: WrittenFile, piece: memoryview) -> None:
    for number in range(32):
        file.write(number * len(piece), piece)


def test_tier_that_is_full_is_told_by_the_write(each: MountWriter, folder: str) -> None:
    file = each.create(f"{folder}/f")
    piece = memoryview(bytes(8 * MIB))
    with pytest.raises(OSError, match="room") as full:
        _write_again_and_again(file, piece)
    assert full.value.errno == errno.ENOSPC
    file.truncate(MIB)
    file.close()
    assert each.fs.stat(f"{folder}/f").length == MIB


def test_file_for_the_store_goes_on_beside_full_tiers(each: MountWriter, stored: tuple[str, Path]) -> None:
    path, store = stored
    file = each.create(f"{path}/f", WriteType.CACHE_THROUGH)
    piece = memoryview(bytes(range(256)) * (8 * MIB // 256))
    for number in range(16):
        file.write(number * len(piece), piece)
    file.close()
    assert (store / "f").stat().st_size == 128 * MIB
    assert each.fs.stat(f"{path}/f").length == 128 * MIB
    assert bytes(each.fs.read(f"{path}/f", 100 * MIB, 256)) == bytes(range(256))


def test_many_threads_append(each: MountWriter, folder: str) -> None:
    file = each.create(f"{folder}/f")

    def append(letter: int) -> None:
        for _ in range(200):
            file.append(memoryview(bytes([letter]) * 50))

    threads = [threading.Thread(target=append, args=(letter,)) for letter in b"abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    file.close()
    content = each.fs.read(f"{folder}/f")
    assert len(content) == 4 * 200 * 50
    assert all(len(set(content[at : at + 50])) == 1 for at in range(0, len(content), 50))


def test_without_a_local_worker_files_are_spooled(own: isotach.Cluster, folder: str, tmp_path: Path) -> None:
    with isotach.connect(own.tcp_address, short_circuit=False) as fs:
        each = MountWriter(fs, tmp_path / "spool", small_file=0, write_type=WriteType.MUST_CACHE)
        file: WrittenFile = each.create(f"{folder}/f")
        content = os.urandom(9 * MIB)
        put(file, 0, content)
        file.sync()
        file.close()
        assert fs.read(f"{folder}/f") == content
        file = each.open(f"{folder}/f")
        put(file, MIB, b"changed")
        file.close()
        assert fs.read(f"{folder}/f", MIB - 1, 9) == content[MIB - 1 : MIB] + b"changed" + content[MIB + 7 : MIB + 8]
        each.close()
