"""Sequences of reads that tell eviction policies apart: epochs, loops, scans, Zipf, mixtures, a change of phase.

Owns: the seeded generators, and how large the cache of each is. Never: replays them (`bench.replay` does).
"""

import random
from bisect import bisect
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Final

import msgspec

from isotach.base.limits import KIB, MIB

ITEMS: Final = 2_000  # what an epoch or loop goes through
MANY: Final = 20_000  # what Zipf reads choose from
READS: Final = 60_000
_UNIFORM_BYTES: Final = MIB


class Trace(msgspec.Struct, frozen=True):
    """Reads of whole items, in order, by number; `sizes` says how many bytes each number has."""

    name: str
    reads: list[int]
    sizes: dict[int, int]
    cache_bytes: int


Reads = Callable[[random.Random, int], Iterator[int]]


def loop(_chance: random.Random, first: int) -> Iterator[int]:
    """The same order, over and over."""
    while True:
        yield from range(first, first + ITEMS)


def epochs(chance: random.Random, first: int) -> Iterator[int]:
    """Each item once per epoch, in an order drawn anew for each: what training reads."""
    items = list(range(first, first + ITEMS))
    while True:
        chance.shuffle(items)
        yield from items


def zipf(alpha: float, items: int = MANY) -> Reads:
    """Independent reads, the k-th most popular with a weight of k ** -alpha."""

    def draw(chance: random.Random, first: int) -> Iterator[int]:
        sums = list(accumulate((rank + 1) ** -alpha for rank in range(items)))
        names = list(range(first, first + items))
        chance.shuffle(names)
        while True:
            yield names[bisect(sums, chance.random() * sums[-1])]

    return draw


def hot_and_scans(chance: random.Random, first: int) -> Iterator[int]:
    """A hot set of 600 items; now and then a scan of 1,500 that are never seen again runs through it."""
    fresh = first + 600
    while True:
        for _ in range(3_000):
            yield first + chance.randrange(600)
        for number in range(1_500):
            yield fresh + number
            if chance.random() < 0.25:
                yield first + chance.randrange(600)
        fresh += 1_500


def mixture(chance: random.Random, first: int) -> Iterator[int]:
    """Three users at once: Zipf reads, shuffled epochs, and scans of new data."""
    popular, training = zipf(1.0)(chance, first), epochs(chance, first + MANY)
    fresh = first + MANY + ITEMS
    while True:
        share = chance.random()
        if share < 0.5:
            yield next(popular)
        elif share < 0.85:
            yield next(training)
        else:
            yield fresh
            fresh += 1


def phases(chance: random.Random, first: int) -> Iterator[int]:
    """Zipf reads of one set, then of another, then epochs over a third, then the first again."""
    streams = [
        zipf(1.0, 6_000)(chance, first),
        zipf(1.0, 6_000)(chance, first + 6_000),
        epochs(chance, first + 12_000),
    ]
    while True:
        for number in (0, 1, 2, 0):
            for _ in range(READS // 4):
                yield next(streams[number])


#: Name, generator, and the cache in items of average size.
KINDS: Final[tuple[tuple[str, Reads, int], ...]] = (
    ("loop", loop, ITEMS // 2),
    ("epochs 30 %", epochs, ITEMS * 3 // 10),
    ("epochs 50 %", epochs, ITEMS // 2),
    ("epochs 80 %", epochs, ITEMS * 8 // 10),
    ("scans over a hot set", hot_and_scans, 1_000),
    ("Zipf 0.8", zipf(0.8), MANY // 20),
    ("Zipf 1.0", zipf(1.0), MANY // 20),
    ("Zipf 1.2", zipf(1.2), MANY // 20),
    ("mix", mixture, MANY // 10),
    ("phases", phases, 1_000),
)


def make_trace(kind: tuple[str, Reads, int], mixed: bool, seed: int = 1, reads: int = READS) -> Trace:
    """One trace; `mixed` sizes are log-normal, from 16 KiB to 16 MiB."""
    name, generate, items = kind
    chance = random.Random(f"{name} {seed}")
    stream = generate(chance, 1)
    wanted = [next(stream) for _ in range(reads)]
    sizes = {number: _size(chance) if mixed else _UNIFORM_BYTES for number in sorted(set(wanted))}
    average = sum(sizes.values()) // len(sizes) // KIB * KIB
    return Trace(name + (", mixed sizes" if mixed else ""), wanted, sizes, items * average)


def traces(reads: int = READS) -> Iterator[Trace]:
    """Every kind, with equal and with mixed sizes."""
    for mixed in (False, True):
        for kind in KINDS:
            yield make_trace(kind, mixed, reads=reads)


def _size(chance: random.Random) -> int:
    return int(min(max(chance.lognormvariate(13.5, 1.2), 16 * KIB), 16 * MIB)) // KIB * KIB
