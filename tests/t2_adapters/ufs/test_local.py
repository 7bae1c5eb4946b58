"""What only folders have: links, special files, temporary files, roots that vanish."""

import errno
import os
from pathlib import Path

import pytest

from isotach.base.errors import UfsBucketMissingError
from isotach.testing.contracts.under_storage import get, names, put
from isotach.ufs.local import LocalUnderStorage
from isotach.ufs.local.folder import Folder
from isotach.ufs.local.writer import LocalWriter
from isotach.ufs.registry import open_under_storage


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def storage(root: Path) -> LocalUnderStorage:
    return LocalUnderStorage(str(root))


def test_links_that_lead_out_are_not_followed(root: Path, storage: LocalUnderStorage, tmp_path: Path) -> None:
    outside = tmp_path / "root-but-outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "file").symlink_to(outside / "secret")
    (root / "dir").symlink_to(outside)
    (root / "up").symlink_to("..")
    for path in ("file", "dir/secret", "up/root-but-outside/secret"):
        with pytest.raises(PermissionError, match="leads out"):
            storage.read_range(path, 0, 10)
        with pytest.raises(PermissionError, match="leads out"):
            storage.stat(path)
    for act in (
        lambda: put(storage, "dir/new", b"x"),
        lambda: storage.delete("dir/secret"),
        lambda: storage.mkdir("dir/d"),
    ):
        with pytest.raises(PermissionError, match="leads out"):
            act()
    assert names(storage.list_pages("")) == []
    assert sorted(entry.name for entry in outside.iterdir()) == ["secret"]


def test_links_inside_are_followed(root: Path, storage: LocalUnderStorage) -> None:
    put(storage, "d/file", b"content")
    (root / "link").symlink_to("d/file")
    (root / "loop").symlink_to(".")
    (root / "nowhere").symlink_to("missing")
    assert get(storage, "link") == b"content"
    assert storage.stat("link").length == 7
    assert names(storage.list_pages("")) == ["d", "link", "loop"]
    assert names(storage.list_recursive("")) == ["d", "d/file", "link", "loop"]
    storage.delete_directory("d", recursive=True)
    storage.delete("link")


def test_removing_a_link_to_a_directory_spares_its_target(root: Path, storage: LocalUnderStorage) -> None:
    put(storage, "d/file", b"content")
    (root / "link").symlink_to("d")
    with pytest.raises(NotADirectoryError):
        storage.delete_directory("link", recursive=True)
    assert get(storage, "d/file") == b"content"


def test_special_files_are_not_there(root: Path, storage: LocalUnderStorage) -> None:
    os.mkfifo(root / "pipe")
    assert names(storage.list_pages("")) == []
    with pytest.raises(FileNotFoundError):
        storage.stat("pipe")
    with pytest.raises(FileNotFoundError):
        storage.read_range("pipe", 0, 1)


def test_leftovers_are_hidden_and_cleaned(root: Path, storage: LocalUnderStorage) -> None:
    put(storage, "d/file", b"x")
    leftover = root / "d" / ".isotach-tmp-00ff"
    leftover.write_bytes(b"half")
    assert names(storage.list_pages("d")) == ["d/file"]
    with pytest.raises(FileNotFoundError):
        storage.stat("d/.isotach-tmp-00ff")
    assert storage.clean_leftovers(3600.0) == 0
    assert storage.clean_leftovers(0.0) == 1
    assert not leftover.exists()


def test_replaced_file_keeps_its_mode(root: Path, storage: LocalUnderStorage) -> None:
    put(storage, "file", b"x")
    storage.set_mode("file", 0o600)
    assert put(storage, "file", b"y").mode == 0o600


def test_missing_root(tmp_path: Path) -> None:
    storage = open_under_storage(str(tmp_path / "gone"), {})
    for act in (lambda: storage.check(read_only=True), lambda: storage.stat("x"), lambda: list(storage.list_pages(""))):
        with pytest.raises(UfsBucketMissingError, match="does not exist"):
            act()


def test_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(NotADirectoryError):
        LocalUnderStorage(str(tmp_path / "file")).check(read_only=True)


def test_full_file_system_says_so(root: Path, storage: LocalUnderStorage) -> None:
    writer = storage.open_write("file")
    with Path("/dev/full").open("wb", buffering=0) as full:
        os.dup2(full.fileno(), writer._fd)  # type: ignore[attr-defined]  # the only way without a mount
    with pytest.raises(OSError, match="no space is left") as caught:
        writer.write(b"x")
    assert caught.value.errno == errno.ENOSPC
    writer.abort()
    assert names(storage.list_pages("")) == []


def test_read_only_mount_refuses_changes(root: Path) -> None:
    (root / "file").write_bytes(b"x")
    storage = open_under_storage(str(root), {}, read_only=True)
    storage.check(read_only=False)
    assert get(storage, "file") == b"x"
    for act in (lambda: storage.open_write("a"), lambda: storage.delete("file"), lambda: storage.mkdir("d")):
        with pytest.raises(OSError, match="mounted read-only") as caught:
            act()
        assert caught.value.errno == errno.EROFS


def test_change_behind_our_back_is_noticed(root: Path, storage: LocalUnderStorage) -> None:
    fingerprint = put(storage, "file", b"old").fingerprint
    with (root / "file").open("r+b") as file:
        file.write(b"new")
    os.utime(root / "file", ns=(1, 1))
    assert storage.stat("file").fingerprint != fingerprint


@pytest.mark.parametrize("unnamed", [True, False])
def test_a_folder_removed_in_mid_write_is_made_again_by_the_commit_only(root: Path, unnamed: bool) -> None:
    storage = LocalUnderStorage(str(root))
    storage.mkdir("d")
    writer = LocalWriter(Folder(str(root)), "d/below/f", unnamed=unnamed)
    writer.write(b"whole")
    storage.delete_directory("d", recursive=False)
    assert os.listdir(root) == []
    if unnamed:
        writer.commit()
        assert (root / "d" / "below" / "f").read_bytes() == b"whole"
    else:  # its temporary file went with the folder: nothing may come back by halves
        with pytest.raises(FileNotFoundError):
            writer.commit()
        writer.abort()
        assert not (root / "d" / "below" / "f").exists()


def test_an_unnamed_write_is_never_seen_before_its_commit(root: Path) -> None:
    writer = LocalUnderStorage(str(root)).open_write("f")
    writer.write(b"half")
    writer.prepare()
    assert os.listdir(root) == []
    writer.abort()
    assert os.listdir(root) == []
