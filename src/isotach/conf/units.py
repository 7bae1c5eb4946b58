"""Sizes and durations as people write them: `512MiB`, `25%`, `250ms`, `1h`, `never`.

Owns: parsing and formatting, such that `parse(format(value)) == value` for every value. Never: knows a key or a limit.

Sizes are bytes. KiB, MiB, GiB, TiB, PiB (and the short K, M, G, T, P) are powers of 1,024; KB, MB, GB, TB, PB are
powers of 1,000. Durations are seconds as float; a bare number is seconds, and -1 or `never` is `NEVER`.
"""

import re
from decimal import Decimal
from fractions import Fraction
from typing import Final

from isotach.base.errors import ConfigError

#: A duration that never ends, and an interval that never comes round.
NEVER: Final = -1.0

_BINARY: Final = ("K", "M", "G", "T", "P")
_SIZE_UNITS: Final[dict[str, int]] = {
    "": 1,
    "b": 1,
    **{f"{letter}ib".lower(): 1024 ** (power + 1) for power, letter in enumerate(_BINARY)},
    **{letter.lower(): 1024 ** (power + 1) for power, letter in enumerate(_BINARY)},
    **{f"{letter}b".lower(): 1000 ** (power + 1) for power, letter in enumerate(_BINARY)},
}
#: In thousandths of a second, longest first, so that the first that divides is the one to write.
_DURATION_MS: Final[dict[str, int]] = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_DURATION_NAMES: Final[dict[str, str]] = {"": "s", "sec": "s", "min": "m", "hour": "h", "day": "d"}
_QUANTITY: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z%]*)", re.ASCII)
_TRUE: Final = frozenset(("true", "yes", "on", "1"))
_FALSE: Final = frozenset(("false", "no", "off", "0"))


def parse_size(text: str, whole: int | None = None) -> int:
    """Bytes. `25%` means that share of `whole` bytes, and is refused where there is no whole (None)."""
    amount, unit = _quantity(text, "a size", "512MiB, 4GB or a number of bytes")
    if unit == "%":
        if whole is None:
            raise ConfigError(f"{text!r} is a percentage, which has no meaning here: give a size such as 512MiB")
        if amount > 100:
            raise ConfigError(f"{text!r} is over 100%")
        return int(amount * whole / 100)
    factor = _SIZE_UNITS.get(unit.lower())
    if factor is None:
        raise ConfigError(f"{text!r} has the unknown unit {unit!r}: use B, KiB, MiB, GiB, TiB, KB, MB, GB or TB")
    size = amount * factor
    if size.denominator != 1:
        raise ConfigError(f"{text!r} is not a whole number of bytes")
    return int(size)


def format_size(size_bytes: int) -> str:
    """The exact size in the largest binary unit that divides it: `64MiB`, `100B`."""
    for power in range(len(_BINARY), 0, -1):
        if size_bytes and size_bytes % 1024**power == 0:
            return f"{size_bytes // 1024**power}{_BINARY[power - 1]}iB"
    return f"{size_bytes}B"


def approximate_size(size_bytes: int) -> str:
    """The size for a reader in a hurry, to three digits: `1.46GiB`. Not exact, not for parsing back."""
    power = min(max(size_bytes.bit_length() - 1, 0) // 10, len(_BINARY))
    if power == 0:
        return f"{size_bytes}B"
    amount = size_bytes / 1024**power
    digits = 2 if amount < 10 else 1 if amount < 100 else 0
    return f"{amount:.{digits}f}{_BINARY[power - 1]}iB"


def parse_duration(text: str) -> float:
    """Seconds; `NEVER` for `never` and for any spelling of -1."""
    if text.strip().lower() in ("never", "-1", "-1.0", "-1s"):
        return NEVER
    amount, unit = _quantity(text, "a duration", "10s, 5m, 1h, 250ms, or -1 for never")
    factor = _DURATION_MS.get(_DURATION_NAMES.get(unit.lower(), unit.lower()))
    if factor is None:
        raise ConfigError(f"{text!r} has the unknown unit {unit!r}: use ms, s, m, h or d")
    return float(amount * factor / 1000)


def format_duration(seconds: float) -> str:
    """The exact duration in the largest unit that divides it: `5m`, `250ms`, `never`."""
    if seconds < 0:
        return "never"
    milliseconds = round(seconds * 1000)
    if milliseconds / 1000 != seconds:
        return f"{Decimal(repr(seconds)):f}s"
    if milliseconds == 0:
        return "0s"
    unit = next(name for name, factor in _DURATION_MS.items() if milliseconds % factor == 0)
    return f"{milliseconds // _DURATION_MS[unit]}{unit}"


def parse_bool(text: str) -> bool:
    """True for true, yes, on, 1; False for false, no, off, 0."""
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ConfigError(f"{text!r} is neither true nor false")


def _quantity(text: str, what: str, examples: str) -> tuple[Fraction, str]:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{text!r} is not {what}: give for example {examples}")
    return Fraction(match[1]), match[2]
