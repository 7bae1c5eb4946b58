"""What users may write behind -o, and what they are told about what they may not."""

import pytest

from isotach.base.errors import InvalidArgumentError
from isotach.cli.fuse.helper import source_of
from isotach.fuse.kernel.options import SETTINGS, MountOptions, parse_options

RDONLY, NOSUID, NODEV, NOEXEC, NOATIME = 1, 2, 4, 8, 1024


def test_by_default_no_device_and_no_setuid_program_works() -> None:
    options = parse_options([])

    assert options.flags == NOSUID | NODEV
    assert options.default_permissions
    assert options.allow_other is None


def test_flags_and_values_of_one_list() -> None:
    options = parse_options(["ro,noexec,noatime,uid=1000,gid=100,umask=027,max_read=131072,fsname=data"])

    assert options.flags == RDONLY | NOSUID | NODEV | NOEXEC | NOATIME
    assert (options.uid, options.gid, options.umask, options.max_read) == (1000, 100, 0o27, 131072)
    assert options.fsname == "data"
    assert options.read_only


def test_the_later_of_two_that_contradict_holds() -> None:
    assert not parse_options(["ro,rw"]).read_only
    assert parse_options(["rw", "ro"]).read_only
    assert parse_options(["suid,dev"]).flags == 0
    assert parse_options(["noallow_other"]).allow_other is False
    assert not parse_options(["no_default_permissions"]).default_permissions


def test_settings_of_mounts_go_by_their_short_names() -> None:
    options = parse_options(["write_type=THROUGH,passthrough=off", "client.user=ada,address=isotach://h:1"])

    assert options.settings == {
        "fuse.write_type": "THROUGH",
        "fuse.passthrough": "off",
        "client.user": "ada",
        "address": "isotach://h:1",
    }
    assert all(parse_options([f"{name}=1"]).settings == {key: "1"} for name, key in SETTINGS.items())


def test_training_needs_no_value_and_is_read_only() -> None:
    assert parse_options(["training"]).settings == {"fuse.training": "true"}
    assert parse_options(["training"]).read_only
    assert not parse_options(["training=false"]).read_only


def test_a_backslash_keeps_a_comma() -> None:
    assert parse_options([r"fsname=a\,b,ro"]).fsname == "a,b"


def test_words_of_fstab_that_are_for_others_are_passed_over() -> None:
    options = parse_options(["defaults,_netdev,nofail,noauto,user,x-systemd.automount,x-systemd.requires=a.service"])

    assert options == MountOptions()


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("allow_othr", "did you mean allow_other?"),
        ("wrte_type=THROUGH", "did you mean write_type?"),
        ("noexc", "did you mean noexec?"),
        ("qqqqqqqq", "unknown mount option"),
        ("umask=99", "octal"),
        ("uid=ada", "give a number"),
        ("uid", "wants a value"),
        ("write_type", "wants a value"),
        ("write_type=", "wants a value"),
        ("subtype=other", "isotach"),
        ("allow_other=1", "takes no value"),
        ("ro=1", "takes no value"),
    ],
)
def test_a_wrong_option_is_told(word: str, told: str) -> None:
    with pytest.raises(InvalidArgumentError, match=told.replace("?", r"\?")):
        parse_options([word])


def test_the_words_for_fusermount_say_what_the_flags_do() -> None:
    assert parse_options(["ro,noexec"]).flag_words() == ["ro", "nosuid", "nodev", "noexec"]
    assert parse_options(["suid"]).flag_words() == ["suid", "nodev"]


def test_mount_8_wants_unknown_ones_passed_over() -> None:
    assert parse_options(["no_such_thing=1,ro"], sloppy=True).read_only
    with pytest.raises(InvalidArgumentError, match="octal"):
        parse_options(["umask=99"], sloppy=True)


@pytest.mark.parametrize(
    ("text", "address", "source"),
    [
        ("isotach:/data", None, "/data"),
        ("isotach#/data", None, "/data"),
        ("/data", None, "/data"),
        ("isotach", None, "/"),
        ("none", None, "/"),
        ("isotach://host:19998", "isotach://host:19998", "/"),
        ("isotach://host:19998/a/b", "isotach://host:19998", "/a/b"),
    ],
)
def test_what_fstab_has_in_its_first_column(text: str, address: str | None, source: str) -> None:
    assert source_of(text) == (address, source)
