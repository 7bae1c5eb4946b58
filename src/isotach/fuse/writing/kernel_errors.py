"""Errors of master and workers, as programs that write a file must see them.

Owns: one translation: whatever is wrong with the way to master, worker or the version below is EIO. Never: hides what
programs can act upon (no space, no permission, read-only).
"""

import errno
from types import TracebackType
from typing import Final

from isotach.base.errors import IsotachError, os_error, told

#: Errors whose number a program may be told as it is.
_PLAIN: Final = frozenset(
    (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EIO,
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENXIO,
        errno.EINVAL,
        errno.EOPNOTSUPP,
        errno.ENOMEM,
    )
)


class _AsKernelErrors:
    """A context manager without state, so that one does for all."""

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if problem is None or not isinstance(problem, OSError | IsotachError):
            return
        if isinstance(problem, OSError) and problem.errno in _PLAIN and not isinstance(problem, ConnectionError):
            return
        raise os_error(errno.EIO, told(problem)) from problem


as_kernel_errors: Final = _AsKernelErrors()
