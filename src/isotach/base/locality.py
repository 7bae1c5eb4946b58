"""Where a process runs, in tiers from near to far (node, rack, zone), and how near two such places are. Pure.

Owns: the text form `node=a1,rack=r7,zone=z` and the distance. Never: finds out where it runs. The idea of ordered
locality tiers is Alluxio's (tiered locality).
"""

import re
from collections.abc import Sequence
from typing import Final

from isotach.base.errors import InvalidArgumentError

#: (tier, name), nearest first: [("node", "a1"), ("rack", "r7")].
Locality = Sequence[tuple[str, str]]

TIERS_MAX: Final = 8
_PART: Final = re.compile(r"([A-Za-z][A-Za-z0-9_-]*)=([A-Za-z0-9._:/-]+)")


def parse_locality(text: str) -> list[tuple[str, str]]:
    """The tiers in the order given; none for an empty text. Raises InvalidArgumentError."""
    tiers: list[tuple[str, str]] = []
    for part in text.split(","):
        if not part.strip():
            continue
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise InvalidArgumentError(f"{part!r} is no locality: write it as node=a1,rack=r7,zone=eu-1")
        tiers.append((match[1].lower(), match[2]))
    names = [name for name, _ in tiers]
    if len(names) != len(set(names)) or len(names) > TIERS_MAX:
        raise InvalidArgumentError(f"{text!r} names a tier twice or more than {TIERS_MAX} tiers: name each tier once")
    return tiers


def tiers_of(text: str, host: str) -> list[tuple[str, str]]:
    """What a process says of itself: the text's tiers, with the host as the node where the text names none."""
    tiers = parse_locality(text)
    return tiers if any(name == "node" for name, _ in tiers) else [("node", host), *tiers]


def distance(near: Locality, far: Locality) -> int:
    """How many of the first one's tiers must be gone up until both are in the same place: 0 for the same node, and one
    more than the last tier when they share none."""
    names = dict(far)
    for step, (tier, name) in enumerate(near):
        if names.get(tier) == name:
            return step
    return len(near)
