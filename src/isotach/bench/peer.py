"""Other processes of a benchmark: started as modules of this package, heard by their lines, ended with the block.

Owns: their life. Never: what they do (`*_peer.py`).
"""

import selectors
import subprocess
import sys
from typing import IO, Self

_END_S = 10.0


class Peer:
    """A running `python -m isotach.bench.<module> ARGUMENT...`."""

    def __init__(self, module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", f"isotach.bench.{module}", *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._stdout, selectors.EVENT_READ)

    def line(self) -> str:
        """The next line it prints. Raises RuntimeError when it ends instead."""
        line = self._stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r} ended with {self._process.wait()} and said nothing")
        return line.decode().strip()

    def has_spoken(self) -> bool:
        """Whether a line (or its end) can be read without waiting."""
        return bool(self._selector.select(0))

    @property
    def _stdout(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._selector.close()
        self._stdout.close()
