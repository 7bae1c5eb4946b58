"""A file of a folder as an entry of the under storage, and its fingerprint.

Owns: what the fingerprint of a file is: size, time of last change of content, inode number. Not the status-change time
and not the path, so that our own rename and chmod leave it as it is.
Never: opens anything.
"""

import functools
import grp
import os
import pwd
import stat

from isotach.ufs.interface import UfsStatus


def fingerprint_of(state: os.stat_result) -> str:
    """Equal while the content is equal."""
    return f"stat:{state.st_size}:{state.st_mtime_ns}:{state.st_ino}"


def status_of(state: os.stat_result, path: str) -> UfsStatus:
    """The entry for a stat result of a regular file or directory."""
    is_dir = stat.S_ISDIR(state.st_mode)
    return UfsStatus(
        path=path,
        is_dir=is_dir,
        length=0 if is_dir else state.st_size,
        mtime_ns=state.st_mtime_ns,
        fingerprint=None if is_dir else fingerprint_of(state),
        mode=stat.S_IMODE(state.st_mode),
        owner=_user(state.st_uid),
        group=_group(state.st_gid),
    )


def is_ordinary(state: os.stat_result) -> bool:
    """Whether it is a regular file or a directory: nothing else is shown."""
    return stat.S_ISREG(state.st_mode) or stat.S_ISDIR(state.st_mode)


@functools.lru_cache(maxsize=1024)
def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@functools.lru_cache(maxsize=1024)
def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
