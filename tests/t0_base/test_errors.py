"""The error table: every class has a row, and survives the wire.

Owns: the proof that no error loses its class, errno, message or path between two processes.
"""

import errno
import inspect

import pytest

from isotach.base import errors
from isotach.base.errors import ERROR_TABLE, ErrorReply, ErrorRow, IsotachError, from_reply, os_error, row_of, to_reply

ROW_IDS = [row.code for row in ERROR_TABLE]
#: What comes back as a plain IsotachError: their classes mean "a bug over there", not a fault of the caller.
FOREIGN_CODES = {"value", "internal"}


def example(row: ErrorRow) -> Exception:
    if issubclass(row.cls, OSError):
        return row.cls(row.errno, "what is wrong", "/a/b")
    return row.cls("what is wrong")


def own_classes() -> list[type[Exception]]:
    found = [value for _, value in inspect.getmembers(errors, inspect.isclass)]
    return [cls for cls in found if issubclass(cls, IsotachError)]


@pytest.mark.parametrize("cls", own_classes())
def test_every_class_has_its_own_row(cls: type[Exception]) -> None:
    assert [row.cls for row in ERROR_TABLE].count(cls) == 1


@pytest.mark.parametrize("row", ERROR_TABLE, ids=ROW_IDS)
def test_a_row_is_found_by_its_class(row: ErrorRow) -> None:
    assert row_of(example(row)).code == row.code


@pytest.mark.parametrize("row", ERROR_TABLE, ids=ROW_IDS)
def test_exit_codes_are_in_range(row: ErrorRow) -> None:
    assert 1 <= errors.exit_code_of(example(row)) <= 10


def test_codes_are_unique() -> None:
    assert len(set(ROW_IDS)) == len(ROW_IDS)


@pytest.mark.parametrize("row", ERROR_TABLE, ids=ROW_IDS)
def test_an_error_survives_the_wire(row: ErrorRow) -> None:
    sent = example(row)
    received = from_reply(to_reply(sent))

    assert type(received) is (IsotachError if row.code in FOREIGN_CODES else type(sent))
    assert "what is wrong" in str(received)
    if isinstance(sent, OSError) and isinstance(received, OSError):
        assert (received.errno, received.filename) == (row.errno, "/a/b")


@pytest.mark.parametrize("number", [errno.ENOTEMPTY, errno.EXDEV, errno.ENOSPC, errno.EROFS, errno.EBUSY])
def test_a_bare_errno_survives_the_wire(number: int) -> None:
    received = from_reply(to_reply(os_error(number, "say what to do", b"/\xff")))

    assert isinstance(received, OSError)
    assert (received.errno, received.strerror, received.filename) == (number, "say what to do", "/\udcff")


def test_os_error_gives_pythons_own_subclass() -> None:
    assert isinstance(os_error(errno.ENOENT, "no such file", "/a"), FileNotFoundError)
    assert isinstance(os_error(errno.ENOTEMPTY, "not empty"), OSError)


def test_a_code_from_a_newer_peer_is_still_an_error() -> None:
    received = from_reply(ErrorReply("from_the_future", 5, "what is wrong"))

    assert type(received) is IsotachError
    assert str(received) == "what is wrong"


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOSPC, 8), (errno.ENOTEMPTY, 10), (errno.EXDEV, 2), (errno.EROFS, 5), (errno.EIO, 1)],
)
def test_the_exit_code_tells_the_kind_of_failure(number: int, code: int) -> None:
    assert errors.exit_code_of(OSError(number, "text")) == code


def test_a_retry_helps_only_where_the_world_may_change() -> None:
    assert errors.retry_helps(errors.UnavailableError("gone"))
    assert not errors.retry_helps(errors.ConfigError("unknown key"))
    assert not errors.retry_helps(FileNotFoundError(errno.ENOENT, "no such file"))


def test_a_bug_keeps_its_class_name_in_the_text() -> None:
    reply = to_reply(KeyError("k"))

    assert reply.code == "internal"
    assert reply.message.startswith("KeyError")


def test_an_error_is_told_without_its_number() -> None:
    assert errors.told(OSError(errno.ENOENT, "no such folder", "/a")) == "no such folder (/a)"
    assert errors.told(OSError(errno.ENOENT, "no such folder /a", "/a")) == "no such folder /a"
    assert errors.told(OSError(errno.EIO, "broken")) == "broken"
    assert errors.told(IsotachError("what is wrong")) == "what is wrong"
    assert errors.told(TimeoutError()) == "TimeoutError"
