"""The entry point `isotach`: global options, dispatch, errors and exit codes.

Owns: the life of one call of the command line. Never: knows a command (`tree` lists them).
"""

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, cast

import typer

from isotach import __version__
from isotach.base.errors import InvalidArgumentError, IsotachError, exit_code_of
from isotach.cli.everywhere import hoist
from isotach.cli.failures import EXIT_BROKEN_PIPE, EXIT_INTERRUPTED, Failures
from isotach.cli.session import Session
from isotach.cli.tree import add_commands

#: A wrong call of the command line: the parser's own root of such errors.
_USAGE_ERROR: Final = cast("type[Exception]", typer.BadParameter.__mro__[1])
#: What the parser raises for a group without a command: its text is the group's help.
_ONLY_A_GROUP: Final = "NoArgsIsHelpError"
_EPILOG: Final = """\
Global options work before and after any command. Tables and colours on a terminal, lines with tabs in a pipe, JSON with
--json. Exit codes: 0 done, 1 other failure, 2 wrong usage, 3 not found, 4 exists, 5 permission refused, 6 nobody
answers, 7 under storage, 8 no space, 9 corrupt data, 10 conflict, 130 interrupted."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line (default: that of the process) and gives its exit code."""
    ahead, rest = hoist(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in ahead
    failures = Failures(as_json="--json" in ahead, no_color="--no-color" in ahead)
    _keep_odd_names()
    try:
        code = _dispatch([*ahead, *rest])
        sys.stdout.flush()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError as error:
        if isinstance(error, IsotachError):
            return failures.report(error)
        _forget_output()
        return EXIT_BROKEN_PIPE
    except Exception as error:
        if debug:
            traceback.print_exc()
        return failures.report(_UsageError(error) if isinstance(error, _USAGE_ERROR) else error)
    return code


def build_app(*, rich_help: bool) -> typer.Typer:
    """The tree of commands. `rich_help` gives help texts in colour and boxes; plain ones load twice as fast."""
    app = typer.Typer(
        name="isotach",
        help="Any storage in one namespace, read at the speed of memory.",
        epilog=" ".join(_EPILOG.split()),
        rich_markup_mode="rich" if rich_help else None,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help"]},
    )
    app.callback()(_root)
    add_commands(app)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"isotach {__version__}")
        raise typer.Exit


def _root(
    context: typer.Context,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="The master: isotach://host:port or isotach+unix:///path. Default: ISOTACH_ADDRESS, the "
            "configuration, the standalone cluster in ~/.isotach.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Configuration file (TOML).", show_default=False)
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "-o", "--set", metavar="KEY=VALUE", help="Sets a configuration key; repeatable.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Results, and errors, as JSON.")] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="No colours, as with NO_COLOR.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="A traceback with an error.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="The version, and nothing else.")
    ] = False,
) -> None:
    context.obj = Session(
        address=address, config=config, overrides=overrides or (), as_json=as_json, no_color=no_color, debug=debug
    )


def _dispatch(arguments: list[str]) -> int:
    command = typer.main.get_command(build_app(rich_help=sys.stdout.isatty()))
    if "_ISOTACH_COMPLETE" in os.environ:
        command.main(arguments, prog_name="isotach")
    try:
        # Not `main`: it would print errors, and hide a broken pipe, in its own way.
        with command.make_context("isotach", arguments) as context:
            command.invoke(context)
    except typer.Exit as done:
        return done.exit_code
    except _USAGE_ERROR as error:
        if type(error).__name__ != _ONLY_A_GROUP:
            raise
        print(error)
        return exit_code_of(_UsageError(error))
    except typer.Abort:
        return EXIT_INTERRUPTED
    return 0


class _UsageError(InvalidArgumentError):
    """A wrong call, in one line with the way to its help."""

    def __init__(self, error: BaseException) -> None:
        context = getattr(error, "ctx", None)
        command = "isotach" if context is None else context.command_path
        text = str(getattr(error, "format_message", error.__str__)()).rstrip(".")
        super().__init__(f"{text[:1].lower()}{text[1:]}: see `{command} --help`")


def _keep_odd_names() -> None:
    """Names are bytes: those that are no UTF-8 leave as they came."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="surrogateescape" if stream is sys.stdout else "backslashreplace")


def _forget_output() -> None:
    """The reader of the pipe has gone: what is still buffered must not fail again at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


if __name__ == "__main__":
    sys.exit(run())
