"""A file system exerciser: random calls on one file, compared byte for byte with the same done to a bytearray.

Owns: the random calls, the model, and the journal of what was done before a difference. Never: knows which file system
it is on; what that refuses with EOPNOTSUPP is left out from then on.

After fsx of Apple and NeXT, by way of xfstests. By hand, for long runs:
`python -m isotach.testing.fsx PATH --seed 7 --ops 5000`.
"""

import argparse
import collections
import ctypes
import errno
import mmap
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_KEEP_SIZE: Final = 1
_PUNCH_HOLE: Final = 2
_ZERO_RANGE: Final = 16
_JOURNAL_STEPS: Final = 40
_DESCRIPTORS_MAX: Final = 3
_NO_DATA: Final = errno.ENXIO


class DifferenceError(AssertionError):
    """The file is not what its history says; the message has the last calls."""


def _fallocate(descriptor: int, mode: int, offset: int, length: int) -> None:
    if _LIBC.fallocate(descriptor, mode, ctypes.c_long(offset), ctypes.c_long(length)):
        number = ctypes.get_errno()
        raise OSError(number, f"fallocate: {os.strerror(number)}")


class Exerciser:
    """One file, its model, and the calls. `length_max` bounds the file in bytes. Call `run`, then `close`."""

    def __init__(self, path: Path, seed: int, length_max: int = 1 << 18) -> None:
        self._path = path
        self._random = random.Random(seed)
        self._length_max = length_max
        self._model = bytearray()
        self._journal: collections.deque[str] = collections.deque(maxlen=_JOURNAL_STEPS)
        self._refused: set[str] = set()
        self._descriptors = [os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)]
        self._calls: list[tuple[int, Callable[[], None]]] = [
            (8, self.read), (8, self.write), (2, self.append), (4, self.truncate), (5, self.map_read),
            (6, self.map_write), (3, self.punch_hole), (3, self.zero_range), (2, self.reserve), (4, self.copy_range),
            (2, self.sync), (2, self.drop_pages), (3, self.reopen), (2, self.open_again), (2, self.close_one),
            (2, self.read_alone), (2, self.seek), (2, self.truncate_by_name), (1, self.open_truncating),
        ]  # fmt: skip

    def run(self, steps: int) -> None:
        """Does so many calls. Raises `DifferenceError`, and any OSError that is no refusal, with the journal."""
        weights = [weight for weight, _call in self._calls]
        for number in range(steps):
            _weight, call = self._random.choices(self._calls, weights)[0]
            if call.__name__ in self._refused:
                continue
            try:
                call()
            except OSError as problem:
                if problem.errno != errno.EOPNOTSUPP:
                    problem.add_note(self._story(number))
                    raise
                self._refused.add(call.__name__)
            length = os.fstat(self._descriptor).st_size
            if length != len(self._model):
                raise DifferenceError(f"the file has {length} bytes, not {len(self._model)}\n{self._story(number)}")

    def close(self) -> None:
        """Closes the file, reads it as a whole, and compares."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()
        self._same(0, self._path.read_bytes(), len(self._model), "the whole file at the end")

    @property
    def refused(self) -> frozenset[str]:
        """The calls that the file system does not offer."""
        return frozenset(self._refused)

    # --- reading ---

    def read(self) -> None:
        """pread(2), beyond the end, too."""
        offset, size = self._range(beyond=True)
        self._note(f"read {offset} {size}")
        self._same(offset, os.pread(self._descriptor, size, offset), size, "read")

    def map_read(self) -> None:
        """Reads a shared map."""
        if self._model:
            offset, size = self._range()
            self._note(f"map_read {offset} {size}")
            with mmap.mmap(self._descriptor, len(self._model), prot=mmap.PROT_READ) as view:
                self._same(offset, view[offset : offset + size], size, "map_read")

    def read_alone(self) -> None:
        """Reads the file as who just opened it for reading; nobody else has it open then, every second time."""
        if self._random.random() < 0.5:
            self._close_all()
        offset, size = self._range(beyond=True)
        self._note(f"read_alone {offset} {size} descriptors={len(self._descriptors)}")
        reader = os.open(self._path, os.O_RDONLY)
        try:
            self._same(offset, os.pread(reader, size, offset), size, "read_alone")
        finally:
            os.close(reader)
        if not self._descriptors:
            self._descriptors.append(os.open(self._path, os.O_RDWR))

    def seek(self) -> None:
        """SEEK_DATA and SEEK_HOLE: what is called a hole must read as zeros, and the end is one."""
        offset, _size = self._range()
        self._note(f"seek {offset}")
        try:
            data = os.lseek(self._descriptor, offset, os.SEEK_DATA)
        except OSError as problem:
            if problem.errno != _NO_DATA:
                raise
            data = len(self._model)
        if any(self._model[offset:data]) or not offset <= data <= len(self._model):
            raise DifferenceError(f"data from {offset} on is said to be at {data} first\n{self._story()}")
        if offset < len(self._model):
            hole = os.lseek(self._descriptor, offset, os.SEEK_HOLE)
            if not offset <= hole <= len(self._model):
                raise DifferenceError(f"the hole behind {offset} is said to be at {hole}\n{self._story()}")

    # --- changing ---

    def write(self) -> None:
        """pwrite(2), leaving a hole now and then."""
        offset, size = self._range(beyond=True)
        content = self._content(size)
        self._note(f"write {offset} {size}")
        self._wrote(offset, content, os.pwrite(self._descriptor, content, offset))

    def append(self) -> None:
        """A write at the end, through a descriptor that only appends."""
        size = min(self._random.randrange(1, 9000), self._length_max - len(self._model))
        if size > 0:
            content = self._content(size)
            self._note(f"append {size}")
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND)
            try:
                self._wrote(len(self._model), content, os.write(descriptor, content))
            finally:
                os.close(descriptor)

    def map_write(self) -> None:
        """Writes through a shared map; every second time without msync."""
        offset, size = self._range()
        if size:
            content = self._content(size)
            self._note(f"map_write {offset} {size}")
            with mmap.mmap(self._descriptor, len(self._model)) as view:
                view[offset : offset + size] = content
                if self._random.random() < 0.5:
                    view.flush()
            self._wrote(offset, content, size)

    def truncate(self) -> None:
        """ftruncate(2), both ways."""
        length = self._length()
        self._note(f"truncate {length} from {len(self._model)}")
        os.ftruncate(self._descriptor, length)
        self._set_length(length)

    def truncate_by_name(self) -> None:
        """truncate(2); every second time nobody has the file open."""
        if self._random.random() < 0.5:
            self._close_all()
        length = self._length()
        self._note(f"truncate_by_name {length} from {len(self._model)} descriptors={len(self._descriptors)}")
        os.truncate(self._path, length)
        self._set_length(length)
        if not self._descriptors:
            self._descriptors.append(os.open(self._path, os.O_RDWR))

    def open_truncating(self) -> None:
        """open(2) with O_TRUNC, beside the descriptors that there are."""
        self._note(f"open_truncating from {len(self._model)}")
        os.close(os.open(self._path, os.O_WRONLY | os.O_TRUNC))
        self._set_length(0)

    def punch_hole(self) -> None:
        """fallocate(2) that frees a range."""
        offset, size = self._range(beyond=True)
        if size:
            self._note(f"punch_hole {offset} {size}")
            _fallocate(self._descriptor, _PUNCH_HOLE | _KEEP_SIZE, offset, size)
            self._zero(offset, size)

    def zero_range(self) -> None:
        """fallocate(2) that makes zeros of a range, with growth and without."""
        offset, size = self._range(beyond=True)
        if size:
            keeps = self._random.random() < 0.5
            self._note(f"zero_range {offset} {size} keeps={keeps}")
            _fallocate(self._descriptor, _ZERO_RANGE | (_KEEP_SIZE if keeps else 0), offset, size)
            if not keeps:
                self._set_length(max(len(self._model), offset + size))
            self._zero(offset, size)

    def reserve(self) -> None:
        """Plain fallocate(2), with growth and without."""
        offset, size = self._range(beyond=True)
        if size:
            keeps = self._random.random() < 0.5
            self._note(f"reserve {offset} {size} keeps={keeps}")
            _fallocate(self._descriptor, _KEEP_SIZE if keeps else 0, offset, size)
            if not keeps:
                self._set_length(max(len(self._model), offset + size))

    def copy_range(self) -> None:
        """copy_file_range(2) within the file, between ranges that do not overlap."""
        source, size = self._range()
        target = self._random.randrange(self._length_max)
        size = min(size, self._length_max - target)
        if size and (target + size <= source or source + size <= target):
            self._note(f"copy_range {source} {size} to {target}")
            other = self._random.choice(self._descriptors)
            count = os.copy_file_range(other, self._descriptor, size, source, target)
            self._wrote(target, bytes(self._model[source : source + size]), count)

    # --- opening, closing, forgetting ---

    def sync(self) -> None:
        """fsync(2) or fdatasync(2)."""
        self._note("sync")
        self._random.choice([os.fsync, os.fdatasync])(self._descriptor)

    def drop_pages(self) -> None:
        """Has the kernel write back and forget what it holds of the file."""
        self._note("drop_pages")
        os.fsync(self._descriptor)
        os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def reopen(self) -> None:
        """The last close, and another open."""
        self._note("reopen")
        self._close_all()
        self._descriptors.append(os.open(self._path, os.O_RDWR))

    def open_again(self) -> None:
        """One descriptor more."""
        if len(self._descriptors) < _DESCRIPTORS_MAX:
            self._note("open_again")
            self._descriptors.append(os.open(self._path, os.O_RDWR))

    def close_one(self) -> None:
        """One descriptor less."""
        if len(self._descriptors) > 1:
            self._note("close_one")
            os.close(self._descriptors.pop(self._random.randrange(len(self._descriptors))))

    # --- the model ---

    @property
    def _descriptor(self) -> int:
        return self._random.choice(self._descriptors)

    def _close_all(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.pop())

    def _range(self, beyond: bool = False) -> tuple[int, int]:
        """Offset and size; within the file, or, `beyond`, anywhere below the bound. Often at pages' borders."""
        end = self._length_max if beyond and self._random.random() < 0.4 else len(self._model)
        if end == 0:
            return 0, self._random.randrange(1, 9000) if beyond else 0
        offset = self._random.randrange(end)
        if self._random.random() < 0.3:
            offset &= ~(mmap.PAGESIZE - 1)
        size = min(self._random.choice([1, 100, 4096, 16384, 70_000]), end - offset)
        return offset, self._random.randrange(1, size + 1) if self._random.random() < 0.7 else size

    def _length(self) -> int:
        length = self._random.randrange(self._length_max + 1)
        return length & ~(mmap.PAGESIZE - 1) if self._random.random() < 0.3 else length

    def _content(self, size: int) -> bytes:
        return self._random.randbytes(size)

    def _set_length(self, length: int) -> None:
        del self._model[length:]
        self._model.extend(bytes(length - len(self._model)))

    def _zero(self, offset: int, size: int) -> None:
        size = min(size, len(self._model) - offset)
        if size > 0:
            self._model[offset : offset + size] = bytes(size)

    def _wrote(self, offset: int, content: bytes, count: int) -> None:
        if count < len(content):
            self._note(f"... only {count}")
        self._set_length(max(len(self._model), offset + count))
        self._model[offset : offset + count] = content[:count]

    def _same(self, offset: int, found: bytes, size: int, what: str) -> None:
        expected = bytes(self._model[offset : offset + size])
        if found != expected:
            differ = [at for at, pair in enumerate(zip(found, expected, strict=False)) if pair[0] != pair[1]]
            where = f"from {offset + differ[0]} to {offset + differ[-1]}, {len(differ)}" if differ else "no"
            raise DifferenceError(
                f"{what} at {offset}: {len(found)} bytes for {len(expected)}, {where} bytes differ; "
                f"found {found[differ[0] :][:16].hex() if differ else ''}\n{self._story()}"
            )

    def _note(self, what: str) -> None:
        self._journal.append(f"{what} (of {len(self._model)})")

    def _story(self, number: int | None = None) -> str:
        return "\n".join(
            [f"step {number}; the last calls:" if number is not None else "the last calls:", *self._journal]
        )


def main(arguments: list[str]) -> None:
    """Exercises the file PATH, which is made, and removed when all was well."""
    parser = argparse.ArgumentParser(description="Random calls on a file, compared with a model.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ops", type=int, default=5000)
    parser.add_argument("--length", type=int, default=1 << 18, help="bytes that the file has at most")
    given = parser.parse_args(arguments)
    exerciser = Exerciser(given.path, given.seed, given.length)
    exerciser.run(given.ops)
    exerciser.close()
    given.path.unlink()
    refused = f"; not offered: {', '.join(sorted(exerciser.refused))}" if exerciser.refused else ""
    sys.stdout.write(f"{given.ops} calls with seed {given.seed}: no difference{refused}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
