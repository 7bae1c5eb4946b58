"""A network of its own for a process: a Linux network namespace behind a router that can be cut or made slow.

Owns: the namespaces, the links between them, and their end. Never: starts the process itself; `launcher` is what to
put before its command. Needs root and iproute2 (`missing()` says what is not there).

    here 10.213.K.1 -- .2 router .5 -- .6 inside

A cut is a router that stops forwarding: packets vanish without an answer, as they do in a broken switch. A rate is a
token bucket filter on both of the router's sides, which every kernel with traffic control has (`netem` is not needed,
so there is no added delay; see `tcp_proxy.py` for that).
"""

import contextlib
import os
import random
import shutil
import subprocess
from types import TracebackType
from typing import Final, Self

_SUBNETS: Final = range(1, 255)
_ATTEMPTS_MAX: Final = 8
_FORWARDING: Final = "/proc/sys/net/ipv4/ip_forward"
#: A token bucket of two full pages of packets: small enough that the rate is felt at once.
_BURST_BYTES: Final = 32 << 10
_QUEUE_MS: Final = 300


def missing() -> str | None:
    """Why no namespace can be made here, or None when it can."""
    if os.geteuid() != 0:
        return "needs root: network namespaces are made by root only"
    if shutil.which("ip") is None or shutil.which("tc") is None:
        return "needs iproute2 (apt-get install iproute2)"
    probe = f"isotach-probe-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False).returncode:
        return "this kernel or container allows no network namespaces"
    subprocess.run(["ip", "netns", "del", probe], check=True)
    return None


class NetNamespace:
    """One namespace with one way out. A context manager; `close` ends the network, not the processes in it.

    `here` is the address of this side, `inside` that of the namespace; `launcher` runs a command within.
    """

    def __init__(self) -> None:
        """Raises OSError with what `ip` said when it cannot be made."""
        problem: OSError | None = None
        for subnet in random.SystemRandom().sample(_SUBNETS, _ATTEMPTS_MAX):
            self._name = f"isotach-{subnet}-{os.getpid()}"
            self._router = f"{self._name}-r"
            self.here, self.inside = f"10.213.{subnet}.1", f"10.213.{subnet}.6"
            try:
                self._build(subnet)
            except OSError as error:  # taken by another test run, perhaps
                problem = error
                self.close()
                continue
            return
        raise problem or OSError("no network namespace could be made")

    @property
    def launcher(self) -> tuple[str, ...]:
        """What to put before a command to run it inside. It also gets a mount namespace, so another host key."""
        return ("ip", "netns", "exec", self._name)

    def cut(self) -> None:
        """Lets every packet vanish, in both directions, until `heal`. Connections stay open and silent."""
        self._forward("0")

    def heal(self) -> None:
        """Takes back `cut` and `slow`."""
        self._forward("1")
        for device in ("here", "inside"):
            with contextlib.suppress(OSError):
                _run("tc", "-n", self._router, "qdisc", "del", "dev", device, "root")

    def slow(self, bytes_per_s: int) -> None:
        """Lets no more than that through in each direction, until `heal`."""
        for device in ("here", "inside"):
            _run(
                "tc", "-n", self._router, "qdisc", "replace", "dev", device, "root", "tbf",
                "rate", f"{bytes_per_s * 8}bit", "burst", str(_BURST_BYTES), "latency", f"{_QUEUE_MS}ms",
            )  # fmt: skip

    def close(self) -> None:
        """Takes the namespaces and their links away. Safe to call twice."""
        for name in (self._name, self._router):
            with contextlib.suppress(OSError):
                _run("ip", "netns", "del", name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _build(self, subnet: int) -> None:
        net, outside = f"10.213.{subnet}", f"isot{subnet}"
        for name in (self._name, self._router):
            _run("ip", "netns", "add", name)
            _run("ip", "-n", name, "link", "set", "lo", "up")
        _run("ip", "link", "add", outside, "type", "veth", "peer", "name", "here", "netns", self._router)
        _run("ip", "-n", self._router, "link", "add", "inside", "type", "veth", "peer", "name", "out", "netns",
             self._name)  # fmt: skip
        _run("ip", "addr", "add", f"{net}.1/30", "dev", outside)
        _run("ip", "-n", self._router, "addr", "add", f"{net}.2/30", "dev", "here")
        _run("ip", "-n", self._router, "addr", "add", f"{net}.5/30", "dev", "inside")
        _run("ip", "-n", self._name, "addr", "add", f"{net}.6/30", "dev", "out")
        _run("ip", "link", "set", outside, "up")
        for name, device in ((self._router, "here"), (self._router, "inside"), (self._name, "out")):
            _run("ip", "-n", name, "link", "set", device, "up")
        _run("ip", "route", "add", f"{net}.4/30", "via", f"{net}.2")
        _run("ip", "-n", self._name, "route", "add", "default", "via", f"{net}.5")
        self._forward("1")

    def _forward(self, digit: str) -> None:
        _run("ip", "netns", "exec", self._router, "sh", "-c", f"echo {digit} > {_FORWARDING}")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
