"""`isotach fs chmod` and `isotach fs chown`.

Owns: how modes and owners are written. Never: decides who may change them (the master does).
"""

import re
from typing import TYPE_CHECKING, Annotated, Final

import typer

from isotach.base.errors import InvalidArgumentError
from isotach.cli.arguments import PathsArgument, RecursiveOption
from isotach.cli.session import session_of

if TYPE_CHECKING:
    from isotach.client import FileSystem

_OCTAL: Final = re.compile(r"[0-7]{1,4}")
_CLAUSE: Final = re.compile(r"([ugoa]*)([-+=])([rwxXst]*)")
_WHO_BITS: Final = {"u": 0o4700, "g": 0o2070, "o": 0o1007}
_PERMISSION_BITS: Final = {"r": 0o444, "w": 0o222, "x": 0o111, "s": 0o6000, "t": 0o1000}


def chmod(
    context: typer.Context,
    mode: Annotated[str, typer.Argument(metavar="MODE", help="Octal (750) or symbolic (u+x,go-w).")],
    paths: PathsArgument,
    recursive: RecursiveOption = False,
) -> None:
    """Sets the permission bits of files and directories.

    isotach fs chmod 640 /s3/secret.csv
    isotach fs chmod -R go-w /s3
    """
    session = session_of(context)
    check_mode(mode)
    with session.connect() as fs:
        for path in paths:
            with session.each_failure():
                _chmod(fs, path, mode, recursive)
                session.out.done("chmod", {"path": path, "mode": mode})
    session.finish()


def chown(
    context: typer.Context,
    owner: Annotated[str, typer.Argument(metavar="OWNER[:GROUP]", help="alice, alice:staff, or :staff.")],
    paths: PathsArgument,
    recursive: RecursiveOption = False,
) -> None:
    """Sets the owner, the group, or both.

    isotach fs chown -R alice:staff /s3/alice
    """
    session = session_of(context)
    user, _, group = owner.partition(":")
    if not user and not group:
        raise InvalidArgumentError(f"{owner!r} names neither an owner nor a group: give OWNER, OWNER:GROUP or :GROUP")
    with session.connect() as fs:
        for path in paths:
            with session.each_failure():
                fs.chown(path, user or None, group or None, recursive)
                session.out.done("chown", {"path": path, "owner": user or None, "group": group or None})
    session.finish()


def _chmod(fs: "FileSystem", path: str, mode: str, recursive: bool) -> None:
    if _OCTAL.fullmatch(mode):
        fs.chmod(path, mode_of(mode), recursive)
        return
    # A symbolic mode depends on each entry's own.
    root = fs.stat(path)
    fs.chmod(path, apply_mode(mode, root.mode, root.is_dir))
    if recursive and root.is_dir:
        for info in fs.list(path, recursive=True):
            fs.chmod(info.path, apply_mode(mode, info.mode, info.is_dir))


def mode_of(text: str) -> int:
    """The bits of an octal mode. Raises InvalidArgumentError for anything else."""
    if not _OCTAL.fullmatch(text):
        raise InvalidArgumentError(f"{text!r} is no mode: give octal digits such as 755")
    return int(text, 8)


def check_mode(text: str) -> None:
    """Raises InvalidArgumentError unless the text is an octal or a symbolic mode."""
    if not _OCTAL.fullmatch(text) and not all(_CLAUSE.fullmatch(clause) for clause in text.split(",")):
        raise InvalidArgumentError(f"{text!r} is no mode: give octal digits such as 755, or changes such as u+x,go-w")


def apply_mode(text: str, mode: int, is_dir: bool) -> int:
    """The mode after symbolic changes, as chmod(1) makes them; without u, g, o or a they go for all three."""
    check_mode(text)
    for clause in text.split(","):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            continue
        who, sign, letters = match.groups()
        asked = 0
        for letter in letters.replace("X", "x" if is_dir or mode & 0o111 else ""):
            asked |= _PERMISSION_BITS[letter]
        reach = 0
        for each in "ugo" if not who or "a" in who else who:
            reach |= _WHO_BITS[each]
        bits = asked & reach
        mode = mode | bits if sign == "+" else mode & ~bits if sign == "-" else (mode & ~(reach & 0o777)) | bits
    return mode
