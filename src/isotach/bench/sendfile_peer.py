"""The baseline of the TCP benchmark: a process that sends one file to each connection, and nothing else.

Owns: the barest loop that moves a file over a socket. Started by `hot`; prints its port, serves until terminated.
Never: imports Isotach.
"""

import os
import socket
import sys


def serve(path: str) -> None:
    """Listens on a free loopback port, prints it, then sends the file to whoever connects, one after the other."""
    with socket.create_server(("127.0.0.1", 0)) as server, open(path, "rb") as source:
        print(server.getsockname()[1], flush=True)
        size = os.fstat(source.fileno()).st_size
        while True:
            connection, _ = server.accept()
            with connection:
                send(connection, source.fileno(), size)


def send(connection: socket.socket, descriptor: int, size: int) -> None:
    """The whole file by sendfile; a peer that leaves early is no fault."""
    offset = 0
    try:
        while offset < size:
            offset += os.sendfile(connection.fileno(), descriptor, offset, size - offset)
    except (BrokenPipeError, ConnectionResetError):
        return


if __name__ == "__main__":
    serve(sys.argv[1])
