"""The fields of a file's information as people read them: mode letters, times, sizes, state.

Owns: these texts. Pure, but for the local time zone. Never: prints.
"""

import time
from typing import TYPE_CHECKING

from isotach.conf.units import approximate_size

if TYPE_CHECKING:
    from isotach.base.types import FileInfo


def mode_text(info: "FileInfo") -> str:
    """As `ls -l` writes it: `drwxr-xr-x`."""
    import stat

    return stat.filemode((stat.S_IFDIR if info.is_dir else stat.S_IFREG) | info.mode)


def size_text(size_bytes: int, human: bool) -> str:
    """Exact bytes, or three digits and a unit."""
    return approximate_size(size_bytes) if human else str(size_bytes)


def time_text(seconds: float) -> str:
    """Local time to the second, in an order that sorts."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def persistence_text(info: "FileInfo") -> str:
    """Whether the under storage holds it: PERSISTED, NOT_PERSISTED, or LOST when nobody does (Alluxio's words)."""
    if info.lost:
        return "LOST"
    return "PERSISTED" if info.persisted else "NOT_PERSISTED"


def cached_text(info: "FileInfo") -> str:
    """The share of a file that is cached; a directory says so instead."""
    return "DIR" if info.is_dir else f"{info.cached_percent}%"
