"""Which errno a program gets for an exception of a handler, and what of it is worth a line of the log.

Owns: that decision. Never: sends it. Programs get numbers only, so failures of servers and stores are logged with their
words, at most one a second of each kind.
"""

import threading
import time
from errno import EIO, ENOMEM
from typing import Final

from isotach.base.errors import IsotachError, ProtocolError, row_of, told
from isotach.base.limits import FUSE_FAILURE_LOG_S
from isotach.obs.log import get_logger

_log = get_logger("fuse.session")

#: The kernel takes errnos below this one only.
_ERRNO_END: Final = 512


class Errnos:
    """Translates exceptions. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next_line: dict[str, float] = {}

    def of(self, error: Exception, opcode: int) -> int:
        """The errno to answer. An exception that nobody foresaw is EIO, with its traceback in the log."""
        if isinstance(error, MemoryError):
            return ENOMEM
        row = row_of(error)
        if row.code in ("internal", "value"):
            if self._may_tell(row.code):
                _log.exception("handler_failed", opcode=opcode)
            return EIO
        number = row.errno
        if isinstance(error, OSError) and error.errno:
            number = error.errno
        # A program that reads a file has no use for the errors of our connections.
        if isinstance(error, ConnectionError | TimeoutError) and not isinstance(error, ProtocolError):
            number = EIO
        if number == EIO or isinstance(error, ProtocolError):
            self._tell(row.code, opcode, error)
        return number if 0 < number < _ERRNO_END else EIO

    def _tell(self, code: str, opcode: int, error: Exception) -> None:
        if self._may_tell(code):
            known = isinstance(error, IsotachError | OSError)
            _log.warning("request_failed", opcode=opcode, code=code, reason=told(error) if known else repr(error))

    def _may_tell(self, code: str) -> bool:
        now = time.monotonic()
        with self._lock:
            if now < self._next_line.get(code, 0.0):
                return False
            self._next_line[code] = now + FUSE_FAILURE_LOG_S
        return True
