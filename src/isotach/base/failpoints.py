"""Named points at which a crash test kills the process, as `kill -9` would.

Owns: reading `ISOTACH_TEST_FAILPOINT` once at import: `name`, or `name:3` for the third passing, or `name:3@/a/file`
to die only if that file can be made, so that a process that is started again lives on and the test sees that the point
was reached. Never: does anything in production: with the variable unset `fail_at` is an empty function.
"""

import os
from collections.abc import Callable
from typing import Final

_SIGKILL: Final = 9


def _armed(spec: str) -> Callable[[str], None]:
    point, _, once_file = spec.partition("@")
    wanted, _, nth = point.partition(":")
    left = int(nth or 1)

    def kill_at(name: str) -> None:
        nonlocal left
        if name == wanted:
            left -= 1
            if left == 0 and _first(once_file):
                os.kill(os.getpid(), _SIGKILL)

    return kill_at


def _first(once_file: str) -> bool:
    if not once_file:
        return True
    try:
        os.close(os.open(once_file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except FileExistsError:
        return False
    return True


def _disarmed(_name: str) -> None:
    return


_spec: Final = os.environ.get("ISOTACH_TEST_FAILPOINT", "")

#: Kills this process when the environment asks for a crash at the point of that name.
fail_at: Final[Callable[[str], None]] = _armed(_spec) if _spec else _disarmed
