"""Makes the development environment: `.venv` with the package (editable) and all that the Makefile calls.

Owns: the virtual environment, its stamp, and the constraints file when asked to renew it. Runs on the plain
interpreter of a fresh machine, so it imports nothing but the standard library. Never: deletes an environment that
works; what is there already is brought up to date in place, since others may be using it.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON_MIN = (3, 11)
#: Debian package -> the statement that fails where the machine lacks it.
DEBIAN_PACKAGES = {"python3-venv": "import ensurepip, venv"}
#: Debian package -> its command. Some tests need them and skip where they are not: no reason to stop.
WELCOME_PACKAGES = {
    "iproute2": "ip",
    "fuse3": "fusermount3",
    "acl": "setfacl",
    "attr": "setfattr",
    "build-essential": "gcc",
    "fio": "fio",
    "git": "git",
    "rsync": "rsync",
    "sqlite3": "sqlite3",
    "stress-ng": "stress-ng",
    "redis-server": "redis-server",
    "rclone": "rclone",
}
CONSTRAINTS_TITLE = "# The exact versions that development and CI use. Renew: make constraints\n"


def main() -> int:
    """Parses the arguments and does what they ask; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--venv", type=Path, required=True, help="folder of the virtual environment")
    parser.add_argument("--stamp", type=Path, help="file to touch when all is in place")
    parser.add_argument("--renew-constraints", action="store_true", help="write down what is installed now")
    options = parser.parse_args()
    if sys.version_info < PYTHON_MIN:
        print(f"Python {'.'.join(map(str, PYTHON_MIN))} or newer is needed; try: make setup PYTHON=python3.11")
        return 1
    python = options.venv / "bin" / "python"
    if options.renew_constraints:
        renew_constraints(python)
        return 0
    if not works(python):
        install_missing_debian_packages()
        subprocess.run([sys.executable, "-m", "venv", str(options.venv)], check=True)
    install_welcome_debian_packages()
    install(python)
    if options.stamp:
        options.stamp.touch()
    return 0


def works(python: Path) -> bool:
    """Whether there is an environment that we can use: new enough, and with pip."""
    if not python.exists():
        return False
    question = f"import sys, pip; sys.exit(sys.version_info < {PYTHON_MIN!r})"
    return subprocess.run([str(python), "-c", question], check=False, capture_output=True).returncode == 0


def _runs(statement: str) -> bool:
    return subprocess.run([sys.executable, "-c", statement], check=False, capture_output=True).returncode == 0


def install_missing_debian_packages() -> None:
    """As root on Debian or Ubuntu: installs what is missing. Otherwise says what to install, and stops."""
    missing = [package for package, needs in DEBIAN_PACKAGES.items() if not _runs(needs)]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.exit(
            f"missing: {' '.join(missing)}; install them (Debian: apt-get install {' '.join(missing)}), then again"
        )
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "-qq", "update"], check=True, env=environment)
    subprocess.run(["apt-get", "-qq", "install", "-y", *missing], check=True, env=environment)


def install_welcome_debian_packages() -> None:
    """As root on Debian or Ubuntu: installs what makes more tests run. Says so when that is not possible."""
    missing = [package for package, command in WELCOME_PACKAGES.items() if shutil.which(command) is None]
    if not missing:
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    if os.geteuid() == 0 and shutil.which("apt-get") is not None:
        subprocess.run(["apt-get", "-qq", "update"], check=False, env=environment)
        if subprocess.run(["apt-get", "-qq", "install", "-y", *missing], check=False, env=environment).returncode == 0:
            return
    print(f"some tests will be skipped for want of {' '.join(missing)} (Debian: apt-get install {' '.join(missing)})")


def install(python: Path) -> None:
    """The package itself, editable, with everything development needs, at the versions written down."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, "--constraint", "constraints.txt", "--editable", ".[dev]"], check=True, cwd=ROOT)


def renew_constraints(python: Path) -> None:
    """Writes the versions of all that is installed, our own package left out."""
    command = [str(python), "-m", "pip", "freeze", "--exclude-editable", "--exclude", "isotach"]
    frozen = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    (ROOT / "constraints.txt").write_text(CONSTRAINTS_TITLE + frozen, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
