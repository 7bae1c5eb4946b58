"""The first frame of each side.

Owns: what a client and a server say of themselves before any call. Never: decides whether they get on
(`handshake.py`).
"""

from isotach.wire.message_base import Message


class Hello(Message, frozen=True):
    """The first frame of a client."""

    protocol_min: int
    protocol_max: int
    user: str  # declared; ignored on Unix sockets, where the kernel knows better
    client: str  # program name, for logs
    pid: int
    token: bytes = b""


class DirectAccess(Message, frozen=True):
    """Told to a process that the kernel lets read the server's own files anyway (same host, same user or root): where
    they are, so that hot reads need no call. `pid` is the caller's as the server sees it: another one than the caller's
    own means another PID namespace, in which a reader of the store could not be told dead from alive."""

    pid: int
    folders: list[str]  # of a master: its namespace and its block locations; of a worker: its tiers, best first
    cluster: bytes = b""  # of a worker: the stamp in its folders; one without it is another cluster's


class Welcome(Message, frozen=True):
    """The first frame of a server."""

    protocol: int
    role: str  # master, reader, worker
    server_id: str
    host_key: str
    readers: list[str] = []  # addresses that serve reads of the namespace, for a master
    user: str = ""  # who the server takes the caller for
    local_socket: str = ""  # where processes of the same host can reach this server
    address: str = ""
    direct: DirectAccess | None = None
