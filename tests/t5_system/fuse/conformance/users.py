"""System calls as a program of some user makes them, with what they answer.

Owns: running calls as another user in a process of its own, and errno as a name. Never: knows which file system it
is on.
"""

import errno
import os
import pickle
from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest

T = TypeVar("T")
ALICE, BOB, STAFF = 65_531, 65_532, 65_530


def refused(call: Callable[[], object]) -> str:
    """The name of the errno with which the call fails; "OK" when it does not."""
    try:
        call()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error.errno))
    return "OK"


def as_user(uid: int, gid: int, call: Callable[[], T], groups: Sequence[int] = ()) -> T:
    """What the call gives (or raises) in a child process of that user. Needs root."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        result: object
        try:
            os.setgroups(list(groups))
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            result = (True, call())
        except BaseException as error:
            result = (False, error)
        os.write(writing, pickle.dumps(result))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    done, value = pickle.loads(data)  # noqa: S301 -- from our own child
    if not done:
        raise value
    return value


def refused_to(uid: int, gid: int, call: Callable[[], object], groups: Sequence[int] = ()) -> str:
    """As `refused`, for another user."""
    return as_user(uid, gid, lambda: refused(call), groups)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as several users")
