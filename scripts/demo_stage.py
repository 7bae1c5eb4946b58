"""How the demo talks: coloured tables and progress bars on a terminal, plain text in a pipe.

Owns: the output of `demo`. Never: knows what is shown.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress
from rich.table import Table


class Stage:
    """One console, for the whole demo."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)

    def title(self, text: str) -> None:
        """Opens a chapter."""
        self._console.print()
        self._console.print(text, style="bold")

    def say(self, text: str) -> None:
        """One line; it wraps on a terminal, never in a pipe."""
        self._console.print(f"  {text}", markup=False, soft_wrap=not self._console.is_terminal)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table on a terminal, aligned columns in a pipe."""
        if self._console.is_terminal:
            table = Table(*columns)
            for row in rows:
                table.add_row(*row)
            self._console.print(table)
            return
        widths = [max(len(line[number]) for line in [columns, *rows]) for number in range(len(columns))]
        for line in [columns, *rows]:
            padded = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            self.say(padded.rstrip())

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar that is gone when done; nothing in a pipe. Gives `advance(by)`."""
        with Progress(console=self._console, transient=True, disable=not self._console.is_terminal) as bar:
            task = bar.add_task(what, total=total)
            yield lambda by: bar.advance(task, by)
