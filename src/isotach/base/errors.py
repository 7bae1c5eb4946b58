"""The error tree, and the one table that ties each error to the wire, to errno and to an exit code.

Owns: every exception class that Isotach raises beyond Python's own, and the translation to and from `ErrorReply`.
Never: raises for control flow, logs, or retries (retry lives in `net`).

    Exception
      IsotachError
        InvalidArgumentError (ValueError)      a bad argument: URI, option, size, mode; says what is right
          InvalidPathError                     a path or name that no namespace can hold
            PathTooLongError (OSError)         ENAMETOOLONG
          ConfigError                          an unknown key or a bad value in the configuration
        UnavailableError (ConnectionError)     no master, no worker, or the connection died; a retry may help
        DeadlineExceededError (TimeoutError)   the call's deadline passed; the outcome is unknown
        ProtocolError (ConnectionError)        the peer sent what the protocol does not allow
        AuthenticationError (PermissionError)  the peer is not who it must be
        StaleVersionError (OSError, ESTALE)    that version of the file is no longer the current one
        UfsError (OSError, EIO)                the under storage failed; names the under-storage path
          UfsUnreachableError                  no connection: wrong endpoint, DNS, network, timeout
          UfsAuthError (PermissionError)       the under storage refused the credentials or the action
          UfsBucketMissingError (FileNotFoundError)  the bucket or root folder does not exist
        JobFailedError                         a job ended with something left undone; says how much, and why
        DataLossError (OSError, EIO)           the last copy of a file is gone, and no store ever held it
        DataCorruptionError (OSError, EIO)     a checksum did not match and no good copy is left
        AlreadyRunningError                    another process owns this folder

Python's own errors are used where they exist: FileNotFoundError, FileExistsError, IsADirectoryError,
NotADirectoryError, PermissionError, TimeoutError, and OSError with ENOTEMPTY, EXDEV, ENOSPC, EROFS, ENAMETOOLONG,
EBUSY, EINVAL.
"""

import errno
import os
from typing import Final

import msgspec


class IsotachError(Exception):
    """The root of every error that has no Python class of its own."""


class InvalidArgumentError(IsotachError, ValueError):
    """An argument is wrong; the message says which and what to give instead."""


class InvalidPathError(InvalidArgumentError):
    """A path that cannot name anything: relative, with `..`, with NUL, or too long."""


class PathTooLongError(OSError, InvalidPathError):
    """A path over 4,096 bytes or a name over 255 bytes (errno ENAMETOOLONG)."""


class ConfigError(InvalidArgumentError):
    """An unknown configuration key or a bad value; the message names it and suggests the nearest."""


class UnavailableError(IsotachError, ConnectionError):
    """Nobody answers at that address, or the connection died. A later retry may help."""


class DeadlineExceededError(IsotachError, TimeoutError):
    """The deadline passed before the answer came. Whether the call took effect is unknown."""


class ProtocolError(IsotachError, ConnectionError):
    """The peer broke the protocol; the connection is closed."""


class AuthenticationError(IsotachError, PermissionError):
    """The peer could not prove who it says it is."""


class StaleVersionError(IsotachError, OSError):
    """The version asked for has been replaced or removed; look the path up again."""


class UfsError(IsotachError, OSError):
    """The under storage failed; the message names the under-storage path."""


class UfsUnreachableError(UfsError):
    """The under storage does not answer: wrong endpoint, name resolution, network, or time-out."""


class UfsAuthError(UfsError, PermissionError):
    """The under storage refused the credentials, or refused this action to them."""


class UfsBucketMissingError(UfsError, FileNotFoundError):
    """The bucket, container or root folder of a mount does not exist."""


class DataCorruptionError(IsotachError, OSError):
    """Stored bytes do not match their checksum, and no good copy is left."""


class JobFailedError(IsotachError):
    """A load or a persistence did not do all of it; the message counts what was done, failed, or did not fit."""


class DataLossError(IsotachError, OSError):
    """The last copy of the file went away before it was persisted; it is found again if its worker returns."""


class AlreadyRunningError(IsotachError):
    """Another process owns this folder; stop it first, or give another folder."""


class ErrorReply(msgspec.Struct, array_like=True, frozen=True):
    """An error as it crosses the wire."""

    code: str
    errno: int
    message: str
    path: bytes | None = None


class ErrorRow(msgspec.Struct, frozen=True):
    """One row of the table below."""

    cls: type[Exception]
    code: str
    errno: int
    exit_code: int
    retry_helps: bool


#: Most specific first: the first row whose class matches decides. Exit codes: 1 other, 2 usage, 3 not found,
#: 4 exists, 5 permission, 6 unreachable, 7 under storage, 8 no space, 9 corruption, 10 conflict (busy, not empty).
ERROR_TABLE: Final[tuple[ErrorRow, ...]] = (
    ErrorRow(PathTooLongError, "path_too_long", errno.ENAMETOOLONG, 2, False),
    ErrorRow(InvalidPathError, "invalid_path", errno.EINVAL, 2, False),
    ErrorRow(ConfigError, "config", errno.EINVAL, 2, False),
    ErrorRow(InvalidArgumentError, "invalid_argument", errno.EINVAL, 2, False),
    ErrorRow(DeadlineExceededError, "deadline", errno.ETIMEDOUT, 6, True),
    ErrorRow(ProtocolError, "protocol", errno.EPROTO, 6, False),
    ErrorRow(UnavailableError, "unavailable", errno.EHOSTUNREACH, 6, True),
    ErrorRow(AuthenticationError, "authentication", errno.EACCES, 5, False),
    ErrorRow(StaleVersionError, "stale_version", errno.ESTALE, 10, True),
    ErrorRow(UfsBucketMissingError, "ufs_bucket_missing", errno.ENOENT, 7, False),
    ErrorRow(UfsAuthError, "ufs_auth", errno.EACCES, 7, False),
    ErrorRow(UfsUnreachableError, "ufs_unreachable", errno.EIO, 7, True),
    ErrorRow(UfsError, "ufs", errno.EIO, 7, True),
    ErrorRow(DataCorruptionError, "corruption", errno.EIO, 9, False),
    ErrorRow(DataLossError, "data_loss", errno.EIO, 9, False),
    ErrorRow(AlreadyRunningError, "already_running", errno.EBUSY, 10, False),
    ErrorRow(JobFailedError, "job_failed", errno.EIO, 1, True),
    ErrorRow(IsotachError, "isotach", errno.EIO, 1, False),
    ErrorRow(FileNotFoundError, "not_found", errno.ENOENT, 3, False),
    ErrorRow(FileExistsError, "exists", errno.EEXIST, 4, False),
    ErrorRow(IsADirectoryError, "is_a_directory", errno.EISDIR, 10, False),
    ErrorRow(NotADirectoryError, "not_a_directory", errno.ENOTDIR, 10, False),
    ErrorRow(PermissionError, "permission", errno.EACCES, 5, False),
    ErrorRow(TimeoutError, "timeout", errno.ETIMEDOUT, 6, True),
    ErrorRow(ConnectionError, "connection", errno.ECONNRESET, 6, True),
    ErrorRow(OSError, "os", errno.EIO, 1, False),
    ErrorRow(ValueError, "value", errno.EINVAL, 2, False),
    ErrorRow(Exception, "internal", errno.EIO, 1, False),
)

_ROW_BY_CODE: Final = {row.code: row for row in ERROR_TABLE}
_EXIT_BY_ERRNO: Final = {
    errno.ENOSPC: 8,
    errno.EDQUOT: 8,
    errno.ENOTEMPTY: 10,
    errno.EBUSY: 10,
    errno.EXDEV: 2,
    errno.EINVAL: 2,
    errno.ENAMETOOLONG: 2,
    errno.EROFS: 5,
}


def row_of(error: BaseException) -> ErrorRow:
    """The table's row for this error."""
    return next((row for row in ERROR_TABLE if isinstance(error, row.cls)), ERROR_TABLE[-1])


def retry_helps(error: BaseException) -> bool:
    """Whether the same call may succeed later without the user changing anything."""
    return row_of(error).retry_helps


def exit_code_of(error: BaseException) -> int:
    """The process exit code that tells this kind of failure (1 to 10)."""
    row = row_of(error)
    if row.code == "os":
        return _EXIT_BY_ERRNO.get(getattr(error, "errno", None) or 0, row.exit_code)
    return row.exit_code


def os_error(number: int, message: str, path: str | bytes | None = None) -> OSError:
    """An OSError of Python's own subclass for `number`, with our message in place of the bare strerror."""
    if path is None:
        return OSError(number, message)
    return OSError(number, message, os.fsdecode(path))


def told(error: BaseException) -> str:
    """The error in words, for texts that hold others: `message (path)`, without the number that `str` begins with."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error) or type(error).__name__
    path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    return error.strerror if path in error.strerror else f"{error.strerror} ({path})"


def to_reply(error: BaseException) -> ErrorReply:
    """What to send for this error. An unexpected exception keeps its text, never its traceback."""
    row = row_of(error)
    number, path, message = row.errno, None, str(error)
    if isinstance(error, OSError):
        number = error.errno or row.errno
        message = error.strerror or message
        if isinstance(error.filename, str | bytes):
            path = os.fsencode(error.filename)
    if row.code == "internal":
        message = f"{type(error).__name__}: {message}"
    return ErrorReply(row.code, number, message, path)


def from_reply(reply: ErrorReply) -> Exception:
    """The exception that the caller sees; an unknown code (a newer peer) becomes IsotachError."""
    row = _ROW_BY_CODE.get(reply.code)
    cls = row.cls if row is not None and row.code not in ("internal", "value") else IsotachError
    if issubclass(cls, OSError):
        path = None if reply.path is None else os.fsdecode(reply.path)
        return cls(reply.errno, reply.message) if path is None else cls(reply.errno, reply.message, path)
    return cls(reply.message)
