"""Writers that pass the page cache, beside readers that use it: nobody reads bytes that are not there any more."""

import mmap
import os
import threading
from pathlib import Path

from isotach.base.limits import MIB

_PAGE = mmap.PAGESIZE


def test_a_mapping_shows_what_a_direct_writer_wrote(fuse_dir: Path) -> None:
    target = fuse_dir / "mapped"
    target.write_bytes(b"a" * (4 * _PAGE))
    writer = os.open(target, os.O_WRONLY)
    reader = os.open(target, os.O_RDONLY)
    try:
        with mmap.mmap(reader, 0, prot=mmap.PROT_READ) as mapped:
            assert mapped[_PAGE] == ord("a")
            for turn in range(50):
                mark = bytes([turn])
                assert os.pwrite(writer, mark * _PAGE, _PAGE) == _PAGE
                assert mapped[_PAGE : _PAGE + 1] == mark
                assert os.pread(reader, 1, 2 * _PAGE - 1) == mark
    finally:
        os.close(reader)
        os.close(writer)


def test_a_racing_reader_keeps_no_old_page(fuse_dir: Path) -> None:
    target = fuse_dir / "raced"
    target.write_bytes(bytes(_PAGE))
    writer = os.open(target, os.O_WRONLY)
    reader = os.open(target, os.O_RDONLY)
    over = threading.Event()

    def read_on() -> None:
        while not over.is_set():
            os.pread(reader, _PAGE, 0)

    thread = threading.Thread(target=read_on)
    thread.start()
    try:
        for turn in range(300):
            page = turn.to_bytes(2, "big") * (_PAGE // 2)
            os.pwrite(writer, page, 0)
            assert os.pread(reader, _PAGE, 0) == page
    finally:
        over.set()
        thread.join()
        os.close(reader)
        os.close(writer)


def test_writes_from_unaligned_memory_longer_than_a_request(fuse_dir: Path) -> None:
    data = os.urandom(3 * MIB + 17)
    target = fuse_dir / "unaligned"
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        assert os.write(descriptor, memoryview(data)[5:]) == len(data) - 5
        assert os.fstat(descriptor).st_size == len(data) - 5
        assert os.lseek(descriptor, 0, os.SEEK_CUR) == len(data) - 5
        assert target.read_bytes() == data[5:]
    finally:
        os.close(descriptor)
    assert target.read_bytes() == data[5:]


def test_appends_go_behind_what_a_mapping_of_another_handle_wrote(fuse_dir: Path) -> None:
    target = fuse_dir / "appended"
    target.write_bytes(b"x" * _PAGE)
    both = os.open(target, os.O_RDWR)
    end = os.open(target, os.O_WRONLY | os.O_APPEND)
    try:
        with mmap.mmap(both, _PAGE) as mapped:
            mapped[0:3] = b"map"
            assert os.write(end, b"tail") == 4
            assert os.pread(both, 8, _PAGE) == b"tail"
            assert os.pwrite(end, b"more", 0) == 4  # O_APPEND goes before the offset, as on Linux everywhere
            mapped.flush()
    finally:
        os.close(end)
        os.close(both)
    assert target.read_bytes() == b"map" + b"x" * (_PAGE - 3) + b"tailmore"
