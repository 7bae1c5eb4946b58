"""`isotach master` and `isotach worker`: one role in the foreground, for clusters of several machines.

Owns: their flags. Never: runs a role itself (`run.master_main` and `run.worker_main` do).
"""

from pathlib import Path
from typing import Annotated

import typer

from isotach.cli.session import session_of

DirOption = Annotated[
    Path | None,
    typer.Option(
        "--dir", metavar="DIR", help="Folder of the instance. Default: the key dir, ~/.isotach.", show_default=False
    ),
]
MemOption = Annotated[
    str | None,
    typer.Option(
        "--mem",
        metavar="SIZE",
        help="Size of the MEM tier: 512MiB, 8GiB, 25%. Default: a quarter of RAM, at most what is free.",
        show_default=False,
    ),
]


def master(context: typer.Context, dir: DirOption = None) -> None:
    """Runs a master in the foreground, until Ctrl-C or SIGTERM.

    isotach master --dir /srv/isotach --set master.bind_host=0.0.0.0
    """
    from isotach.run.master_main import main

    raise typer.Exit(main(session_of(context).settings(dir=absolute(dir))))


def worker(context: typer.Context, dir: DirOption = None, mem: MemOption = None) -> None:
    """Runs a worker in the foreground, until Ctrl-C or SIGTERM. The master is the one that --address names.

    With a command: looks at the workers of a cluster, or sends one away.

    isotach worker --address isotach://master:19998 --mem 16GiB
    isotach worker --set "worker.tiers=SSD:/mnt/ssd/isotach:500GiB"
    """
    if context.invoked_subcommand is not None:
        return
    from isotach.run.worker_main import main

    session = session_of(context)
    raise typer.Exit(main(session.settings(dir=absolute(dir), worker__mem_size=mem)))


def absolute(folder: Path | None) -> Path | None:
    """The folder as an absolute path; `~` is the home folder."""
    return None if folder is None else folder.expanduser().absolute()
