"""Loading the configuration of this process: the one module of `conf` that looks at the world.

Owns: where the file is searched, the environment, and the facts about this machine. Never: judges a value (`resolve`).
Called by the mains in `run`, by `cli` and by `connect`; everything below them is handed its section.
"""

import contextlib
import os
import pwd
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from isotach.base.errors import ConfigError
from isotach.conf.machine import Machine
from isotach.conf.resolve import (
    ENV_CONFIG_FILE,
    OverrideValue,
    layer_of_env,
    layer_of_file,
    layer_of_overrides,
    resolve,
)
from isotach.conf.settings import Settings

SYSTEM_FILE: Final = Path("/etc/isotach/isotach.toml")
_TMPFS: Final = Path("/dev/shm")  # noqa: S108 - the folder in it is named per user and instance
#: cgroup v2 and v1; a container's limit is what its memory really is.
_CGROUP_LIMITS: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def load_settings(
    overrides: Mapping[str, OverrideValue] | None = None,
    *,
    env: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Settings:
    """The configuration of this process, from (rising precedence) defaults, file, `ISOTACH_*`, and `overrides`.

    `overrides` are keyed by key name (`{"master.port": 0}`); None values are ignored. `env` stands in for the process
    environment. The file is `file`, else the one that ISOTACH_CONFIG names (empty: no file), else the first there is
    of `~/.config/isotach/isotach.toml` (or XDG_CONFIG_HOME) and `/etc/isotach/isotach.toml`.

    Raises ConfigError for an unknown key, a bad value, or a file that was named and cannot be read.
    """
    environment = os.environ if env is None else env
    machine = this_machine(environment)
    layers = [layer_of_env(environment), layer_of_overrides(overrides or {})]
    chosen = _file_to_read(file, environment, machine)
    if chosen is not None:
        layers.insert(0, layer_of_file(_read(chosen), chosen))
    return resolve(layers, machine)


def this_machine(env: Mapping[str, str]) -> Machine:
    """The facts that defaults depend on."""
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        ram_bytes=_ram_bytes(),
        home=Path(env.get("HOME") or Path.home()),
        cwd=Path.cwd(),
        user=_login_name(),
        tmpfs=_TMPFS if os.access(_TMPFS, os.W_OK | os.X_OK) else None,
        room_bytes=room_bytes,
    )


def room_bytes(folder: Path) -> int:
    """Bytes free in the file system of `folder` (which need not exist), plus what lies in it: a worker that comes
    back finds its own cache there, and that must not make its quota smaller."""
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    status = os.statvfs(existing)
    own = sum(_allocated_bytes(folder)) if existing == folder else 0
    return status.f_bavail * status.f_frsize + own


def _allocated_bytes(folder: Path) -> Iterator[int]:
    for parent, _, names in os.walk(folder):
        for name in names:
            # A file may go while we look; then it holds nothing.
            with contextlib.suppress(FileNotFoundError):
                yield os.lstat(os.path.join(parent, name)).st_blocks * 512


def _file_to_read(file: Path | None, env: Mapping[str, str], machine: Machine) -> Path | None:
    if file is not None:
        return machine.cwd / file
    named = env.get(ENV_CONFIG_FILE)
    if named is not None:
        return machine.absolute(named) if named else None
    user_folder = Path(env.get("XDG_CONFIG_HOME") or machine.home / ".config")
    candidates = (user_folder / "isotach" / "isotach.toml", SYSTEM_FILE)
    # os.path: a home that this user may not enter (sudo keeps HOME) holds no file for him.
    return next((each for each in candidates if os.path.isfile(each)), None)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read the configuration file {path}: {reason}") from error


def _ram_bytes() -> int:
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [physical]
    for path in _CGROUP_LIMITS:
        # No such file outside that cgroup version; "max" where there is no limit.
        with contextlib.suppress(OSError, ValueError):
            limits.append(int(path.read_text()))
    return min(limits)


def _login_name() -> str:
    """Who the kernel says we are, as on Unix sockets; never $USER, which anyone may set."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
