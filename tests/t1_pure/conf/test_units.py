"""Tests of sizes and durations: round trips as properties, and the wording of refusals.

Owns: the promise parse(format(value)) == value. Never: knows a configuration key.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotach.base.errors import ConfigError
from isotach.conf.units import (
    NEVER,
    approximate_size,
    format_duration,
    format_size,
    parse_bool,
    parse_duration,
    parse_size,
)


@given(st.integers(0, 1 << 60) | st.integers(0, 4096).map(lambda n: n << 40))
def test_sizes_survive_a_round_trip(size_bytes: int) -> None:
    assert parse_size(format_size(size_bytes)) == size_bytes


@given(
    st.integers(0, 10**12).map(lambda ms: ms / 1000)
    | st.floats(0, 1e9, allow_nan=False)
    | st.integers(0, 10_000).map(lambda days: days * 86_400.0)
)
def test_durations_survive_a_round_trip(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(0, 1 << 60))
def test_an_approximate_size_is_near_and_short(size_bytes: int) -> None:
    shown = approximate_size(size_bytes)

    assert len(shown) <= len("1023PiB")
    assert abs(parse_size_loosely(shown) - size_bytes) <= size_bytes * 0.006


def parse_size_loosely(text: str) -> float:
    number = text.rstrip("KMGTPiB")
    return float(number) * parse_size("1" + text[len(number) :])


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("100", 100),
        ("100B", 100),
        ("1KiB", 1024),
        ("1k", 1024),
        ("4GB", 4_000_000_000),
        ("4 GiB", 4 << 30),
        ("1.5MiB", 1_572_864),
        ("2T", 2 << 40),
    ],
)
def test_sizes(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10.0),
        ("10", 10.0),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("7d", 604_800.0),
        ("250ms", 0.25),
        ("0.5s", 0.5),
        ("-1", NEVER),
        ("never", NEVER),
        ("2 min", 120.0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


def test_a_percentage_needs_a_whole() -> None:
    assert parse_size("25%", whole=1000) == 250
    with pytest.raises(ConfigError, match="no meaning here"):
        parse_size("25%")
    with pytest.raises(ConfigError, match="over 100%"):
        parse_size("101%", whole=1000)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is not a size: give for example 512MiB"),
        ("-5", "is not a size"),
        ("lots", "is not a size"),
        ("5XB", "unknown unit 'XB': use B, KiB"),
        ("0.3B", "not a whole number of bytes"),
        ("٣MiB", "is not a size"),
    ],
)
def test_bad_sizes_are_told(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("soon", "is not a duration: give"), ("-5s", "is not a duration"), ("3w", "use ms, s, m, h or d")],
)
def test_bad_durations_are_told(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse_duration(text)


def test_switches() -> None:
    assert parse_bool("Yes")
    assert parse_bool("1")
    assert not parse_bool("off")
    with pytest.raises(ConfigError, match="neither true nor false"):
        parse_bool("maybe")
