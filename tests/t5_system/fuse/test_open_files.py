"""Files open through a real mount: the kernel reads whole ones itself, and nobody ever sees two versions as one.

A process that serves is stopped (SIGSTOP) where a test says that no request reaches it.
"""

import contextlib
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import isotach
from isotach.base.limits import KIB, MIB
from isotach.testing.fuse import RealMount

pytestmark = [pytest.mark.fuse, pytest.mark.root]
DATA = os.urandom(3 * MIB + 123)
OTHER = os.urandom(2 * MIB + 77)
#: Reads all of a descriptor, at once and mapped, and asks for nothing else (Python's own mmap asks for the length):
#: a program of its own, so that it cannot hang the test.
READ_ALL = """
import ctypes, hashlib, os, sys
descriptor, length = int(sys.argv[1]), int(sys.argv[2])
read = os.pread(descriptor, length + 1, 0)
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
mapped = ctypes.string_at(libc.mmap(None, length, 1, 1, descriptor, 0), length)
print(read == mapped, hashlib.sha256(read).hexdigest())
"""


@contextlib.contextmanager
def asleep(mount: RealMount) -> Iterator[None]:
    """Nobody answers the kernel's requests meanwhile."""
    pid = mount.server_pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def digest_elsewhere(descriptor: int, length: int) -> str:
    """What another process reads of it: a digest. Fails after some seconds without answer."""
    command = [sys.executable, "-c", READ_ALL, str(descriptor), str(length)]
    done = subprocess.run(command, pass_fds=[descriptor], capture_output=True, text=True, timeout=20, check=True)
    is_same, digest = done.stdout.split()
    assert is_same == "True"
    return digest


def digest_of(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def name_in(fuse_dir: Path, name: str) -> str:
    """The path in the namespace of an entry of the test's directory."""
    return f"/{fuse_dir.name}/{name}"


@contextlib.contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    """A bare descriptor."""
    descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def test_no_read_of_a_whole_file_reaches_the_daemon(
    fuse_mount: RealMount, fuse_dir: Path, fuse_fs: isotach.FileSystem
) -> None:
    fuse_fs.write(name_in(fuse_dir, "whole"), DATA)
    with opened(fuse_dir / "whole") as descriptor:
        with asleep(fuse_mount):
            assert digest_elsewhere(descriptor, len(DATA)) == digest_of(DATA)


def test_a_file_replaced_while_it_is_open_is_two_files(fuse_dir: Path, fuse_fs: isotach.FileSystem) -> None:
    path = fuse_dir / "replaced"
    fuse_fs.write(name_in(fuse_dir, "replaced"), DATA)
    with opened(path) as old:
        with mmap.mmap(old, 0, mmap.MAP_SHARED, mmap.PROT_READ) as mapped:
            fuse_fs.write(name_in(fuse_dir, "replaced"), OTHER)
            with opened(path) as new:
                assert os.pread(new, 4 * MIB, 0) == OTHER
                assert os.pread(old, 4 * MIB, 0) == DATA
                assert mapped[:] == DATA
                assert os.fstat(new).st_ino == os.fstat(old).st_ino
                assert os.fstat(new).st_size == len(OTHER)
                with opened(path) as another:
                    assert os.pread(another, 4 * MIB, 0) == OTHER
    assert path.read_bytes() == OTHER


def test_evicted_and_removed_files_are_read_on(
    fuse_mount: RealMount, fuse_dir: Path, fuse_fs: isotach.FileSystem
) -> None:
    fuse_fs.write(name_in(fuse_dir, "freed"), DATA, write_type="CACHE_THROUGH")
    fuse_fs.write(name_in(fuse_dir, "removed"), OTHER, write_type="MUST_CACHE")
    with opened(fuse_dir / "freed") as freed, opened(fuse_dir / "removed") as removed:
        fuse_fs.free(name_in(fuse_dir, "freed"), force=True)
        fuse_fs.remove(name_in(fuse_dir, "removed"))
        with asleep(fuse_mount):
            assert digest_elsewhere(freed, len(DATA)) == digest_of(DATA)
            assert digest_elsewhere(removed, len(OTHER)) == digest_of(OTHER)
    assert not (fuse_dir / "removed").exists()
    assert (fuse_dir / "freed").read_bytes() == DATA


def test_a_writer_beside_readers_gets_an_inode_of_its_own(fuse_dir: Path, fuse_fs: isotach.FileSystem) -> None:
    path = fuse_dir / "both"
    fuse_fs.write(name_in(fuse_dir, "both"), DATA)
    with opened(path) as reader:
        with opened(path, os.O_RDWR) as writer:
            os.pwrite(writer, b"changed", 100)
            assert os.pread(writer, 7, 100) == b"changed"
            with opened(path) as beside:
                assert os.pread(beside, 7, 100) == b"changed"
            assert os.pread(reader, len(DATA), 0) == DATA
        assert os.pread(reader, len(DATA), 0) == DATA
    expected = DATA[:100] + b"changed" + DATA[107:]
    assert path.read_bytes() == expected
    assert fuse_fs.read(name_in(fuse_dir, "both")) == expected


@pytest.mark.parametrize(
    "flags", [os.O_WRONLY | os.O_TRUNC, os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC]
)
def test_every_way_to_open_for_writing_is_sent_to_another_inode(
    fuse_dir: Path, fuse_fs: isotach.FileSystem, flags: int
) -> None:
    path = fuse_dir / "file"
    fuse_fs.write(name_in(fuse_dir, "file"), DATA)
    with opened(path) as reader:
        with opened(path, flags) as writer:
            os.pwrite(writer, b"new", 0)
        assert os.pread(reader, len(DATA), 0) == DATA
    expected = b"new" if flags & os.O_TRUNC else b"new" + DATA[3:]
    assert fuse_fs.read(name_in(fuse_dir, "file")) == expected
    assert path.read_bytes() == expected


def test_a_descriptor_is_opened_again_by_proc(fuse_dir: Path, fuse_fs: isotach.FileSystem) -> None:
    path = fuse_dir / "again"
    fuse_fs.write(name_in(fuse_dir, "again"), DATA)
    with opened(path) as old:
        with opened(Path(f"/proc/self/fd/{old}")) as same:
            assert os.pread(same, len(DATA), 0) == DATA
        fuse_fs.write(name_in(fuse_dir, "again"), OTHER)
        with opened(Path(f"/proc/self/fd/{old}")) as same:
            assert os.pread(same, len(DATA), 0) == DATA  # what the descriptor has
        fuse_fs.remove(name_in(fuse_dir, "again"))
        with opened(Path(f"/proc/self/fd/{old}")) as same:
            assert os.pread(same, len(DATA), 0) == DATA


def test_writers_and_readers_of_one_file_see_the_same(fuse_dir: Path) -> None:
    path = fuse_dir / "shared"
    path.write_bytes(DATA)
    with opened(path, os.O_RDWR) as one, opened(path, os.O_RDWR) as two, opened(path) as reader:
        os.pwrite(one, b"A" * 10_000, 5_000)
        assert os.pread(two, 10_000, 5_000) == b"A" * 10_000
        assert os.pread(reader, 10_000, 5_000) == b"A" * 10_000
        with mmap.mmap(two, 0) as mapped:
            mapped[0:3] = b"map"
            assert os.pread(one, 3, 0) == b"map"
        os.ftruncate(one, 20_000)
        assert os.fstat(two).st_size == 20_000
        assert os.pread(reader, 100_000, 0) == b"map" + DATA[3:5_000] + b"A" * 10_000 + DATA[15_000:20_000]
    assert path.stat().st_size == 20_000


def test_what_a_mapping_wrote_after_the_last_close_is_published(fuse_dir: Path, fuse_fs: isotach.FileSystem) -> None:
    path = fuse_dir / "mapped"
    path.write_bytes(bytes(64 * KIB))
    with opened(path, os.O_RDWR) as descriptor:
        mapped = mmap.mmap(descriptor, 0)
    mapped[1000:1005] = b"later"
    mapped.close()
    assert path.read_bytes()[1000:1005] == b"later"
    assert fuse_fs.read(name_in(fuse_dir, "mapped"))[1000:1005] == b"later"


def test_appends_of_two_descriptors_do_not_overwrite_one_another(fuse_dir: Path) -> None:
    path = fuse_dir / "log"
    with opened(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT) as one, opened(path, os.O_WRONLY | os.O_APPEND) as two:
        for number in range(50):
            os.write(one, b"one %02d\n" % number)
            os.write(two, b"two %02d\n" % number)
    lines = path.read_bytes().splitlines()
    assert sorted(lines) == sorted(b"%b %02d" % (who, n) for who in (b"one", b"two") for n in range(50))


def test_an_empty_file_and_the_end_of_a_file(fuse_dir: Path) -> None:
    (fuse_dir / "empty").touch()
    assert (fuse_dir / "empty").read_bytes() == b""
    (fuse_dir / "short").write_bytes(b"abc")
    with opened(fuse_dir / "short") as descriptor:
        assert os.pread(descriptor, 100, 2) == b"c"
        assert os.pread(descriptor, 100, 3) == b""
        assert os.lseek(descriptor, 0, os.SEEK_DATA) == 0
        assert os.lseek(descriptor, 0, os.SEEK_HOLE) == 3
        with pytest.raises(OSError, match="Errno 6"):
            os.lseek(descriptor, 3, os.SEEK_DATA)


def test_who_has_an_old_version_open_sees_its_length(
    fuse_dir: Path, fuse_fs: isotach.FileSystem, eventually: Callable[..., object]
) -> None:
    path = fuse_dir / "shorter"
    fuse_fs.write(name_in(fuse_dir, "shorter"), DATA)
    with opened(path) as old:
        fuse_fs.write(name_in(fuse_dir, "shorter"), b"short")
        eventually(lambda: path.stat().st_size == 5)  # once the feed has told of it
        assert path.read_bytes() == b"short"
        assert os.fstat(old).st_size == len(DATA)
        fuse_fs.remove(name_in(fuse_dir, "shorter"))
        assert os.fstat(old).st_size == len(DATA)
        eventually(lambda: os.fstat(old).st_nlink == 0)
        assert os.pread(old, len(DATA), 0) == DATA


def test_truncating_by_name_leaves_readers_what_they_have(fuse_dir: Path) -> None:
    path = fuse_dir / "cut"
    path.write_bytes(DATA)
    with opened(path) as reader:
        os.truncate(path, 1000)
        assert path.stat().st_size == 1000
        assert path.read_bytes() == DATA[:1000]
        assert os.pread(reader, len(DATA), 0) == DATA
        assert os.fstat(reader).st_size == len(DATA)
    os.truncate(path, 2000)
    assert path.read_bytes() == DATA[:1000] + bytes(1000)
