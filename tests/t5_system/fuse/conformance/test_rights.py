"""Owners, modes, special bits and access lists: who may do what, and what new entries inherit."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from .users import ALICE, BOB, STAFF, as_user, needs_root, refused, refused_to

pytestmark = needs_root


def mode_of(path: Path) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


@pytest.fixture
def shared(place: Path) -> Path:
    """A folder that everybody may write to."""
    folder = place / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def test_what_is_made_belongs_to_who_made_it(shared: Path) -> None:
    def make() -> None:
        (shared / "f").write_bytes(b"mine")
        (shared / "d").mkdir()
        os.symlink("f", shared / "l")
        os.mkfifo(shared / "p")

    as_user(ALICE, STAFF, make)
    for name in "fdlp":
        seen = os.lstat(shared / name)
        assert (seen.st_uid, seen.st_gid) == (ALICE, STAFF), name


def test_modes_decide_who_reads_and_writes(shared: Path) -> None:
    path = shared / "f"
    path.write_bytes(b"secret")
    os.chown(path, ALICE, STAFF)
    for mode, owner, group, other in (
        (0o400, ("OK", "EACCES"), ("EACCES", "EACCES"), ("EACCES", "EACCES")),
        (0o640, ("OK", "OK"), ("OK", "EACCES"), ("EACCES", "EACCES")),
        (0o606, ("OK", "OK"), ("EACCES", "EACCES"), ("OK", "OK")),
        (0o077, ("EACCES", "EACCES"), ("OK", "OK"), ("OK", "OK")),
    ):
        path.chmod(mode)
        for uid, gid, expected in ((ALICE, STAFF, owner), (BOB, STAFF, group), (BOB, BOB, other)):
            seen = tuple(refused_to(uid, gid, lambda how=how: os.open(path, how)) for how in (os.O_RDONLY, os.O_WRONLY))
            assert seen == expected, (oct(mode), uid, gid)


def test_directories_are_searched_listed_and_written_by_mode(shared: Path) -> None:
    folder = shared / "d"
    folder.mkdir()
    (folder / "f").write_bytes(b"x")
    os.chown(folder, ALICE, ALICE)
    folder.chmod(0o744)
    assert refused_to(BOB, BOB, lambda: os.listdir(folder)) == "OK"
    assert refused_to(BOB, BOB, lambda: os.stat(folder / "f")) == "EACCES"
    folder.chmod(0o711)
    assert refused_to(BOB, BOB, lambda: os.listdir(folder)) == "EACCES"
    assert refused_to(BOB, BOB, lambda: os.stat(folder / "f")) == "OK"
    assert refused_to(BOB, BOB, lambda: os.unlink(folder / "f")) == "EACCES"
    assert refused_to(BOB, BOB, lambda: os.mkdir(folder / "g")) == "EACCES"
    folder.chmod(0o733)
    assert refused_to(BOB, BOB, lambda: os.unlink(folder / "f")) == "OK"


def test_only_the_owner_changes_modes_and_times(shared: Path) -> None:
    path = shared / "f"
    path.touch()
    os.chown(path, ALICE, STAFF)
    path.chmod(0o666)
    assert refused_to(BOB, BOB, lambda: os.chmod(path, 0o600)) == "EPERM"
    assert refused_to(ALICE, ALICE, lambda: os.chmod(path, 0o664)) == "OK"
    assert refused_to(BOB, BOB, lambda: os.utime(path, (1, 1))) == "EPERM"
    path.chmod(0o666)
    assert refused_to(BOB, BOB, lambda: os.utime(path)) == "OK"  # it may write: the present time is no secret
    path.chmod(0o644)
    assert refused_to(BOB, BOB, lambda: os.utime(path)) == "EACCES"


def test_giving_away(shared: Path) -> None:
    path = shared / "f"
    path.touch()
    os.chown(path, ALICE, ALICE)
    assert refused_to(ALICE, ALICE, lambda: os.chown(path, BOB, -1)) == "EPERM"
    assert refused_to(ALICE, ALICE, lambda: os.chown(path, -1, STAFF)) == "EPERM"
    assert refused_to(ALICE, ALICE, lambda: os.chown(path, -1, STAFF), groups=[STAFF]) == "OK"
    assert path.stat().st_gid == STAFF
    os.chown(path, BOB, BOB)
    assert (path.stat().st_uid, path.stat().st_gid) == (BOB, BOB)


def test_changing_hands_takes_the_special_bits(shared: Path) -> None:
    path = shared / "f"
    path.touch()
    os.chown(path, ALICE, ALICE)
    path.chmod(0o6755)
    as_user(ALICE, ALICE, lambda: os.chown(path, -1, STAFF), groups=[STAFF])
    assert mode_of(path) == 0o755


def test_a_write_by_others_takes_the_special_bits(shared: Path) -> None:
    path = shared / "f"
    path.write_bytes(b"program")
    os.chown(path, ALICE, ALICE)
    path.chmod(0o6777)

    def write() -> None:
        with path.open("r+b") as file:
            file.write(b"changed")

    as_user(BOB, BOB, write)
    assert mode_of(path) == 0o777


def test_setgid_directories_hand_on_their_group(shared: Path) -> None:
    os.chown(shared, 0, STAFF)
    shared.chmod(0o2777)

    def make() -> None:
        (shared / "f").touch()
        (shared / "d").mkdir()

    as_user(ALICE, ALICE, make)
    assert (shared / "f").stat().st_gid == STAFF
    assert (shared / "d").stat().st_gid == STAFF
    assert (shared / "d").stat().st_mode & stat.S_ISGID
    assert not (shared / "f").stat().st_mode & stat.S_ISGID


def test_sticky_directories_keep_what_is_others(shared: Path) -> None:
    shared.chmod(0o1777)
    as_user(ALICE, ALICE, (shared / "f").touch)
    assert refused_to(BOB, BOB, lambda: os.unlink(shared / "f")) == "EPERM"
    assert refused_to(BOB, BOB, lambda: os.rename(shared / "f", shared / "g")) == "EPERM"
    assert refused_to(ALICE, ALICE, lambda: os.unlink(shared / "f")) == "OK"


def test_the_umask_is_taken_away(shared: Path) -> None:
    def make() -> None:
        os.umask(0o027)
        (shared / "f").touch()
        (shared / "d").mkdir()

    as_user(ALICE, ALICE, make)
    assert mode_of(shared / "f") == 0o640
    assert mode_of(shared / "d") == 0o750


def test_links_have_owners_of_their_own(shared: Path) -> None:
    (shared / "f").touch()
    os.symlink("f", shared / "l")
    os.lchown(shared / "l", BOB, BOB)
    assert os.lstat(shared / "l").st_uid == BOB
    assert os.stat(shared / "l").st_uid == 0


acls = pytest.mark.skipif(shutil.which("setfacl") is None, reason="setfacl is not installed (Debian: acl)")


def setfacl(*arguments: str | Path) -> None:
    subprocess.run(["setfacl", *map(str, arguments)], check=True)


@acls
def test_access_lists_let_others_in(shared: Path) -> None:
    path = shared / "f"
    path.write_bytes(b"x")
    path.chmod(0o600)
    setfacl("-m", f"u:{ALICE}:rw,g:{STAFF}:r", path)
    assert refused_to(ALICE, ALICE, lambda: os.open(path, os.O_RDWR)) == "OK"
    assert refused_to(BOB, STAFF, lambda: os.open(path, os.O_RDONLY)) == "OK"
    assert refused_to(BOB, STAFF, lambda: os.open(path, os.O_RDWR)) == "EACCES"
    assert refused_to(BOB, BOB, lambda: os.open(path, os.O_RDONLY)) == "EACCES"
    assert mode_of(path) == 0o660  # the group bits show the mask
    path.chmod(0o600)  # ... and change it
    assert refused_to(ALICE, ALICE, lambda: os.open(path, os.O_RDONLY)) == "EACCES"
    setfacl("-b", path)
    assert "system.posix_acl_access" not in os.listxattr(path)


@acls
def test_default_access_lists_are_inherited(shared: Path) -> None:
    setfacl("-d", "-m", f"u:{ALICE}:rwx,o::-", shared)

    def make() -> None:
        os.umask(0o077)  # void where there is a default list
        (shared / "f").touch()
        (shared / "d").mkdir()

    as_user(BOB, BOB, make)
    assert refused_to(ALICE, ALICE, lambda: os.open(shared / "f", os.O_RDWR)) == "OK"
    assert refused_to(ALICE, ALICE, lambda: os.mkdir(shared / "d" / "inner")) == "OK"
    assert refused_to(STAFF, STAFF, lambda: os.open(shared / "f", os.O_RDONLY)) == "EACCES"
    assert "system.posix_acl_default" in os.listxattr(shared / "d")
    assert "system.posix_acl_default" not in os.listxattr(shared / "f")


def test_access_is_what_it_says(shared: Path) -> None:
    path = shared / "f"
    path.touch()
    path.chmod(0o640)
    os.chown(path, ALICE, STAFF)
    assert as_user(ALICE, ALICE, lambda: os.access(path, os.R_OK | os.W_OK))
    assert not as_user(ALICE, ALICE, lambda: os.access(path, os.X_OK))
    assert not as_user(BOB, BOB, lambda: os.access(path, os.R_OK))
    assert refused(lambda: os.stat(shared / "none")) == "ENOENT"
