"""What is mounted where and how: told once by who mounts, and handed to each process that serves the mount.

Owns: that record, and the configuration that follows from it. Never: mounts or serves.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from isotach.base.errors import InvalidArgumentError
from isotach.base.paths import normalize
from isotach.conf import OverrideValue, Settings, load_settings
from isotach.fuse.kernel.options import MountOptions


class MountPlan(msgspec.Struct, frozen=True, kw_only=True):
    """`source` is a path of the namespace; `overrides` are keys of the configuration, `file` is its file."""

    mountpoint: str
    source: str
    options: MountOptions
    overrides: dict[str, str] = {}
    file: str | None = None
    restarts: int = 0

    def settings(self) -> Settings:
        """The configuration in force for this mount. Raises ConfigError."""
        overrides: dict[str, OverrideValue] = {**self.overrides}
        return load_settings(overrides, file=None if self.file is None else Path(self.file))


def plan_of(mountpoint: Path, source: str, options: MountOptions, overrides: Mapping[str, OverrideValue]) -> MountPlan:
    """A checked plan: absolute mountpoint, canonical source, settings of the options above `overrides`.

    Raises InvalidArgumentError for a source that is no path of the namespace.
    """
    given = {name: _text(value) for name, value in overrides.items() if value is not None}
    settings = dict(options.settings)
    file = settings.pop("config", None)
    if not source.startswith("/"):
        raise InvalidArgumentError(f"{source!r} is no path of the namespace: give an absolute one, such as /")
    return MountPlan(
        mountpoint=str(real_path(mountpoint)),
        source=os.fsdecode(normalize(source)),
        options=options,
        overrides=given | settings,
        file=file,
    )


def real_path(mountpoint: Path) -> Path:
    """The real path of a mountpoint, with no question to the mount that may lie (dead) at its end."""
    path = mountpoint.expanduser().absolute()
    return path.parent.resolve() / path.name if path.name else path


def _text(value: OverrideValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(value) if isinstance(value, list | tuple) else str(value)
