"""One client of the soak: random operations on a subtree of its own, each checked against its model.

Owns: the choice of operations (a function of the seed and of what succeeded), what an unclear outcome may have left,
and the record of what was wrong. Never: breaks anything (`chaos.py` does) or judges the whole (`verify.py` does).

A call that failed while things die may have taken effect or not. The client then looks, checks that what it sees is one
of the two, and removes it: the removal comes after whatever of the call was still under way.
"""

import errno
import functools
import posixpath
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import isotach
from isotach.base.errors import DataCorruptionError, DataLossError
from isotach.testing.soak.content import SIZE_MIN, Stamp, content_of, fault_of, stamp_of
from isotach.testing.soak.model import SoakFile, SoakModel

FILES_MAX: Final = 30
FOLDERS_MAX: Final = 8
DEPTH_MAX: Final = 4
SETTLE_S: Final = 150.0
_PAUSE_S: Final = 0.2
WRITE_TYPES: Final = ("MUST_CACHE", "CACHE_THROUGH", "ASYNC_THROUGH", "THROUGH")
#: Never the world's fault: the namespace said something that is not so.
_WRONG_ANSWERS: Final = (errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.ESTALE)


class WrongAnswerError(Exception):
    """The cluster gave an answer that the model forbids."""


class SoakClient:
    """One client. `home` is its own subtree; in `shared` it writes files of its own and reads those of others."""

    def __init__(self, fs: isotach.FileSystem, number: int, seed: str, home: str, shared: str) -> None:
        self._fs = fs
        self._number = number
        self._home = home
        self._shared = shared
        self._random = random.Random(f"{seed}/client/{number}")
        self._generation = 0
        self._seen: dict[str, Stamp] = {}
        self.model = SoakModel()
        self.counts: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.problems: list[str] = []

    def run(self, end: float) -> None:
        """Operates until the monotonic clock says `end`, or something is wrong."""
        actions = self._actions()
        try:
            self._until_done(lambda: self._fs.mkdir(self._home, parents=True, exist_ok=True), "mkdir home")
            self.model.mkdir(self._home)
            while time.monotonic() < end:
                action = self._random.choices([row[0] for row in actions], [row[1] for row in actions])[0]
                self._attempt(action)
        except WrongAnswerError as wrong:
            self.problems.append(f"client {self._number} ({self._home}): {wrong}")
        except Exception as error:
            self.problems.append(f"client {self._number} ({self._home}) broke: {type(error).__name__}: {error}")

    # --- choosing ---

    def _actions(self) -> Sequence[tuple[Callable[[], None], int]]:
        return (
            (self._write_new, 18), (self._overwrite, 10), (self._read, 28), (self._read_part, 6), (self._read_other, 5),
            (self._write_shared, 4), (self._rename_file, 6), (self._rename_folder, 2), (self._remove_file, 6),
            (self._remove_folder, 1), (self._mkdir, 4), (self._list, 8), (self._stat, 5), (self._free, 4),
            (self._persist, 2),
        )  # fmt: skip

    def _attempt(self, action: Callable[[], None]) -> None:
        name = action.__name__.strip("_")
        try:
            action()
            self.counts[name] += 1
        except (isotach.IsotachError, OSError) as error:
            self._judge(name, error)

    def _judge(self, name: str, error: Exception) -> None:
        """Tolerates what a dying world may answer, and nothing else."""
        number = getattr(error, "errno", None)
        if isinstance(error, DataCorruptionError):
            raise WrongAnswerError(f"{name}: {type(error).__name__}: {error}") from error
        if isinstance(error, DataLossError):  # its worker is away; at the end all must be there again
            self.failures[f"{name}: DataLossError while a worker is away"] += 1
            return
        if number in _WRONG_ANSWERS and not isinstance(error, isotach.UnavailableError | isotach.UfsError):
            raise WrongAnswerError(f"{name}: {type(error).__name__}: {error}") from error
        self.failures[f"{name}: {type(error).__name__}: {_without_names(str(error))}"] += 1

    def _stamp(self) -> Stamp:
        self._generation += 1
        kind = self._random.random()
        top = 64 << 10 if kind < 0.7 else (1 << 20) + 7 if kind < 0.93 else (6 << 20) + 13
        return Stamp(self._number, self._generation, self._random.randrange(SIZE_MIN, top))

    def _some_file(self) -> str | None:
        own = sorted(path for path in self.model.files if path.startswith(self._home))
        return self._random.choice(own) if own else None

    def _some_folder(self) -> str:
        return self._random.choice(sorted(self.model.folders))

    def _new_path(self) -> str:
        return f"{self._some_folder()}/n{self._random.randrange(10**6)}"

    # --- operations ---

    def _write_new(self) -> None:
        if len(self.model.files) >= FILES_MAX:
            self._remove_file()
        else:
            self._write(self._new_path())

    def _overwrite(self) -> None:
        path = self._some_file()
        if path is not None:
            self._write(path)

    def _write_shared(self) -> None:
        self._write(f"{self._shared}/c{self._number}-{self._random.randrange(3)}")

    def _write(self, path: str) -> None:
        stamp, write_type = self._stamp(), self._random.choice(WRITE_TYPES)
        data = content_of(stamp)
        if path in self.model.folders:
            return

        def write() -> None:
            if stamp.generation % 3:
                self._fs.write(path, data, write_type=write_type)
                return
            with self._fs.open(path, "wb", write_type=write_type, block_size=1 << 20) as out:
                for start in range(0, len(data), 300_000):
                    out.write(data[start : start + 300_000])

        file = SoakFile(stamp, write_type != "MUST_CACHE")
        self._change(f"write {write_type}", write, [path], lambda model: model.write(path, file))

    def _rename_file(self) -> None:
        source = self._some_file()
        others = sorted(path for path in self.model.files if path.startswith(self._home))
        if source is None:
            return
        target = self._random.choice(others) if self._random.random() < 0.3 else self._new_path()
        if target != source and target not in self.model.folders:
            self._change(
                "rename",
                lambda: self._fs.rename(source, target),
                [source, target],
                lambda model: model.rename(source, target),
            )

    def _rename_folder(self) -> None:
        source, target = self._some_folder(), self._new_path()
        if source == self._home or target.startswith(source + "/") or target in self.model.files:
            return
        self._change(
            "rename",
            lambda: self._fs.rename(source, target),
            [source, target],
            lambda model: model.rename(source, target),
        )

    def _remove_file(self) -> None:
        path = self._some_file()
        if path is not None:
            self._change("remove", lambda: self._fs.remove(path), [path], lambda model: model.remove(path))

    def _remove_folder(self) -> None:
        path = self._some_folder()
        if path != self._home:
            self._change(
                "remove_folder",
                lambda: self._fs.remove(path, recursive=True),
                [path],
                lambda model: model.remove(path),
            )

    def _mkdir(self) -> None:
        path = self._new_path()
        taken = path in self.model.folders or path in self.model.files
        if not taken and len(self.model.folders) < FOLDERS_MAX and path.count("/") - self._home.count("/") < DEPTH_MAX:
            self._change("mkdir", lambda: self._fs.mkdir(path), [path], lambda model: model.mkdir(path))

    def _read(self) -> None:
        path = self._random.choice(sorted(self.model.files)) if self.model.files else None
        if path is not None:
            if self._random.random() < 0.5:
                data = self._fs.read(path)
            else:
                with self._fs.open(path) as stream:
                    data = b"".join(iter(lambda: stream.read(400_000), b""))
            self._check(path, data)

    def _read_part(self) -> None:
        path = self._some_file()
        if path is not None:
            stamp = self.model.files[path].stamp
            offset = self._random.randrange(stamp.size)
            data = self._fs.read(path, offset=offset, length=100_000)
            if data != content_of(stamp)[offset : offset + 100_000]:
                raise WrongAnswerError(f"{path} from {offset}: {len(data)} bytes differ from {stamp}")

    def _read_other(self) -> None:
        """A file of another client: whole, of that client, and never older than what was seen before."""
        names = [info.path for info in self._fs.list(self._shared) if not info.is_dir]
        if not names:
            return
        path = self._random.choice(sorted(names))
        try:
            data = self._fs.read(path)
        except FileNotFoundError:
            return  # its owner removed it after an unclear write
        except OSError as error:
            if error.errno == errno.ESTALE:
                return  # replaced in the middle of the read, again and again
            raise
        fault, stamp = fault_of(data), stamp_of(data)
        before = self._seen.get(path)
        if fault is not None or stamp is None:
            raise WrongAnswerError(f"{path}: {fault}")
        if before is not None and stamp.generation < before.generation:
            raise WrongAnswerError(f"{path} went back from {before} to {stamp}")
        self._seen[path] = stamp

    def _list(self) -> None:
        folder = self._some_folder()
        found = {info.path: info for info in self._fs.list(folder)}
        expected = self.model.children(folder)
        if set(found) != expected:
            more, less = sorted(set(found) - expected), sorted(expected - set(found))
            raise WrongAnswerError(f"list of {folder}: not known {more}, missing {less}")
        for path, info in found.items():
            file = self.model.files.get(path)
            if info.is_dir != (file is None) or (file is not None and info.length != file.stamp.size):
                raise WrongAnswerError(f"list of {folder}: {path} is {info.length} bytes long, dir {info.is_dir}")

    def _stat(self) -> None:
        path = self._some_file()
        if path is not None:
            info, file = self._fs.stat(path), self.model.files[path]
            if info.is_dir or info.length != file.stamp.size:
                raise WrongAnswerError(f"{path} is said to have {info.length} bytes; {file.stamp}")
        if self._fs.exists(f"{self._home}/never"):
            raise WrongAnswerError(f"{self._home}/never is said to exist")

    def _free(self) -> None:
        path = self._some_file()
        if path is not None:
            self._fs.free(path)

    def _persist(self) -> None:
        path = self._some_file()
        if path is not None:
            self._fs.persist(path, wait=False)
            self.model.write(path, SoakFile(self.model.files[path].stamp, True))

    # --- checking ---

    def _check(self, path: str, data: bytes) -> None:
        stamp = self.model.files[path].stamp
        if data != content_of(stamp):
            raise WrongAnswerError(f"{path} should be {stamp}: {fault_of(data) or stamp_of(data)}")

    def _change(
        self, name: str, call: Callable[[], object], touched: list[str], apply: Callable[[SoakModel], None]
    ) -> None:
        try:
            call()
        except (isotach.IsotachError, OSError) as error:
            self._judge(name, error)
            after = self.model.copy()
            apply(after)
            self._settle(name, touched, after, subset=name == "remove_folder")
        else:
            apply(self.model)
            self.counts[name] += 1

    def _settle(self, name: str, touched: list[str], after: SoakModel, *, subset: bool) -> None:
        """Looks what an unclear call left, which must be the state before or after it, and removes it."""
        allowed = [_parts(self.model, touched), _parts(after, touched)]
        deadline = time.monotonic() + SETTLE_S
        while True:
            seen = self._look_at(name, touched)
            fits = set(seen.files) <= set(allowed[0].files) if subset else any(seen.equals(each) for each in allowed)
            if fits:
                break
            if time.monotonic() > deadline:
                told = " or ".join(each.describe() for each in allowed)
                raise WrongAnswerError(f"after an unclear {name} of {touched}: {seen.describe()}; allowed {told}")
            time.sleep(_PAUSE_S)  # the call may take effect between two looks
        for path in touched:
            self._until_done(functools.partial(self._remove_all, path), f"remove after {name}")
            self.model.remove(path)
        self.counts["settled"] += 1

    def _look_at(self, name: str, paths: list[str]) -> SoakModel:
        seen = SoakModel()

        def look() -> None:
            seen.files.clear()
            seen.folders.clear()
            for path in paths:
                self._look(path, seen)

        self._until_done(look, f"look after {name}", may_move=True)
        return seen

    def _look(self, path: str, seen: SoakModel) -> None:
        """Adds what is at and below `path` to `seen`."""
        try:
            info = self._fs.stat(path)
        except FileNotFoundError as error:
            if isinstance(error, isotach.UfsError):
                raise
            return
        if info.is_dir:
            seen.mkdir(path)
            for child in self._fs.list(path):
                self._look(child.path, seen)
            return
        data = self._fs.read(path)
        fault, stamp = fault_of(data), stamp_of(data)
        if fault is not None or stamp is None:
            raise WrongAnswerError(f"{path}: {fault}")
        seen.write(path, SoakFile(stamp, False))

    def _remove_all(self, path: str) -> None:
        try:
            self._fs.remove(path, recursive=True)
        except FileNotFoundError as error:
            if isinstance(error, isotach.UfsError):
                raise

    def _until_done(self, action: Callable[[], object], what: str, *, may_move: bool = False) -> None:
        """Tries until it works. `may_move`: what is looked at may go away in between."""
        deadline = time.monotonic() + SETTLE_S
        while True:
            try:
                action()
                return
            except (isotach.IsotachError, OSError) as error:
                if not (may_move and isinstance(error, FileNotFoundError)):
                    self._judge(what, error)
                if time.monotonic() > deadline:
                    raise WrongAnswerError(f"{what} still fails after {SETTLE_S:.0f} s: {error}") from error
            time.sleep(_PAUSE_S)


def _parts(model: SoakModel, paths: list[str]) -> SoakModel:
    whole = SoakModel()
    for path in paths:
        part = model.below(path)
        whole.files |= part.files
        whole.folders |= part.folders
    return whole


def _without_names(text: str) -> str:
    """Paths and numbers taken out, so that failures of one kind count as one."""
    words = ["…" if "/" in word or any(letter.isdigit() for letter in word) else word for word in text.split()]
    return " ".join(words)[:160]


def home_of(number: int, roots: Sequence[str]) -> str:
    """The subtree of a client: they take turns over the mounts."""
    return posixpath.join(roots[number % len(roots)], f"c{number:03}")
