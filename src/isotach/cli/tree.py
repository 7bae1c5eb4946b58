"""Which commands there are, and where each stands.

Owns: the names and their order in the help. Never: does anything when a command runs.
"""

import inspect
from collections.abc import Callable
from typing import Final

import typer

from isotach.cli import bench, config, doctor, jobs, roles, start, status, stop, version, workers
from isotach.cli.fs import (
    attributes,
    cache,
    cat,
    checksum,
    cp,
    du,
    find,
    head,
    location,
    ls,
    make,
    mount,
    mv,
    policy,
    predicate,
    rm,
    stat,
    tree,
    ttl,
)
from isotach.cli.fuse import list as fuse_list
from isotach.cli.fuse import mount as fuse_mount
from isotach.cli.fuse import unmount as fuse_unmount

_EPILOG: Final = "--json, --address, --set, --no-color and the other options of `isotach --help` work here too."

#: (name, function) under the panel of the help that they stand in.
Panel = tuple[str, tuple[tuple[str, Callable[..., None]], ...]]

CLUSTER: Final[tuple[Panel, ...]] = (
    ("This machine", (("start", start.start), ("stop", stop.stop))),
    ("One role", (("master", roles.master),)),
    (
        "Looking",
        (("status", status.status), ("doctor", doctor.doctor), ("bench", bench.bench), ("version", version.version)),
    ),
)
WORKERS: Final[tuple[Panel, ...]] = (
    ("The workers of a cluster", (("list", workers.list_workers), ("decommission", workers.decommission))),
)
CONFIG: Final[tuple[Panel, ...]] = (("Configuration", (("list", config.list_keys), ("get", config.get))),)
FILES: Final[tuple[Panel, ...]] = (
    (
        "Looking",
        (("ls", ls.ls), ("stat", stat.stat), ("du", du.du), ("find", find.find), ("tree", tree.tree),
         ("count", du.count), ("checksum", checksum.checksum), ("test", predicate.holds)),
    ),
    ("Reading", (("cat", cat.cat), ("head", head.head), ("tail", head.tail))),
    (
        "Changing",
        (("mkdir", make.mkdir), ("touch", make.touch), ("ln", make.ln), ("cp", cp.cp), ("mv", mv.mv), ("rm", rm.rm),
         ("chmod", attributes.chmod), ("chown", attributes.chown), ("ttl", ttl.ttl)),
    ),
    ("Mounts", (("mount", mount.mount), ("unmount", mount.unmount), ("mounts", mount.mounts))),
    (
        "Cache",
        (("load", cache.load), ("free", cache.free), ("persist", cache.persist), ("pin", cache.pin),
         ("unpin", cache.unpin), ("setReplication", policy.set_replication), ("policy", policy.policy),
         ("location", location.location)),
    ),
)  # fmt: skip

JOBS: Final[tuple[Panel, ...]] = (
    ("Jobs", (("list", jobs.list_jobs), ("status", jobs.status), ("cancel", jobs.cancel), ("wait", jobs.wait))),
)
#: With both spellings that people know: fuse's and umount(8)'s.
FUSE: Final[tuple[Panel, ...]] = (
    (
        "Mounts",
        (
            ("mount", fuse_mount.mount),
            ("unmount", fuse_unmount.unmount),
            ("umount", fuse_unmount.unmount),
            ("list", fuse_list.list_mounts),
        ),
    ),
)


def add_commands(app: typer.Typer) -> None:
    """Hangs every command into the tree."""
    _add(app, CLUSTER)
    worker_app = typer.Typer(name="worker", invoke_without_command=True, help=_help_of(roles.worker), epilog=_EPILOG)
    worker_app.callback()(roles.worker)
    _add(worker_app, WORKERS)
    app.add_typer(worker_app, rich_help_panel="One role")
    config_app = typer.Typer(name="config", help="Shows the configuration in force.", no_args_is_help=True)
    _add(config_app, CONFIG)
    app.add_typer(config_app, rich_help_panel="Looking")
    job_app = typer.Typer(name="job", help="Loads, and other long work of the master.", no_args_is_help=True)
    _add(job_app, JOBS)
    app.add_typer(job_app, rich_help_panel="Files")
    fuse_app = typer.Typer(name="fuse", help="The namespace as a folder of this machine.", no_args_is_help=True)
    _add(fuse_app, FUSE)
    app.add_typer(fuse_app, rich_help_panel="Files")
    files_app = typer.Typer(name="fs", help="Works with files and directories of the namespace.", no_args_is_help=True)
    _add(files_app, FILES)
    app.add_typer(files_app, rich_help_panel="Files")


def _add(app: typer.Typer, panels: tuple[Panel, ...]) -> None:
    for panel, commands in panels:
        for name, function in commands:
            app.command(name, rich_help_panel=panel, help=_help_of(function), epilog=_EPILOG)(function)


def _help_of(function: Callable[..., None]) -> str:
    """The docstring, with the paragraph of examples kept as it is written (which typer's mark does)."""
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    return "\n\n".join(map(_marked, paragraphs))


def _marked(paragraph: str) -> str:
    lines = paragraph.splitlines()
    if not all(line.startswith("isotach ") for line in lines):
        return paragraph
    return "\n".join(["\b", *(f"  {line}" for line in lines)])
