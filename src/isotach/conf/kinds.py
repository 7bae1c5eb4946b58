"""Kinds of values: how the text of a key becomes a checked value, and a value its text again.

Owns: `Kind` and the kinds there are (whole number, port, size, duration, choice, path, address, tiers, ...).
Never: knows a particular key; reads the environment or a file.

Every kind keeps `parse(format(value)) == value`. A parser raises ConfigError that says what is wrong and what is right.
"""

import enum
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

import msgspec

from isotach.base.errors import ConfigError, InvalidArgumentError
from isotach.base.locality import parse_locality
from isotach.conf.machine import Machine
from isotach.conf.units import NEVER, format_duration, format_size, parse_bool, parse_duration, parse_size

V = TypeVar("V")

#: What stands for "no value" in the text of an optional key.
NONE_TEXT: Final = "none"


class Kind(msgspec.Struct, Generic[V], frozen=True, kw_only=True):
    """One kind of value."""

    parse: Callable[[str, Machine], V]
    format: Callable[[V], str]
    unit: str  # for the reference: "bytes", "duration", "port", ...
    accepts: str  # for the reference: range or choices


class TierSpec(msgspec.Struct, frozen=True):
    """One folder of a tier of a worker's cache. Folders with the same alias make up one tier."""

    alias: str  # MEM, SSD, HDD or another name in capitals
    path: Path
    quota_bytes: int
    percent: float = 0.0  # when not 0: the quota is this share of the folder's file system, found out when it is opened

    def __str__(self) -> str:
        quota = f"{self.percent:.12g}%" if self.percent else format_size(self.quota_bytes)
        return f"{self.alias}:{self.path}:{quota}"

    def inside(self, name: str) -> "TierSpec":
        """The same tier in the sub-folder `name`: for one of several workers on the same disks."""
        return msgspec.structs.replace(self, path=self.path / name)


def integer(low: int, high: int, unit: str = "count") -> Kind[int]:
    """A whole number from `low` to `high`."""

    def parse(text: str, _machine: Machine) -> int:
        if re.fullmatch(r"[+-]?[0-9]+", text.strip(), re.ASCII) is None:
            raise ConfigError(f"{text!r} is not a whole number")
        return _within(int(text), low, high, str)

    return Kind(parse=parse, format=str, unit=unit, accepts=f"{low} to {high}")


def locality() -> Kind[str]:
    """Where a process runs: tiers from near to far."""

    def parse(text: str, _machine: Machine) -> str:
        if text.strip() == NONE_TEXT:
            return ""
        try:
            return ",".join(f"{tier}={name}" for tier, name in parse_locality(text))
        except InvalidArgumentError as error:
            raise ConfigError(str(error)) from error

    return Kind(
        parse=parse, format=lambda value: value or NONE_TEXT, unit="locality", accepts="node=NAME,rack=NAME,zone=NAME"
    )


def port(*, may_be_off: bool = False) -> Kind[int]:
    """A TCP port; 0 lets the system choose a free one, and -1 (where allowed) opens none."""
    kind = integer(-1 if may_be_off else 0, 65_535, "port")
    return msgspec.structs.replace(kind, accepts="0 (any free one) to 65535" + (", -1 (off)" if may_be_off else ""))


def size(low: int, high: int, *, share_of_ram: bool = False, multiple_of: int = 1) -> Kind[int]:
    """A number of bytes; with `share_of_ram` also a percentage of this machine's memory."""

    def parse(text: str, machine: Machine) -> int:
        value = _within(parse_size(text, machine.ram_bytes if share_of_ram else None), low, high, format_size)
        if value % multiple_of and not text.strip().endswith("%"):
            raise ConfigError(f"{text!r} is {value} bytes, not a multiple of {format_size(multiple_of)}")
        return value - value % multiple_of

    accepts = f"{format_size(low)} to {format_size(high)}"
    accepts += f", a multiple of {format_size(multiple_of)}" if multiple_of > 1 else ""
    accepts += ", or a percentage of the memory" if share_of_ram else ""
    return Kind(parse=parse, format=format_size, unit="bytes", accepts=accepts)


def share(low: float, high: float) -> Kind[float]:
    """A part of a whole, as a number up to 1 or as a percentage."""

    def parse(text: str, _machine: Machine) -> float:
        number = text.strip().removesuffix("%").strip()
        if re.fullmatch(r"[0-9]+(\.[0-9]+)?", number, re.ASCII) is None:
            raise ConfigError(f"{text!r} is not a share: give for example 0.9 or 90%")
        part = float(number) / (100 if text.strip().endswith("%") else 1)
        return _within(round(part, 6), low, high, "{:g}".format)

    def show(value: float) -> str:
        return f"{value:.6f}".rstrip("0").rstrip(".")

    return Kind(parse=parse, format=show, unit="share", accepts=f"{low:g} to {high:g}, or a percentage")


def duration(low: float, high: float, *, may_be_never: bool = False) -> Kind[float]:
    """Seconds; with `may_be_never` also -1."""

    def parse(text: str, _machine: Machine) -> float:
        value = parse_duration(text)
        if value == NEVER:
            if not may_be_never:
                raise ConfigError(f"{text!r} means never, which is not possible here")
            return value
        return _within(value, low, high, format_duration)

    accepts = f"{format_duration(low)} to {format_duration(high)}" + (", or -1 (never)" if may_be_never else "")
    return Kind(parse=parse, format=format_duration, unit="duration", accepts=accepts)


def boolean() -> Kind[bool]:
    """True or false."""
    return Kind(
        parse=lambda text, _machine: parse_bool(text),
        format=lambda value: "true" if value else "false",
        unit="switch",
        accepts="true, false",
    )


def octal_mode() -> Kind[int]:
    """Permission bits, written in octal."""

    def parse(text: str, _machine: Machine) -> int:
        if re.fullmatch(r"(0o)?[0-7]{1,4}", text.strip()) is None:
            raise ConfigError(f"{text!r} is not an octal mode: give for example 022")
        return _within(int(text.strip().removeprefix("0o"), 8), 0, 0o777, "{:03o}".format)

    return Kind(parse=parse, format="{:03o}".format, unit="octal mode", accepts="000 to 777")


def choice(*names: str) -> Kind[str]:
    """One of `names`, whatever the case."""

    def parse(text: str, _machine: Machine) -> str:
        found = next((name for name in names if name.lower() == text.strip().lower()), None)
        if found is None:
            raise ConfigError(f"{text!r} is not one of {', '.join(names)}")
        return found

    return Kind(parse=parse, format=str, unit="choice", accepts=", ".join(names))


E = TypeVar("E", bound=enum.StrEnum)


def member_of(enumeration: type[E]) -> Kind[E]:
    """One member of a string enumeration, whatever the case."""
    names = choice(*(member.value for member in enumeration))
    return Kind(
        parse=lambda text, machine: enumeration(names.parse(text, machine)),
        format=str,
        unit=names.unit,
        accepts=names.accepts,
    )


def word(what: str) -> Kind[str]:
    """A name or address without spaces."""

    def parse(text: str, _machine: Machine) -> str:
        if not text or any(letter.isspace() or not letter.isprintable() for letter in text):
            raise ConfigError(f"{text!r} is not {what}")
        return text

    return Kind(parse=parse, format=str, unit=what.rsplit(maxsplit=1)[-1], accepts=what)


def path() -> Kind[Path]:
    """An absolute path; `~` is the home folder."""
    return Kind(parse=_parse_path, format=os.fspath, unit="path", accepts="a path")


def storage() -> Kind[str]:
    """A URI of an under storage, or a local path, which is made absolute."""

    def parse(text: str, machine: Machine) -> str:
        return text if re.match(r"[a-z][a-z0-9+.-]*://", text) else os.fspath(_parse_path(text, machine))

    return Kind(parse=parse, format=str, unit="URI or path", accepts="a path, or a URI such as s3://bucket/prefix")


_ADDRESS: Final = re.compile(
    r"isotach\+unix:///[^\s]+|isotach://(?:\[[0-9a-fA-F:.]+\]|[^\s:/,@\[\]]+):[0-9]{1,5}"
    r"(?:,(?:\[[0-9a-fA-F:.]+\]|[^\s:/,@\[\]]+):[0-9]{1,5})*"
)


def address() -> Kind[str]:
    """Where a master listens; several masters of one cluster are separated by commas."""

    def parse(text: str, _machine: Machine) -> str:
        if _ADDRESS.fullmatch(text) is None:
            raise ConfigError(f"{text!r} is not an address: give isotach://HOST:PORT or isotach+unix:///PATH")
        return text

    return Kind(parse=parse, format=str, unit="address", accepts="isotach://HOST:PORT, isotach+unix:///PATH")


def optional(kind: Kind[V]) -> Kind[V | None]:
    """The same kind, or nothing, written `none`."""

    def parse(text: str, machine: Machine) -> V | None:
        return None if text.strip().lower() == NONE_TEXT else kind.parse(text, machine)

    def show(value: V | None) -> str:
        return NONE_TEXT if value is None else kind.format(value)

    return Kind(parse=parse, format=show, unit=kind.unit, accepts=f"{kind.accepts}, or none")


def tiers() -> Kind[tuple[TierSpec, ...]]:
    """Folders of tiers, best tier first: `SSD:/path:100GiB,SSD:/second:50%,HDD:/other:1TiB`; `none` for no tier. An
    alias that comes again is another folder of the same tier."""

    def parse(text: str, machine: Machine) -> tuple[TierSpec, ...]:
        if text.strip().lower() in ("", NONE_TEXT):
            return ()
        found = tuple(_parse_tier(part.strip(), machine) for part in text.split(","))
        paths = [str(tier.path) for tier in found]
        twice = next((path for path in paths if paths.count(path) > 1), None)
        if twice is not None:
            raise ConfigError(f"the folder {twice!r} is given twice: give each folder of a tier its own path")
        return found

    def show(value: tuple[TierSpec, ...]) -> str:
        return ",".join(map(str, value)) or NONE_TEXT

    return Kind(
        parse=parse,
        format=show,
        unit="tiers",
        accepts="ALIAS:PATH:QUOTA, separated by commas, best first; QUOTA is a size or a share of the disk (50%)",
    )


def _parse_tier(text: str, machine: Machine) -> TierSpec:
    alias, _, rest = text.partition(":")
    folder, _, quota = rest.rpartition(":")
    if re.fullmatch(r"[A-Z][A-Z0-9_]*", alias) is None or not folder or not quota:
        raise ConfigError(f"{text!r} is not a tier: give ALIAS:PATH:QUOTA, for example SSD:/mnt/ssd/isotach:100GiB")
    path = _parse_path(folder, machine)
    if not quota.strip().endswith("%"):
        return TierSpec(alias, path, parse_size(quota))
    number = quota.strip()[:-1].strip()
    percent = float(number) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", number, re.ASCII) else 0.0
    if not 0 < percent <= 100:
        raise ConfigError(f"{text!r} gives the quota {quota!r}: give more than 0% and at most 100%, or a size")
    return TierSpec(alias, path, 0, percent)


def _parse_path(text: str, machine: Machine) -> Path:
    if not text.strip() or "\0" in text:
        raise ConfigError(f"{text!r} is not a path")
    # normpath also takes out `..`, so that one folder has one name and a child started elsewhere means the same.
    return Path(os.path.normpath(machine.absolute(text)))


N = TypeVar("N", int, float)


def _within(value: N, low: N, high: N, show: Callable[[N], str]) -> N:
    if not low <= value <= high:
        raise ConfigError(f"{show(value)} is out of range: give {show(low)} to {show(high)}")
    return value
