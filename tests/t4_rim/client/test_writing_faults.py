"""Writing: what is sent where, and what is left when a write is given up or cut off."""

import gc
import io
import warnings

import pytest

import isotach
from isotach.base.errors import InvalidArgumentError, UnavailableError


def test_small_file_takes_one_call(fake, fs):
    assert fs.write("/a", b"hello") == 5
    assert fake.files[b"/a"].data == b"hello"
    assert fake.calls == ["create", "put"]
    with fs.open("/b", "wb") as file:
        file.write(b"he")
        file.write(b"llo")
        assert file.tell() == 5
    assert fake.files[b"/b"].data == b"hello"
    assert fake.calls[2:] == ["create", "put"]


def test_large_file_is_streamed(fake, fs):
    data = bytes(range(256)) * 40_000
    with fs.open("/a", "wb") as file:
        for start in range(0, len(data), 1_000_003):
            file.write(data[start : start + 1_000_003])
        assert b"/a" not in fake.files
    assert fake.files[b"/a"].data == data
    fs.write("/b", memoryview(data))
    assert fake.files[b"/b"].data == data


def test_empty_file_needs_no_worker(fake, hasty_fs):
    fs = hasty_fs
    fake.workers_live = False
    fs.write("/a", b"", write_type="MUST_CACHE")
    assert fake.calls == ["create", "complete"]
    with pytest.raises(UnavailableError, match="no worker is live"):
        fs.write("/b", b"", write_type="THROUGH")
    with pytest.raises(UnavailableError, match="no worker is live"):
        fs.write("/b", b"x")
    assert b"/b" not in fake.files


def fail_while_writing(file, piece) -> None:
    with file:
        file.write(piece)
        raise RuntimeError


def test_exception_in_with_leaves_nothing(fake, fs):
    for mode, piece in (("wb", b"x" * 10_000_000), ("wb", b"x"), ("w", "x")):
        with pytest.raises(RuntimeError):
            fail_while_writing(fs.open("/a", mode), piece)
    assert not fake.files
    assert not fake.creates


@pytest.mark.parametrize(("mode", "piece"), [("wb", b"x"), ("w", "x")])
def test_lost_file_object_leaves_nothing(fake, fs, mode, piece):
    file = fs.open("/a", mode)
    file.write(piece)
    with pytest.warns(ResourceWarning, match="not closed"):
        del file
    gc.collect()
    assert not fake.files


def test_failed_write_spoils_the_file(fake, fs):
    fake.write_failures = 1
    file = fs.open("/a", "wb")
    with pytest.raises(UnavailableError):
        file.writelines([b"x" * 4_000_000] * 20)
    with pytest.raises(UnavailableError):
        file.close()
    assert file.closed
    assert not fake.files


def test_whole_write_is_done_again_after_a_lost_worker(fake, fs):
    fake.write_failures = 1
    fs.write("/a", b"hello")
    assert fake.files[b"/a"].data == b"hello"
    assert fake.calls.count("create") == 2
    fake.write_failures = 1
    fs.write("/a", b"x" * 9_000_000)
    assert fake.files[b"/a"].data == b"x" * 9_000_000


def test_exclusive(fake, fs):
    fake.put("/a", b"")
    with pytest.raises(FileExistsError):
        fs.open("/a", "xb")
    with pytest.raises(FileExistsError):
        fs.write("/a", b"", overwrite=False)


@pytest.mark.parametrize("write_type", ["MUST_CACHE", "CACHE_THROUGH"])
def test_blocks_go_round_the_workers(fake_pair, write_type):
    fake_pair.spread = True
    data = bytes(range(256)) * 4096 * 4 + b"end"  # four blocks and a bit
    with isotach.connect(fake_pair.address) as fs:
        fs.write("/a", data, write_type=write_type)
        assert fake_pair.files[b"/a"].data == data
        first, second = fake_pair.write_offsets["w0"], fake_pair.write_offsets["w1"]
        assert [offset for offset, _, _ in second] == [1 << 20, 3 << 20]
        if write_type == "MUST_CACHE":
            assert [offset for offset, _, _ in first] == [0, 2 << 20, 4 << 20]
        else:
            assert [keep for _, _, keep in first] == [True, False, True, False, True]
        assert fs.read("/a") == data


def test_text_and_layers(fake, fs):
    with fs.open("/a", "w", newline="\r\n") as file:
        file.write("zwölf\n")
    assert fake.files[b"/a"].data == "zwölf\r\n".encode()
    with fs.open("/b", "wb") as file:
        assert isinstance(file, io.BufferedWriter)
        assert file.writable()
        assert not file.readable()
        assert not file.seekable()
        assert file.name == "/b"


@pytest.mark.parametrize("mode", ["a", "ab", "r+b", "w+"])
def test_no_updating_in_place(fs, mode):
    with pytest.raises(OSError, match="immutable"):
        fs.open("/a", mode)


@pytest.mark.parametrize("mode", ["", "rw", "q", "bt", "rbt", "rr"])
def test_nonsense_modes(fs, mode):
    with pytest.raises(InvalidArgumentError, match="is no mode"):
        fs.open("/a", mode)


def test_bad_arguments(fs):
    with pytest.raises(InvalidArgumentError, match="write type"):
        fs.write("/a", b"", write_type="SOMEHOW")
    with pytest.raises(InvalidArgumentError, match="multiple"):
        fs.write("/a", b"", block_size=1000)
    with pytest.raises(InvalidArgumentError, match="time to live"):
        fs.write("/a", b"", ttl=-5)
    with warnings.catch_warnings(), pytest.raises(TypeError):
        fs.write("/a", "text")
