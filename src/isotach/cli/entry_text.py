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

    types = (
        stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK
    )  # fmt: skip
    return stat.filemode(types[info.kind] | info.mode)


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
    if not (info.is_dir or info.is_file):
        return "NAMESPACE"  # where alone links, FIFOs and their like are kept
    return "PERSISTED" if info.persisted else "NOT_PERSISTED"


def cached_text(info: "FileInfo") -> str:
    """The share of a file that is cached; anything else says what it is."""
    return f"{info.cached_percent}%" if info.is_file else "DIR" if info.is_dir else info.kind.name.partition("_")[0]
