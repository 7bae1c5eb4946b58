"""Errors: one line or one JSON object, and the exit code that tells the kind."""

import errno
import json
import os

import pytest

from isotach.base import errors
from isotach.cli.failures import ErrorText, Failures

WRITABLE = "give a path on a file system that can be written"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (FileNotFoundError(2, "no such file: check the path", "/a"), "no such file (/a): check the path"),
        (FileNotFoundError(2, "no such file", "/a"), "no such file (/a)"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "/a"), f"{os.strerror(errno.EROFS)} (/a): {WRITABLE}"),
        (FileNotFoundError(2, "no such file", b"/\xff"), "no such file (/\udcff)"),
        (errors.UnavailableError("nobody answers: start it"), "nobody answers: start it"),
        (OSError(errno.EBUSY, "the mount at /a is busy: wait", "/a"), "the mount at /a is busy: wait"),
        (errors.ConfigError("two\nlines"), "two lines"),
        (KeyError("x"), "KeyError: 'x'"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_an_error_is_one_line(error: Exception, line: str) -> None:
    assert ErrorText(error).line() == line


EXIT_CODES = [
    (errors.IsotachError("x"), 1),
    (errors.InvalidArgumentError("x"), 2),
    (errors.InvalidPathError("x"), 2),
    (errors.ConfigError("x"), 2),
    (OSError(errno.EXDEV, "x"), 2),
    (FileNotFoundError(errno.ENOENT, "x"), 3),
    (FileExistsError(errno.EEXIST, "x"), 4),
    (PermissionError(errno.EACCES, "x"), 5),
    (OSError(errno.EROFS, "x"), 5),
    (errors.UnavailableError("x"), 6),
    (errors.DeadlineExceededError("x"), 6),
    (errors.UfsUnreachableError(errno.EIO, "x"), 7),
    (errors.UfsAuthError(errno.EACCES, "x"), 7),
    (OSError(errno.ENOSPC, "x"), 8),
    (errors.DataCorruptionError(errno.EIO, "x"), 9),
    (OSError(errno.ENOTEMPTY, "x"), 10),
    (IsADirectoryError(errno.EISDIR, "x"), 10),
    (errors.StaleVersionError(errno.ESTALE, "x"), 10),
]


@pytest.mark.parametrize(("error", "code"), EXIT_CODES, ids=lambda each: type(each).__name__)
def test_the_exit_code_tells_the_kind(error: Exception, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    failures = Failures(as_json=True, no_color=False)

    assert failures.report(error) == code

    told = json.loads(capsys.readouterr().err)["error"]
    assert told["exit_code"] == code
    assert told["code"] == errors.row_of(error).code


def test_the_first_failure_decides(capsys: pytest.CaptureFixture[str]) -> None:
    failures = Failures(as_json=False, no_color=False)
    failures.report(FileExistsError(errno.EEXIST, "there", "/a"))
    failures.report(FileNotFoundError(errno.ENOENT, "gone", "/b"))

    assert (failures.exit_code, failures.count) == (4, 2)
    assert capsys.readouterr().err == "isotach: there (/a)\nisotach: gone (/b)\n"


def test_json_errors_have_all_parts(capsys: pytest.CaptureFixture[str]) -> None:
    Failures(as_json=True, no_color=False).report(FileNotFoundError(2, "no such file: check the path", "/a"))

    assert json.loads(capsys.readouterr().err) == {
        "error": {
            "code": "not_found",
            "errno": 2,
            "message": "no such file: check the path",
            "path": "/a",
            "exit_code": 3,
        }
    }
