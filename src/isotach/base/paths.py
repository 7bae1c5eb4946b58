"""Namespace paths: validation and splitting.

Owns: what a legal path is. Paths are bytes inside and on the wire (a name may hold any bytes but NUL and `/`), and
`str` with `surrogateescape` (as `os.fsencode`) at the public rim. Never: touches a namespace or a file system.
"""

import errno
import os

from isotach.base.errors import InvalidPathError, PathTooLongError
from isotach.base.limits import NAME_BYTES_MAX, PATH_BYTES_MAX


def normalize(path: str | bytes | os.PathLike[str]) -> bytes:
    """The canonical form of a namespace path: absolute, no empty component, no trailing slash; `/` is the root.

    Raises InvalidPathError for a relative path, `.` or `..` components, or NUL, and PathTooLongError
    (ENAMETOOLONG) for a path over 4,096 bytes or a name over 255 bytes.
    """
    raw = os.fsencode(path)
    if not raw.startswith(b"/"):
        raise InvalidPathError(f"the path {_show(raw)} is not absolute: start it with '/'")
    if len(raw) > PATH_BYTES_MAX:
        message = f"the path is {len(raw)} bytes long, over the limit of {PATH_BYTES_MAX}"
        raise PathTooLongError(errno.ENAMETOOLONG, message)
    if b"\0" in raw:
        raise InvalidPathError(f"the path {_show(raw)} holds a NUL byte")
    parts = [part for part in raw.split(b"/") if part]
    for part in parts:
        check_name(part)
    return b"/" + b"/".join(parts)


def check_name(name: bytes) -> None:
    """Refuses a single component that no directory may hold."""
    if name in (b".", b".."):
        raise InvalidPathError(f"the path component {_show(name)} is not allowed: give the plain absolute path")
    if len(name) > NAME_BYTES_MAX:
        message = f"the name {_show(name[:40])}... is {len(name)} bytes long, over the limit of {NAME_BYTES_MAX}"
        raise PathTooLongError(errno.ENAMETOOLONG, message)
    if not name or b"/" in name or b"\0" in name:
        raise InvalidPathError(f"the name {_show(name)} is not a legal file name")


def components(path: bytes) -> list[bytes]:
    """The names of a canonical path, outermost first; none for the root."""
    return path[1:].split(b"/") if len(path) > 1 else []


def split(path: bytes) -> tuple[bytes, bytes]:
    """(parent path, name) of a canonical path; the root has the empty name."""
    parent, _, name = path.rpartition(b"/")
    return parent or b"/", name


def join(parent: bytes, name: bytes) -> bytes:
    """The path of `name` in `parent`."""
    return parent + name if parent == b"/" else parent + b"/" + name


def is_within(path: bytes, ancestor: bytes) -> bool:
    """Whether `path` is `ancestor` itself or lies below it."""
    return path == ancestor or ancestor == b"/" or path.startswith(ancestor + b"/")


def relative_to(path: bytes, ancestor: bytes) -> bytes:
    """What follows `ancestor` in `path`, without a leading slash; empty for `ancestor` itself."""
    return path[1:] if ancestor == b"/" else path[len(ancestor) + 1 :]


#: What begins a path that starts at an inode and not at the root: no name may hold it.
ID_MARK: bytes = b"\0"
_ID_BYTES: int = 8


def id_path(inode_id: int, name: bytes = b"") -> bytes:
    """The inode itself, or the entry `name` of that directory, in place of a path in any request: for those who hold
    a file by what it is and not by where it is (mounts). `NUL + id (8, big-endian) [+ "/" + name]`."""
    start = ID_MARK + inode_id.to_bytes(_ID_BYTES, "big")
    return start + b"/" + name if name else start


def parse_id_path(path: bytes) -> tuple[int, bytes] | None:
    """(inode id, name or empty) of what `id_path` made; None for an ordinary path. Raises InvalidPathError."""
    if path[:1] != ID_MARK:
        return None
    rest = path[1 + _ID_BYTES :]
    name = rest[1:]
    if len(path) < 1 + _ID_BYTES or (rest and (rest[:1] != b"/" or not name)):
        raise InvalidPathError(f"the path {_show(path)} begins with an id and goes on wrongly")
    if name:
        check_name(name)
    return int.from_bytes(path[1 : 1 + _ID_BYTES], "big"), name


def _show(raw: bytes) -> str:
    return repr(os.fsdecode(raw))
