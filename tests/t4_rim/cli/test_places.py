"""What is local and what is in the namespace; sizes; options; what a terminal may be shown."""

from pathlib import Path

import pytest

from isotach.base.errors import ConfigError, InvalidArgumentError
from isotach.cli.fs.find import size_condition
from isotach.cli.fs.mount import options_of
from isotach.cli.style import visible
from isotach.cli.transfer.engine import refuse_overlap
from isotach.cli.transfer.place import Place, parse_place

from .test_sums import entry


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("/a/b", Place("/a/b", local=False)),
        ("file:./a", Place("./a", local=True)),
        ("file:a", Place("a", local=True)),
        ("file:/a", Place("/a", local=True)),
        ("file:///a", Place("/a", local=True)),
    ],
)
def test_places(text: str, place: Place) -> None:
    assert parse_place(text) == place


@pytest.mark.parametrize("text", ["a", "", "file:", "file://host/a", "./a"])
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="file:PATH"):
        parse_place(text)


@pytest.mark.parametrize(("source", "target"), [("/a", "/a"), ("/a/", "/a"), ("/a", "/a/b"), ("/", "/b")])
def test_overlap_is_refused(source: str, target: str) -> None:
    with pytest.raises(InvalidArgumentError):
        refuse_overlap(source, target)


def test_neighbours_do_not_overlap() -> None:
    refuse_overlap("/a", "/ab")
    refuse_overlap("/a/b", "/a")


@pytest.mark.parametrize(
    ("text", "matching"),
    [("+1KiB", [1025, 5000]), ("-1KiB", [0, 1023]), ("1KiB", [1024]), ("0", [0])],
)
def test_sizes_of_find(text: str, matching: list[int]) -> None:
    condition = size_condition(text)

    assert [size for size in (0, 1023, 1024, 1025, 5000) if condition(entry("/x", size))] == matching
    assert not condition(entry("/x", None))


def test_a_size_that_is_none() -> None:
    with pytest.raises(ConfigError):
        size_condition("+big")


def test_mount_options(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("key\n")

    assert options_of(["a=b=c", f"s=@{tmp_path / 'secret'}", "empty="]) == {"a": "b=c", "s": "key", "empty": ""}
    with pytest.raises(InvalidArgumentError) as caught:
        options_of(["verysecret"])
    assert "verysecret" not in str(caught.value)


def test_names_cannot_steer_the_terminal() -> None:
    assert visible("a\x1b[31mb\nc\x9b") == "a\\x1b[31mb\\x0ac\\x9b"
    assert visible("\udcff") == "\\xff"
    assert visible("Grüße") == "Grüße"
