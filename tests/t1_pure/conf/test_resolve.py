"""Tests of the layers of configuration: precedence, types, derived defaults and the text of errors.

Owns: what a user is told about a mistake. Never: reads this machine's own configuration.
"""

import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotach.base.errors import ConfigError
from isotach.base.types import ReadType, WriteType
from isotach.conf.keys import nearest
from isotach.conf.kinds import TierSpec
from isotach.conf.machine import Machine
from isotach.conf.resolve import layer_of_env, layer_of_file, layer_of_overrides, resolve, to_overrides
from isotach.conf.settings import KEYS, SECTIONS, Settings

GIB = 1 << 30
FILE = Path("/etc/isotach/isotach.toml")
MACHINE = Machine(
    cores=8,
    ram_bytes=64 * GIB,
    home=Path("/people/ada"),
    cwd=Path("/data"),
    user="ada",
    tmpfs=Path("/dev/shm"),
    room_bytes=lambda _folder: 10 * GIB,
)


def settings_of(
    overrides: dict[str, object] | None = None,
    *,
    env: dict[str, str] | None = None,
    file: str = "",
    machine: Machine = MACHINE,
) -> Settings:
    layers = [layer_of_file(file, FILE), layer_of_env(env or {}), layer_of_overrides(overrides or {})]
    return resolve(layers, machine)


def complaint_of(
    overrides: dict[str, object] | None = None, *, env: dict[str, str] | None = None, file: str = ""
) -> str:
    with pytest.raises(ConfigError) as caught:
        settings_of(overrides, env=env, file=file)
    return str(caught.value)


def origin_of(settings: Settings, key: str) -> str:
    return next(row.origin for row in settings.origins() if row.key == key)


def test_later_sources_win() -> None:
    file = "[master]\nport = 1\nweb_port = 1\nreaders = 1"
    env = {"ISOTACH_MASTER_PORT": "2", "ISOTACH_MASTER_WEB_PORT": "2"}

    settings = settings_of({"master.port": 3, "worker.port": None}, env=env, file=file)

    assert (settings.master.port, settings.master.web_port, settings.master.readers) == (3, 2, 1)
    assert origin_of(settings, "master.port") == "argument"
    assert origin_of(settings, "master.web_port") == "environment variable ISOTACH_MASTER_WEB_PORT"
    assert origin_of(settings, "master.readers") == f"file {FILE}"
    assert settings.is_default("worker.port")
    assert not settings.is_default("master.port")
    with pytest.raises(KeyError):
        settings.is_default("nonsense")


def test_defaults() -> None:
    settings = settings_of()

    assert settings.dir == Path("/people/ada/.isotach")
    assert settings.address is None
    assert settings.master.dir == Path("/people/ada/.isotach/master")
    assert settings.master.root_ufs == "/people/ada/.isotach/underFSStorage"
    assert (settings.master.port, settings.worker.port) == (19998, 29999)
    assert settings.master.readers == 7
    assert settings.master.umask == 0o022
    assert settings.master.metadata_sync_interval == -1.0
    assert settings.client.metadata_sync_interval is None
    assert (settings.client.read_type, settings.client.write_type) == (ReadType.CACHE, WriteType.CACHE_THROUGH)
    assert settings.security.superuser == settings.client.user == "ada"


def test_memory_is_a_quarter_but_never_more_than_there_is_room_for() -> None:
    roomy = msgspec.structs.replace(MACHINE, room_bytes=lambda _folder: 100 * GIB)

    assert settings_of().worker.mem_size == 10 * GIB
    assert settings_of(machine=roomy).worker.mem_size == 16 * GIB
    assert settings_of({"worker.mem_size": "50%"}).worker.mem_size == 32 * GIB
    assert settings_of({"worker.mem_size": "0"}).worker.all_tiers == ()


def test_two_instances_never_share_a_memory_folder() -> None:
    first, second = settings_of({"dir": "/a"}), settings_of({"dir": "/b"})

    assert first.worker.mem_dir != second.worker.mem_dir
    assert first.worker.mem_dir.parent == Path("/dev/shm")
    assert settings_of({"dir": "/a"}, machine=msgspec.structs.replace(MACHINE, tmpfs=None)).worker.mem_dir == Path(
        "/a/worker/mem"
    )


def test_paths_start_where_they_were_written() -> None:
    assert settings_of({"dir": "d"}).dir == Path("/data/d")
    assert settings_of({"dir": Path("/x/../y")}).dir == Path("/y")
    assert settings_of(file='dir = "d"').dir == Path("/etc/isotach/d")
    assert settings_of(env={"ISOTACH_DIR": "~/d"}).dir == Path("/people/ada/d")
    assert settings_of({"master.root_ufs": "s3://bucket/prefix"}).master.root_ufs == "s3://bucket/prefix"
    assert settings_of({"master.root_ufs": "store"}).master.root_ufs == "/data/store"


def test_tiers() -> None:
    expected = (TierSpec("SSD", Path("/s"), 100 * GIB), TierSpec("HDD", Path("/h:1"), 1 << 40))

    assert settings_of(env={"ISOTACH_WORKER_TIERS": "SSD:/s:100GiB, HDD:/h:1:1TiB"}).worker.tiers == expected
    settings = settings_of(file='[worker]\ntiers = ["SSD:/s:100GiB", "HDD:/h:1:1TiB"]')
    assert settings.worker.tiers == expected
    assert [tier.alias for tier in settings.worker.all_tiers] == ["MEM", "SSD", "HDD"]


def test_a_tier_of_several_folders_and_a_quota_as_a_share() -> None:
    text = "SSD:/a:100GiB,SSD:/b:50%,MEM:/m:1GiB,HDD:/c:12.5%"
    found = settings_of({"worker.tiers": text}).worker.tiers
    assert found == (
        TierSpec("SSD", Path("/a"), 100 * GIB),
        TierSpec("SSD", Path("/b"), 0, 50.0),
        TierSpec("MEM", Path("/m"), GIB),
        TierSpec("HDD", Path("/c"), 0, 12.5),
    )
    assert ",".join(map(str, found)) == text


def test_auto_brings_a_derived_default_back() -> None:
    settings = settings_of({"master.readers": "auto"}, file="[master]\nreaders = 1")

    assert settings.master.readers == 7
    assert origin_of(settings, "master.readers") == "default"


def test_an_empty_variable_counts_as_not_set_and_others_are_left_alone() -> None:
    env = {"ISOTACH_MASTER_PORT": "", "ISOTACH_CONFIG": "/x", "ISOTACH_TEST_SEED": "1", "HOME": "/h", "ISOTACHE": "1"}

    assert settings_of(env=env).master.port == 19998


@pytest.mark.parametrize(
    ("overrides", "env", "file", "parts"),
    [
        ({"worker.prot": 1}, {}, "", ["unknown", "'worker.prot'", "(argument)", "did you mean worker.port?"]),
        ({"port": 1}, {}, "", ["did you mean master.port or worker.port?"]),
        ({}, {"ISOTACH_MASTR_PORT": "1"}, "", ["ISOTACH_MASTR_PORT", "did you mean ISOTACH_MASTER_PORT?"]),
        ({}, {}, "[master]\nprot = 1", ["'master.prot'", str(FILE), "did you mean master.port?"]),
        ({}, {}, "[mastr]\nport = 1", ["unknown section [mastr]", str(FILE), "did you mean [master]?"]),
        ({}, {}, "a = = 1", [str(FILE), "not valid TOML", "line 1"]),
        ({}, {"ISOTACH_WORKER_PORT": "x"}, "", ["worker.port", "ISOTACH_WORKER_PORT", "'x' is not a whole number"]),
        ({"worker.port": 65536}, {}, "", ["65536 is out of range: give 0 to 65535"]),
        ({"worker.port": -1}, {}, "", ["out of range"]),
        ({"worker.port": 1.5}, {}, "", ["'1.5' is not a whole number"]),
        ({}, {}, "[master]\nport = true", ["master.port", "'true' is not a whole number"]),
        ({}, {}, "[master]\nport = 2020-01-01", ["master.port", "a date is not possible"]),
        ({"client.read_type": "CACH"}, {}, "", ["'CACH' is not one of NO_CACHE, CACHE, CACHE_PROMOTE"]),
        ({"client.block_size": "64MB"}, {}, "", ["64000000 bytes, not a multiple of 1MiB"]),
        ({"client.block_size": "25%"}, {}, "", ["no meaning here"]),
        ({"client.deadline": "-1"}, {}, "", ["client.deadline", "means never"]),
        ({"address": "localhost:1"}, {}, "", ["isotach://HOST:PORT"]),
        ({"master.umask": "0x12"}, {}, "", ["not an octal mode"]),
        ({"worker.tiers": "SSD:/a:1GiB,HDD:/a:1GiB"}, {}, "", ["the folder '/a' is given twice"]),
        ({"worker.tiers": "SSD:/a:0%"}, {}, "", ["more than 0%"]),
        ({"worker.tiers": "SSD:/a:120%"}, {}, "", ["at most 100%"]),
        ({"worker.tier_high_watermark": "half"}, {}, "", ["'half' is not a share"]),
        ({"worker.tier_high_watermark": "101%"}, {}, "", ["out of range"]),
        ({"worker.tiers": "ssd"}, {}, "", ["ALIAS:PATH:QUOTA"]),
        ({"worker.bind_host": ""}, {}, "", ["worker.bind_host", "is not a host name"]),
        (
            {"master.worker_timeout": "1s"},
            {"ISOTACH_WORKER_HEARTBEAT_INTERVAL": "2s"},
            "",
            ["worker.heartbeat_interval (2s,", "ISOTACH_WORKER_HEARTBEAT_INTERVAL", "greater than", "(1s, argument)"],
        ),
    ],
)
def test_mistakes_are_named_with_origin_and_remedy(
    overrides: dict[str, object], env: dict[str, str], file: str, parts: list[str]
) -> None:
    complaint = complaint_of(overrides, env=env, file=file)

    assert [part for part in parts if part not in complaint] == [], complaint


@pytest.mark.parametrize(
    "text", ["isotach://localhost:19998", "isotach://[::1]:1", "isotach://a:1,b:2", "isotach+unix:///run/isotach.sock"]
)
def test_addresses(text: str) -> None:
    assert settings_of({"address": text}).address == text


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "worker.mem_size": st.integers(0, 1 << 20).map(lambda mib: mib << 20),
            "worker.fetch_size": st.integers(1, 1024).map(lambda mib: f"{mib}MiB"),
            "master.worker_timeout": st.integers(3_600_000, 86_400_000).map(lambda ms: f"{ms}ms"),
            "client.metadata_sync_interval": st.sampled_from(["none", "-1", "0", "1.5s", 3]),
            "client.short_circuit": st.booleans(),
            "master.umask": st.integers(0, 0o777).map("{:o}".format),
            "worker.tiers": st.sampled_from(["none", "SSD:/s:1GiB", "SSD:/s:1000B,HDD:/h:2TB"]),
            "security.cluster_secret_file": st.sampled_from(["none", "secret", "~/secret"]),
            "dir": st.sampled_from(["d", "/d", "~"]),
        },
    )
)
def test_a_child_gets_the_very_same_values(overrides: dict[str, object]) -> None:
    settings = settings_of(overrides)
    elsewhere = msgspec.structs.replace(MACHINE, cwd=Path("/other"), cores=1, user="bob", room_bytes=lambda _folder: 0)

    child = settings_of({**to_overrides(settings)}, machine=elsewhere)

    assert msgspec.structs.replace(child, rows=()) == msgspec.structs.replace(settings, rows=())
    assert all(isinstance(text, str) for text in to_overrides(settings).values())


def test_every_field_is_a_documented_key_with_a_name_of_its_own() -> None:
    fields = [f"{section}.{name}" for section, struct in SECTIONS.items() for name in struct.__struct_fields__]
    settings = settings_of()

    assert [row.name for row in KEYS if row.section] == fields
    assert len({row.env for row in KEYS}) == len(KEYS)
    assert [row.key for row in settings.origins()] == [row.name for row in KEYS]
    assert [row.name for row in KEYS if not (row.key.doc.endswith(".") and row.key.default and row.key.kind.unit)] == []


@pytest.mark.parametrize("row", KEYS, ids=lambda row: row.name)
def test_every_value_can_be_given_in_every_source(row: object) -> None:
    text = next(each.value_text for each in settings_of().origins() if each.key == row.name)
    section = f"[{row.section}]\n" if row.section else ""

    for settings in (
        settings_of({row.name: text}),
        settings_of(env={row.env: text}),
        settings_of(file=f'{section}{row.field} = "{text}"'),
    ):
        shown = next(each for each in settings.origins() if each.key == row.name)
        assert shown.value_text == text
        assert shown.origin != "default"


def test_nearest_gives_nothing_for_a_name_like_no_other() -> None:
    assert nearest("qqqq", ["master.port"]) is None
    assert nearest("MASTER.PORT", ["master.port"]) == "master.port"


def test_override_paths_may_be_path_objects() -> None:
    assert settings_of({"log.file": Path("x.log")}).log.file == Path("/data/x.log")
    assert os.fspath(settings_of({"log.file": "none"}).log.file or "") == ""
