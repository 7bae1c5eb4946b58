"""The namespace through the client of a real cluster: names, attributes, mounts, users, errors."""

import errno
import time

import pytest

import isotach


def test_directories(real_fs, folder):
    real_fs.mkdir(f"{folder}/a/b", parents=True)
    real_fs.mkdir(f"{folder}/a/b", exist_ok=True)
    with pytest.raises(FileExistsError):
        real_fs.mkdir(f"{folder}/a")
    with pytest.raises(FileNotFoundError):
        real_fs.mkdir(f"{folder}/x/y")
    real_fs.write(f"{folder}/a/f", b"12345")
    assert [info.path for info in real_fs.list(folder, recursive=True)] == [
        f"{folder}/a",
        f"{folder}/a/b",
        f"{folder}/a/f",
    ]
    with pytest.raises(OSError) as caught:
        real_fs.remove(f"{folder}/a")
    assert caught.value.errno == errno.ENOTEMPTY
    real_fs.remove(f"{folder}/a", recursive=True)
    assert list(real_fs.list(folder)) == []


def test_stat_tells_all(real_fs, folder):
    real_fs.write(f"{folder}/f", b"12345", write_type="MUST_CACHE", ttl=3600, mode=0o600)
    info = real_fs.stat(f"{folder}/f")
    assert (info.path, info.name, info.is_dir, info.length) == (f"{folder}/f", "f", False, 5)
    assert (info.mode, info.ttl, info.pinned, info.persisted) == (0o600, 3600, False, False)
    assert (info.in_memory_percent, info.cached_percent) == (100, 100)
    assert abs(info.mtime - time.time()) < 60
    assert info.ufs_path.endswith(f"{folder}/f")
    assert info.version > 0
    assert real_fs.stat(folder.encode()).is_dir
    assert real_fs.stat(info) == info  # a FileInfo is a path


def test_attributes(real_fs, folder):
    path = f"{folder}/f"
    real_fs.touch(path)
    real_fs.chmod(path, 0o640)
    real_fs.chown(path, owner="someone", group="some")
    real_fs.utime(path, mtime=1_000_000.5)
    real_fs.set_ttl(path, 100, action="FREE")
    real_fs.pin(path)
    info = real_fs.stat(path)
    assert (info.mode, info.owner, info.group, info.mtime) == (0o640, "someone", "some", 1_000_000.5)
    assert (info.ttl, info.ttl_action, info.pinned) == (100, "FREE", True)
    real_fs.set_ttl(path, None)
    real_fs.unpin(path)
    info = real_fs.stat(path)
    assert (info.ttl, info.pinned) == (None, False)
    real_fs.set_xattr(path, "user.colour", b"blue")
    assert real_fs.get_xattr(path, "user.colour") == b"blue"
    assert real_fs.list_xattrs(path) == ["user.colour"]
    real_fs.remove_xattr(path, "user.colour")
    with pytest.raises(OSError) as caught:
        real_fs.get_xattr(path, "user.colour")
    assert caught.value.errno == errno.ENODATA
    real_fs.touch(path)
    assert time.time() - real_fs.stat(path).mtime < 60


def test_time_to_live_ends(real_fs, folder, eventually):
    real_fs.write(f"{folder}/f", b"x", ttl=0.05)
    eventually(lambda: not real_fs.exists(f"{folder}/f"))


def test_rename(real_fs, folder):
    real_fs.write(f"{folder}/a", b"a")
    real_fs.write(f"{folder}/b", b"b")
    with pytest.raises(FileExistsError):
        real_fs.rename(f"{folder}/a", f"{folder}/b", replace=False)
    real_fs.rename(f"{folder}/a", f"{folder}/b")
    assert real_fs.read(f"{folder}/b") == b"a"
    assert not real_fs.exists(f"{folder}/a")


def test_rename_across_mounts_says_what_to_use(real_fs, folder, mounted):
    path, _ = mounted
    real_fs.write(f"{folder}/a", b"a")
    with pytest.raises(OSError, match="cp") as caught:
        real_fs.rename(f"{folder}/a", f"{path}/a")
    assert caught.value.errno == errno.EXDEV


@pytest.mark.parametrize("path", ["relative", "/a/../b", "/a\0b", "/" + "x" * 256, "/x" * 3000])
def test_bad_paths(real_fs, path):
    with pytest.raises(isotach.InvalidPathError):
        real_fs.stat(path)


def test_errors_name_the_path(real_fs, folder):
    with pytest.raises(FileNotFoundError) as caught:
        real_fs.stat(f"{folder}/none")
    assert caught.value.filename == f"{folder}/none"
    real_fs.write(f"{folder}/f", b"x")
    with pytest.raises(NotADirectoryError):
        real_fs.stat(f"{folder}/f/g")
    assert not real_fs.exists(f"{folder}/f/g")
    with pytest.raises(IsADirectoryError):
        real_fs.read(folder)
    with pytest.raises(IsADirectoryError):
        real_fs.write(folder, b"x")


def test_mounts_are_listed_without_secrets(real_fs, mounted):
    path, store = mounted
    (mount,) = [each for each in real_fs.mounts() if each.path == path]
    assert mount.ufs_uri.endswith(str(store))
    assert mount.read_only is False
    with pytest.raises(OSError, match="mount"):
        real_fs.mount(path, str(store))


def test_read_only_mount(real_fs, folder, tmp_path):
    (tmp_path / "f").write_bytes(b"content")
    real_fs.mount(f"{folder}/ro", str(tmp_path), read_only=True)
    try:
        assert real_fs.read(f"{folder}/ro/f") == b"content"
        with pytest.raises(OSError) as caught:
            real_fs.write(f"{folder}/ro/g", b"x")
        assert caught.value.errno == errno.EROFS
    finally:
        real_fs.unmount(f"{folder}/ro")
    assert not real_fs.exists(f"{folder}/ro")


def test_another_user_is_refused(cluster, real_fs, folder):
    real_fs.write(f"{folder}/mine", b"secret", mode=0o600)
    for address in (cluster.address, cluster.tcp_address):
        with isotach.connect(address, user="a-stranger") as stranger:
            assert stranger.user == "a-stranger"
            with pytest.raises(PermissionError):
                stranger.read(f"{folder}/mine")
            with pytest.raises(PermissionError):
                stranger.write(f"{folder}/theirs", b"x")


def test_status_and_workers(real_fs, cluster):
    status = real_fs.status()
    assert status.inodes >= 1
    assert status.pid == cluster.master_pid
    (worker,) = real_fs.workers()
    assert worker.live
    assert [tier.alias for tier in worker.tiers] == ["MEM"]


def test_nobody_there(tmp_path):
    with pytest.raises(isotach.UnavailableError, match="isotach start"):
        isotach.connect(f"isotach+unix://{tmp_path}/none.sock", retry_total="100ms")
    with pytest.raises(isotach.UnavailableError, match="isotach start"):
        isotach.connect(dir=str(tmp_path))
    with pytest.raises(isotach.InvalidArgumentError, match="scheme"):
        isotach.connect("http://x")
    with pytest.raises(isotach.ConfigError, match="deadline"):
        isotach.connect("isotach://x:1", dedline="5s")


def test_closed_file_system_says_so(cluster):
    fs = isotach.connect(cluster.address)
    fs.close()
    with pytest.raises(isotach.IsotachError, match="closed"):
        fs.stat("/")
