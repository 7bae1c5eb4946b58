"""Reading the kernel's table of mounts: odd names, optional fields, broken lines."""

from isotach.fuse.kernel.stale import MountRow, parse_mountinfo

TABLE = b"""\
22 28 0:20 / /sys rw,nosuid,nodev shared:7 - sysfs sysfs rw
36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
91 28 0:51 / /mnt/my\\040data\\134x ro,nosuid,nodev - fuse.isotach isotach:/a\\040b ro,user_id=0,group_id=0
broken line
"""


def test_rows_are_read_with_their_odd_names() -> None:
    rows = parse_mountinfo(TABLE)

    assert [row.mountpoint for row in rows] == [b"/sys", b"/mnt2", b"/mnt/my data\\x"]
    assert rows[2] == MountRow(
        b"/mnt/my data\\x",
        "0:51",
        "fuse.isotach",
        b"isotach:/a b",
        "ro,nosuid,nodev,ro,user_id=0,group_id=0",
    )
