"""Which of a master's endpoints a client uses: pure choices over the addresses and the server's welcome.

Owns: when to leave the given address for the local socket or for TCP, and the order in which readers are tried.
Never: connects.

The kernel names the caller on a Unix socket; a client that was told to act as another user therefore goes by TCP.
"""

from isotach.client.routing import local_address
from isotach.net.address import Address
from isotach.wire.messages import Welcome


def better_master_address(
    address: Address, welcome: Welcome, *, host_key: str, declared_user: str | None, short_circuit: bool
) -> Address | None:
    """Where to connect instead of `address`, or None to stay.

    From TCP to the master's Unix socket on the same host, unless a user was declared; from a Unix socket to TCP when
    the kernel's word for who we are is not the declared user.
    """
    if address.is_unix:
        if declared_user is None or declared_user == welcome.user or not welcome.address:
            return None
        other = Address.parse(welcome.address)
        return None if other.is_unix else other
    if declared_user is not None or not short_circuit:
        return None
    return local_address(welcome.local_socket, welcome.host_key, host_key)


def reader_routes(master: Address, welcome: Welcome) -> list[list[Address]]:
    """One route for each reader process: that reader first, then the others, and the master when none answers."""
    readers = [Address.parse(text) for text in welcome.readers]
    return [[*readers[index:], *readers[:index], master] for index in range(len(readers))]
