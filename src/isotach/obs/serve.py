"""The small HTTP server of `/metrics` and `/healthz`.

Owns: its socket and its threads. Never: knows what is measured; it asks a `Metrics` for its page.
"""

import json
import socket
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from isotach.base.errors import os_error
from isotach.obs.log import get_logger
from isotach.obs.metrics import CONTENT_TYPE, Metrics

log = get_logger("obs.serve")

#: Says what is wrong, or None while all is well.
Health = Callable[[], str | None]

_REQUEST_TIMEOUT_S: Final = 10.0
#: The longest that `close` waits for an idle server.
_POLL_S: Final = 0.1


def serve_metrics(metrics: Metrics, host: str, port: int, health: Health = lambda: None) -> "MetricsServer":
    """Serves until `close`, in daemon threads. Port 0 takes a free one. `/healthz` answers 200, or 503 and the reason
    that `health` gives. Raises OSError (EADDRINUSE and others) that names the address."""
    return MetricsServer(metrics, host, port, health)


class MetricsServer:
    """A running server."""

    def __init__(self, metrics: Metrics, host: str, port: int, health: Health) -> None:
        def answer(path: str) -> tuple[int, str, bytes]:
            if path == "/metrics":
                return 200, CONTENT_TYPE, metrics.render()
            if path == "/healthz":
                reason = health()
                body = {"status": "ok"} if reason is None else {"status": "unhealthy", "reason": reason}
                return (200 if reason is None else 503), "application/json", json.dumps(body).encode()
            return 404, "text/plain", b"try /metrics or /healthz\n"

        handler = type("Handler", (_Handler,), {"answer": staticmethod(answer)})
        try:
            self._server = _Server(host, port, handler)
        except OSError as error:
            reason = f"{error.strerror or error}; set web_port to another port, 0 for a free one, -1 for none"
            raise os_error(error.errno or 0, f"cannot serve metrics on {host}:{port}: {reason}") from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_S,), name="metrics-http", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stops and frees the port; safe to call twice."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), handler)

    def server_bind(self) -> None:
        """Without the base class's reverse name lookup of the host, which can hang for seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away, or our own fault: logged either way, never printed raw."""
        log.warning("request_failed", client=str(client_address), error=sys.exception())


class _Handler(BaseHTTPRequestHandler):
    timeout = _REQUEST_TIMEOUT_S
    answer: Callable[[str], tuple[int, str, bytes]]

    def do_GET(self) -> None:
        """Answers from the page that `answer` gives."""
        status, content_type, body = self.answer(self.path.partition("?")[0])
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not logged."""
