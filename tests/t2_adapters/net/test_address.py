"""Addresses as users write them, peers as the kernel knows them, and the retry schedule."""

import os
import socket
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotach.base.errors import AlreadyRunningError, InvalidArgumentError, UnavailableError
from isotach.net.address import Address, host_key
from isotach.net.peer import UserTable, current_user, peer_of
from isotach.net.retry import RetryPolicy, may_resend
from isotach.net.sockets import connect_to, listen_on
from isotach.wire.messages import Hello


@pytest.mark.parametrize(
    "text",
    [
        "isotach://host:1",
        "isotach://127.0.0.1:65535",
        "isotach://[::1]:19998",
        "isotach+unix:///a/b c/s",
        "isotach://a.b:0",
    ],
)
def test_addresses_round_trip(text):
    assert str(Address.parse(text)) == text
    assert Address.parse(Address.parse(text)) == Address.parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("host:1", "scheme"),
        ("http://host:1", "scheme"),
        ("isotach://host", "lacks"),
        ("isotach://:5", "lacks"),
        ("isotach://a/b:5", "lacks"),
        ("isotach://host:x", "port 'x'"),
        ("isotach://host:65536", "65535"),
        ("isotach://::1:5", "brackets"),
        ("isotach+unix://relative", "absolute"),
        ("isotach+unix://", "absolute"),
    ],
)
def test_bad_addresses_say_what_is_right(text, words):
    with pytest.raises(InvalidArgumentError, match=words):
        Address.parse(text)


def test_the_host_key_is_equal_in_another_process():
    code = "from isotach.net.address import host_key; print(host_key())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == host_key()


def test_stale_socket_files_are_replaced_and_live_ones_are_not(tmp_path):
    address = Address.unix(tmp_path / "s")
    dead = listen_on(address)
    dead.sock.close()  # as a killed process leaves it
    assert os.path.exists(address.path)

    live = listen_on(address)
    with pytest.raises(AlreadyRunningError, match="live server"):
        listen_on(address)
    dead.remove_file()
    assert os.path.exists(address.path), "the file is the new server's"
    assert os.stat(address.path).st_mode & 0o777 == 0o666
    live.close()
    assert not os.path.exists(address.path)


def test_what_is_no_socket_is_left_alone(tmp_path):
    (tmp_path / "s").write_text("a user's file")
    with pytest.raises((InvalidArgumentError, AlreadyRunningError)):
        listen_on(Address.unix(tmp_path / "s"))
    assert (tmp_path / "s").read_text() == "a user's file"


def test_socket_paths_may_be_longer_than_the_kernel_allows(tmp_path):
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    listener = listen_on(Address.unix(folder / "socket"))
    connect_to(listener.address, 5.0).close()
    listener.close()
    assert list(folder.iterdir()) == []


def test_a_used_port_and_a_missing_folder_are_told(tmp_path):
    listener = listen_on(Address.tcp("127.0.0.1", 0))
    with pytest.raises(AlreadyRunningError, match="in use"):
        listen_on(listener.address)
    listener.close()
    with pytest.raises(InvalidArgumentError, match="No such file"):
        listen_on(Address.unix(tmp_path / "none" / "s"))
    with pytest.raises(InvalidArgumentError):
        listen_on(Address.tcp("host.invalid", 0))


def test_nobody_there_is_told_with_what_to_do(tmp_path):
    for address in (Address.unix(tmp_path / "none"), listen_and_close()):
        with pytest.raises(UnavailableError, match="isotach start") as caught:
            connect_to(address, 1.0)
        assert str(address) in str(caught.value)


def listen_and_close() -> Address:
    """An address where nobody listens."""
    listener = listen_on(Address.tcp("127.0.0.1", 0))
    listener.close()
    return listener.address


def test_the_kernel_says_who_calls_on_a_unix_socket():
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        peer = peer_of(ours, Hello(1, 1, "somebody-else", "test", 1), UserTable())

    assert (peer.user, peer.uid, peer.pid, peer.local) == (current_user(), os.geteuid(), os.getpid(), True)
    assert peer.groups


def test_unknown_users_are_their_numbers_and_rows_age():
    now = 0.0
    users = UserTable(lambda: now)
    assert users.of_uid(3_999_999, 3_999_998) == ("3999999", ("3999998",))
    assert users.of_name("no-such-user-here") == ()
    assert users.of_name("bad\0name") == ()
    row = users._by_uid[3_999_999]
    users.of_uid(3_999_999, 1)
    assert users._by_uid[3_999_999] is row
    now = 61.0
    users.of_uid(3_999_999, 1)
    assert users._by_uid[3_999_999] is not row


@given(st.integers(1, 100), st.floats(0, 0.999), st.floats(0, 60))
def test_delays_grow_within_their_bounds(failures, jitter, elapsed):
    policy = RetryPolicy(base_s=0.1, max_s=2.0, total_s=30.0)
    delay = policy.next_delay_s(failures=failures, resends=0, elapsed_s=elapsed, budget_s=30.0, jitter=jitter)

    if delay is None:
        assert elapsed + 2.0 > 30.0
    else:
        assert 0.05 <= delay <= 2.0
        assert elapsed + delay < 30.0


def test_what_may_be_sent_again():
    assert may_resend(idempotent=True, was_sent=True)
    assert may_resend(idempotent=False, was_sent=False)
    assert not may_resend(idempotent=False, was_sent=True)
    assert RetryPolicy().next_delay_s(failures=1, resends=99, elapsed_s=0, budget_s=9, jitter=0) is None
    assert RetryPolicy().budget_s(deadline_s=99, ever_connected=False) == 3.0
    assert RetryPolicy().budget_s(deadline_s=1, ever_connected=True) == 1
