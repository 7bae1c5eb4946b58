"""Files being written through a mount, without the kernel: against a real cluster, and against plain byte arrays.

Owns: what `fuse.writing` promises of bytes, lengths and publishing. Never: mounts anything.
"""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import isotach
from isotach.base.types import WriteType
from isotach.fuse.writing.live_file import KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE, WrittenFile
from isotach.testing.mount_writer import MountWriter, put

MIB = 1 << 20


@pytest.fixture
def writer(real_fs: isotach.FileSystem, tmp_path: Path) -> Iterator[Callable[..., MountWriter]]:
    """Makes writers with changed settings (`small_file=0`)."""
    made: list[MountWriter] = []

    def make(**changed: object) -> MountWriter:
        made.append(MountWriter(real_fs, tmp_path / "spool", **changed))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("small_file", [MIB, 0])
def test_new_file_is_published_by_its_close(writer: Callable[..., MountWriter], folder: str, small_file: int) -> None:
    each = writer(small_file=small_file)
    file = each.create(f"{folder}/new")
    assert each.fs.stat(f"{folder}/new").length == 0
    put(file, 0, b"hello ")
    put(file, 6, b"world")
    assert bytes(file.read(0, 100)) == b"hello world"
    assert file.append(memoryview(b"!")) == 11
    inode = file.flush()
    assert inode is not None
    assert inode.length == 12
    assert each.fs.read(f"{folder}/new") == b"hello world!"
    assert file.flush() is None
    assert bytes(file.read(6, 100)) == b"world!"
    put(file, 0, b"H")
    assert bytes(file.read(0, 100)) == b"Hello world!"
    assert each.fs.read(f"{folder}/new")[:1] == b"h"
    assert file.close() is not None
    assert each.fs.read(f"{folder}/new") == b"Hello world!"
    assert each.fs.stat(f"{folder}/new").inode.mtime_ns == file.mtime_ns


def test_file_that_outgrows_memory_goes_on(writer: Callable[..., MountWriter], folder: str) -> None:
    each = writer()
    file = each.create(f"{folder}/grows")
    parts = [bytes([number]) * 300_000 for number in range(9)]
    for number, part in enumerate(parts):
        put(file, number * 300_000, part)
    assert bytes(file.read(250_000, 100_000)) == parts[0][:50_000] + parts[1][:50_000]
    file.close()
    assert each.fs.read(f"{folder}/grows") == b"".join(parts)


def test_two_files_changed_at_once_take_little_memory(writer: Callable[..., MountWriter], folder: str) -> None:
    each = writer(buffer_memory=MIB)
    files = [each.create(f"{folder}/f{number}") for number in range(6)]
    for file in files:
        put(file, 0, bytes(200_000))
    kinds = [type(file._content.body).__name__ for file in files]
    assert kinds.count("MemoryBody") == 2
    for file in files:
        file.close()


@pytest.mark.parametrize("copy_ahead", [64 * MIB, 0])
def test_part_of_a_file_is_rewritten(writer: Callable[..., MountWriter], folder: str, copy_ahead: int) -> None:
    each = writer(copy_ahead=copy_ahead, small_file=0)
    content = bytearray(os.urandom(5 * MIB))
    each.fs.write(f"{folder}/f", content)
    file = each.open(f"{folder}/f")
    put(file, 3 * MIB + 17, b"middle")
    content[3 * MIB + 17 : 3 * MIB + 23] = b"middle"
    assert bytes(file.read(0, len(content))) == content
    file.truncate(4 * MIB)
    file.truncate(6 * MIB)
    content[4 * MIB :] = bytes(2 * MIB)
    assert bytes(file.read(0, len(content))) == content
    file.close()
    assert each.fs.read(f"{folder}/f") == content


def test_truncated_file_is_not_read(writer: Callable[..., MountWriter], folder: str) -> None:
    each = writer()
    each.fs.write(f"{folder}/f", bytes(3 * MIB))
    file = each.open(f"{folder}/f", truncate=True)
    assert file.length == 0
    put(file, 0, b"short")
    file.close()
    assert each.fs.read(f"{folder}/f") == b"short"
    file = each.open(f"{folder}/f")
    file.truncate(0)
    inode = file.flush()
    assert inode is not None
    assert inode.length == 0
    assert file.close() is None


def test_file_that_was_not_written_is_not_published(writer: Callable[..., MountWriter], folder: str) -> None:
    each = writer()
    each.fs.write(f"{folder}/f", b"abc")
    version = each.fs.stat(f"{folder}/f").version
    file = each.open(f"{folder}/f")
    assert bytes(file.read(0, 10)) == b"abc"
    assert file.flush() is None
    assert file.close() is None
    assert each.fs.stat(f"{folder}/f").version == version


def test_removed_file_is_not_published(writer: Callable[..., MountWriter], folder: str) -> None:
    each = writer(copy_ahead=0, small_file=0)
    each.fs.write(f"{folder}/f", b"a" * MIB)
    file = each.open(f"{folder}/f")
    put(file, 10, b"b")
    file.before_removal()
    each.fs.remove(f"{folder}/f")
    file.removed()
    put(file, 20, b"c")
    assert file.flush() is None
    assert bytes(file.read(0, 30)) == b"a" * 10 + b"b" + b"a" * 9 + b"c" + b"a" * 9
    assert file.close() is None
    assert not each.fs.exists(f"{folder}/f")


def test_file_that_somebody_else_removed_is_not_published(writer: Callable[..., MountWriter], folder: str) -> None:
    each = writer()
    for small in (True, False):
        file = each.create(f"{folder}/f")
        put(file, 0, bytes(10 if small else 2 * MIB))
        each.fs.remove(f"{folder}/f")
        assert file.flush() is None
        assert file.close() is None
        assert not each.fs.exists(f"{folder}/f")


def test_renamed_file_is_published_where_it_is(writer: Callable[..., MountWriter], folder: str) -> None:
    each = writer()
    file = each.create(f"{folder}/before")
    put(file, 0, b"content")
    each.fs.rename(f"{folder}/before", f"{folder}/after")
    file.close()
    assert each.fs.read(f"{folder}/after") == b"content"
    assert not each.fs.exists(f"{folder}/before")


@pytest.mark.parametrize("small_file", [MIB, 0])
@pytest.mark.parametrize("write_type", list(WriteType))
def test_every_write_type(
    writer: Callable[..., MountWriter],
    mounted: tuple[str, Path],
    eventually: Callable[..., object],
    write_type: WriteType,
    small_file: int,
) -> None:
    path, store = mounted
    each = writer(write_type=write_type, small_file=small_file)
    file = each.create(f"{path}/f", write_type)
    put(file, 0, b"first")
    file.sync()
    if write_type.goes_through:
        assert (store / "f").read_bytes() == b"first"
    put(file, 5, b" second")
    file.flush()
    assert each.fs.read(f"{path}/f") == b"first second"
    if write_type.goes_through:
        assert (store / "f").read_bytes() == b"first second"
    put(file, 0, b"F")
    file.close()
    assert each.fs.read(f"{path}/f") == b"First second"
    eventually(lambda: _is_persisted(each, path))


def _is_persisted(each: MountWriter, path: str) -> bool:
    try:
        each.fs.persist(path, wait=True)
    except OSError:  # one that was overtaken while it was persisted
        return False
    return True


def test_time_that_was_set_holds_until_the_next_write(writer: Callable[..., MountWriter], folder: str) -> None:
    each = writer()
    file = each.create(f"{folder}/f")
    put(file, 0, b"x")
    file.set_mtime(10**18)
    file.flush()
    assert each.fs.stat(f"{folder}/f").inode.mtime_ns == 10**18
    put(file, 0, b"y")
    file.close()
    assert each.fs.stat(f"{folder}/f").inode.mtime_ns > 10**18


def test_holes_are_told_and_made(writer: Callable[..., MountWriter], folder: str) -> None:
    each = writer(small_file=0)
    file = each.create(f"{folder}/f")
    put(file, 3 * MIB, b"x" * MIB)
    assert file.seek(0, False) == 3 * MIB
    assert file.seek(3 * MIB, True) == 4 * MIB
    with pytest.raises(OSError) as beyond:
        file.seek(4 * MIB, False)
    assert beyond.value.errno == errno.ENXIO
    file.allocate(PUNCH_HOLE | KEEP_SIZE, 3 * MIB, MIB // 2)
    assert file.seek(0, False) == 3 * MIB + MIB // 2
    file.allocate(KEEP_SIZE, 8 * MIB, MIB)
    assert file.length == 4 * MIB
    file.allocate(0, 4 * MIB, MIB)
    assert file.length == 5 * MIB
    with pytest.raises(OSError) as odd:
        file.allocate(8, 0, MIB)
    assert odd.value.errno == errno.EOPNOTSUPP
    file.close()
    assert each.fs.read(f"{folder}/f") == bytes(3 * MIB + MIB // 2) + b"x" * (MIB // 2) + bytes(MIB)


def test_copying_between_files(writer: Callable[..., MountWriter], folder: str) -> None:
    each = writer(small_file=0)
    source = each.create(f"{folder}/source")
    put(source, 0, b"0123456789" * 100_000)
    target = each.create(f"{folder}/target")
    descriptor = source.lend(10, 1_000)
    try:
        assert target.copy_in(5, 1_000, descriptor, 10) == 1_000
    finally:
        os.close(descriptor)
    assert bytes(target.read(0, 2_000)) == bytes(5) + b"0123456789" * 100
    source.close()
    target.close()


def test_offset_that_no_file_reaches(writer: Callable[..., MountWriter], folder: str) -> None:
    file = writer().create(f"{folder}/f")
    with pytest.raises(OSError) as beyond:
        put(file, (1 << 63) - 2, b"abc")
    assert beyond.value.errno == errno.EFBIG
    assert file.close() is None


_offsets = st.integers(0, 300_000)
_steps = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "append", "truncate", "flush", "sync", "punch", "zero", "look", "reopen"]),
        _offsets,
        st.integers(0, 150_000),
    ),
    min_size=2,
    max_size=14,
)


@pytest.mark.parametrize("shape", ["memory", "copied", "over", "spool"])
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(begins=st.integers(0, 300_000), steps=_steps)
def test_any_sequence_is_what_a_bytearray_says(
    writer: Callable[..., MountWriter], folder: str, shape: str, begins: int, steps: list[tuple[str, int, int]]
) -> None:
    each = writer(small_file=MIB if shape == "memory" else 0, copy_ahead=0 if shape in ("over", "spool") else 64 * MIB)
    if shape == "spool":
        each.writing._bodies.large = lambda grants, room: each.writing._bodies.spool(grants)  # type: ignore[method-assign]
    path = f"{folder}/f{os.urandom(4).hex()}"
    model = bytearray(os.urandom(begins))
    each.fs.write(path, model)
    file = each.open(path)
    for serial, (step, offset, size) in enumerate(steps):
        _take_step(each, path, file, model, step, offset, size, serial)
        assert file.length == len(model)
        if step == "reopen":
            file.close()
            assert each.fs.read(path) == model
            file = each.open(path)
    assert bytes(file.read(0, 1 << 20)) == model
    file.close()
    assert each.fs.read(path) == model


def _take_step(
    each: MountWriter, path: str, file: WrittenFile, model: bytearray, step: str, offset: int, size: int, serial: int
) -> None:
    data = bytes([serial + 1]) * size
    if step == "append":
        file.append(memoryview(data))
        model += data
    elif step == "write":
        put(file, offset, data)
        if data:
            model += bytes(max(0, offset - len(model)))
        model[offset : offset + size] = data
    elif step == "truncate":
        file.truncate(offset)
        del model[offset:]
        model += bytes(offset - len(model))
    elif step in ("punch", "zero"):
        file.allocate((PUNCH_HOLE if step == "punch" else ZERO_RANGE) | KEEP_SIZE, offset, size)
        stop = min(offset + size, len(model))
        model[offset:stop] = bytes(max(0, stop - offset))
    elif step == "sync":
        file.sync()
    elif step == "flush":
        file.flush()
        assert each.fs.read(path) == model
    elif step == "look":
        assert bytes(file.read(offset, size)) == model[offset : offset + size]
        if offset < len(model):
            data_at = _or_none(lambda: file.seek(offset, False))
            assert not any(model[offset : len(model) if data_at is None else data_at])


def _or_none(look: Callable[[], int]) -> int | None:
    try:
        return look()
    except OSError:  # ENXIO: nothing but a hole
        return None
