"""Symbolic and hard links, and the kinds of entries that hold no bytes, for both file systems.

Owns: these methods. Never: follows a link by itself: the master and its readers do, on the way of every path.
"""

import errno
import os

from isotach.base.errors import os_error
from isotach.base.paths import normalize
from isotach.base.types import FileInfo, Kind
from isotach.client import operations
from isotach.client.async_link import AsyncLink
from isotach.client.link import Link
from isotach.client.operations import Operation, PathLike
from isotach.wire import messages


def symlink(target: PathLike, path: PathLike) -> Operation[None]:
    request = messages.MakeRequest(
        normalize(path), int(Kind.SYMLINK), 0o777, exclusive=True, target=os.fsencode(target)
    )
    return Operation(messages.MAKE, request, operations.Where.MASTER, _nothing)


def link(src: PathLike, dst: PathLike) -> Operation[None]:
    request = messages.LinkRequest(normalize(src), normalize(dst))
    return Operation(messages.LINK, request, operations.Where.MASTER, _nothing)


def mkfifo(path: PathLike, mode: int) -> Operation[None]:
    request = messages.MakeRequest(normalize(path), int(Kind.FIFO), operations.mode_bits(mode), exclusive=True)
    return Operation(messages.MAKE, request, operations.Where.MASTER, _nothing)


def target_of(info: FileInfo) -> str:
    """Raises OSError (EINVAL) for what is no symbolic link, as readlink(2) does."""
    if info.target is None:
        raise os_error(errno.EINVAL, "this is no symbolic link", info.path)
    return info.target


class Linking:
    """Part of `FileSystem`."""

    _link: Link

    def symlink(self, target: PathLike, path: PathLike) -> None:
        """Makes `path` a symbolic link. The target is kept as it is: absolute (from the root of the namespace) or
        relative to the link's directory; it need not exist. Links are known here only, not in the under storage."""
        self._link.run(symlink(target, path))

    def readlink(self, path: PathLike) -> str:
        """The target of a symbolic link. Raises OSError (EINVAL) for what is none."""
        return target_of(self._link.run(operations.stat(path, None, follow=False)))

    def link(self, src: PathLike, dst: PathLike) -> None:
        """Gives a file one more name, in the same mount. The under storage has it under its first name only. Raises
        PermissionError for a directory, FileExistsError, OSError (EXDEV)."""
        self._link.run(link(src, dst))

    def mkfifo(self, path: PathLike, mode: int = 0o666) -> None:
        """Makes a FIFO, for the programs that open it in a mounted folder."""
        self._link.run(mkfifo(path, mode))


class AsyncLinking:
    """Part of `AsyncFileSystem`."""

    _link: AsyncLink

    async def symlink(self, target: PathLike, path: PathLike) -> None:
        await self._link.run(symlink(target, path))

    async def readlink(self, path: PathLike) -> str:
        return target_of(await self._link.run(operations.stat(path, None, follow=False)))

    async def link(self, src: PathLike, dst: PathLike) -> None:
        await self._link.run(link(src, dst))

    async def mkfifo(self, path: PathLike, mode: int = 0o666) -> None:
        await self._link.run(mkfifo(path, mode))


def _nothing(_reply: object, _payload: object) -> None:
    return None
