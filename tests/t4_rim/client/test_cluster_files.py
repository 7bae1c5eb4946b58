"""Reading and writing through a real cluster: every write type and size, by descriptor, by socket, by view, by loop."""

import asyncio
import io
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import isotach
from isotach import WriteType

SIZES = [0, 1, 100_000, (1 << 20) + 1, 9_000_001]


def data_of(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("write_type", list(WriteType))
@pytest.mark.parametrize("size", SIZES)
def test_round_trip(real_fs, folder, write_type, size):
    path, data = f"{folder}/file", data_of(size)
    with real_fs.open(path, "wb", write_type=write_type) as file:
        for start in range(0, size, 700_001):
            file.write(data[start : start + 700_001])
    info = real_fs.stat(path)
    assert info.length == size
    assert info.persisted == write_type.goes_through or write_type is WriteType.ASYNC_THROUGH
    assert real_fs.read(path) == data
    with real_fs.open(path) as file:
        assert file.read() == data
    real_fs.write(path, data[::-1], write_type=write_type)
    assert real_fs.read(path) == data[::-1]


@pytest.mark.parametrize("size", SIZES)
def test_cold_then_hot(real_fs, real_tcp_fs, mounted, size):
    path, store = mounted
    data = data_of(size)
    (store / "file").write_bytes(data)
    assert real_fs.stat(f"{path}/file").cached_percent == (100 if not size else 0)
    assert real_fs.read(f"{path}/file") == data
    assert real_fs.stat(f"{path}/file").cached_percent == 100
    assert real_fs.read(f"{path}/file") == data
    assert real_tcp_fs.read(f"{path}/file") == data
    real_fs.free(f"{path}/file")
    assert real_fs.stat(f"{path}/file").cached_percent == (100 if not size else 0)
    assert real_tcp_fs.read(f"{path}/file") == data
    real_fs.free(f"{path}/file")
    with real_fs.view(f"{path}/file") as view:
        assert view == data


def test_read_types(real_fs, mounted):
    path, store = mounted
    data = data_of(3_000_000)
    (store / "file").write_bytes(data)
    assert real_fs.read(f"{path}/file", read_type="NO_CACHE") == data
    assert real_fs.stat(f"{path}/file").cached_percent == 0
    assert real_fs.read(f"{path}/file", read_type="CACHE_PROMOTE") == data
    assert real_fs.stat(f"{path}/file").cached_percent == 100


def test_seeks_agree_with_a_local_file(real_fs, real_tcp_fs, mounted):
    path, store = mounted
    data = data_of(5_000_001)
    (store / "file").write_bytes(data)
    chance = random.Random(3)
    for fs in (real_fs, real_tcp_fs):
        fs.free(f"{path}/file")
        with fs.open(f"{path}/file") as ours, (store / "file").open("rb") as theirs:
            for _ in range(100):
                offset = chance.randrange(len(data) + 10)
                size = chance.choice((0, 1, 10, 5000, 300_000, 2_000_000))
                assert ours.seek(offset) == theirs.seek(offset)
                assert ours.read(size) == theirs.read(size)
                assert ours.tell() == theirs.tell()


def test_bigger_than_the_cache(real_fs, real_tcp_fs, mounted):
    path, store = mounted
    data = data_of(100_000_000)
    (store / "file").write_bytes(data)
    for fs in (real_fs, real_tcp_fs):
        with fs.open(f"{path}/file") as file:
            position = 0
            while piece := file.read(5_000_000):
                assert piece == data[position : position + len(piece)]
                position += len(piece)
            assert position == len(data)


def test_change_behind_our_back_is_noticed(real_fs, mounted):
    path, store = mounted
    (store / "file").write_bytes(b"old")
    assert real_fs.read(f"{path}/file") == b"old"
    (store / "file").write_bytes(b"newer")
    assert real_fs.stat(f"{path}/file", metadata_sync_interval=0).length == 5
    assert real_fs.read(f"{path}/file") == b"newer"


def test_open_file_keeps_its_version(real_fs, folder):
    path = f"{folder}/file"
    real_fs.write(path, b"one" * 100_000)
    with real_fs.open(path) as file:
        assert file.read(3) == b"one"
        real_fs.write(path, b"two" * 100_000)
        assert file.read() == b"one" * 99_999
    assert real_fs.read(path, 0, 3) == b"two"


def test_writes_reach_the_store(real_fs, mounted):
    path, store = mounted
    real_fs.write(f"{path}/deep/er/file", b"through")
    assert (store / "deep/er/file").read_bytes() == b"through"
    real_fs.write(f"{path}/later", b"async", write_type="ASYNC_THROUGH")
    assert real_fs.persist(f"{path}/later") >= 0
    assert (store / "later").read_bytes() == b"async"
    assert real_fs.stat(f"{path}/later").persisted


def test_given_up_write_leaves_nothing(real_fs, mounted, eventually):
    path, store = mounted
    file = real_fs.open(f"{path}/file", "wb")
    file.write(b"x" * 10_000_000)
    file.abort()
    assert not real_fs.exists(f"{path}/file")
    eventually(lambda: list(store.iterdir()) == [], message="the store holds the part of a file")
    text = real_fs.open(f"{path}/file", "w")
    text.write("x")
    text.abort()
    assert not real_fs.exists(f"{path}/file")


def test_text_and_layers_above(real_fs, folder):
    path = f"{folder}/text"
    with real_fs.open(path, "w") as file:
        print("zwölf", "Boxkämpfer", file=file)
    with real_fs.open(path, "r") as file:
        assert file.read() == "zwölf Boxkämpfer\n"
    with io.TextIOWrapper(real_fs.open(path), "utf-8") as file:
        assert file.readline() == "zwölf Boxkämpfer\n"


def test_beyond_the_end_is_nothing(real_fs, folder):
    real_fs.write(f"{folder}/file", b"0123456789")
    for offset in (10, 11, 1 << 40, 1 << 70):
        assert real_fs.read(f"{folder}/file", offset=offset, length=1 << 70) == b""


@pytest.mark.parametrize("new", [b"short", b"longer than it was", b"same size"])
def test_a_file_that_changed_in_the_store_is_read_whole(real_fs, mounted, new):
    path, store = mounted

    def opened() -> bytes:
        with real_fs.open(f"{path}/file") as file:
            return file.read()

    for read in (lambda: real_fs.read(f"{path}/file"), opened):
        (store / "file").write_bytes(b"something")
        assert real_fs.stat(f"{path}/file", metadata_sync_interval=0).length == 9
        (store / "file").write_bytes(new)  # which nobody looked at since, nothing of it is cached
        assert read() == new
        assert real_fs.read(f"{path}/file") == new


def test_load_free_and_locations(real_fs, mounted):
    path, store = mounted
    for number in range(5):
        (store / f"{number}").write_bytes(data_of(200_000 + number))
    seen = []
    assert real_fs.load(path, on_progress=seen.append) == 5
    assert sorted(info.name for info in seen) == list("01234")
    assert all(info.cached_percent == 100 for info in real_fs.list(path))
    (location,) = real_fs.locations(f"{path}/3")
    assert (location.offset, location.length) == (0, 200_003)
    assert len(location.workers) == 1
    with pytest.raises(IsADirectoryError, match="give a file"):
        real_fs.locations(path)
    assert real_fs.free(path) == 5
    assert all(info.cached_percent == 0 for info in real_fs.list(path))


def test_many_threads_share_a_file_system(real_fs, folder):
    real_fs.write(f"{folder}/file", data_of(300_000))

    def work(number: int) -> bool:
        real_fs.write(f"{folder}/{number}", b"%d" % number, write_type="MUST_CACHE")
        same = real_fs.read(f"{folder}/file") == data_of(300_000)
        return same and real_fs.read(f"{folder}/{number}") == b"%d" % number

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(work, range(64)))


def test_forked_children_go_on(real_fs, real_tcp_fs, folder):
    data = data_of(2_000_000)
    real_fs.write(f"{folder}/file", data)
    with real_tcp_fs.open(f"{folder}/file") as file:
        assert file.read(10) == data[:10]
        children = []
        for _ in range(3):
            child = os.fork()
            if not child:
                good = file.read() == data[10:] and real_fs.read(f"{folder}/file") == data
                os._exit(0 if good else 1)
            children.append(child)
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]
        assert file.read() == data[10:]


def test_view_survives_free_and_rewrite(real_fs, folder):
    data = data_of(3_000_000)
    real_fs.write(f"{folder}/file", data)
    with real_fs.view(f"{folder}/file") as view:
        real_fs.write(f"{folder}/file", b"other")
        real_fs.free(f"{folder}/file")
        assert view == data
        part = view[5:10]
    assert part == data[5:10]


def test_async_file_system(cluster, folder):
    data = data_of(1_500_000)

    async def run() -> None:
        async with await isotach.connect_async(cluster.address) as fs:
            async with fs.open(f"{folder}/a", "wb") as file:
                await file.write(data)
            assert await fs.read(f"{folder}/a") == data
            async with fs.open(f"{folder}/a") as file:
                assert await file.seek(100) == 100
                assert await file.read(5) == data[100:105]
            async with fs.view(f"{folder}/a") as view:
                assert view == data
            await fs.write(f"{folder}/empty", b"", write_type="MUST_CACHE")
            await fs.rename(f"{folder}/empty", f"{folder}/b")
            assert [info.name for info in await fs.list(folder)] == ["a", "b"]
            assert (await fs.stat(f"{folder}/b")).length == 0
            assert not await fs.exists(f"{folder}/empty")
            await fs.remove(f"{folder}/a")
            assert len(await fs.workers()) == 1

    before = threading.active_count()
    asyncio.run(run())
    assert threading.active_count() <= before
