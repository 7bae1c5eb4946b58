"""Colours of the terminal, as escape codes: for lines that are printed by the thousand.

Owns: the few styles there are. Never: decides whether colours are wanted (`output` does).
"""

import re
from typing import Final

_CODES: Final = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "cyan": "36",
    "directory": "1;34",
}
#: What a name may hold that would move the cursor, ring, or change colours: C0, DEL, C1.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def paint(text: str, style: str) -> str:
    """The text in that style."""
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m"


def visible(text: str) -> str:
    """The text without what would steer the terminal; bytes that are no UTF-8 are shown in hexadecimal."""
    shown = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
    return shown.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
