"""Reading when things go wrong: partial containers, full caches, lost connections, stale versions, forks."""

import io
import os
import random

import pytest

import isotach
from isotach.base.errors import StaleVersionError, UnavailableError


@pytest.fixture
def data() -> bytes:
    return random.Random(7).randbytes(3_000_017)


def test_hot_file_is_a_plain_file_over_the_descriptor(fake, fs, data):
    fake.put("/a", data)
    with fs.open("/a") as file:
        assert isinstance(file, io.BufferedReader)
        assert isinstance(file.raw, io.FileIO)
        assert file.name == "/a"
        assert file.read(10) == data[:10]
        assert file.seek(-5, os.SEEK_END) == len(data) - 5
        assert file.read() == data[-5:]
    assert fs.read("/a") == data
    assert fs.read("/a", 5, 7) == data[5:12]
    assert fs.read("/a", len(data) - 3, 100) == data[-3:]
    assert fs.read("/a", len(data) + 3) == b""


def test_partial_container_is_ensured_before_it_is_read(fake, fs, data):
    fake.put("/a", data)
    fake.present_bytes = 1000
    with fs.open("/a") as file:
        assert file.read(500) == data[:500]
        assert file.read() == data[500:]
    assert "ensure" in fake.calls
    assert "read" not in fake.calls


def test_full_cache_falls_back_to_the_socket(fake, fs, data):
    fake.put("/a", data)
    fake.present_bytes = 0
    fake.cache_is_full = True
    assert fs.read("/a") == data
    with fs.open("/a") as file:
        file.seek(2_000_000)
        assert file.read(10) == data[2_000_000:2_000_010]
        file.seek(10)
        assert file.read() == data[10:]


def test_remote_sequential_and_random(fake, remote_fs, data):
    fake.put("/a", data)
    assert remote_fs.read("/a") == data
    chance = random.Random(1)
    with remote_fs.open("/a") as file:
        for _ in range(60):
            offset = chance.randrange(len(data))
            size = chance.choice((1, 100, 70_000, 1_500_000))
            file.seek(offset)
            assert file.read(size) == data[offset : offset + size]


def test_remote_readinto_fills_large_buffers(fake, remote_fs, data):
    fake.put("/a", data)
    target = bytearray(len(data))
    with remote_fs.open("/a") as file:
        assert file.readinto(target) == len(data)
        assert file.readinto(target) == 0
    assert target == data


@pytest.mark.parametrize("failures", [1, 3])
def test_connection_lost_in_mid_payload(fake, remote_fs, data, failures):
    fake.put("/a", data)
    fake.read_failures = failures
    with remote_fs.open("/a") as file:
        assert file.read() == data


def test_second_worker_takes_over(fake_pair, data):
    fake_pair.put("/a", data)
    fake_pair.open_failures = [UnavailableError("away")]
    with isotach.connect(fake_pair.address) as fs:
        assert fs.read("/a") == data


def test_spread_blocks_come_from_those_that_hold_them(fake_pair, data):
    fake_pair.put("/a", data)
    fake_pair.spread = True
    with isotach.connect(fake_pair.address) as fs:
        assert fs.read("/a") == data
        assert sorted(fake_pair.opened_at) == ["w0", "w1"]
        fake_pair.open_failures = [UnavailableError("away")]
        assert fs.read("/a", 1_000_000, 1_500_000) == data[1_000_000:2_500_000]
        with fs.view("/a") as view:
            assert view == data


def test_stale_grant_is_looked_up_again(fake, fs, data):
    fake.put("/a", data)
    fake.open_failures = [StaleVersionError(116, "changed behind")]
    assert fs.read("/a") == data
    assert fake.calls.count("stat") == 2


def test_open_file_never_mixes_versions(fake, remote_fs, data):
    fake.put("/a", data)
    with remote_fs.open("/a") as file:
        assert file.read(100) == data[:100]
        fake.put("/a", b"other" * 1_000_000)
        fake.read_failures = 1
        with pytest.raises(StaleVersionError, match="replaced"):
            file.read()


def test_no_live_worker_is_told(fake, hasty_fs, data):
    fake.put("/a", data)
    fake.workers_live = False
    with pytest.raises(UnavailableError, match="no worker is live"):
        hasty_fs.read("/a")


def test_worker_that_registers_anew_is_awaited(fake, fs, data):
    fake.put("/a", data)
    fake.workers_live, fake.worker_comes_back = False, True
    assert fs.read("/a") == data
    fake.workers_live = False
    fs.write("/b", data)
    assert fake.files[b"/b"].data == data
    assert not fake.creates


def test_empty_file_needs_no_worker(fake, fs):
    fake.put("/a", b"")
    fake.workers_live = False
    assert fs.read("/a") == b""
    with fs.open("/a") as file:
        assert file.read() == b""
    with fs.view("/a") as view:
        assert len(view) == 0


def test_directory_cannot_be_opened(fs):
    with pytest.raises(IsADirectoryError):
        fs.open("/")
    with pytest.raises(FileNotFoundError):
        fs.open("/missing")


def test_view_of_a_whole_container(fake, fs, data):
    fake.put("/a", data)
    with fs.view("/a") as view:
        assert view.readonly
        assert view == data
        kept = view[100:200]
    assert kept == data[100:200]  # a slice keeps the memory


def test_view_of_a_partial_container_loads_it(fake, fs, data):
    fake.put("/a", data)
    fake.present_bytes = 5
    with fs.view("/a") as view:
        assert view == data
    assert "load" in fake.calls


def test_view_over_tcp_is_private_memory(fake, remote_fs, data):
    fake.put("/a", data)
    with remote_fs.view("/a") as view:
        assert view.readonly
        assert view == data


def test_text(fake, fs):
    fake.put("/a", "zwölf\nBoxkämpfer\n".encode())
    with fs.open("/a", "r") as file:
        assert list(file) == ["zwölf\n", "Boxkämpfer\n"]
    with fs.open("/a", "r", encoding="latin-1", newline="\n") as file:
        assert file.readline() == "zwÃ¶lf\n"


def test_forked_child_reads_on_its_own_connection(fake, remote_fs, data):
    fake.put("/a", data)
    with remote_fs.open("/a") as file:
        assert file.read(300_000) == data[:300_000]
        child = os.fork()
        if not child:
            good = file.read(300_000) == data[300_000:600_000] and remote_fs.read("/a", 0, 9) == data[:9]
            os._exit(0 if good else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert file.read() == data[300_000:]
