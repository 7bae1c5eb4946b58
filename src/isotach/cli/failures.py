"""How an error looks on standard error, and which exit code it becomes.

Owns: the one line per failure, its JSON form, and the count of a command that goes on after one. Never: prints a
traceback (`--debug` does, in `main`), or judges an error (`base.errors` has the table).
"""

import errno
import json
import os
import sys
from typing import Final

from isotach.base.errors import exit_code_of, row_of
from isotach.cli.style import paint, visible

#: What a shell reports for a process that Ctrl-C, or a closed pipe, ended: 128 + the signal's number.
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

#: What to do when this machine's own files refuse: the system's message alone does not say it.
_LOCAL_HINTS: Final = {
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "a part of the path is a file; check the path",
    errno.EEXIST: "give another path",
    errno.EISDIR: "give a file",
    errno.EACCES: "give another path, or ask its owner for access",
    errno.EPERM: "ask its owner for access",
    errno.EROFS: "give a path on a file system that can be written",
    errno.ENOSPC: "free some space, or give a path elsewhere",
    errno.ENAMETOOLONG: "give a shorter path",
}


class ErrorText:
    """The parts of an error that people read: `what (path): hint`."""

    def __init__(self, error: BaseException) -> None:
        self.path: str | None = None
        message = str(error)
        if isinstance(error, OSError):
            message = _with_hint(error, error.strerror or message)
            if isinstance(error.filename, str | bytes):
                self.path = os.fsdecode(error.filename)
        if row_of(error).code == "internal":
            message = f"{type(error).__name__}: {message}" if message else type(error).__name__
        self.message = message or type(error).__name__

    def line(self) -> str:
        """One line, whatever the message holds."""
        what, colon, hint = self.message.partition(": ")
        if self.path is None or self.path in self.message:
            return " ".join(self.message.split())
        return " ".join(f"{what} ({self.path}){colon}{hint}".split())


class Failures:
    """Reports failures; a command that goes on after one ends with the exit code of the first."""

    def __init__(self, *, as_json: bool, no_color: bool) -> None:
        self._as_json = as_json
        self.color = sys.stderr.isatty() and not no_color and not os.environ.get("NO_COLOR")
        self.count = 0
        self.exit_code = 0

    def report(self, error: BaseException) -> int:
        """Prints the failure and gives its exit code."""
        code = exit_code_of(error)
        self.count += 1
        self.exit_code = self.exit_code or code
        text = ErrorText(error)
        if self._as_json:
            self._print(json.dumps({"error": _document(error, text, code)}))
        else:
            prefix = paint("isotach:", "red") if self.color else "isotach:"
            self._print(f"{prefix} {visible(text.line())}")
        return code

    def warn(self, text: str) -> None:
        """Something that is no failure and still worth a line."""
        self._print(json.dumps({"warning": text}) if self._as_json else f"isotach: {visible(text)}")

    def _print(self, line: str) -> None:
        try:
            sys.stdout.flush()
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
        except BrokenPipeError:
            pass  # nobody reads: the exit code still tells


def _with_hint(error: OSError, message: str) -> str:
    if error.errno is None or message != os.strerror(error.errno) or error.errno not in _LOCAL_HINTS:
        return message
    return f"{message}: {_LOCAL_HINTS[error.errno]}"


def _document(error: BaseException, text: ErrorText, exit_code: int) -> dict[str, object]:
    row = row_of(error)
    number = error.errno if isinstance(error, OSError) and error.errno else row.errno
    return {
        "code": row.code,
        "errno": number,
        "message": text.message,
        "path": text.path,
        "exit_code": exit_code,
    }
