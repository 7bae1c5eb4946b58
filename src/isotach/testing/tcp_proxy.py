"""A TCP proxy that breaks on purpose: bits that flip in flight, connections that break off, answers that come late.

Owns: passing bytes between clients and an upstream server, and the faults in them. Never: knows the protocol.
"""

import contextlib
import socket
import threading
from types import TracebackType
from typing import Final, Self

_PIECE_BYTES: Final = 64 << 10
_CONNECT_S: Final = 5.0


class TcpProxy:
    """Listens on a free port of 127.0.0.1; `forward_to` says where its connections go.

    Faults concern what the server sends; they act on all connections, old and new. Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._upstream: tuple[str, int] | None = None
        self._flips: list[int] = []  # positions, in bytes from now on that servers send, of bits to be flipped
        self._delay_s = 0.0
        self._open: set[socket.socket] = set()
        self._stopped = threading.Event()
        self.flipped = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._threads = [threading.Thread(target=self._accept, name="tcp-proxy", daemon=True)]
        self._threads[0].start()

    @property
    def port(self) -> int:
        """Where clients connect."""
        return int(self._listener.getsockname()[1])

    def forward_to(self, host: str, port: int) -> None:
        """Where connections go from now on; until then they are closed at once."""
        with self._lock:
            self._upstream = (host, port)

    def flip_bit(self, after_bytes: int) -> None:
        """Flips one bit of the byte that comes `after_bytes` after now, counted over all connections together."""
        with self._lock:
            self._flips.append(after_bytes)

    def delay(self, seconds: float) -> None:
        """Holds every piece of an answer back for that long."""
        with self._lock:
            self._delay_s = seconds

    def break_connections(self) -> None:
        """Ends every connection in the middle of whatever it carries."""
        with self._lock:
            victims = list(self._open)
        for victim in victims:
            with contextlib.suppress(OSError):
                victim.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """Ends the proxy and its connections."""
        self._stopped.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()
        self.break_connections()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = self._connect()
            except OSError:
                client.close()
                continue
            with self._lock:
                self._open |= {client, server}
            for source, target, from_server in ((client, server, False), (server, client, True)):
                arguments = (source, target, from_server)
                pump = threading.Thread(target=self._pump, args=arguments, name="tcp-proxy-pump", daemon=True)
                self._threads.append(pump)
                pump.start()

    def _connect(self) -> socket.socket:
        with self._lock:
            upstream = self._upstream
        if upstream is None:
            raise ConnectionRefusedError("nothing is behind this proxy yet")
        server = socket.create_connection(upstream, _CONNECT_S)
        server.settimeout(None)
        return server

    def _pump(self, source: socket.socket, target: socket.socket, from_server: bool) -> None:
        try:
            while piece := source.recv(_PIECE_BYTES):
                if from_server:
                    piece = self._spoilt(piece)
                    if self._delay_s:
                        self._stopped.wait(self._delay_s)
                target.sendall(piece)
        except OSError:
            pass  # one of them is gone
        finally:
            with self._lock:
                self._open.discard(source)
            for end in (source, target):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            source.close()

    def _spoilt(self, piece: bytes) -> bytes:
        with self._lock:
            here = [at for at in self._flips if at < len(piece)]
            self._flips = [at - len(piece) for at in self._flips if at >= len(piece)]
            self.flipped += len(here)
        if not here:
            return piece
        bad = bytearray(piece)
        for at in here:
            bad[at] ^= 1
        return bytes(bad)
