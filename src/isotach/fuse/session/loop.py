"""The session of one mount: negotiates, reads requests in several threads, ends when the mount does.

Owns: the threads that read the device. Never: closes the descriptor it was given, or unmounts (`kernel.mounting`).
"""

import os
import select
import threading
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from errno import EAGAIN, ECONNABORTED, EINTR, ENODEV, ENOENT
from typing import Final, cast

from isotach.base.errors import ProtocolError
from isotach.base.limits import FUSE_SPIN_S, FUSE_STOP_S
from isotach.fuse.contract import Handler
from isotach.fuse.kernel.backing import DeviceBackings
from isotach.fuse.kernel.device import DeviceChannel, clone_device
from isotach.fuse.kernel.notify import DeviceNotifier
from isotach.fuse.protocol import layouts, requests
from isotach.fuse.protocol.constants import MAJOR, READ_BUFFER_BYTES_MIN, Opcode
from isotach.fuse.protocol.negotiation import Negotiated, Wanted, negotiate, version_only
from isotach.fuse.session.dispatch import Dispatcher
from isotach.fuse.session.errnos import Errnos
from isotach.fuse.session.interrupts import Interrupts
from isotach.fuse.session.pools import Pools
from isotach.obs.log import get_logger

_log = get_logger("fuse.session")

#: The mount is gone, or was aborted through the control file system.
_ENDS: Final = frozenset({ENODEV, ECONNABORTED})
#: A signal, nothing to read, or a request that was given up while it was read.
_SPIN_CPUS_MIN: Final = 2
_GO_ON: Final = frozenset({EINTR, EAGAIN, ENOENT})


class Session:
    """Serves the mount of `device_fd` (already mounted, or about to be) until it is unmounted.

    `inherited`: what another process negotiated for this mount before; then no INIT comes, and the kernel is asked to
    send again what that process left unanswered. `clones`: each thread reads a clone of its own; else all share the
    descriptor, so that whoever else holds it open (a supervisor) keeps what was read from being lost with this process.
    """

    def __init__(
        self,
        device_fd: int,
        wanted: Wanted,
        *,
        threads: int = 4,
        slow_threads: int = 32,
        inherited: Negotiated | None = None,
        clones: bool = False,
    ) -> None:
        self._device_fd = device_fd
        self._wanted = wanted
        self._threads = threads
        self._clones = clones
        self._inherited = inherited is not None
        self._negotiated = inherited
        self._errnos = Errnos()
        self.interrupts = Interrupts()
        self.dispatcher = Dispatcher(self._errnos, self.interrupts.arrived)
        self.later = Pools(slow_threads, self.dispatcher.serve, self.interrupts)
        self.notifier = DeviceNotifier(device_fd)
        self.backings = DeviceBackings(device_fd)
        self._serving = [False] * threads
        self._ended = threading.Event()
        self.ready = threading.Event()
        if inherited is not None:
            self._settle(inherited)

    @property
    def negotiated(self) -> Negotiated:
        """What was agreed upon. Raises ProtocolError before INIT (`ready`)."""
        if self._negotiated is None:
            raise ProtocolError("the kernel has not asked for INIT yet: wait for `ready`")
        return self._negotiated

    @property
    def served(self) -> Mapping[str, int]:
        """Requests so far, by opcode."""
        return {opcode.name: count for opcode in Opcode if (count := self.dispatcher.served[opcode])}

    @property
    def under_way(self) -> int:
        """Requests that have been read and not been served to their end."""
        return self.later.under_way + sum(self._serving)

    def serve(self, handlers: Mapping[int, Handler]) -> None:
        """Sets who serves what, before `run`. FORGET and its like need no handler."""
        self.dispatcher.set_handlers(handlers)

    def run(self, drain_timeout_s: float = FUSE_STOP_S) -> None:
        """Blocks until the mount is gone; then what the pools still have is finished. Raises ProtocolError for a kernel
        that cannot be served, OSError for a descriptor that is no mount."""
        channel = self._channel(self._device_fd)
        if self._negotiated is None:
            self._negotiate(channel)
        others = [
            threading.Thread(target=self._read_in_thread, args=(number,), name=f"isotach-fuse-{number}", daemon=True)
            for number in range(1, self._threads if not self._ended.is_set() else 1)
        ]
        for thread in others:
            thread.start()
        if self._inherited:
            self.notifier.resend()
        self.ready.set()
        try:
            self._read(channel, 0)
        finally:
            self._ended.set()
            self.ready.set()
            deadline = time.monotonic() + drain_timeout_s
            for thread in others:
                thread.join(max(0.0, deadline - time.monotonic()))
            if not self.later.close(max(0.0, deadline - time.monotonic())):
                _log.warning("requests_unfinished_at_unmount", under_way=self.under_way)

    def _channel(self, descriptor: int) -> DeviceChannel:
        tables = (self.interrupts.callbacks, self.interrupts.early)
        return DeviceChannel(descriptor, cast(Sequence[MutableMapping[int, object]], tables))

    def _read_in_thread(self, number: int) -> None:
        descriptor = -1
        try:
            descriptor = clone_device(self._device_fd) if self._clones else os.dup(self._device_fd)
            self._read(self._channel(descriptor), number)
        except Exception:
            _log.exception("reading_thread_failed")
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _read(self, channel: DeviceChannel, number: int) -> None:
        """Requests, one after another, into one buffer, until the mount ends."""
        view = memoryview(bytearray(self.negotiated.buffer_bytes if self._negotiated else READ_BUFFER_BYTES_MIN))
        buffers = [view]
        readv, message, descriptor = os.readv, self.dispatcher.message, channel.descriptor
        destroy, serving = int(Opcode.DESTROY), self._serving
        await_next = self._spinner(descriptor)
        while not self._ended.is_set():
            await_next()
            try:
                length = readv(descriptor, buffers)
            except OSError as error:
                if error.errno in _GO_ON:
                    continue
                if error.errno in _ENDS:
                    return
                raise
            serving[number] = True
            try:
                if message(view, length, channel) == destroy:
                    return
            except (ProtocolError, OSError):
                _log.exception("request_not_understood")  # and the mount goes on for everybody else
            finally:
                serving[number] = False

    def _spinner(self, descriptor: int) -> Callable[[], None]:
        """What a reading thread does before it sleeps in read(2): it looks for a next request for a moment, as one
        comes soon where one came just now, and waking a sleeper costs more than serving it. Alone only: of two threads
        the kernel would wake the one that sleeps."""
        if self._threads > 1 or (os.cpu_count() or 1) < _SPIN_CPUS_MIN:
            return _not_at_all
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        is_there, clock = poller.poll, time.perf_counter

        def spin() -> None:
            until = clock() + FUSE_SPIN_S
            while not is_there(0) and clock() < until:
                pass

        return spin

    def _negotiate(self, channel: DeviceChannel) -> None:
        """Answers INIT; a kernel of a newer major version asks twice."""
        buffer = bytearray(READ_BUFFER_BYTES_MIN)
        while not self._ended.is_set():
            try:
                length = os.readv(channel.descriptor, [buffer])
            except OSError as error:
                if error.errno in _GO_ON:
                    continue
                if error.errno in _ENDS:
                    self._ended.set()
                    return
                raise
            _, opcode, unique, *_ = layouts.IN_HEADER.unpack_from(buffer)
            if opcode != Opcode.INIT:
                raise ProtocolError(f"the kernel began with opcode {opcode} in place of INIT: is this a new mount?")
            asked = requests.decode_init(buffer[layouts.IN_HEADER.size : length])
            if asked.major > MAJOR:
                channel.reply(unique, version_only())
                continue
            reply, negotiated = negotiate(asked, self._wanted)
            self._settle(negotiated)
            channel.reply(unique, reply)
            return

    def _settle(self, negotiated: Negotiated) -> None:
        self._negotiated = negotiated
        self.backings.settle(negotiated.passthrough_off)
        self.notifier.settle(negotiated)


def _not_at_all() -> None:
    return
