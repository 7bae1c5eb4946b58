"""How results reach standard output: tables and colours on a terminal, tabs in a pipe, JSON when asked for.

Owns: the three forms and the choice between them. Never: writes to standard error (`failures` and `progress` do), or
changes what a result says from one form to another.

In a pipe a row is one line of cells with a tab between, without a head: made for `grep`, `cut` and `awk`. With JSON a
command that lists (`ls`, `find`, `du`, ...) prints one object per line as it goes; all others print one document.
"""

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from isotach.cli.style import paint, visible

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from isotach.base.types import ReadBuffer

#: Rows of a streamed listing whose widths are looked at together.
ALIGNED_ROWS: Final = 1000


class Column(msgspec.Struct, frozen=True):
    """One column of a table: its head, its side, and a style of `style` for its cells on a terminal."""

    title: str
    right: bool = False
    style: str = ""


class Output:
    """Standard output of one command."""

    def __init__(self, *, as_json: bool, no_color: bool) -> None:
        self.as_json = as_json
        self.terminal = not as_json and sys.stdout.isatty()
        self.color = self.terminal and not no_color and not os.environ.get("NO_COLOR")

    # --- lines ---

    def line(self, text: str) -> None:
        """One line as it is."""
        sys.stdout.write(text + "\n")

    def path(self, text: str, style: str = "") -> str:
        """A path or name fit for this output: harmless and coloured on a terminal, untouched in a pipe."""
        if not self.terminal:
            return text
        return self.paint(visible(text), style)

    def paint(self, text: str, style: str) -> str:
        """The text in a style where colours are wanted."""
        return paint(text, style) if style and self.color else text

    def flush(self) -> None:
        """What has been printed so far reaches its reader."""
        sys.stdout.flush()

    def raw(self, data: "ReadBuffer") -> None:
        """Bytes of a file, untouched."""
        sys.stdout.flush()
        left = memoryview(data)
        while left:
            # With PYTHONUNBUFFERED this is the bare descriptor, which may take less than all.
            left = left[sys.stdout.buffer.write(left) :]

    # --- JSON ---

    def document(self, value: object) -> None:
        """One JSON document: indented on a terminal, on one line in a pipe."""
        indent = 2 if sys.stdout.isatty() else None
        self.line(json.dumps(_plain(value), indent=indent))

    def json_line(self, value: object) -> None:
        """One object of a listing, on a line of its own."""
        self.line(json.dumps(_plain(value)))

    def done(self, what: str, facts: Mapping[str, object], text: str = "") -> None:
        """Says that a change was made. Without JSON silence is consent, unless there is something to tell."""
        if self.as_json:
            self.json_line({"done": what, **facts})
        elif text:
            self.line(text)

    # --- tables ---

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[str]], title: str = "") -> None:
        """A table of few rows: with borders and heads on a terminal, tabs in a pipe."""
        if self.terminal:
            self.show(table_of(columns, rows, title))
            return
        for row in rows:
            self.line("\t".join(row))

    def stream(self, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
        """A table of any number of rows, in flat memory: aligned on a terminal as far as one batch sees."""
        if not self.terminal:
            for row in rows:
                self.line("\t".join(row))
            return
        widths = [0] * len(columns)
        batch: list[Sequence[str]] = []
        for row in rows:
            batch.append(row)
            if len(batch) == ALIGNED_ROWS:
                self._aligned(columns, batch, widths)
                batch = []
        self._aligned(columns, batch, widths)

    def _aligned(self, columns: Sequence[Column], batch: Sequence[Sequence[str]], widths: list[int]) -> None:
        for row in batch:
            widths[:] = map(max, widths, map(len, row))
        last = len(columns) - 1
        for row in batch:
            cells = []
            for index, (column, cell, width) in enumerate(zip(columns, row, widths, strict=True)):
                padded = cell.rjust(width) if column.right else cell if index == last else cell.ljust(width)
                cells.append(self.paint(padded, column.style))
            self.line("  ".join(cells))

    def show(self, what: "RenderableType") -> None:
        """Anything of rich's, on a terminal."""
        sys.stdout.flush()
        self.console().print(what)

    def console(self) -> "Console":
        """Rich's console over standard output."""
        from rich.console import Console

        return Console(no_color=not self.color, highlight=False, soft_wrap=False)


def table_of(columns: Sequence[Column], rows: Iterable[Sequence[str]], title: str = "") -> "RenderableType":
    """Rich's table; cells are plain text, never markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, title_style="bold")
    for column in columns:
        style = {"directory": "bold blue", "": None}.get(column.style, column.style)
        table.add_column(column.title, justify="right" if column.right else "left", style=style, overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    return table


def _plain(value: object) -> object:
    """Builtin values, for `json`, which also keeps names that are no UTF-8 (as escaped surrogates)."""
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, msgspec.Struct):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, bytes):
        return os.fsdecode(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Iterable):
        return [_plain(inner) for inner in value]
    return str(value)
