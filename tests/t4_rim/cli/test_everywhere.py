"""Global options before and after any command: what `hoist` moves to the front, and what it leaves alone."""

import pytest

from isotach.cli.everywhere import hoist


@pytest.mark.parametrize(
    ("arguments", "ahead", "rest"),
    [
        ("fs ls /", "", "fs ls /"),
        ("fs ls / --json", "--json", "fs ls /"),
        ("--json fs ls /", "--json", "fs ls /"),
        ("fs --address a ls --no-color /", "--address a --no-color", "fs ls /"),
        ("fs ls --address=a /", "--address=a", "fs ls /"),
        ("fs ls -o a=1 --set b=2 --set=c=3 /", "-o a=1 --set b=2 --set=c=3", "fs ls /"),
        ("fs rm --json -- --json /a", "--json", "fs rm -- --json /a"),
        ("fs ls --json=yes", "--json=yes", "fs ls"),
        ("fs mount --option=k=v /a", "", "fs mount --option=k=v /a"),
        ("fs ls --address", "--address", "fs ls"),
    ],
)
def test_global_options_move_to_the_front(arguments: str, ahead: str, rest: str) -> None:
    assert hoist(arguments.split()) == (ahead.split(), rest.split())
