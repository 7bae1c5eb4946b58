"""Telling the trouble of a whole store from the trouble with one file in it.

Owns: the distinction. Never: decides what follows from it (the master's queue of persistence does).
"""

import errno
from typing import Final

from isotach.base.errors import IsotachError, UfsError

_OF_THE_STORE: Final = frozenset(
    {
        errno.EIO,
        errno.EROFS,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.ENXIO,
        errno.ENODEV,
        errno.ETIMEDOUT,
        errno.ECONNREFUSED,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
    }
)


def is_store_trouble(error: BaseException) -> bool:
    """Whether any other file of the same store would very likely meet the same: it is away, full, or lets nobody in."""
    if isinstance(error, UfsError):
        return True
    return isinstance(error, OSError) and not isinstance(error, IsotachError) and error.errno in _OF_THE_STORE
