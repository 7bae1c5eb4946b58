"""Tests of the HTTP server of the metrics page, over a real socket.

Owns: what each path answers. Never: leaves a server running.
"""

import errno
import http.client
import json
from collections.abc import Iterator

import pytest

from isotach.obs.metrics import Metrics
from isotach.obs.serve import MetricsServer, serve_metrics


class Patient:
    """A component whose health the test decides."""

    def __init__(self) -> None:
        self.reason: str | None = None


@pytest.fixture
def patient() -> Patient:
    return Patient()


@pytest.fixture
def server(patient: Patient, no_leaks: None) -> Iterator[MetricsServer]:
    metrics = Metrics("worker")
    metrics.counter("fetches").add(5)
    server = serve_metrics(metrics, "127.0.0.1", 0, lambda: patient.reason)
    yield server
    server.close()
    server.close()


def get(server: MetricsServer, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_the_page(server: MetricsServer) -> None:
    status, text = get(server, "/metrics?x=1")

    assert status == 200
    assert "isotach_worker_fetches_total 5.0\n" in text
    assert "process_resident_memory_bytes" in text


def test_health(server: MetricsServer, patient: Patient) -> None:
    assert get(server, "/healthz") == (200, '{"status": "ok"}')
    patient.reason = "the master does not answer"
    status, text = get(server, "/healthz")

    assert status == 503
    assert json.loads(text) == {"status": "unhealthy", "reason": "the master does not answer"}


def test_other_paths_say_where_to_look(server: MetricsServer) -> None:
    assert get(server, "/") == (404, "try /metrics or /healthz\n")


def test_a_taken_port_is_told(server: MetricsServer) -> None:
    with pytest.raises(OSError, match="set web_port to another port") as caught:
        serve_metrics(Metrics("worker"), "127.0.0.1", server.port)
    assert caught.value.errno == errno.EADDRINUSE
