"""A program that uses a folder as any program does: `python -m isotach.bench.posix_peer WORK PATH [NUMBER...]`.

Owns: the loops that are timed, in a process of their own that knows nothing of who serves the folder. Prints one
figure. Never: makes the data (`posix.py` does).
"""

import mmap
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Final

from isotach.base.limits import KIB, MIB

READ_BYTES: Final = MIB
RANDOM_BYTES: Final = 4 * KIB
PER_FOLDER: Final = 1_000
_SEED: Final = 7


def small_path(folder: str, number: int) -> str:
    """Where small file `number` stands: a thousand to a folder."""
    return f"{folder}/{number // PER_FOLDER:03}/{number:06}"


def sequential(path: str) -> float:
    """Bytes per second of reading from end to end."""
    buffer = [bytearray(READ_BYTES)]
    descriptor = os.open(path, os.O_RDONLY)
    started, total = time.perf_counter(), 0
    while count := os.readv(descriptor, buffer):
        total += count
    took = time.perf_counter() - started
    os.close(descriptor)
    return total / took


def at_random(path: str, count: str) -> float:
    """Reads of 4 KiB per second, one after the other."""
    descriptor = os.open(path, os.O_RDONLY)
    chance = random.Random(_SEED)
    last = os.fstat(descriptor).st_size // RANDOM_BYTES - 1
    places = [chance.randint(0, last) * RANDOM_BYTES for _ in range(int(count))]
    buffer = [bytearray(RANDOM_BYTES)]
    started = time.perf_counter()
    for place in places:
        os.preadv(descriptor, buffer, place)
    took = time.perf_counter() - started
    os.close(descriptor)
    return len(places) / took


def epoch(folder: str, count: str, size: str) -> float:
    """Files per second of opening, reading and closing all of them in random order."""
    paths = [small_path(folder, number) for number in range(int(count))]
    random.Random(time.time_ns()).shuffle(paths)
    buffer, wanted = [bytearray(int(size) + 1)], int(size)
    started = time.perf_counter()
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        if os.readv(descriptor, buffer) != wanted:
            raise AssertionError(f"{path} came back short")
        os.close(descriptor)
    return len(paths) / (time.perf_counter() - started)


def write(path: str, size: str) -> float:
    """Bytes per second of writing a new file from end to end, with its close."""
    piece = os.urandom(READ_BYTES)
    started = time.perf_counter()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for _ in range(int(size) // READ_BYTES):
        os.write(descriptor, piece)
    os.close(descriptor)
    return int(size) // READ_BYTES * READ_BYTES / (time.perf_counter() - started)


def create(folder: str, count: str) -> float:
    """New empty files per second, each closed."""

    def one(path: str) -> None:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))

    return _each(one, folder, count)


def stat(folder: str, count: str) -> float:
    """Looks at files per second."""
    return _each(os.stat, folder, count)


def unlink(folder: str, count: str) -> float:
    """Removed files per second."""
    return _each(os.unlink, folder, count)


def touch_pages(path: str) -> float:
    """Bytes per second of mapping a file and touching one byte of every page."""
    started = time.perf_counter()
    with open(path, "rb") as source, mmap.mmap(source.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        with memoryview(mapped) as view, view[:: mmap.PAGESIZE] as pages:
            total = len(bytes(pages)) * mmap.PAGESIZE
    return total / (time.perf_counter() - started)


def _each(action: Callable[[str], object], folder: str, count: str) -> float:
    paths = [f"{folder}/{number:06}" for number in range(int(count))]
    started = time.perf_counter()
    for path in paths:
        action(path)
    return len(paths) / (time.perf_counter() - started)


WORKS: Final[dict[str, Callable[..., float]]] = {
    work.__name__: work for work in (sequential, at_random, epoch, write, create, stat, unlink, touch_pages)
}

if __name__ == "__main__":
    print(WORKS[sys.argv[1]](*sys.argv[2:]))
