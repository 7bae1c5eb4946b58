"""`mount.fuse.isotach SOURCE MOUNTPOINT [-o OPT,...]`: what `mount -t fuse.isotach` and fstab call.

Owns: mount(8)'s way of calling its helpers. Never: has options of its own.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from isotach.base.errors import InvalidArgumentError
from isotach.cli.failures import Failures

#: What stands for the whole namespace where a source has to be given.
_ROOTS: Final = frozenset({"", "isotach", "none"})
_WITH_ADDRESS: Final = re.compile(r"(isotach://[^/]+)(/.*)?")


def run(arguments: Sequence[str] | None = None) -> int:
    """Mounts in the background; the exit code: 0 once the folder answers."""
    parser = argparse.ArgumentParser(
        prog="mount.fuse.isotach", description="Mounts a directory of Isotach's namespace, for mount(8) and /etc/fstab."
    )
    parser.add_argument("source", help="isotach:/PATH, isotach://HOST:PORT/PATH or /PATH")
    parser.add_argument("mountpoint", type=Path)
    parser.add_argument("-o", dest="options", action="append", default=[], metavar="OPT,...")
    parser.add_argument("-f", dest="fake", action="store_true", help="check, and do not mount")
    parser.add_argument("-s", dest="sloppy", action="store_true", help="pass over options that are unknown")
    parser.add_argument("-t", dest="type", metavar="TYPE", help="mount(8)'s word for the type: passed over")
    parser.add_argument("-N", dest="namespace", metavar="NAMESPACE", help="not possible here")
    parser.add_argument("-n", dest="no_mtab", action="store_true", help="passed over: there is no mtab")
    parser.add_argument("-v", dest="verbose", action="store_true", help="say what was done")
    given = parser.parse_args(arguments)
    try:
        _mount(given)
    except Exception as error:
        return Failures(as_json=False, no_color=False).report(error)
    return 0


def _mount(given: argparse.Namespace) -> None:
    from isotach.cli.fuse.mount import mount_in_background
    from isotach.fuse.kernel.options import parse_options
    from isotach.fuse.plan import plan_of

    if given.namespace:
        raise InvalidArgumentError("mounting into another namespace is not possible: enter it first (nsenter)")
    address, source = source_of(given.source)
    options = parse_options(given.options, sloppy=given.sloppy)
    plan = plan_of(given.mountpoint, source, options, {} if address is None else {"address": address})
    plan.settings()
    if given.fake:
        return
    pid = mount_in_background(plan)
    if given.verbose:
        print(f"{plan.source} is mounted at {plan.mountpoint} by process {pid}")


def source_of(text: str) -> tuple[str | None, str]:
    """(address or None, path of the namespace) of what stands in the first column of fstab."""
    match = _WITH_ADDRESS.fullmatch(text)
    if match is not None:
        return match[1], match[2] or "/"
    path = text.removeprefix("isotach:").removeprefix("isotach#")
    return None, "/" if path in _ROOTS else path


if __name__ == "__main__":
    sys.exit(run())
