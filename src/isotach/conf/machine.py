"""The facts about this machine and user that defaults depend on.

Owns: their names. Never: finds them out (`conf.load` does), so that everything above stays a function of its arguments.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What a default may depend on."""

    cores: int  # that this process may use
    ram_bytes: int  # of the machine, or of the container if that is less
    home: Path
    cwd: Path  # what a relative path is relative to
    user: str  # the login name
    tmpfs: Path | None  # a folder in memory, or None where the system has none
    room_bytes: Callable[[Path], int]  # free in the file system of a folder, plus what the folder itself holds

    def absolute(self, text: str) -> Path:
        """The path that `text` names: `~` is the home folder, a relative path starts at `cwd`."""
        if text == "~" or text.startswith("~/"):
            return self.home / text[2:]
        return self.cwd / text
