"""Making, naming and removing entries: what POSIX promises, and with which errno it refuses."""

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from .users import refused

LONG = "n" * 255


def test_a_new_file_is_there_at_once_and_exclusively(place: Path) -> None:
    path = place / "new"
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640), "wb") as target:
        assert path.exists()
        assert refused(lambda: os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)) == "EEXIST"
        target.write(b"x")
    assert path.read_bytes() == b"x"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_one_of_many_makes_a_file_exclusively(place: Path) -> None:
    answers: list[str] = []

    def make() -> None:
        answers.append(refused(lambda: os.close(os.open(place / "lock", os.O_CREAT | os.O_EXCL | os.O_WRONLY))))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == ["EEXIST"] * 7 + ["OK"]


@pytest.mark.parametrize(
    "name", [b"caf\xc3\xa9", b"\xff\xfe\x01", b"a b\tc\n", b"-rf", b"...", b"%2e;'\"", LONG.encode()]
)
def test_any_bytes_are_a_name(place: Path, name: bytes) -> None:
    folder = os.fsencode(place)
    path = folder + b"/" + name
    with open(path, "wb") as target:
        target.write(name)
    assert os.listdir(folder) == [name]
    with open(path, "rb") as source:
        assert source.read() == name
    os.rename(path, folder + b"/other")
    os.rename(folder + b"/other", path)
    os.unlink(path)
    assert os.listdir(folder) == []


def test_names_that_are_too_long_are_refused(place: Path) -> None:
    long = place / (LONG + "n")
    (place / "f").touch()
    assert refused(lambda: os.open(long, os.O_CREAT | os.O_WRONLY)) == "ENAMETOOLONG"
    assert refused(lambda: os.mkdir(long)) == "ENAMETOOLONG"
    assert refused(lambda: os.rename(place / "f", long)) == "ENAMETOOLONG"
    assert refused(lambda: os.symlink("x", long)) == "ENAMETOOLONG"
    assert refused(lambda: os.link(place / "f", long)) == "ENAMETOOLONG"
    assert refused(lambda: os.stat(long)) == "ENAMETOOLONG"


def test_what_is_not_there_or_no_directory(place: Path) -> None:
    (place / "f").touch()
    below, absent = place / "f" / "x", place / "none" / "x"
    for call in (os.stat, os.unlink, os.mkdir, os.rmdir, os.listdir, os.readlink):
        assert refused(lambda call=call: call(below)) == "ENOTDIR", call
        assert refused(lambda call=call: call(absent)) == "ENOENT", call
    assert refused(lambda: os.rename(place / "f", below)) == "ENOTDIR"
    assert refused(lambda: os.rename(place / "f", absent)) == "ENOENT"
    assert refused(lambda: os.open(f"{place}/f/", os.O_RDONLY)) == "ENOTDIR"
    assert refused(lambda: os.open(place / "f", os.O_RDONLY | os.O_DIRECTORY)) == "ENOTDIR"


def test_directories_are_made_and_removed(place: Path) -> None:
    folder = place / "d"
    folder.mkdir(mode=0o750)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750
    assert refused(lambda: os.mkdir(folder)) == "EEXIST"
    (folder / "f").touch()
    assert refused(lambda: os.rmdir(folder)) == "ENOTEMPTY"
    assert refused(lambda: os.unlink(folder)) in ("EISDIR", "EPERM")
    assert refused(lambda: os.rmdir(folder / "f")) == "ENOTDIR"
    assert refused(lambda: os.open(folder, os.O_WRONLY)) == "EISDIR"
    assert refused(lambda: os.rmdir(f"{folder}/.")) == "EINVAL"
    (folder / "f").unlink()
    folder.rmdir()
    assert not folder.exists()


def test_changes_show_in_the_times_of_the_directory(place: Path) -> None:
    os.utime(place, ns=(10**9, 10**9))
    (place / "f").touch()
    made = place.stat()
    assert made.st_mtime_ns > 10**9
    assert made.st_ctime_ns > 10**9
    os.utime(place, ns=(10**9, 10**9))
    (place / "f").rename(place / "g")
    assert place.stat().st_mtime_ns > 10**9
    os.utime(place, ns=(10**9, 10**9))
    (place / "g").unlink()
    assert place.stat().st_mtime_ns > 10**9


def test_rename_replaces_what_it_may(place: Path) -> None:
    (place / "a").write_bytes(b"a")
    (place / "b").write_bytes(b"bb")
    number = (place / "a").stat().st_ino
    os.rename(place / "a", place / "b")
    assert (place / "b").read_bytes() == b"a"
    assert (place / "b").stat().st_ino == number
    (place / "empty").mkdir()
    (place / "full").mkdir()
    (place / "full" / "x").touch()
    assert refused(lambda: os.rename(place / "b", place / "empty")) == "EISDIR"
    assert refused(lambda: os.rename(place / "empty", place / "b")) == "ENOTDIR"
    assert refused(lambda: os.rename(place / "empty", place / "full")) in ("ENOTEMPTY", "EEXIST")
    os.rename(place / "full", place / "empty")
    assert (place / "empty" / "x").exists()
    assert not (place / "full").exists()
    assert refused(lambda: os.rename(place / "empty", place / "empty" / "inside")) == "EINVAL"
    os.rename(place / "b", place / "b")
    assert refused(lambda: os.rename(place / "none", place / "b")) == "ENOENT"


def test_a_directory_moves_with_all_below(place: Path) -> None:
    deep = place / "top" / "middle"
    deep.mkdir(parents=True)
    (deep / "f").write_bytes(b"deep")
    (place / "other").mkdir()
    os.rename(place / "top", place / "other" / "top")
    assert (place / "other" / "top" / "middle" / "f").read_bytes() == b"deep"
    assert refused(lambda: os.stat(deep)) == "ENOENT"


def test_an_open_file_outlives_its_name(place: Path) -> None:
    path = place / "f"
    path.write_bytes(b"kept")
    with path.open("r+b") as file:
        path.unlink()
        assert not path.exists()
        assert file.read() == b"kept"
        file.write(b" and more")
        file.seek(0)
        assert file.read() == b"kept and more"
        assert os.fstat(file.fileno()).st_nlink == 0
        assert os.fstat(file.fileno()).st_size == 13
        path.write_bytes(b"another")
        file.seek(0)
        assert file.read() == b"kept and more"
    assert path.read_bytes() == b"another"


def test_an_open_reader_outlives_a_rename_over_it(place: Path) -> None:
    (place / "old").write_bytes(b"old")
    (place / "new").write_bytes(b"new")
    with (place / "old").open("rb") as reader:
        os.rename(place / "new", place / "old")
        assert reader.read() == b"old"
    assert (place / "old").read_bytes() == b"new"


def test_hard_links_are_one_file(place: Path) -> None:
    first, second = place / "first", place / "second"
    first.write_bytes(b"one")
    os.link(first, second)
    assert first.stat().st_ino == second.stat().st_ino
    assert second.stat().st_nlink == 2
    with second.open("ab") as file:
        file.write(b" file")
    assert first.read_bytes() == b"one file"
    os.chmod(second, 0o600)
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    os.rename(first, second)  # two names of one file: nothing happens
    assert first.exists()
    assert second.exists()
    assert refused(lambda: os.link(first, second)) == "EEXIST"
    first.unlink()
    assert second.read_bytes() == b"one file"
    assert second.stat().st_nlink == 1
    (place / "d").mkdir()
    assert refused(lambda: os.link(place / "d", place / "d2")) == "EPERM"
    assert refused(lambda: os.link(place / "none", place / "x")) == "ENOENT"


def test_symbolic_links(place: Path) -> None:
    (place / "target").write_bytes(b"there")
    os.symlink("target", place / "link")
    assert os.readlink(place / "link") == "target"
    assert (place / "link").read_bytes() == b"there"
    seen = os.lstat(place / "link")
    assert stat.S_ISLNK(seen.st_mode)
    assert seen.st_size == len("target")
    os.symlink("nowhere", place / "dangling")
    assert refused(lambda: os.stat(place / "dangling")) == "ENOENT"
    os.symlink("loop", place / "loop")
    assert refused(lambda: os.stat(place / "loop")) == "ELOOP"
    assert refused(lambda: os.symlink("x", place / "link")) == "EEXIST"
    assert refused(lambda: os.readlink(place / "target")) == "EINVAL"
    assert refused(lambda: os.open(place / "link", os.O_RDONLY | os.O_NOFOLLOW)) == "ELOOP"
    (place / "folder").mkdir()
    os.symlink("folder", place / "to-folder")
    (place / "to-folder" / "f").write_bytes(b"inside")
    assert (place / "folder" / "f").read_bytes() == b"inside"
    (place / "link").unlink()
    assert (place / "target").exists()
    os.symlink("t" * 4095, place / "longest")
    assert len(os.readlink(place / "longest")) == 4095


def test_special_files(place: Path) -> None:
    os.mkfifo(place / "pipe", 0o600)
    assert stat.S_ISFIFO((place / "pipe").stat().st_mode)
    heard: list[bytes] = []
    reader = threading.Thread(target=lambda: heard.append((place / "pipe").read_bytes()))
    reader.start()
    (place / "pipe").write_bytes(b"through")
    reader.join()
    assert heard == [b"through"]
    os.mknod(place / "socket", stat.S_IFSOCK | 0o600)
    assert stat.S_ISSOCK((place / "socket").stat().st_mode)
    assert refused(lambda: os.mkfifo(place / "pipe")) == "EEXIST"
    if os.geteuid() == 0:
        os.mknod(place / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        seen = (place / "null").stat()
        assert stat.S_ISCHR(seen.st_mode)
        assert (os.major(seen.st_rdev), os.minor(seen.st_rdev)) == (1, 3)


def test_a_listing_survives_changes_of_what_is_listed(place: Path) -> None:
    names = {f"{number:05}" for number in range(600)}
    for name in names:
        (place / name).touch()
    seen: list[str] = []
    with os.scandir(place) as entries:
        for index, entry in enumerate(entries):
            seen.append(entry.name)
            assert entry.is_file(follow_symlinks=False)
            if index % 2:
                os.unlink(entry)  # what was listed already may go
    assert set(seen) == names
    assert len(seen) == len(names)
    assert len(os.listdir(place)) == len(names) - len(names) // 2


def test_rewinding_a_directory_shows_what_is_new(place: Path) -> None:
    (place / "a").touch()
    descriptor = os.open(place, os.O_RDONLY)
    try:
        assert os.listdir(descriptor) == ["a"]
        (place / "b").touch()
        assert sorted(os.listdir(descriptor)) == ["a", "b"]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def test_a_removed_directory_that_is_open_is_empty(place: Path) -> None:
    folder = place / "d"
    folder.mkdir()
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        folder.rmdir()
        assert os.listdir(descriptor) == []
        made = refused(lambda: os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
        assert made in ("ENOENT", "ESTALE")
    finally:
        os.close(descriptor)


def test_deep_paths(place: Path) -> None:
    parts = ["d" * 100] * 30
    (place.joinpath(*parts)).mkdir(parents=True)
    path = place.joinpath(*parts, "f")
    path.write_bytes(b"deep")
    assert path.read_bytes() == b"deep"


def test_errors_have_no_effect(place: Path) -> None:
    (place / "f").write_bytes(b"f")
    before = sorted(os.listdir(place)), (place / "f").stat().st_ctime_ns
    for call in (
        lambda: os.rename(place / "f", place / "none" / "f"),
        lambda: os.link(place / "none", place / "g"),
        lambda: os.mkdir(place / "f"),
        lambda: os.rmdir(place / "f"),
    ):
        with pytest.raises(OSError) as failure:
            call()
        assert failure.value.errno in (errno.ENOENT, errno.EEXIST, errno.ENOTDIR)
    assert (sorted(os.listdir(place)), (place / "f").stat().st_ctime_ns) == before
