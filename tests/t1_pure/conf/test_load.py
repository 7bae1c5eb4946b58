"""Tests of finding the configuration file, and of the facts about this machine.

Owns: which file is read. Never: depends on a file outside its own folder.
"""

from pathlib import Path

import pytest

from isotach.base.errors import ConfigError
from isotach.conf.load import load_settings, room_bytes, this_machine


def write(path: Path, port: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[master]\nport = {port}\n")
    return path


def test_the_file_is_the_argument_else_the_variable_else_the_users_own(tmp_path: Path) -> None:
    own = write(tmp_path / ".config" / "isotach" / "isotach.toml", 1)
    named = write(tmp_path / "named.toml", 2)
    given = write(tmp_path / "given.toml", 3)
    home = {"HOME": str(tmp_path)}

    assert load_settings(env=home).master.port == 1
    assert load_settings(env={**home, "ISOTACH_CONFIG": str(named)}).master.port == 2
    assert load_settings(env={**home, "ISOTACH_CONFIG": str(named)}, file=given).master.port == 3
    assert load_settings(env={**home, "ISOTACH_CONFIG": ""}).master.port == 19998
    assert load_settings(env={"XDG_CONFIG_HOME": str(own.parent.parent), "HOME": "/nowhere"}).master.port == 1


def test_a_named_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*missing\.toml: No such file"):
        load_settings(env={"ISOTACH_CONFIG": str(tmp_path / "missing.toml")})
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_settings(env={}, file=tmp_path / "binary.toml")


def test_room_counts_what_the_folder_itself_holds(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    before = room_bytes(folder)
    folder.mkdir()
    (folder / "container").write_bytes(b"x" * (32 << 20))

    # Others use the same file system meanwhile, hence the slack; without the folder's own 32 MiB it would not do.
    assert before > 0
    assert room_bytes(folder) > before - (24 << 20)


def test_this_machine() -> None:
    machine = this_machine({"HOME": "/h"})

    assert machine.cores >= 1
    assert machine.ram_bytes > 0
    assert machine.user
    assert machine.home == Path("/h")
