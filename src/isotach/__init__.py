"""Isotach: any storage in one namespace, read at memory speed.

Owns: the public names, and nothing else. They load on first use, so that `import isotach` costs next to nothing and a
program that only catches errors never loads the client. Never: holds code of its own beyond that table.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from isotach.base.errors import (
        AlreadyRunningError,
        AuthenticationError,
        ConfigError,
        DataCorruptionError,
        DataLossError,
        DeadlineExceededError,
        InvalidArgumentError,
        InvalidPathError,
        IsotachError,
        JobFailedError,
        PathTooLongError,
        ProtocolError,
        StaleVersionError,
        UfsAuthError,
        UfsBucketMissingError,
        UfsError,
        UfsUnreachableError,
        UnavailableError,
    )
    from isotach.base.types import (
        BlockLocation,
        FileInfo,
        MountInfo,
        PathPolicy,
        ReadType,
        TtlAction,
        WorkerInfo,
        WriteType,
    )
    from isotach.client import (
        AsyncFileSystem,
        ChangeCounts,
        ClusterStatus,
        FileSystem,
        FreeCounts,
        JobInfo,
        LeavingWorker,
        LostInfo,
        connect,
        connect_async,
    )
    from isotach.run.standalone import Cluster, start

__version__: Final = "0.1.0"

__all__ = [
    "AlreadyRunningError",
    "AsyncFileSystem",
    "AuthenticationError",
    "BlockLocation",
    "ChangeCounts",
    "Cluster",
    "ClusterStatus",
    "ConfigError",
    "DataCorruptionError",
    "DataLossError",
    "DeadlineExceededError",
    "FileInfo",
    "FileSystem",
    "FreeCounts",
    "InvalidArgumentError",
    "InvalidPathError",
    "IsotachError",
    "JobFailedError",
    "JobInfo",
    "LeavingWorker",
    "LostInfo",
    "MountInfo",
    "PathPolicy",
    "PathTooLongError",
    "ProtocolError",
    "ReadType",
    "StaleVersionError",
    "TtlAction",
    "UfsAuthError",
    "UfsBucketMissingError",
    "UfsError",
    "UfsUnreachableError",
    "UnavailableError",
    "WorkerInfo",
    "WriteType",
    "__version__",
    "connect",
    "connect_async",
    "start",
]

_HOMES: Final = {
    "AsyncFileSystem": "isotach.client",
    "ClusterStatus": "isotach.client",
    "ChangeCounts": "isotach.client",
    "FileSystem": "isotach.client",
    "FreeCounts": "isotach.client",
    "JobInfo": "isotach.client",
    "LeavingWorker": "isotach.client",
    "LostInfo": "isotach.client",
    "connect": "isotach.client",
    "connect_async": "isotach.client",
    "Cluster": "isotach.run.standalone",
    "start": "isotach.run.standalone",
    "BlockLocation": "isotach.base.types",
    "FileInfo": "isotach.base.types",
    "MountInfo": "isotach.base.types",
    "PathPolicy": "isotach.base.types",
    "ReadType": "isotach.base.types",
    "TtlAction": "isotach.base.types",
    "WorkerInfo": "isotach.base.types",
    "WriteType": "isotach.base.types",
}


def __getattr__(name: str) -> object:
    """Loads a public name at its first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'isotach' has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "isotach.base.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
