"""Who the kernel says the caller is, is who he is: permissions over the Unix socket, for a process of another user.

Owns: identity from end to end. Never: the rules themselves (`t1_pure/namespace`).
"""

import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import pytest

import isotach

OTHER = """
import os, sys
import isotach
isotach.connect(sys.argv[1]).read("/shared/public")  # all modules are loaded: the other user may not see them
os.setgroups([]); os.setgid(65534); os.setuid(65534)
fs = isotach.connect(sys.argv[1])
def outcome(action):
    try:
        action()
    except PermissionError as error:
        return "refused"
    return "done"
print(fs.user, outcome(lambda: fs.read("/private/secret")), outcome(lambda: list(fs.list("/private"))),
      outcome(lambda: fs.write("/mine", b"x")), outcome(lambda: fs.write("/shared/mine", b"x" * 100)),
      outcome(lambda: fs.read("/shared/public")), outcome(lambda: fs.remove("/shared/public")),
      outcome(lambda: fs.chmod("/shared/public", 0o777)), outcome(lambda: fs.read("/shared/closed")),
      outcome(lambda: fs.chown("/shared/mine", "root")), fs.stat("/shared/mine").owner)
"""


@pytest.fixture
def open_folder() -> Path:
    """A folder that other users may enter, as pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="isotach-users-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_another_user_may_do_what_the_modes_say(require_root, open_folder: Path):
    with isotach.start(dir=open_folder / "c", mem="32MiB", worker__mem_dir=open_folder / "mem") as cluster:
        fs = isotach.connect(cluster.address)
        fs.write("/private/secret", b"s")
        fs.chmod("/private", 0o700)
        fs.mkdir("/shared")
        fs.chmod("/shared", 0o1777)
        fs.write("/shared/public", b"p" * 1000)
        fs.write("/shared/closed", b"c")
        fs.chmod("/shared/closed", 0o600)

        done = subprocess.run(
            [sys.executable, "-c", OTHER, cluster.address], capture_output=True, text=True, check=False, cwd="/"
        )

        assert done.stdout.split() == [
            "nobody", "refused", "refused", "refused", "done", "done", "refused", "refused", "refused", "refused",
            "nobody",
        ], done.stderr  # fmt: skip
        fs.close()


def test_metrics_are_served(cluster, fs):
    fs.write("/f", b"x" * 5000, write_type="MUST_CACHE")
    fs.read("/f")
    for role, port in cluster.web_ports.items():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
            text = page.read().decode()
        assert f"isotach_{role}_" in text
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as page:
            assert page.status == 200
