"""What an errno of a folder means to the user.

Owns: the advice for each errno, and which of them may pass by themselves. Never: touches a file.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from isotach.base.errors import IsotachError, UfsError, UfsUnreachableError, os_error

_ADVICE: Final = {
    errno.ENOENT: "no such file or directory",
    errno.EEXIST: "something of that name is there already",
    errno.EISDIR: "is a directory",
    errno.ENOTDIR: "not a directory",
    errno.ENOTEMPTY: "the directory is not empty: remove its entries first",
    errno.EACCES: "permission denied: grant it to the user that Isotach runs as",
    errno.EPERM: "the operation is not permitted: check the owner and the mount's flags",
    errno.ENOSPC: "no space is left in the under storage: free some",
    errno.EDQUOT: "the quota of the under storage is used up: free some space",
    errno.EROFS: "the file system is mounted read-only: mount it read-write, or mount it read-only in Isotach too",
    errno.ENAMETOOLONG: "the name is too long for this file system: choose a shorter one",
    errno.EINVAL: "the operation makes no sense here (a directory cannot be moved into itself)",
    errno.EXDEV: "source and target are on different file systems: copy instead",
    errno.EBUSY: "the file or directory is in use: try again later",
    errno.ELOOP: "too many symbolic links: remove the loop",
}
_UNREACHABLE: Final = frozenset({errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOTCONN})
_PASSING: Final = frozenset({errno.EIO, errno.EAGAIN, errno.EINTR})


@contextmanager
def naming(full_path: str) -> Iterator[None]:
    """Runs the block; an OSError comes out with advice and the whole path, as UfsError when the store is at fault."""
    try:
        yield
    except IsotachError:
        raise
    except OSError as error:
        number = error.errno or errno.EIO
        if error.filename is not None and error.strerror != os.strerror(number):
            raise  # it says already what to do
        advice = _ADVICE.get(number)
        if advice is not None:
            raise os_error(number, advice, full_path) from error
        if number in _UNREACHABLE:
            raise UfsUnreachableError(
                number, f"the file server does not answer ({error.strerror})", full_path
            ) from error
        raise UfsError(number, f"the under storage failed ({error.strerror})", full_path) from error


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed if repeated."""
    return isinstance(error, UfsUnreachableError) or (isinstance(error, UfsError) and error.errno in _PASSING)
