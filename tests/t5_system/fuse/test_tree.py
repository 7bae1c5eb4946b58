"""Names, attributes and listings of a real mount: what others change shows, and what is large stays correct.

Owns: the cases in which the kernel remembers something, or the master must be asked. Never: compares with tmpfs
(`test_tree_model`).
"""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import isotach
from isotach.run.standalone import Cluster
from isotach.testing.fuse import RealMount

pytestmark = pytest.mark.fuse
_PATIENCE_S = 10.0
_MANY = 250


def _eventually(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _PATIENCE_S
    while not holds():
        assert time.monotonic() < end, f"{what}: not within {_PATIENCE_S} s, with time-outs of an hour"
        time.sleep(0.002)


def _inside(folder: Path) -> str:
    """The same directory in the namespace."""
    return f"/{folder.name}"


def test_changes_of_others_end_what_the_kernel_remembers(fuse_dir: Path, fuse_fs: isotach.FileSystem) -> None:
    """Attributes, names, missing names and listings, all remembered before."""
    inside = _inside(fuse_dir)
    for name in ("kept", "moved", "gone"):
        fuse_fs.write(f"{inside}/{name}", name.encode(), write_type="MUST_CACHE")
    fuse_fs.mkdir(f"{inside}/folder")
    assert sorted(os.listdir(fuse_dir)) == ["folder", "gone", "kept", "moved"]
    assert [os.stat(fuse_dir / name).st_size for name in ("kept", "moved", "gone")] == [4, 5, 4]
    assert not (fuse_dir / "new").exists()

    fuse_fs.chmod(f"{inside}/kept", 0o604)
    fuse_fs.rename(f"{inside}/moved", f"{inside}/elsewhere")
    fuse_fs.remove(f"{inside}/gone")
    fuse_fs.write(f"{inside}/new", b"of another", write_type="MUST_CACHE")
    fuse_fs.write(f"{inside}/folder/below", b"", write_type="MUST_CACHE")

    _eventually(lambda: os.stat(fuse_dir / "kept").st_mode & 0o777 == 0o604, "a new mode")
    _eventually(lambda: not (fuse_dir / "moved").exists(), "an old name")
    _eventually((fuse_dir / "elsewhere").exists, "a new name")
    _eventually(lambda: not (fuse_dir / "gone").exists(), "a removed name")
    _eventually(lambda: (fuse_dir / "new").exists() and (fuse_dir / "new").stat().st_size == 10, "a new file")
    _eventually(lambda: sorted(os.listdir(fuse_dir)) == ["elsewhere", "folder", "kept", "new"], "the listing")
    _eventually(lambda: os.listdir(fuse_dir / "folder") == ["below"], "the listing of a folder below")


def test_a_program_stands_in_a_directory_that_others_fill(fuse_dir: Path, fuse_fs: isotach.FileSystem) -> None:
    """Changes in a directory never take it away from who has it as the current one."""
    (fuse_dir / "here").mkdir()
    before = Path.cwd()
    os.chdir(fuse_dir / "here")
    try:
        for number in range(20):
            fuse_fs.write(f"{_inside(fuse_dir)}/here/f{number}", b"", write_type="MUST_CACHE")
        _eventually(lambda: len(os.listdir()) == 20, "the listing")
        assert os.getcwd() == str(fuse_dir / "here")
    finally:
        os.chdir(before)


def test_a_large_directory_is_listed_whole_while_it_changes(fuse_dir: Path) -> None:
    """Every name that stays is met once, however the others come and go; seeking back repeats."""
    for number in range(_MANY):
        (fuse_dir / f"stays-{number:04d}").touch()
    seen: list[str] = []
    with os.scandir(fuse_dir) as entries:
        for entry in entries:
            seen.append(entry.name)
            if len(seen) % 50 == 0:
                (fuse_dir / f"stays-{len(seen):04d}-more").touch()
            if entry.name.endswith("7"):
                os.unlink(fuse_dir / entry.name)
    assert len(seen) == len(set(seen))
    assert {f"stays-{number:04d}" for number in range(_MANY)} <= set(seen)
    left = os.listdir(fuse_dir)
    assert len(left) == len(set(left))
    assert not any(name.endswith("7") for name in left)


def test_hundreds_of_names_made_by_others(fuse_dir: Path, fuse_fs: isotach.FileSystem) -> None:
    """More than one page of everything; types come without a look at each."""
    for number in range(_MANY):
        fuse_fs.mkdir(f"{_inside(fuse_dir)}/d{number:05d}")
    with os.scandir(fuse_dir) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False), entry.inode()) for entry in entries]
    assert [name for name, _, _ in found] == [f"d{number:05d}" for number in range(_MANY)]
    assert all(is_dir for _, is_dir, _ in found)
    assert found[7][2] == os.stat(fuse_dir / "d00007").st_ino


def test_what_isotach_knows_of_a_file(fuse_dir: Path, fuse_fs: isotach.FileSystem) -> None:
    path = f"{_inside(fuse_dir)}/told"
    fuse_fs.write(path, b"x" * 1000, write_type="MUST_CACHE")
    file = fuse_dir / "told"
    info = fuse_fs.stat(path)
    assert os.getxattr(file, "isotach.path") == path.encode()
    assert os.getxattr(file, "isotach.version") == str(info.version).encode()
    assert os.getxattr(file, "isotach.persisted") == b"false"
    assert os.getxattr(file, "isotach.location").endswith(b":1000")
    _eventually(lambda: os.getxattr(file, "isotach.cached_percent") == b"100", "the cached share")
    assert os.listxattr(file) == []
    with pytest.raises(OSError) as refused:
        os.setxattr(file, "isotach.version", b"1")
    assert refused.value.errno == errno.EPERM
    with pytest.raises(OSError) as unknown:
        os.setxattr(file, "alien.name", b"1")
    assert unknown.value.errno == errno.EOPNOTSUPP


def test_the_mount_never_looks_full(fuse_dir: Path) -> None:
    told = os.statvfs(fuse_dir)
    assert told.f_namemax == 255
    assert told.f_bavail * told.f_frsize >= 1 << 50
    assert told.f_files > told.f_ffree


def test_what_only_the_under_storage_knows_is_found(
    mount_of: Callable[..., RealMount], start: Callable[..., Cluster], tmp_path: Path
) -> None:
    """Names in folders that were never listed, missing ones too, without a listing; the same by calls alone."""
    store = tmp_path / "store" / "deep"
    store.mkdir(parents=True)
    for number in range(5):
        (store / f"f{number}").write_bytes(b"y" * number)
    cluster = start()
    with isotach.connect(cluster.address) as fs:
        fs.mount("/store", f"file://{tmp_path / 'store'}")
    for options in ({}, {"client__direct_metadata": False}):
        mount = mount_of(cluster, **options).path / "store"
        assert os.stat(mount / "deep" / "f3").st_size == 3
        assert not (mount / "deep" / "nothing").exists()
        assert sorted(os.listdir(mount / "deep")) == [f"f{number}" for number in range(5)]
        (mount / "deep" / f"made-{len(options)}").mkdir()
        assert not (mount / "deep" / f"made-{len(options)}" / "x").exists()
        os.rmdir(mount / "deep" / f"made-{len(options)}")
