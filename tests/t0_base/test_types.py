"""The shared records: percentages, flags, and what goes into JSON and back from storage.

Owns: the small promises of `FileInfo`, `Inode` and the enumerations.
"""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotach.base.types import CacheState, FileInfo, Flag, Inode, Kind, Mount, ReadType, TtlAction, WriteType


def inode(**changes: object) -> Inode:
    plain = Inode(
        id=7, kind=Kind.FILE, mode=0o644, owner="ada", group="users", length=100, mtime_ns=1_500_000_000, ctime_ns=2,
        atime_ns=3, version=9, block_size=64, flags=0, mount_id=1,
    )  # fmt: skip
    return msgspec.structs.replace(plain, **changes)


def test_an_inode_survives_storage() -> None:
    stored = inode(flags=int(Flag.PINNED), xattrs={"user.k": b"\xff"}, fingerprint="e")

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(stored), type=Inode) == stored


def test_fields_are_stored_by_position_so_old_records_stay_readable() -> None:
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(inode()))
    without_the_youngest = msgspec.msgpack.encode(fields[:13])

    assert msgspec.msgpack.decode(without_the_youngest, type=Inode) == inode()


@given(length=st.integers(0, 1 << 50), data=st.data())
def test_percentages_stay_in_range(length: int, data: st.DataObject) -> None:
    memory = data.draw(st.integers(0, length))
    cached = data.draw(st.integers(memory, length))
    info = FileInfo("/f", inode(length=length), cache=CacheState(memory, cached))

    assert 0 <= info.in_memory_percent <= info.cached_percent <= 100
    assert (info.cached_percent == 100) == (cached == length)


def test_an_empty_file_misses_nothing_and_a_directory_holds_nothing() -> None:
    assert FileInfo("/f", inode(length=0)).in_memory_percent == 100
    assert FileInfo("/d", inode(kind=Kind.DIRECTORY)).cached_percent == 0


def test_file_info_speaks_in_seconds_and_text() -> None:
    info = FileInfo("/a/b.txt", inode(ttl_ms=1500, flags=int(Flag.PERSISTED | Flag.PINNED)), ufs_path="s3://k/b.txt")

    assert (info.name, info.mtime, info.ttl, info.ttl_action) == ("b.txt", 1.5, 1.5, TtlAction.DELETE)
    assert (info.persisted, info.pinned, info.lost, info.is_mount_point) == (True, True, False, False)


def test_no_ttl_is_none() -> None:
    assert FileInfo("/f", inode()).ttl is None


def test_file_info_becomes_json() -> None:
    told = json.loads(json.dumps(FileInfo("/f", inode()).to_dict()))

    assert told["path"] == "/f"
    assert told["length"] == 100


def test_equal_files_are_equal() -> None:
    assert FileInfo("/f", inode()) == FileInfo("/f", inode())
    assert FileInfo("/f", inode()) != FileInfo("/g", inode())
    assert len({FileInfo("/f", inode()), FileInfo("/f", inode())}) == 1


@pytest.mark.parametrize(
    ("write_type", "through"),
    [("MUST_CACHE", False), ("CACHE_THROUGH", True), ("THROUGH", True), ("ASYNC_THROUGH", False)],
)
def test_write_types_say_whether_close_waits(write_type: str, through: bool) -> None:
    assert WriteType(write_type).goes_through is through


def test_read_types_are_their_names() -> None:
    assert ReadType("CACHE") == "CACHE"
    assert {str(t) for t in ReadType} == {"NO_CACHE", "CACHE", "CACHE_PROMOTE"}


def test_a_mount_gives_the_uri_of_what_is_below() -> None:
    mount = Mount(1, 2, b"/s3", "s3://bucket/prefix", {})

    assert mount.ufs_uri_of(b"a/b") == "s3://bucket/prefix/a/b"
    assert mount.ufs_uri_of(b"") == "s3://bucket/prefix"
