"""The main job: a bucket and a folder in one namespace, cold from the store, hot from memory, writes that reach it.

Owns: what a user sees when all is well. Never: faults (`test_faults.py`, `test_crashes.py`).
"""

import hashlib
import os
from pathlib import Path

import pytest

import isotach

MIB = 1 << 20


def test_an_object_appears_is_read_cold_then_hot(fs, s3, bucket):
    data = os.urandom(20 * MIB + 17)
    s3.put_object(Bucket="system", Key=f"{bucket}/deep/er/object.bin", Body=data)

    info = fs.stat("/s3/deep/er/object.bin")
    assert (info.length, info.persisted, info.cached_percent) == (len(data), True, 0)
    assert [entry.path for entry in fs.list("/s3", recursive=True)] == [
        "/s3/deep",
        "/s3/deep/er",
        "/s3/deep/er/object.bin",
    ]
    assert hashlib.sha256(fs.read("/s3/deep/er/object.bin")).digest() == hashlib.sha256(data).digest()
    assert fs.stat("/s3/deep/er/object.bin").in_memory_percent == 100

    s3.delete_object(Bucket="system", Key=f"{bucket}/deep/er/object.bin")
    with fs.open("/s3/deep/er/object.bin") as hot:
        hot.seek(5 * MIB)
        assert hot.read(1000) == data[5 * MIB : 5 * MIB + 1000]
    with fs.view("/s3/deep/er/object.bin") as view:
        assert view.readonly
        assert bytes(view) == data


def test_a_write_reaches_the_bucket_before_close_returns(fs, s3, bucket):
    data = os.urandom(18 * MIB + 3)
    with fs.open("/s3/out/result.bin", "wb") as out:
        out.write(data)
        assert not fs.exists("/s3/out/result.bin")

    assert s3.get_object(Bucket="system", Key=f"{bucket}/out/result.bin")["Body"].read() == data
    info = fs.stat("/s3/out/result.bin")
    assert (info.persisted, info.in_memory_percent, info.length) == (True, 100, len(data))
    assert fs.read("/s3/out/result.bin") == data


def test_a_local_folder_beside_the_bucket(fs, tmp_path: Path):
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.txt").write_text("hello\n")
    fs.mount("/local", str(folder))

    with fs.open("/local/sub/a.txt", "r") as text:
        assert text.readlines() == ["hello\n"]
    fs.write("/local/sub/b.txt", b"written")
    assert (folder / "sub" / "b.txt").read_bytes() == b"written"
    fs.rename("/local/sub", "/local/moved")
    assert (folder / "moved" / "b.txt").read_bytes() == b"written"
    fs.remove("/local/moved", recursive=True)
    assert not (folder / "moved").exists()


@pytest.mark.parametrize("write_type", list(isotach.WriteType))
def test_write_types(fs, s3, bucket, write_type, eventually):
    fs.write("/s3/f", b"x" * 100_000, write_type=write_type)

    info = fs.stat("/s3/f")
    assert fs.read("/s3/f") == b"x" * 100_000
    assert info.persisted == write_type.goes_through
    if write_type is isotach.WriteType.THROUGH:
        assert info.cached_percent == 0
    if write_type is isotach.WriteType.ASYNC_THROUGH:
        eventually(lambda: fs.stat("/s3/f").persisted)
    keys = [row["Key"] for row in s3.list_objects_v2(Bucket="system", Prefix=bucket).get("Contents", [])]
    assert (f"{bucket}/f" in keys) == (write_type is not isotach.WriteType.MUST_CACHE)


def test_the_cache_survives_a_restart(start, seaweed, s3, prefix):
    s3.put_object(Bucket="system", Key=f"{prefix}/kept", Body=b"k" * MIB)
    cluster = start("again")
    with isotach.connect(cluster.address) as fs:
        fs.mount("/s3", f"s3://system/{prefix}", options=seaweed.options())
        fs.read("/s3/kept")
        fs.write("/memory-only", b"m" * 1000, write_type="MUST_CACHE")
    cluster.stop()
    s3.delete_object(Bucket="system", Key=f"{prefix}/kept")

    with isotach.connect(start("again").address) as fs:
        assert fs.read("/s3/kept") == b"k" * MIB
        assert fs.read("/memory-only") == b"m" * 1000
        assert fs.stat("/s3/kept").in_memory_percent == 100


def test_a_change_behind_our_back_is_never_mixed_with_old_pages(fs, s3, seaweed, prefix):
    fs.mount("/live", f"s3://system/{prefix}", options=seaweed.options(), metadata_sync_interval=0)
    for generation in range(3):
        data = bytes([generation]) * (3 * MIB + generation)
        s3.put_object(Bucket="system", Key=f"{prefix}/changing", Body=data)
        assert fs.read("/live/changing") == data
        assert fs.stat("/live/changing").length == len(data)
    s3.delete_object(Bucket="system", Key=f"{prefix}/changing")
    assert not fs.exists("/live/changing")
    assert list(fs.list("/live")) == []


def test_never_synced_until_a_call_asks(fs, s3, bucket):
    s3.put_object(Bucket="system", Key=f"{bucket}/old", Body=b"one")
    assert fs.read("/s3/old") == b"one"
    s3.put_object(Bucket="system", Key=f"{bucket}/old", Body=b"three")

    assert fs.stat("/s3/old").length == 3
    assert fs.stat("/s3/old", metadata_sync_interval=0).length == 5
    assert fs.read("/s3/old") == b"three"


async def _async_round_trip(address: str) -> None:
    afs = await isotach.connect_async(address)
    await afs.mkdir("/a/b", parents=True)
    await afs.write("/a/b/c", b"async")
    assert await afs.read("/a/b/c") == b"async"
    assert (await afs.stat("/a/b/c")).length == 5
    assert [entry.name async for entry in afs.list("/a/b")] == ["c"]
    await afs.rename("/a/b/c", "/a/b/d")
    await afs.remove("/a", recursive=True)
    assert not await afs.exists("/a")
    await afs.close()


def test_the_same_names_awaitable(cluster):
    import asyncio

    asyncio.run(_async_round_trip(cluster.address))


@pytest.mark.parametrize("name", [b"caf\xe9", b"new\nline", "ünï\u2603".encode(), b"a b%20+&?#;=", b"-" * 255])
def test_names_of_any_bytes(fs, tmp_path: Path, name: bytes):
    (tmp_path / "odd").mkdir()
    fs.mount("/odd", str(tmp_path / "odd"))
    path = "/odd/" + os.fsdecode(name)

    fs.write(path, b"1")
    assert fs.read(path) == b"1"
    assert (tmp_path / "odd" / os.fsdecode(name)).read_bytes() == b"1"
    fs.rename(path, path[:-1] + "_")
    assert [entry.path for entry in fs.list("/odd")] == [path[:-1] + "_"]
    fs.remove(path[:-1] + "_")
    assert os.listdir(tmp_path / "odd") == []
