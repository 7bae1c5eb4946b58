"""From texts to settings: layers of sources, the highest wins, every key and value checked.

Owns: precedence, checks across keys, the messages of configuration errors, and the way back from settings to the
texts that a child process is started with. Never: reads the environment, a file or the clock (`conf.load` does).
"""

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from isotach.base.errors import ConfigError
from isotach.conf.keys import ENV_PREFIX, NamedKey, nearest
from isotach.conf.machine import Machine
from isotach.conf.settings import DEFAULT_ORIGIN, KEYS, SECTIONS, SettingRow, Settings

#: Variables with our prefix that are not keys.
ENV_CONFIG_FILE: Final = "ISOTACH_CONFIG"
ENV_TEST_PREFIX: Final = "ISOTACH_TEST_"
#: What a user writes to get a derived default back, over a lower source.
AUTO_TEXT: Final = "auto"

#: What an override may be: texts as in the environment, or the plain Python value. None leaves the key alone.
OverrideValue = str | int | float | bool | os.PathLike[str] | Sequence[str] | None

_BY_NAME: Final = {row.name: row for row in KEYS}
_BY_ENV: Final = {row.env: row for row in KEYS}


class Given(msgspec.Struct, frozen=True):
    """The text of one key in one source."""

    text: str
    origin: str
    cwd: Path | None = None  # what a relative path starts from; None: the process's own folder


Layer = Mapping[str, Given]


def layer_of_file(text: str, path: Path) -> dict[str, Given]:
    """The keys of a TOML file. Relative paths in it start at the file's folder."""
    origin = f"file {path}"
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{origin} is not valid TOML: {error}") from error
    found: dict[str, Given] = {}
    for name, value in document.items():
        if not isinstance(value, dict):
            found[_known(name, origin)] = Given(_text_of(name, value, origin), origin, path.parent)
            continue
        if name not in SECTIONS:
            hint = _did_you_mean(nearest(name, SECTIONS), "[{}]")
            raise ConfigError(f"unknown section [{name}] in {origin}{hint}")
        for field, inner in value.items():
            key = f"{name}.{field}"
            found[_known(key, origin)] = Given(_text_of(key, inner, origin), origin, path.parent)
    return found


def layer_of_env(env: Mapping[str, str]) -> dict[str, Given]:
    """The `ISOTACH_*` variables. An empty one counts as not set."""
    found: dict[str, Given] = {}
    for variable, text in env.items():
        if not variable.startswith(ENV_PREFIX) or variable == ENV_CONFIG_FILE or variable.startswith(ENV_TEST_PREFIX):
            continue
        row = _BY_ENV.get(variable)
        if row is None:
            hint = _did_you_mean(nearest(variable, _BY_ENV))
            raise ConfigError(f"unknown environment variable {variable}{hint}; unset it")
        if text:
            found[row.name] = Given(text, f"environment variable {variable}")
    return found


def layer_of_overrides(overrides: Mapping[str, OverrideValue]) -> dict[str, Given]:
    """Flags and keyword arguments, by key name (`master.port`)."""
    origin = "argument"
    return {
        _known(name, origin): Given(_text_of(name, value, origin), origin)
        for name, value in overrides.items()
        if value is not None
    }


def resolve(layers: Sequence[Layer], machine: Machine) -> Settings:
    """Settings from layers in rising precedence. Raises ConfigError that names the key, its origin and the remedy."""
    values: dict[str, Any] = {}
    rows: list[SettingRow] = []
    for row in KEYS:
        given = next((layer[row.name] for layer in reversed(layers) if row.name in layer), None)
        if given is not None and row.key.derive is not None and given.text.strip() == AUTO_TEXT:
            given = None
        values[row.name] = _value_of(row, given, machine, values)
        rows.append(
            SettingRow(
                key=row.name,
                value_text=row.key.kind.format(values[row.name]),
                origin=DEFAULT_ORIGIN if given is None else given.origin,
                unit=row.key.kind.unit,
                default=row.key.default,
                doc=row.key.doc,
            )
        )
    _check_together(values, rows)
    return _assemble(values, tuple(rows))


def to_overrides(settings: Settings) -> dict[str, str]:
    """Texts for every key, such that a process started with them as overrides has the very same values."""
    return {row.key: row.value_text for row in settings.origins()}


def _value_of(row: NamedKey, given: Given | None, machine: Machine, values: Mapping[str, Any]) -> object:
    if given is None:
        if row.key.derive is not None:
            return row.key.derive(machine, values)
        return row.key.kind.parse(row.key.default, machine)
    where = machine if given.cwd is None else msgspec.structs.replace(machine, cwd=given.cwd)
    try:
        return row.key.kind.parse(given.text, where)
    except ConfigError as error:
        raise ConfigError(f"bad value for {row.name} ({given.origin}): {error}") from error


def _assemble(values: Mapping[str, Any], rows: tuple[SettingRow, ...]) -> Settings:
    document: dict[str, Any] = {"rows": rows}
    for row in KEYS:
        section = document.setdefault(row.section, {}) if row.section else document
        section[row.field] = values[row.name]
    return msgspec.convert(document, Settings)


#: (lower key, upper key, why): the first may not be greater than the second.
_ORDERED: Final = (
    ("master.persist_retry_initial", "master.persist_retry_max", "the first pause cannot be longer than the longest"),
    ("worker.heartbeat_interval", "master.worker_timeout", "a worker would be lost between two heartbeats"),
)


def _check_together(values: Mapping[str, Any], rows: Sequence[SettingRow]) -> None:
    shown = {row.key: f"{row.key} ({row.value_text}, {row.origin})" for row in rows}
    for lower, upper, why in _ORDERED:
        if values[lower] > values[upper]:
            raise ConfigError(f"{shown[lower]} is greater than {shown[upper]}: {why}; change one of them")


def _known(name: str, origin: str) -> str:
    if name in _BY_NAME:
        return name
    hint = _did_you_mean(_nearest_key(name))
    raise ConfigError(f"unknown configuration key {name!r} ({origin}){hint}; `isotach config list` shows all keys")


def _nearest_key(name: str) -> str | None:
    """Where only the section was left out or wrong, every key of that name; else the one spelt most alike."""
    field = name.rpartition(".")[2]
    same_field = [row.name for row in KEYS if row.field == field]
    return " or ".join(same_field) or nearest(name, _BY_NAME)


def _did_you_mean(name: str | None, form: str = "{}") -> str:
    return "" if name is None else f"; did you mean {form.format(name)}?"


def _text_of(name: str, value: object, origin: str) -> str:
    """A TOML or Python value as the text that a user would have put into the environment."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    kind = type(value).__name__
    raise ConfigError(f"bad value for {name} ({origin}): a {kind} is not possible; give a string, number or true/false")
