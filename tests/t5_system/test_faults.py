"""Stores that go away, disks that fill, folders that are taken: errors that say what to do, and nothing is lost.

Owns: faults of the world around a whole cluster. Never: kills its processes (`test_crashes.py`).
"""

import errno
import os
import subprocess
import time
from pathlib import Path

import pytest

import isotach
from isotach.testing.seaweed import SeaweedServer

MIB = 1 << 20


@pytest.mark.parametrize(
    ("uri", "options", "kind", "word"),
    [
        ("s3://nosuchbucket", {}, isotach.UfsBucketMissingError, "nosuchbucket"),
        ("s3://system", {"secret_access_key": "wrong"}, isotach.UfsAuthError, "s3://system"),
        ("s3://system", {"endpoint": "http://127.0.0.1:9"}, isotach.UfsUnreachableError, "127.0.0.1:9"),
        ("s3://system", {"endpoint": "http://no-such-host.invalid"}, isotach.UfsUnreachableError, "no-such-host"),
        ("s4://system", {}, isotach.InvalidArgumentError, "s3"),
        ("s3://system", {"acces_key_id": "x"}, isotach.InvalidArgumentError, "access_key_id"),
        ("/no/such/folder", None, isotach.UfsBucketMissingError, "/no/such/folder"),
    ],
)
def test_a_wrong_mount_says_what_is_wrong_within_ten_seconds(fs, seaweed, uri, options, kind, word):
    given = None if options is None else seaweed.options() | options
    started = time.monotonic()
    with pytest.raises(kind, match=word) as caught:
        fs.mount("/bad", uri, options=given)
    assert time.monotonic() - started < 10
    assert "wrong" not in str(caught.value)
    assert seaweed.secret_key not in str(caught.value)
    assert not fs.exists("/bad")


def test_mount_places(fs, tmp_path: Path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    fs.mount("/one", str(tmp_path / "one"))
    with pytest.raises(OSError, match="mount"):
        fs.mount("/one", str(tmp_path / "two"))
    fs.write("/full/file", b"x")
    with pytest.raises(OSError, match="empty"):
        fs.mount("/full", str(tmp_path / "two"))
    fs.mount("/one/nested", str(tmp_path / "two"))
    with pytest.raises(OSError, match="/one/nested"):
        fs.unmount("/one")
    fs.unmount("/one/nested")
    fs.unmount("/one")
    assert [mount.path for mount in fs.mounts()] == ["/"]
    assert not fs.exists("/one")


def test_a_read_only_mount_takes_no_changes(fs, tmp_path: Path):
    (tmp_path / "ro").mkdir()
    (tmp_path / "ro" / "f").write_bytes(b"data")
    fs.mount("/ro", str(tmp_path / "ro"), read_only=True)
    assert fs.read("/ro/f") == b"data"
    for change in (
        lambda: fs.write("/ro/g", b"x"),
        lambda: fs.write("/ro/g", b"x", write_type="MUST_CACHE"),
        lambda: fs.remove("/ro/f"),
        lambda: fs.mkdir("/ro/d"),
        lambda: fs.rename("/ro/f", "/ro/g"),
    ):
        with pytest.raises(OSError) as caught:
            change()
        assert caught.value.errno == errno.EROFS
    assert os.listdir(tmp_path / "ro") == ["f"]


def test_secrets_are_never_shown(cluster, fs, seaweed, bucket):
    assert list(fs.list("/s3")) == []
    shown = repr(fs.mounts()) + repr(fs.status())
    logs = "".join(path.read_text() for path in (cluster.dir / "logs").iterdir())
    assert seaweed.secret_key not in shown + logs


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("relative", ValueError),
        ("/a/../b", ValueError),
        ("/a/./b", ValueError),
        ("/nul\0", ValueError),
        ("/" + "n" * 256, OSError),
        ("/" + "/".join(["d" * 200] * 25), OSError),
    ],
)
def test_bad_paths(fs, path, kind):
    for call in (
        fs.stat,
        lambda given: fs.write(given, b""),
        fs.mkdir,
        fs.remove,
        lambda given: fs.rename(given, "/x"),
    ):
        with pytest.raises(kind):
            call(path)
    assert fs.exists("/")


def test_renames_that_cannot_be(fs, tmp_path: Path):
    fs.mkdir("/dir/sub", parents=True)
    fs.write("/file", b"x")
    with pytest.raises(OSError) as into_itself:
        fs.rename("/dir", "/dir/sub/dir")
    assert into_itself.value.errno == errno.EINVAL
    (tmp_path / "other").mkdir()
    fs.mount("/other", str(tmp_path / "other"))
    with pytest.raises(OSError, match="cp") as across:
        fs.rename("/file", "/other/file")
    assert across.value.errno == errno.EXDEV
    fs.write("/taken", b"y")
    with pytest.raises(FileExistsError):
        fs.rename("/file", "/taken", replace=False)


@pytest.mark.fault(
    "store stopped for a while", "cached files are read, errors name the path, queued writes arrive later"
)
def test_the_store_goes_away_and_comes_back(start, tmp_path: Path):
    with SeaweedServer.start(tmp_path / "weed") as server:
        server.create_bucket("gone")
        with isotach.connect(start().address) as fs:
            fs.mount("/s3", "s3://gone", options=server.options())
            fs.write("/s3/hot", b"h" * MIB)
            fs.write("/s3/cold", b"c" * (24 * MIB))
            fs.free("/s3/cold")
            fs.write("/s3/later", b"l" * 1000, write_type="MUST_CACHE")
            server.kill()

            assert fs.read("/s3/hot") == b"h" * MIB
            with pytest.raises(OSError, match="gone/cold"):
                fs.read("/s3/cold")
            assert fs.stat("/s3/cold").cached_percent < 100
            with pytest.raises(OSError, match="s3://gone/new"):
                fs.write("/s3/new", b"x")
            with pytest.raises(OSError, match="gone/new"):  # nobody can know whether it is there
                fs.stat("/s3/new")
            fs.write("/s3/waits", b"w" * 1000, write_type="ASYNC_THROUGH")

            server.restart()
            assert fs.read("/s3/cold") == b"c" * (24 * MIB)
            fs.persist("/s3/waits")
            fs.persist("/s3/later")
            assert fs.stat("/s3/waits").persisted
            fs.free("/s3/waits")
            assert fs.read("/s3/waits") == b"w" * 1000


def test_a_cache_smaller_than_the_data_is_no_error(start, s3, seaweed, prefix):
    data = os.urandom(40 * MIB)
    s3.put_object(Bucket="system", Key=f"{prefix}/large", Body=data)
    with isotach.connect(start(mem="16MiB").address) as fs:
        fs.mount("/s3", f"s3://system/{prefix}", options=seaweed.options())
        for _ in range(2):
            assert fs.read("/s3/large") == data
            with fs.open("/s3/large") as stream:
                assert b"".join(iter(lambda: stream.read(3 * MIB), b"")) == data
        for index in range(30):
            fs.write(f"/s3/small{index}", bytes([index]) * MIB)
        assert all(fs.read(f"/s3/small{index}") == bytes([index]) * MIB for index in range(30))


def test_memory_only_data_larger_than_the_cache_goes_through(start):
    cluster = start(mem="8MiB")
    data = os.urandom(20 * MIB)
    with isotach.connect(cluster.address) as fs:
        fs.write("/first", data[: 6 * MIB], write_type="MUST_CACHE")
        fs.write("/second", data, write_type="MUST_CACHE")
        assert fs.read("/first") == data[: 6 * MIB]
        assert fs.read("/second") == data
        assert fs.stat("/second").persisted


def test_overflow_to_a_disk_tier(start, tmp_path: Path):
    cluster = start(mem="8MiB", worker__tiers=f"SSD:{tmp_path / 'ssd'}:64MiB")
    data = os.urandom(20 * MIB)
    with isotach.connect(cluster.address) as fs:
        fs.write("/big", data, write_type="MUST_CACHE")
        assert fs.read("/big") == data
        info = fs.stat("/big")
        assert (info.persisted, info.cached_percent) == (False, 100)


@pytest.mark.fault("disk full under the metadata", "changes get ENOSPC, reads go on; with room again all works")
def test_a_full_disk_under_the_metadata(start, require_root, tmp_path: Path):
    folder = tmp_path / "small-disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], check=True)
    try:
        cluster = start(master__dir=folder / "master")
        with isotach.connect(cluster.address) as fs:
            fs.write("/before", b"b", write_type="MUST_CACHE")
            filler = folder / "filler"
            with pytest.raises(OSError, match="space"):
                _fill(filler)
            with pytest.raises(OSError, match="full") as caught:
                _write_empty_files(fs, 100_000)
            assert caught.value.errno == errno.ENOSPC
            assert fs.read("/before") == b"b"
            filler.unlink()
            fs.write("/after", b"a", write_type="MUST_CACHE")
            assert fs.read("/after") == b"a"
        cluster.stop()
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def _fill(filler: Path) -> None:
    with filler.open("wb", buffering=0) as out:
        while True:
            out.write(b"\0" * 65536)


def _write_empty_files(fs: isotach.FileSystem, count: int) -> None:
    for number in range(count):
        fs.write(f"/{number:0200}", b"", write_type="MUST_CACHE")


def test_a_second_cluster_in_the_same_folder_is_refused(cluster):
    with pytest.raises(isotach.AlreadyRunningError, match=str(cluster.dir)):
        isotach.start(dir=cluster.dir)
    with isotach.connect(cluster.address) as fs:
        assert fs.exists("/")


def test_hostile_bytes_close_that_connection_only(cluster, fs):
    import socket

    host, port = cluster.tcp_address.removeprefix("isotach://").split(":")
    for junk in (b"GET / HTTP/1.1\r\n\r\n", b"ISOTACH1" + b"\xff" * 64, b"\0" * 4096, b"ISOTACH1"):
        with socket.create_connection((host, int(port)), timeout=15) as hostile:
            hostile.sendall(junk)
            hostile.shutdown(socket.SHUT_WR)
            while hostile.recv(4096):
                pass
    assert fs.exists("/")
