"""The mount against tmpfs: the same random changes of names and attributes have the same outcome, errno by errno.

Owns: the random programs and what is compared. Never: compares what is a file system's own (sizes and link counts of
directories, the order of listings, inode numbers).
"""

import ctypes
import errno
import os
import random
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_LIBC = ctypes.CDLL(None, use_errno=True)
_NAMES = ["a", "a", "b", "b", "d\udcff", "\u00e9"]
_MODES = [0o777, 0o755, 0o700, 0o644, 0o600, 0o1777, 0o2775, 0o4755, 0o6711, 0]
_USERS = [0, 0, 1001, 1002]
_STEPS = 1500
_HELD_MAX = 4
_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2


@contextmanager
def _as_user(uid: int) -> Iterator[None]:
    """In this block the thread alone asks the file system as another user."""
    _LIBC.setfsgid(uid)
    _LIBC.setfsuid(uid)
    try:
        yield
    finally:
        _LIBC.setfsuid(0)
        _LIBC.setfsgid(0)


def _renameat2(source: bytes, target: bytes, flags: int) -> None:
    if _LIBC.renameat2(-100, source, -100, target, flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class _Program:
    """One random step after another, done in both trees."""

    def __init__(self, seed: int, left: Path, right: Path) -> None:
        self._random = random.Random(seed)
        self._trees = (left, right)
        self._steps: list[Callable[[], tuple[object, ...]]] = [
            self._mkdir, self._create, self._create, self._unlink, self._rmdir, self._rename, self._rename,
            self._rename2,
            self._symlink, self._link, self._mkfifo, self._chmod, self._chown, self._utime, self._stat, self._list,
            self._xattr, self._truncate, self._open_exclusive, self._readlink, self._hold, self._held_stat,
            self._held_change,
        ]  # fmt: skip
        self.log: list[object] = []
        self._held: dict[Path, list[int]] = {tree: [] for tree in self._trees}

    def step(self) -> None:
        """Does one, and compares."""
        uid = self._random.choice(_USERS)
        name, act, *rest = self._random.choice(self._steps)()
        self.log.append((uid, name, *rest))
        outcomes = []
        for tree in self._trees:
            os.chdir(tree)  # what lies above is for nobody else
            with _as_user(uid):
                outcomes.append(self._outcome(act))
        assert outcomes[0] == outcomes[1], f"mount {outcomes[0]}, tmpfs {outcomes[1]}: {self.log[-12:]}"

    @staticmethod
    def _outcome(act: Callable[[Path], object]) -> object:
        try:
            return act(Path())
        except OSError as problem:
            return errno.errorcode[problem.errno or 0]

    def _path(self) -> str:
        depth = self._random.choice([1, 1, 2, 2, 3])
        return "/".join(self._random.choice(_NAMES) for _ in range(depth))

    def close(self) -> None:
        """Closes what is held open."""
        for descriptors in self._held.values():
            for descriptor in descriptors:
                os.close(descriptor)

    # --- open files, whatever happens to their names ---

    def _hold(self) -> tuple[object, ...]:
        path = self._path()

        def act(tree: Path) -> None:
            held = self._held[Path.cwd()]
            held.append(os.open(tree / path, os.O_RDWR | os.O_NONBLOCK))
            if len(held) > _HELD_MAX:
                os.close(held.pop(0))

        return "hold", act, path

    def _held_stat(self) -> tuple[object, ...]:
        return "held_stat", lambda _tree: [_shown(os.fstat(each)) for each in self._held[Path.cwd()]]

    def _held_change(self) -> tuple[object, ...]:
        index, mode, length = (
            self._random.randrange(_HELD_MAX),
            self._random.choice(_MODES),
            self._random.choice([0, 9]),
        )

        def act(_tree: Path) -> object:
            held = self._held[Path.cwd()]
            if index >= len(held):
                return None
            os.fchmod(held[index], mode)
            os.utime(held[index], ns=(5, 7))
            if stat.S_ISREG(os.fstat(held[index]).st_mode):
                os.ftruncate(held[index], length)
            return _shown(os.fstat(held[index]))

        return "held_change", act, index, oct(mode), length

    # --- steps: (name, what to do in a tree, arguments for the log) ---

    def _mkdir(self) -> tuple[object, ...]:
        path, mode = self._path(), self._random.choice(_MODES)
        return "mkdir", lambda tree: os.mkdir(tree / path, mode), path, oct(mode)

    def _create(self) -> tuple[object, ...]:
        path, mode = self._path(), self._random.choice(_MODES)
        return (
            "create",
            lambda tree: os.close(os.open(tree / path, os.O_CREAT | os.O_WRONLY | os.O_NONBLOCK, mode)),
            path,
            oct(mode),
        )

    def _open_exclusive(self) -> tuple[object, ...]:
        path = self._path()
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR
        return "exclusive", lambda tree: os.close(os.open(tree / path, flags, 0o666)), path

    def _truncate(self) -> tuple[object, ...]:
        path, length = self._path(), self._random.choice([0, 1, 5000])
        return "truncate", lambda tree: os.truncate(tree / path, length), path, length

    def _unlink(self) -> tuple[object, ...]:
        path = self._path()
        return "unlink", lambda tree: os.unlink(tree / path), path

    def _rmdir(self) -> tuple[object, ...]:
        path = self._path()
        return "rmdir", lambda tree: os.rmdir(tree / path), path

    def _rename(self) -> tuple[object, ...]:
        source, target = self._path(), self._path()
        return "rename", lambda tree: os.rename(tree / source, tree / target), source, target

    def _rename2(self) -> tuple[object, ...]:
        source, target = self._path(), self._path()
        flags = self._random.choice([_RENAME_NOREPLACE, _RENAME_EXCHANGE, _RENAME_EXCHANGE])

        def act(tree: Path) -> None:
            _renameat2(os.fsencode(tree / source), os.fsencode(tree / target), flags)

        return "rename2", act, source, target, flags

    def _symlink(self) -> tuple[object, ...]:
        path, target = self._path(), self._path()
        return "symlink", lambda tree: os.symlink(target, tree / path), path, target

    def _readlink(self) -> tuple[object, ...]:
        path = self._path()
        return "readlink", lambda tree: os.readlink(tree / path), path

    def _link(self) -> tuple[object, ...]:
        source, target = self._path(), self._path()
        return "link", lambda tree: os.link(tree / source, tree / target, follow_symlinks=False), source, target

    def _mkfifo(self) -> tuple[object, ...]:
        path = self._path()
        return "mkfifo", lambda tree: os.mkfifo(tree / path, 0o664), path

    def _chmod(self) -> tuple[object, ...]:
        path, mode = self._path(), self._random.choice(_MODES)
        return "chmod", lambda tree: os.chmod(tree / path, mode), path, oct(mode)

    def _chown(self) -> tuple[object, ...]:
        # Not (-1, -1): the kernel keeps that to itself, where tmpfs takes the setuid bit away.
        uid, gid = self._random.choice([(0, -1), (1001, -1), (-1, 1002), (-1, 0), (1001, 1002), (0, 0)])
        path = self._path()
        return "chown", lambda tree: os.chown(tree / path, uid, gid, follow_symlinks=False), path, uid, gid

    def _utime(self) -> tuple[object, ...]:
        path, times = self._path(), self._random.choice([None, (10**18 + 1, 1234567890123456789)])

        def act(tree: Path) -> object:
            os.utime(tree / path, ns=times) if times else os.utime(tree / path)
            found = os.stat(tree / path)
            return (found.st_atime_ns, found.st_mtime_ns) if times else None

        return "utime", act, path, times

    def _stat(self) -> tuple[object, ...]:
        path = self._path()
        return "stat", lambda tree: _shown(os.lstat(tree / path)), path

    def _list(self) -> tuple[object, ...]:
        path = self._path()
        return "list", lambda tree: sorted(os.listdir(tree / path)), path

    def _xattr(self) -> tuple[object, ...]:
        path, flags = self._path(), self._random.choice([0, os.XATTR_CREATE, os.XATTR_REPLACE])
        is_removal = self._random.random() < 0.3

        def act(tree: Path) -> object:
            if is_removal:
                os.removexattr(tree / path, "user.x")
            else:
                os.setxattr(tree / path, "user.x", b"value", flags)
            return os.listxattr(tree / path)

        return "xattr", act, path, flags, is_removal


def _shown(status: os.stat_result) -> tuple[object, ...]:
    is_dir = stat.S_ISDIR(status.st_mode)
    links, size = (0, 0) if is_dir else (status.st_nlink, status.st_size)
    return oct(status.st_mode), links, size, status.st_uid, status.st_gid


def _everything(tree: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for folder, directories, files in os.walk(tree):
        for name in [*directories, *files]:
            path = os.path.join(folder, name)
            target = os.readlink(path) if os.path.islink(path) else None
            found[os.path.relpath(path, tree)] = (_shown(os.lstat(path)), target)
    return found


@pytest.fixture
def tmpfs_dir() -> Iterator[Path]:
    """An empty directory of tmpfs."""
    folder = Path(tempfile.mkdtemp(prefix="isotach-test-", dir="/dev/shm"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.fuse
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_changes_have_the_outcomes_of_tmpfs(fuse_dir: Path, tmpfs_dir: Path, seed: int) -> None:
    """Names, kinds, owners, modes, links, targets, lengths, and every errno."""
    fuse_dir.chmod(0o777)
    before, folder = os.umask(0o022), Path.cwd()
    program = _Program(seed, fuse_dir, tmpfs_dir)
    try:
        for _ in range(_STEPS):
            program.step()
        assert _everything(fuse_dir) == _everything(tmpfs_dir), program.log[-30:]
    finally:
        program.close()
        os.umask(before)
        os.chdir(folder)
