"""The table of all configuration keys, gathered from the typed sections.

Owns: `Key` (what a field's annotation says about it), the table `KEYS` in documentation order, and the nearest name
to a misspelt one. Never: holds values.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, get_type_hints

import msgspec

from isotach.conf.kinds import Kind
from isotach.conf.machine import Machine

#: A default that depends on the machine or on keys resolved before it (earlier in the table).
Derive = Callable[[Machine, Mapping[str, Any]], object]
ENV_PREFIX: Final = "ISOTACH_"


class Key(msgspec.Struct, frozen=True):
    """What is known of one key; stands in the annotation of the field that holds its value."""

    kind: Kind[Any]
    default: str  # as a user would write it; with `derive`, words for the reference
    doc: str
    derive: Derive | None = None


class NamedKey(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table."""

    section: str  # empty for the keys at the top of the file
    field: str
    key: Key

    @property
    def name(self) -> str:
        """As in the file and in flags: `master.port`."""
        return f"{self.section}.{self.field}" if self.section else self.field

    @property
    def env(self) -> str:
        """The environment variable: `ISOTACH_MASTER_PORT`."""
        return ENV_PREFIX + self.name.replace(".", "_").upper()


def keys_of(section: str, struct: type[msgspec.Struct]) -> list[NamedKey]:
    """The keys that the fields of one section declare, in their order."""
    hints = get_type_hints(struct, include_extras=True)
    found = []
    for field in msgspec.structs.fields(struct):
        notes = [note for note in getattr(hints[field.name], "__metadata__", ()) if isinstance(note, Key)]
        found += [NamedKey(section=section, field=field.name, key=note) for note in notes]
    return found


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that a misspelt one most likely means, or None if nothing is near."""
    names = list(known)
    close = difflib.get_close_matches(name.lower(), [each.lower() for each in names], n=1, cutoff=0.5)
    if not close:
        return None
    return next(each for each in names if each.lower() == close[0])
