"""The Python client: a file system over the namespace, blocking and asynchronous.

Owns: everything between the public methods and the wire, for metadata (`operations`, `link`) and for data (`reading`,
`writing`). Never: decides permissions, placement or caching; master and workers do.
"""

from isotach.client.async_filesystem import AsyncFileSystem
from isotach.client.connecting import connect, connect_async
from isotach.client.filesystem import FileSystem
from isotach.client.jobs import JobInfo
from isotach.client.policies import ChangeCounts, FreeCounts
from isotach.client.records import ClusterStatus, LeavingWorker, LostInfo

__all__ = [
    "AsyncFileSystem",
    "ChangeCounts",
    "ClusterStatus",
    "FileSystem",
    "FreeCounts",
    "JobInfo",
    "LeavingWorker",
    "LostInfo",
    "connect",
    "connect_async",
]
