"""Which versions were completed lately: so that a COMPLETE that comes twice never brings back what was removed since.

Owns: the ring of rows. Never: grows: a version takes the slot of its number, and an older one loses it. Versions are
given in rising order and a COMPLETE is sent again for a minute at most: the ring spans what a master completes in that
time. It is on disk because a master may restart between the two sendings.
"""

import errno
import os
from typing import Final

from isotach.base.errors import StaleVersionError
from isotach.base.types import Version
from isotach.namespace import keys
from isotach.namespace.view import View

_SLOTS: Final = 1 << 16


def note(view: View, version: Version) -> None:
    """The version is visible from now on."""
    view.put(keys.completed(version % _SLOTS), keys.number(version))


def is_taken_in(view: View, version: Version) -> bool:
    """Whether the version was found in an under storage, not written through here: its slot was never its own. One that
    a later version has put out of its slot is taken to be a write."""
    noted = view.get(keys.completed(version % _SLOTS))
    return noted is None or noted < keys.number(version)


def was_completed(view: View, version: Version) -> bool:
    """Whether the version was visible once, whatever became of it."""
    return view.get(keys.completed(version % _SLOTS)) == keys.number(version)


def check_not_overtaken(view: View, current: Version, version: Version, path: bytes) -> None:
    """Raises StaleVersionError when a later write of the file was completed; what the store brought is no write."""
    if current > version and not is_taken_in(view, current):
        text = "a later write of this file was completed before this one: this one is dropped"
        raise StaleVersionError(errno.ESTALE, text, os.fsdecode(path))
