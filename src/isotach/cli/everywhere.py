"""Options that work before and after any command: found in the arguments and moved to the front.

Owns: their names. Pure. Never: gives them a meaning (`main` declares them, `session` carries them).
"""

from collections.abc import Sequence
from typing import Final

#: Name as written, and whether a value follows.
GLOBAL_OPTIONS: Final[dict[str, bool]] = {
    "--address": True,
    "--config": True,
    "--set": True,
    "-o": True,
    "--json": False,
    "--no-color": False,
    "--debug": False,
}
#: Below this command `-o` gives mount options, as with every program that mounts.
_HAS_OWN_O: Final = "fuse"


def hoist(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """(global options with their values, everything else in order). What follows `--` is left alone."""
    ahead: list[str] = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            return ahead, [*rest, word, *words]
        name, equals, _ = word.partition("=")
        takes_value = GLOBAL_OPTIONS.get(name if name.startswith("--") else word)
        if takes_value is None or (word == "-o" and rest[:1] == [_HAS_OWN_O]):
            rest.append(word)
            continue
        ahead.append(word)
        if takes_value and not equals:
            ahead += [value for value in [next(words, None)] if value is not None]
    return ahead, rest
