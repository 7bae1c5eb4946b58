"""A peer that accepts and then says nothing: frozen, or behind a cut. The caller asks about it, and gives up early.

Owns: `on_silence` of the blocking client. Never: cuts a network (`t5_system/test_partitions.py`).
"""

import threading
import time

import pytest

from isotach.base.errors import DeadlineExceededError, UnavailableError
from isotach.base.limits import SILENCE_S
from isotach.net.address import Address
from isotach.net.blocking_client import BlockingConnection
from isotach.wire.messages import FREE, PathRequest

pytestmark = pytest.mark.usefixtures("no_leaks")


class GoneError(UnavailableError):
    """What somebody who knows says."""


@pytest.fixture
def service_that_holds(service) -> Address:
    return service.addresses[1]


def test_a_silent_server_is_asked_about_and_given_up(service_that_holds):
    asked = threading.Event()

    def gone() -> None:
        asked.set()
        raise GoneError("it is gone")

    with BlockingConnection.open(service_that_holds, on_silence=gone) as connection:
        started = time.monotonic()
        with pytest.raises(GoneError):
            connection.call(FREE, PathRequest(b"/hold"), deadline_s=30)
        assert SILENCE_S <= time.monotonic() - started + 0.1 < SILENCE_S + 2
        assert asked.is_set()
        assert not connection.is_usable


def test_a_silent_server_that_lives_is_waited_for_until_the_deadline(service_that_holds):
    with BlockingConnection.open(service_that_holds, on_silence=lambda: None) as connection:
        started = time.monotonic()
        with pytest.raises(DeadlineExceededError):
            connection.call(FREE, PathRequest(b"/hold"), deadline_s=SILENCE_S + 0.4)
        assert SILENCE_S + 0.3 < time.monotonic() - started < SILENCE_S + 2
