"""Configuration: typed, validated settings of every component from file, environment and arguments.

Owns: the keys, their parsing, and where they come from. Never: is read in the middle of things; a process loads its
settings once and hands each component its own section.
"""

from isotach.conf.client_settings import ClientSettings
from isotach.conf.fuse_settings import FuseSettings
from isotach.conf.kinds import TierSpec
from isotach.conf.load import load_settings
from isotach.conf.resolve import OverrideValue, to_overrides
from isotach.conf.settings import (
    LogSettings,
    MasterSettings,
    SecuritySettings,
    SettingRow,
    Settings,
    WorkerSettings,
)

__all__ = [
    "ClientSettings",
    "FuseSettings",
    "LogSettings",
    "MasterSettings",
    "OverrideValue",
    "SecuritySettings",
    "SettingRow",
    "Settings",
    "TierSpec",
    "WorkerSettings",
    "load_settings",
    "to_overrides",
]
