"""Progress on standard error: a bar with bytes per second on a terminal, nothing anywhere else.

Owns: the bar. Never: counts a byte that was not reported to it.
"""

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from isotach.cli.failures import Failures
    from isotach.cli.output import Output


class Bar:
    """Where nobody looks: counts, and draws nothing. May be told things from any thread."""

    def __init__(self) -> None:
        self.files = 0
        self.bytes = 0
        self._lock = threading.Lock()

    def found(self, length: int) -> None:
        """One more file of `length` bytes is to be moved."""

    def moved(self, count: int) -> None:
        """`count` bytes have been moved."""
        with self._lock:
            self.bytes += count

    def file_done(self, length: int = 0) -> None:
        """A file is complete; `length` bytes of it were not told by `moved`."""
        with self._lock:
            self.files += 1
            self.bytes += length


class _RichBar(Bar):
    def __init__(self, progress: "Progress", task: "TaskID") -> None:
        super().__init__()
        self._progress = progress
        self._task = task
        self._total = 0

    def found(self, length: int) -> None:
        self._total += length
        self._progress.update(self._task, total=self._total)

    def moved(self, count: int) -> None:
        super().moved(count)
        self._progress.update(self._task, advance=count)

    def file_done(self, length: int = 0) -> None:
        super().file_done(length)
        self._progress.update(self._task, advance=length, files=self.files)


@contextlib.contextmanager
def transfer_bar(title: str, out: "Output", failures: "Failures") -> Iterator[Bar]:
    """The bar for one command. Failures may be reported while it moves: they appear above it."""
    if out.as_json or not sys.stderr.isatty():
        yield Bar()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TextColumn("{task.fields[files]} files"),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True, no_color=not failures.color)
    # Standard output is left alone: results may be going to a pipe.
    with Progress(*columns, console=console, redirect_stdout=False) as progress:
        yield _RichBar(progress, progress.add_task(title, total=None, files=0))
