"""The cluster secret: what lets the master seal capabilities and the workers prove who they are.

Owns: making, storing (mode 0600) and reading it. Never: logs it or sends it.
"""

import os
import secrets
from pathlib import Path
from typing import Final

from isotach.base.errors import ConfigError

_SECRET_BYTES: Final = 32
_MIN_BYTES: Final = 16
_MAX_BYTES: Final = 64


def load_secret(directory: Path, given: Path | None) -> bytes:
    """The secret in the file `given`, else that of `<directory>/secret`, made on first use.

    Raises ConfigError when the file cannot be read or holds fewer than 16 or more than 64 bytes.
    """
    if given is not None:
        return _read(given)
    path = directory / "secret"
    if not path.exists():
        _make(path)
    return _read(path)


def _read(path: Path) -> bytes:
    try:
        secret = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"the cluster secret {path} cannot be read ({error.strerror}): check the file") from error
    if not _MIN_BYTES <= len(secret) <= _MAX_BYTES:
        message = f"the cluster secret {path} has {len(secret)} bytes: give {_MIN_BYTES} to {_MAX_BYTES} random bytes"
        raise ConfigError(message)
    return secret


def _make(path: Path) -> None:
    """Written whole under a name of its own, then linked: a second process never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".secret-{os.getpid()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, secrets.token_bytes(_SECRET_BYTES))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(scratch, path)
    except FileExistsError:
        pass  # another process of this cluster was faster: its secret is ours
    finally:
        os.unlink(scratch)
