"""Modes as chmod(1) understands them; the machine's own chmod is the reference."""

import os
import shutil
import stat
import subprocess
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isotach.base.errors import InvalidArgumentError
from isotach.cli.fs.attributes import apply_mode, check_mode, mode_of

CLAUSES = st.builds(
    lambda who, sign, bits: f"{who}{sign}{bits}",
    st.sampled_from(["u", "g", "o", "a", "ug", "go", "ugo"]),
    st.sampled_from("+-="),
    st.sampled_from(["r", "w", "x", "rw", "rx", "rwx", "X", "rX", ""]),
)


@pytest.mark.skipif(shutil.which("chmod") is None, reason="needs chmod(1)")
@settings(max_examples=40, deadline=None)
@given(st.lists(CLAUSES, min_size=1, max_size=3), st.integers(0, 0o777), st.booleans())
def test_symbolic_modes_are_those_of_chmod(clauses: list[str], before: int, is_dir: bool) -> None:
    text = ",".join(clauses)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "x")
        os.mkdir(path) if is_dir else open(path, "x").close()
        os.chmod(path, before)
        subprocess.run(["chmod", text, path], check=True)
        expected = stat.S_IMODE(os.stat(path).st_mode)

    assert apply_mode(text, before, is_dir) == expected


@pytest.mark.parametrize("text", ["", "8", "77777", "u+z", "u", "rw", "u+r;o-w", "-1"])
def test_what_is_no_mode_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="is no mode: give octal digits"):
        check_mode(text)


def test_octal_modes() -> None:
    assert mode_of("755") == 0o755
    assert mode_of("0") == 0
    with pytest.raises(InvalidArgumentError):
        mode_of("u+x")
