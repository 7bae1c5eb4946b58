"""Bytes of files: writing anywhere, growing and shrinking, holes, maps, appends, what others see of it."""

import errno
import fcntl
import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .users import refused

MIB = 1 << 20


def test_writing_in_the_middle_and_beyond(place: Path) -> None:
    path = place / "f"
    path.write_bytes(b"a" * 10_000)
    with path.open("r+b") as file:
        file.seek(5_000)
        file.write(b"middle")
        file.seek(20_000)
        file.write(b"far")
    data = path.read_bytes()
    assert len(data) == 20_003
    assert data[5_000:5_006] == b"middle"
    assert data[10_000:20_000] == bytes(10_000)
    assert data[20_000:] == b"far"


def test_what_is_written_is_seen_by_all_who_have_it_open(place: Path) -> None:
    path = place / "f"
    path.touch()
    with (
        path.open("r+b", buffering=0) as one,
        path.open("r+b", buffering=0) as two,
        path.open("rb", buffering=0) as three,
    ):
        one.write(b"first")
        assert two.read() == b"first"
        assert three.read() == b"first"
        os.pwrite(two.fileno(), b"F", 0)
        assert os.pread(one.fileno(), 5, 0) == b"First"
        assert path.stat().st_size == 5
        one.truncate(2)
        assert os.pread(two.fileno(), 5, 0) == b"Fi"
        assert os.fstat(three.fileno()).st_size == 2


def test_truncating_both_ways(place: Path) -> None:
    path = place / "f"
    path.write_bytes(b"0123456789")
    os.truncate(path, 4)
    assert path.read_bytes() == b"0123"
    os.truncate(path, 8)
    assert path.read_bytes() == b"0123\0\0\0\0"
    os.truncate(path, 0)
    assert path.read_bytes() == b""
    assert path.stat().st_size == 0
    with path.open("r+b") as file:
        os.ftruncate(file.fileno(), 3 * MIB)
        assert os.fstat(file.fileno()).st_size == 3 * MIB
    assert path.read_bytes() == bytes(3 * MIB)
    assert refused(lambda: os.truncate(place, 0)) == "EISDIR"
    with path.open("rb") as file:
        assert refused(lambda: os.ftruncate(file.fileno(), 0)) == "EINVAL"


def test_opening_with_truncation(place: Path) -> None:
    path = place / "f"
    path.write_bytes(b"before")
    number = path.stat().st_ino
    with path.open("wb"):
        assert path.stat().st_size == 0
    assert path.stat().st_ino == number
    assert path.read_bytes() == b""


def test_appends_of_two_processes_do_not_meet(place: Path) -> None:
    path = place / "log"
    path.touch()
    program = (
        "import os,sys; f=os.open(sys.argv[1], os.O_WRONLY|os.O_APPEND)\n"
        "for n in range(300): os.write(f, (sys.argv[2]*99+'\\n').encode())"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, str(path), letter]) for letter in "ab"]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    lines = path.read_text().splitlines()
    assert sorted(lines) == ["a" * 99] * 300 + ["b" * 99] * 300


def test_appending_moves_to_the_end(place: Path) -> None:
    path = place / "f"
    path.write_bytes(b"start")
    with path.open("ab", buffering=0) as file:
        file.seek(0)
        file.write(b" end")
        assert file.tell() == 9
    assert path.read_bytes() == b"start end"


def test_maps_are_shared(place: Path) -> None:
    path = place / "f"
    path.write_bytes(bytes(4 * mmap.PAGESIZE))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as one, mmap.mmap(file.fileno(), 0) as two:
        one[5_000:5_005] = b"hello"
        assert two[5_000:5_005] == b"hello"
        one.flush()
        assert os.pread(file.fileno(), 5, 5_000) == b"hello"
        os.pwrite(file.fileno(), b"J", 5_000)
        assert two[5_000:5_005] == b"Jello"
    assert path.read_bytes()[5_000:5_005] == b"Jello"


def test_a_map_outlives_its_descriptor(place: Path) -> None:
    path = place / "f"
    path.write_bytes(bytes(mmap.PAGESIZE))
    descriptor = os.open(path, os.O_RDWR)
    mapped = mmap.mmap(descriptor, 0)
    os.close(descriptor)
    mapped[0:4] = b"late"
    mapped.flush()
    mapped.close()
    assert path.read_bytes()[:4] == b"late"


def test_holes_are_found(place: Path) -> None:
    path = place / "f"
    with path.open("wb") as file:
        file.write(b"x" * MIB)
        file.seek(8 * MIB)
        file.write(b"y" * MIB)
        file.truncate(16 * MIB)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert os.lseek(descriptor, 0, os.SEEK_DATA) == 0
        hole = os.lseek(descriptor, 0, os.SEEK_HOLE)
        assert MIB <= hole <= 16 * MIB
        data = os.lseek(descriptor, 4 * MIB, os.SEEK_DATA)
        assert 4 * MIB <= data <= 8 * MIB
        assert refused(lambda: os.lseek(descriptor, 17 * MIB, os.SEEK_DATA)) == "ENXIO"
        assert os.lseek(descriptor, 16 * MIB - 1, os.SEEK_HOLE) <= 16 * MIB
    finally:
        os.close(descriptor)


KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16


def fallocate(descriptor: int, mode: int, offset: int, length: int) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.fallocate(descriptor, mode, ctypes.c_int64(offset), ctypes.c_int64(length))
    if done:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def test_fallocate(place: Path) -> None:
    path = place / "f"
    path.write_bytes(b"z" * 3 * MIB)
    with path.open("r+b") as file:
        fallocate(file.fileno(), 0, 0, 4 * MIB)
        assert os.fstat(file.fileno()).st_size == 4 * MIB
        fallocate(file.fileno(), KEEP_SIZE, 0, 8 * MIB)
        assert os.fstat(file.fileno()).st_size == 4 * MIB
        fallocate(file.fileno(), PUNCH_HOLE | KEEP_SIZE, MIB, MIB)
    data = path.read_bytes()
    assert data[:MIB] == b"z" * MIB
    assert data[MIB : 2 * MIB] == bytes(MIB)
    assert data[2 * MIB : 3 * MIB] == b"z" * MIB
    assert data[3 * MIB :] == bytes(MIB)


def test_copying_a_range_within(place: Path) -> None:
    source, target = place / "source", place / "target"
    content = os.urandom(3 * MIB)
    source.write_bytes(content)
    with source.open("rb") as one, target.open("wb") as two:
        copied = 0
        while copied < 2 * MIB:
            count = os.copy_file_range(one.fileno(), two.fileno(), 2 * MIB - copied, MIB // 2 + copied, copied)
            assert count > 0
            copied += count
    assert target.read_bytes() == content[MIB // 2 : MIB // 2 + 2 * MIB]


def test_times(place: Path) -> None:
    path = place / "f"
    path.write_bytes(b"x")
    os.utime(path, ns=(1_000_000_001, 2_000_000_002))
    seen = path.stat()
    assert (seen.st_atime_ns, seen.st_mtime_ns) == (1_000_000_001, 2_000_000_002)
    changed = seen.st_ctime_ns
    with path.open("r+b") as file:
        file.write(b"y")
    assert path.stat().st_mtime_ns > 2_000_000_002
    assert path.stat().st_ctime_ns >= changed
    with path.open("r+b") as file:
        file.write(b"z")
        file.flush()
        os.utime(file.fileno(), ns=(3, 4))
    assert path.stat().st_mtime_ns == 4  # set after the last write: the close leaves it
    os.utime(path, ns=(-1, -2))
    assert path.stat().st_mtime_ns == -2


def test_very_long_files(roomy_place: Path) -> None:
    path = roomy_place / "f"
    far = (1 << 40) + 12_345
    with path.open("wb") as file:
        file.seek(far)
        file.write(b"end")
        file.flush()
        assert os.fstat(file.fileno()).st_size == far + 3
    assert path.stat().st_size == far + 3
    with path.open("rb") as file:
        assert os.pread(file.fileno(), 10, far - 5) == bytes(5) + b"end"
        assert file.read(100) == bytes(100)


def test_bad_descriptors_and_arguments(place: Path) -> None:
    path = place / "f"
    path.write_bytes(b"x")
    reading, writing = os.open(path, os.O_RDONLY), os.open(path, os.O_WRONLY)
    try:
        assert refused(lambda: os.write(reading, b"y")) == "EBADF"
        assert refused(lambda: os.read(writing, 1)) == "EBADF"
        assert refused(lambda: os.pread(reading, 1, -1)) == "EINVAL"
        assert os.pread(reading, 10, 1) == b""
        assert os.pread(reading, 10, 100) == b""
    finally:
        os.close(reading)
        os.close(writing)


def test_extended_attributes(place: Path) -> None:
    path = place / "f"
    path.touch()
    os.setxattr(path, "user.colour", b"red")
    assert os.getxattr(path, "user.colour") == b"red"
    assert "user.colour" in os.listxattr(path)
    assert refused(lambda: os.setxattr(path, "user.colour", b"x", os.XATTR_CREATE)) == "EEXIST"
    assert refused(lambda: os.setxattr(path, "user.none", b"x", os.XATTR_REPLACE)) == "ENODATA"
    assert refused(lambda: os.getxattr(path, "user.none")) == "ENODATA"
    assert refused(lambda: os.removexattr(path, "user.none")) == "ENODATA"
    os.setxattr(path, "user.empty", b"")
    assert os.getxattr(path, "user.empty") == b""
    os.setxattr(path, "user.large", b"v" * 4096)
    assert os.getxattr(path, "user.large") == b"v" * 4096
    os.removexattr(path, "user.colour")
    assert "user.colour" not in os.listxattr(path)
    (place / "d").mkdir()
    os.setxattr(place / "d", "user.of", b"directory")
    assert os.getxattr(place / "d", "user.of") == b"directory"


def test_room_is_told(place: Path) -> None:
    seen = os.statvfs(place)
    assert seen.f_blocks > 0
    assert seen.f_bavail > 0
    assert seen.f_namemax == 255
    assert seen.f_bsize >= 512


PROGRAM_LOCK = (
    "import fcntl,os,sys; f=open(sys.argv[1],'r+b')\n"
    "try:\n fcntl.{call}; print('got')\nexcept BlockingIOError: print('busy')"
)


@pytest.mark.parametrize(
    ("take", "call"),
    [
        (lambda file: fcntl.flock(file, fcntl.LOCK_EX), "flock(f, fcntl.LOCK_EX|fcntl.LOCK_NB)"),
        (lambda file: fcntl.lockf(file, fcntl.LOCK_EX), "lockf(f, fcntl.LOCK_EX|fcntl.LOCK_NB)"),
        (lambda file: fcntl.lockf(file, fcntl.LOCK_SH, 10, 5), "lockf(f, fcntl.LOCK_EX|fcntl.LOCK_NB, 3, 12)"),
    ],
)
def test_locks_keep_other_processes_out(place: Path, take: "object", call: str) -> None:
    path = place / "f"
    path.write_bytes(bytes(100))

    def other() -> str:
        program = PROGRAM_LOCK.format(call=call)
        return subprocess.run(
            [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
        ).stdout.strip()

    with path.open("r+b") as file:
        take(file)  # type: ignore[operator]
        assert other() == "busy"
    assert other() == "got"


def test_record_locks_end_with_any_close_of_the_process(place: Path) -> None:
    path = place / "f"
    path.write_bytes(bytes(100))
    with path.open("r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        path.open("rb").close()
        program = PROGRAM_LOCK.format(call="lockf(f, fcntl.LOCK_EX|fcntl.LOCK_NB)")
        done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "got"


def test_files_may_be_larger_than_what_one_write_takes(place: Path) -> None:
    path = place / "f"
    content = os.urandom(5 * MIB + 321)
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        assert os.write(descriptor, content) == len(content)
        os.fsync(descriptor)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    assert path.read_bytes() == content


def test_direct_io(place: Path) -> None:
    path = place / "f"
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_DIRECT)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        pytest.skip("this file system has no direct I/O")
    try:
        with mmap.mmap(-1, 8192) as aligned:
            aligned[:] = b"d" * 8192
            assert os.pwrite(descriptor, aligned, 0) == 8192
            aligned[:] = bytes(8192)
            assert os.preadv(descriptor, [aligned], 0) == 8192
            assert aligned[:] == b"d" * 8192
    finally:
        os.close(descriptor)


def test_unnamed_files(place: Path) -> None:
    try:
        descriptor = os.open(place, os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
            raise
        pytest.skip("this file system has no unnamed files")
    with os.fdopen(descriptor, "r+b") as file:
        file.write(b"nameless")
        file.flush()
        assert os.pread(file.fileno(), 100, 0) == b"nameless"
    assert os.listdir(place) == []
