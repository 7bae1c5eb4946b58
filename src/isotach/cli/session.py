"""What a command is given: the global options, the way to the cluster, standard output and the failures.

Owns: turning global options into a client and into settings. Never: keeps a connection longer than the command.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from isotach.base.errors import ConfigError, InvalidArgumentError
from isotach.cli.failures import Failures
from isotach.cli.output import Output

if TYPE_CHECKING:
    from isotach.client import FileSystem
    from isotach.conf import OverrideValue, Settings


class Session:
    """The global options of one call of the command line."""

    def __init__(
        self,
        *,
        address: str | None = None,
        config: Path | None = None,
        overrides: Sequence[str] = (),
        as_json: bool = False,
        no_color: bool = False,
        debug: bool = False,
    ) -> None:
        self._overrides = dict(_key_and_value(text) for text in overrides)
        self._address = address or self._overrides.pop("address", None)
        self.out = Output(as_json=as_json, no_color=no_color)
        self.failures = Failures(as_json=as_json, no_color=no_color)
        self.debug = debug
        if config is not None:
            # In the environment, so that `connect`, and the processes that `start` starts, read the same file.
            os.environ["ISOTACH_CONFIG"] = str(config.absolute())

    def overrides(self, **given: "OverrideValue") -> dict[str, "OverrideValue"]:
        """The keys set on the command line, `given` (with `__` for the dot) over those of `--set`."""
        named = {name.replace("__", "."): value for name, value in given.items() if value is not None}
        address: dict[str, OverrideValue] = {} if self._address is None else {"address": self._address}
        return {**self._overrides, **address, **named}

    def settings(self, **given: "OverrideValue") -> "Settings":
        """The configuration in force for this call."""
        from isotach.conf import load_settings

        return load_settings(self.overrides(**given))

    def connect(self, **given: Any) -> "FileSystem":
        """A client of the cluster; a context manager that closes it. `given` goes to `isotach.connect`."""
        import isotach

        overrides: dict[str, Any] = {name.replace(".", "__"): value for name, value in self._overrides.items()} | given
        return isotach.connect(self._address, **overrides)

    @contextlib.contextmanager
    def each_failure(self) -> Iterator[None]:
        """Reports what fails inside and goes on: for one of several paths. Ends with `finish`."""
        try:
            yield
        except BrokenPipeError:
            raise
        except Exception as error:
            if self.debug:
                raise
            self.failures.report(error)

    def finish(self) -> None:
        """Ends the command with the exit code of its first failure, if there was one."""
        if self.failures.exit_code:
            raise typer.Exit(self.failures.exit_code)


def session_of(context: typer.Context) -> Session:
    """The session that the root command made."""
    session = context.obj
    if not isinstance(session, Session):
        raise InvalidArgumentError("this command runs below `isotach` only")
    return session


def _key_and_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"{text!r} is not KEY=VALUE: give for example --set client.deadline=5s")
    return key.strip(), value
