"""A folder of Isotach beside tmpfs and beside other mounts: the works that are timed on each, in turns.

Owns: which work is done on which folder with which data, and the rows that come out. Never: mounts anything or starts a
server (the caller gives folders), nor knows what serves a folder.
"""

import os
import shutil
import statistics
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from isotach.base.limits import GIB, MIB
from isotach.bench.context import random_chunks
from isotach.bench.posix_peer import small_path

OURS: Final = "isotach"
TMPFS: Final = "tmpfs"
_COPY_BYTES: Final = 8 * MIB
_WRITERS: Final = 8


class PosixSizes(msgspec.Struct, frozen=True, kw_only=True):
    """How much each work moves."""

    large_bytes: int = GIB
    random_reads: int = 100_000
    small_files: int = 20_000
    small_bytes: int = 100_000
    entries: int = 5_000
    mapped_bytes: int = 8 * GIB
    repeats: int = 3


QUICK: Final = PosixSizes(
    large_bytes=64 * MIB, random_reads=20_000, small_files=500, entries=300, mapped_bytes=256 * MIB, repeats=2
)


class PosixRow(msgspec.Struct, frozen=True, kw_only=True):
    """One work: the figure of each folder, and what was promised (ratio at least, by whose folder)."""

    work: str
    unit: str
    figures: dict[str, float]
    targets: dict[str, float] = {}  # folder -> least ratio of ours to it
    least: float = 0.0  # least figure of ours

    def ratio(self, other: str) -> float | None:
        """Ours over theirs."""
        theirs = self.figures.get(other)
        return self.figures[OURS] / theirs if theirs else None

    @property
    def passed(self) -> bool:
        met = [(self.ratio(other) or 0.0) >= target for other, target in self.targets.items() if other in self.figures]
        return all(met) and self.figures[OURS] >= self.least

    @property
    def target_text(self) -> str:
        """The targets as people write them."""
        parts = [f">= {target:g} x {other}" for other, target in self.targets.items()]
        if self.least:
            parts.append(f">= {self.least:,.0f} {self.unit}")
        return ", ".join(parts) or "-"


Folders = Mapping[str, Path]


def figure(work: str, path: Path, *numbers: int) -> float:
    """What one run of the program says of one folder. Raises RuntimeError with what it wrote when it fails."""
    command = [sys.executable, "-m", "isotach.bench.posix_peer", work, str(path), *map(str, numbers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{work} in {path} failed: {done.stderr.strip().splitlines()[-1:]}")
    return float(done.stdout)


def in_turns(folders: Folders, repeats: int, run: Callable[[Path], float]) -> dict[str, float]:
    """The median for each folder of runs that take turns: A B C A B C."""
    taken: dict[str, list[float]] = {name: [] for name in folders}
    for _ in range(repeats):
        for name, folder in folders.items():
            taken[name].append(run(folder))
    return {name: statistics.median(values) for name, values in taken.items()}


def large_file(folders: Folders, sizes: PosixSizes) -> Iterator[PosixRow]:
    """Sequential and random reads of one hot file."""
    for folder in folders.values():
        write_whole(folder / "large", sizes.large_bytes)
        for _ in range(2):  # what caches by itself has it cached then
            figure("sequential", folder / "large")
    reads = in_turns(folders, sizes.repeats, lambda folder: figure("sequential", folder / "large"))
    yield PosixRow(
        work=f"hot sequential read, {sizes.large_bytes // MIB} MiB by 1 MiB", unit="GB/s", figures=in_gb(reads),
        targets={TMPFS: 0.95, "juicefs": 4},
    )  # fmt: skip
    at_random = in_turns(
        folders, sizes.repeats, lambda folder: figure("at_random", folder / "large", sizes.random_reads)
    )
    yield PosixRow(work="hot random reads of 4 KiB", unit="/s", figures=at_random, targets={TMPFS: 0.85})
    for folder in folders.values():
        (folder / "large").unlink()


def small_files(folders: Folders, sizes: PosixSizes) -> Iterator[PosixRow]:
    """Epochs over many small hot files. A folder `training` beside `isotach` is the same data in that mode."""
    for name, folder in folders.items():
        if name != "training":
            write_small(folder / "small", sizes)
        figure("epoch", folder / "small", sizes.small_files, sizes.small_bytes)
    epochs = in_turns(
        folders,
        sizes.repeats,
        lambda folder: figure("epoch", folder / "small", sizes.small_files, sizes.small_bytes),
    )
    training = epochs.pop("training", None)
    work = f"open+read+close, {sizes.small_files:,} hot files of {sizes.small_bytes // 1000} KB, shuffled"
    yield PosixRow(work=work, unit="/s", figures=epochs, targets={"juicefs": 3}, least=12_000)
    if training is not None:
        figures = {OURS: training, "default mode": epochs[OURS], TMPFS: epochs[TMPFS]}
        yield PosixRow(work="the same in training mode", unit="/s", figures=figures, targets={"default mode": 2})
    for name, folder in folders.items():
        if name != "training":
            shutil.rmtree(folder / "small")


def entries(folders: Folders, sizes: PosixSizes, forget: Callable[[], None]) -> Iterator[PosixRow]:
    """Creating, looking at (after `forget` has emptied the kernel's memory of names) and removing empty files."""
    taken: dict[str, dict[str, list[float]]] = {
        work: {name: [] for name in folders} for work in ("create", "stat", "unlink")
    }
    for turn in range(sizes.repeats):
        for name, folder in folders.items():
            place = folder / f"entries{turn}"
            place.mkdir()
            for work, values in taken.items():
                if work == "stat":
                    forget()
                values[name].append(figure(work, place, sizes.entries))
            place.rmdir()
    told = {"create": "create+close of empty files", "stat": "stat, cold", "unlink": "unlink"}
    for work, values in taken.items():
        figures = {name: statistics.median(each) for name, each in values.items()}
        yield PosixRow(work=told[work], unit="/s", figures=figures, targets={"juicefs": 1})


def writes(folders: Folders, sizes: PosixSizes) -> Iterator[PosixRow]:
    """Writing one large new file. A folder `passthrough` beside `isotach` is the same, written by the kernel itself."""

    def run(folder: Path) -> float:
        target = folder / "written"
        value = figure("write", target, sizes.large_bytes)
        target.unlink()
        return value

    run(folders[OURS])
    speeds = in_gb(in_turns(folders, sizes.repeats, run))
    kernel = speeds.pop("passthrough", None)
    work = f"write of {sizes.large_bytes // MIB} MiB, memory only"
    yield PosixRow(work=work, unit="GB/s", figures=speeds, targets={TMPFS: 0.5})
    if kernel is not None:
        figures = {OURS: kernel, TMPFS: speeds[TMPFS]}
        yield PosixRow(work=f"{work}, by passthrough", unit="GB/s", figures=figures, targets={TMPFS: 0.9})


def mapped(folders: Folders, sizes: PosixSizes) -> Iterator[PosixRow]:
    """Touching every page of a mapped safetensors file."""
    for folder in folders.values():
        write_safetensors(folder / "model.safetensors", sizes.mapped_bytes)
    speeds = in_turns(folders, sizes.repeats, lambda folder: figure("touch_pages", folder / "model.safetensors"))
    work = f"mmap of {sizes.mapped_bytes // MIB:,} MiB safetensors, every page touched"
    yield PosixRow(work=work, unit="GB/s", figures=in_gb(speeds), targets={TMPFS: 0.95})
    for folder in folders.values():
        (folder / "model.safetensors").unlink()


def in_gb(figures: Mapping[str, float]) -> dict[str, float]:
    """Bytes to 10^9 bytes."""
    return {name: value / 1e9 for name, value in figures.items()}


def write_whole(path: Path, size: int) -> None:
    """A file of random bytes."""
    with path.open("wb", buffering=0) as target:
        for chunk in random_chunks(size, _COPY_BYTES):
            target.write(chunk)


def write_small(folder: Path, sizes: PosixSizes) -> None:
    """Many small files of random bytes, several at a time."""
    data = os.urandom(sizes.small_bytes)
    paths = [Path(small_path(str(folder), number)) for number in range(sizes.small_files)]
    for parent in dict.fromkeys(path.parent for path in paths):
        parent.mkdir(parents=True)
    with ThreadPoolExecutor(_WRITERS) as pool:
        for _ in pool.map(lambda path: path.write_bytes(data), paths):
            pass


def write_safetensors(path: Path, size: int) -> None:
    """One tensor of bytes in the format's layout: length of the header, header in JSON, data."""
    header = msgspec.json.encode({"weights": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}})
    with path.open("wb", buffering=0) as target:
        target.write(struct.pack("<Q", len(header)) + header)
        for chunk in random_chunks(size, _COPY_BYTES):
            target.write(chunk)


def as_cells(rows: Sequence[PosixRow], others: Sequence[str]) -> list[tuple[str, ...]]:
    """The table: a line of heads, then one per row."""
    lines: list[tuple[str, ...]] = [("work", OURS, *others, "ratios", "target", "verdict")]
    for row in rows:
        told = [f"{row.figures[name]:,.3g}" if name in row.figures else "-" for name in (OURS, *others)]
        ratios = ", ".join(f"{row.ratio(name):.2f} x {name}" for name in row.figures if name != OURS)
        verdict = "met" if row.passed else "missed"
        lines.append((f"{row.work} ({row.unit})", *told, ratios, row.target_text, verdict))
    return lines
