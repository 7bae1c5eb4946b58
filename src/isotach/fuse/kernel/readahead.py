"""How far the kernel reads ahead of sequential readers of a mount.

Owns: the value that the kernel shows in /sys/class/bdi. Never: fails a mount because of it. INIT can only lower the
kernel's 128 KiB, so a greater window is set there once the mount is served (as root).
"""

from pathlib import Path

from isotach.base.limits import KIB
from isotach.obs.log import get_logger

_log = get_logger("fuse.readahead")


def set_read_ahead(identity: str, size: int) -> bool:
    """For the mount `identity` ("major:minor", as mountinfo tells it), in bytes; whether it is so now."""
    try:
        Path(f"/sys/class/bdi/{identity}/read_ahead_kb").write_text(str(size // KIB))
    except OSError as error:
        _log.info("read_ahead_unchanged", identity=identity, size=size, reason=error.strerror)
        return False
    return True
