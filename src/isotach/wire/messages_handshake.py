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
