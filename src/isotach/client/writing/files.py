"""The file objects that `open` gives for writing: standard Python ones that commit at close.

Owns: when closing commits and when it gives up. Never: sends anything itself.

`close` commits, and the file is visible when it returns. Leaving a `with` block by an exception gives the write up, and
so does losing the last reference without closing: a half written file is never taken for a whole one.
"""

import io
import types
import warnings
from typing import TYPE_CHECKING

from isotach.base.limits import WRITE_CHUNK_BYTES
from isotach.client.writing.version_writer import VersionWriter

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class WriterRaw(io.RawIOBase):
    """The raw layer over a `VersionWriter`; not seekable, but `tell` works."""

    mode = "wb"

    def __init__(self, writer: VersionWriter, name: str) -> None:
        super().__init__()
        self.name = name
        self._writer = writer
        self._given_up = False

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._writer.position

    def write(self, buffer: "ReadableBuffer", /) -> int:
        if self.closed:
            raise ValueError("I/O operation on a closed file")
        with memoryview(buffer) as view, view.cast("B") as raw:
            if not self._given_up:
                self._writer.write(raw)
            return len(raw)

    def give_up(self) -> None:
        """From now on bytes are dropped, and closing leaves nothing behind."""
        self._given_up = True
        self._writer.abort()

    def close(self) -> None:
        if self.closed:
            return
        try:
            if not self._given_up:
                self._writer.commit()
        finally:
            super().close()

    def __del__(self) -> None:
        if not self.closed:
            self.give_up()
            super().close()


class WriteFile(io.BufferedWriter):
    """A binary file being written."""

    def __init__(self, writer: VersionWriter, name: str) -> None:
        self._writer_raw = WriterRaw(writer, name)
        super().__init__(self._writer_raw, WRITE_CHUNK_BYTES)

    def abort(self) -> None:
        """Closes without committing: nothing becomes visible."""
        if not self.closed:
            self._writer_raw.give_up()
            super().close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def __del__(self) -> None:
        if not self.closed:
            _warn_unclosed(self._writer_raw.name)
            self.abort()


class WriteTextFile(io.TextIOWrapper):
    """A text file being written."""

    def __init__(self, binary: WriteFile, encoding: str | None, errors: str | None, newline: str | None) -> None:
        self._binary = binary
        super().__init__(binary, encoding=encoding, errors=errors, newline=newline)

    def abort(self) -> None:
        """Closes without committing: nothing becomes visible."""
        if not self.closed:
            self._binary._writer_raw.give_up()
            super().close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def __del__(self) -> None:
        if not self.closed:
            _warn_unclosed(self._binary._writer_raw.name)
            self.abort()


def _warn_unclosed(name: str) -> None:
    warnings.warn(
        f"{name!r} was not closed, so nothing was written: close it, or use `with`", ResourceWarning, stacklevel=3
    )
