"""`isotach fs test`: conditions for scripts.

Owns: the flags. Never: prints an answer unless JSON is asked for: the exit code is the answer.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from isotach.base.errors import InvalidArgumentError
from isotach.cli.arguments import PathArgument
from isotach.cli.session import session_of

if TYPE_CHECKING:
    from isotach.base.types import FileInfo


def holds(
    context: typer.Context,
    path: PathArgument,
    exists: Annotated[bool, typer.Option("-e", help="There is such a path.")] = False,
    directory: Annotated[bool, typer.Option("-d", help="It is a directory.")] = False,
    file: Annotated[bool, typer.Option("-f", help="It is a file.")] = False,
    not_empty: Annotated[bool, typer.Option("-s", help="It is a file with bytes in it.")] = False,
    empty: Annotated[bool, typer.Option("-z", help="It is a file without bytes.")] = False,
) -> None:
    """Exits with 0 when the path is what is asked, with 1 when it is not.

    isotach fs test -d /s3 && echo there
    """
    session = session_of(context)
    asked = {"exists": exists, "directory": directory, "file": file, "not_empty": not_empty, "empty": empty}
    if sum(asked.values()) != 1:
        raise InvalidArgumentError("one question at a time: give one of -e, -d, -f, -s, -z")
    question = next(name for name, wanted in asked.items() if wanted)
    with session.connect() as fs:
        try:
            answer = _answer(question, fs.stat(path))
        except (FileNotFoundError, NotADirectoryError):
            answer = False
    if session.out.as_json:
        session.out.document({"path": path, "question": question, "answer": answer})
    raise typer.Exit(0 if answer else 1)


def _answer(question: str, info: "FileInfo") -> bool:
    if question == "directory":
        return info.is_dir
    if question == "file":
        return not info.is_dir
    if question == "not_empty":
        return not info.is_dir and info.length > 0
    return question == "exists" or (not info.is_dir and info.length == 0)
