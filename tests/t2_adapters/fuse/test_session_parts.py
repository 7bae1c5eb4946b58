"""Dispatch, pools and interruptions with a channel that only takes notes: every request gets exactly one answer."""

import os
import threading
from errno import EAGAIN, EHOSTUNREACH, EINTR, EIO, ENOENT, ENOMEM, ENOSYS, ENOTCONN, EPROTO, ESTALE

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotach.base.errors import (
    InvalidArgumentError,
    ProtocolError,
    StaleVersionError,
    UfsUnreachableError,
    UnavailableError,
)
from isotach.base.limits import FUSE_INTERRUPTS_REMEMBERED_MAX
from isotach.fuse.contract import Request
from isotach.fuse.kernel.device import DeviceChannel
from isotach.fuse.protocol import layouts
from isotach.fuse.protocol.constants import UNANSWERED, Opcode
from isotach.fuse.session.dispatch import Dispatcher
from isotach.fuse.session.errnos import Errnos
from isotach.fuse.session.interrupts import Interrupts
from isotach.fuse.session.pools import Pools


class Notes:
    """A `contract.Channel`: what was answered, by `unique`."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, object]] = []
        self._answered = threading.Condition()

    def reply(self, unique, *buffers):
        payload = b"".join(buffers)
        with self._answered:
            self.answers.append((unique, payload))
            self._answered.notify_all()

    def fail(self, unique, number):
        assert 0 < number < 512
        with self._answered:
            self.answers.append((unique, number))
            self._answered.notify_all()

    def wait(self, count):
        with self._answered:
            assert self._answered.wait_for(lambda: len(self.answers) >= count, 10), self.answers
        return self.answers


def _message(opcode, unique, body=b"", extension=0):
    length = layouts.IN_HEADER.size + len(body)
    return layouts.IN_HEADER.pack(length, opcode, unique, 1, 0, 0, 1, extension) + body


def _request(channel, unique=2, body=b"", opcode=Opcode.READ):
    return Request(opcode, unique, 1, 0, 0, 1, memoryview(body), channel)


def _pools(threads=2, waiting_threads=8):
    interrupts = Interrupts()
    dispatcher = Dispatcher(Errnos(), interrupts.arrived)
    return Pools(threads, dispatcher.serve, interrupts, waiting_threads), interrupts


@given(st.binary(max_size=120), st.integers(0, 60), st.integers(0, 2**64 - 1), st.integers(0, 20))
def test_whatever_comes_gets_at_most_one_answer(data, opcode, unique, extension):
    channel = Notes()

    def fails(_):
        raise (KeyError, OSError, ProtocolError, ValueError, MemoryError, RecursionError)[unique % 6]("x")

    dispatcher = Dispatcher(Errnos(), lambda *_: None)
    dispatcher.set_handlers(dict.fromkeys(range(0, 60, 2), fails))
    message = _message(opcode, unique, data, extension)
    try:
        dispatcher.message(memoryview(message), len(message), channel)
    except ProtocolError:
        assert extension * 8 > len(data)
        return
    assert len(channel.answers) == (0 if opcode in UNANSWERED else 1)


@given(st.binary(max_size=80))
def test_what_is_no_request_is_refused(data):
    dispatcher = Dispatcher(Errnos(), lambda *_: None)
    if len(data) >= 4 and int.from_bytes(data[:4], "little") == len(data):
        return
    with pytest.raises(ProtocolError, match="report"):
        dispatcher.message(memoryview(data + bytes(40)), len(data), Notes())


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (FileNotFoundError(ENOENT, "gone"), ENOENT),
        (FileNotFoundError("gone"), ENOENT),
        (StaleVersionError("old"), ESTALE),
        (UnavailableError("no master answers"), EIO),
        (UnavailableError(EHOSTUNREACH, "no worker answers"), EIO),
        (UfsUnreachableError("no store answers"), EIO),
        (TimeoutError("late"), EIO),
        (OSError(ENOTCONN, "told so"), ENOTCONN),
        (OSError("nothing told"), EIO),
        (OSError(100_000, "no errno of this world"), EIO),
        (ProtocolError("what is this"), EPROTO),
        (KeyError("a bug"), EIO),
        (ValueError("a bug"), EIO),
        (MemoryError(), ENOMEM),
    ],
)
def test_errors_become_errnos(error, number):
    channel = Notes()

    def fails(_):
        raise error

    Dispatcher(Errnos(), lambda *_: None).serve(_request(channel), fails)

    assert channel.answers == [(2, number)]


def test_extensions_are_not_part_of_the_body():
    channel, bodies = Notes(), []
    dispatcher = Dispatcher(Errnos(), lambda *_: None)
    dispatcher.set_handlers({Opcode.MKDIR: lambda request: bodies.append(bytes(request.body)) or b""})
    message = _message(Opcode.MKDIR, 4, b"12345678name\0" + bytes(16), extension=2)

    assert dispatcher.message(memoryview(message), len(message), channel) == Opcode.MKDIR
    assert bodies == [b"12345678name\0"]
    assert channel.answers == [(4, b"")]


def test_unknown_requests_are_not_implemented_and_destroy_is_agreed_to():
    channel = Notes()
    dispatcher = Dispatcher(Errnos(), lambda *_: None)
    dispatcher.set_handlers({})
    for opcode, unique in ((Opcode.IOCTL, 2), (999, 4), (Opcode.DESTROY, 6), (Opcode.FORGET, 8)):
        message = _message(opcode, unique)
        dispatcher.message(memoryview(message), len(message), channel)

    assert channel.answers == [(2, ENOSYS), (4, ENOSYS), (6, b"")]


def test_pieces_are_sent_as_one_and_what_is_no_answer_is_an_error():
    channel = Notes()
    dispatcher = Dispatcher(Errnos(), lambda *_: None)

    dispatcher.serve(_request(channel), lambda _: (b"ab", memoryview(b"cd")))
    dispatcher.serve(_request(channel, 4), lambda _: 5)
    dispatcher.serve(_request(channel, 6), lambda _: None)

    assert channel.answers == [(2, b"abcd"), (4, EIO)]


def test_pools_copy_the_body_and_answer_later(no_leaks):
    pools, _ = _pools()
    channel, buffer = Notes(), bytearray(b"before")
    release = threading.Event()

    def work(request):
        release.wait(10)
        return bytes(request.body)

    for unique in range(2, 12, 2):
        pools.run("read", Request(15, unique, 1, 0, 0, 1, memoryview(buffer), channel), work)
    buffer[:] = b"after!"
    assert pools.under_way == 5
    release.set()

    assert sorted(channel.wait(5)) == [(unique, b"before") for unique in range(2, 12, 2)]
    assert pools.close(10)
    assert pools.under_way == 0


def test_pools_that_are_not_there_are_refused():
    pools, _ = _pools()

    with pytest.raises(InvalidArgumentError, match="read, write, tree, wait"):
        pools.run("fast", _request(Notes()), lambda _: b"")


def test_pools_serve_what_is_queued_before_they_close(no_leaks):
    pools, _ = _pools(threads=1)
    channel = Notes()
    for unique in range(2, 402, 2):
        pools.run("tree", _request(channel, unique), lambda _: b"")

    assert pools.close(10)
    assert [unique for unique, _ in channel.answers] == list(range(2, 402, 2))


def test_a_handler_that_fails_in_a_pool_does_not_end_its_thread(no_leaks):
    pools, _ = _pools(threads=1)
    channel = Notes()

    def fails(_):
        raise RuntimeError("a bug")

    pools.run("write", _request(channel, 2), fails)
    pools.run("write", _request(channel, 4), lambda _: b"fine")

    assert channel.wait(2) == [(2, EIO), (4, b"fine")]
    assert pools.close(10)


def test_a_request_that_waits_to_be_begun_ends_at_once(no_leaks):
    pools, interrupts = _pools(waiting_threads=1)
    channel, release = Notes(), threading.Event()
    pools.run("wait", _request(channel, 2), lambda _: release.wait(10) and b"")
    pools.run("wait", _request(channel, 4), lambda _: b"never")

    interrupts.arrived(4, channel, 5)
    assert channel.answers == [(4, EINTR)]
    release.set()
    assert channel.wait(2)[1:] == [(2, b"")]
    assert pools.close(10)


def test_an_interruption_before_its_request_is_remembered(no_leaks):
    pools, interrupts = _pools()
    channel, called = Notes(), []

    interrupts.arrived(2, channel, 3)
    pools.on_interrupt(_request(channel, 2), lambda: called.append(2))
    interrupts.arrived(4, channel, 5)
    pools.run("wait", _request(channel, 4), lambda _: b"never")

    assert called == [2]
    assert channel.answers == [(4, EINTR)]
    assert not interrupts.early
    assert pools.close(10)


def test_too_many_early_interruptions_go_back_to_the_kernel():
    interrupts, channel = Interrupts(), Notes()

    for unique in range(0, 2 * FUSE_INTERRUPTS_REMEMBERED_MAX + 6, 2):
        interrupts.arrived(unique, channel, unique + 1)

    assert channel.answers == [(1, EAGAIN), (3, EAGAIN), (5, EAGAIN)]
    assert len(interrupts.early) == FUSE_INTERRUPTS_REMEMBERED_MAX


def test_interruptions_and_requests_meet_in_any_order(no_leaks):
    """A running request registers its callback while the wish to end it arrives: it always is called."""
    for _ in range(200):
        interrupts, called = Interrupts(), threading.Event()
        threads = [
            threading.Thread(target=interrupts.arrived, args=(2, Notes(), 3)),
            threading.Thread(target=interrupts.watch, args=(2, called.set)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert called.is_set()
        assert not interrupts.callbacks
        assert not interrupts.early


def test_replies_of_very_many_pieces_are_joined():
    reader, writer = os.pipe()
    try:
        DeviceChannel(writer).reply(6, *[b"x"] * 2_000)
        sent = os.read(reader, 4_096)
    finally:
        os.close(reader)
        os.close(writer)

    assert layouts.OUT_HEADER.unpack_from(sent) == (2_016, 0, 6)
    assert sent[16:] == b"x" * 2_000


def test_replies_of_any_size_are_the_header_and_the_bytes():
    reader, writer = os.pipe()
    channel = DeviceChannel(writer)
    try:
        for pieces in ((), (b"",), (b"abc",), (memoryview(b"abc"),), (bytearray(20_000),), (b"ab", bytearray(9_000))):
            channel.reply(8, *pieces)
            sent = os.read(reader, 65_536)
            assert layouts.OUT_HEADER.unpack_from(sent) == (len(sent), 0, 8)
            assert sent[16:] == b"".join(pieces)
    finally:
        os.close(reader)
        os.close(writer)
