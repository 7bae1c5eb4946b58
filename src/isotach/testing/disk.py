"""A small file system of its own, to be filled, write-protected or taken away by tests.

Owns: a mounted tmpfs and its end. Never: anything in it but the filler. Needs root.
"""

import contextlib
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_FILLER: Final = "somebody-elses-file"
_PIECE: Final = b"\xa5" * 65536


class SmallDisk:
    """A tmpfs of `size_bytes` at `path`. A context manager: leaving it unmounts."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        """Raises OSError when it cannot be mounted."""
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        _run("mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(path))

    def fill(self) -> None:
        """Takes all the room there is, down to the last page."""
        with contextlib.suppress(OSError), (self.path / _FILLER).open("wb", buffering=0) as out:
            while True:
                out.write(_PIECE)

    def empty(self) -> None:
        """Undoes `fill`."""
        (self.path / _FILLER).unlink(missing_ok=True)

    def remount(self, mode: str) -> None:
        """`ro` or `rw`. Raises OSError when the kernel refuses (files open for writing forbid `ro`)."""
        _run("mount", "-o", f"remount,{mode}", str(self.path))

    def close(self) -> None:
        """Unmounts, however busy it is."""
        with contextlib.suppress(OSError):
            _run("umount", "-l", str(self.path))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
