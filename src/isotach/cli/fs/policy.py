"""`isotach fs setReplication` and `isotach fs policy`.

Owns: how the rules of a path are written and shown. Never: checks them (the master does).
"""

from typing import TYPE_CHECKING, Annotated

import typer

from isotach.cli.arguments import PathArgument, RecursiveOption
from isotach.cli.fs.cache import warn_of_missing_tier
from isotach.cli.output import Column
from isotach.cli.session import Session, session_of

if TYPE_CHECKING:
    from isotach.base.types import FileInfo
    from isotach.client.policies import ChangeCounts


def set_replication(
    context: typer.Context,
    path: PathArgument,
    least: Annotated[int | None, typer.Option("--min", help="Workers that hold a file at least; 0 for any.")] = None,
    most: Annotated[int | None, typer.Option("--max", help="And at most; -1 for no limit.")] = None,
    recursive: RecursiveOption = False,
) -> None:
    """Says how many workers hold a file; for a directory, what files made in it from now on begin with.

    isotach fs setReplication --min 2 /s3/models/latest
    isotach fs setReplication -R --min 1 --max 3 /s3/models
    """
    session = session_of(context)
    with session.connect() as fs:
        _tell(session, "setReplication", path, fs.set_replication(path, least, most, recursive))


def policy(
    context: typer.Context,
    path: PathArgument,
    memory_only: Annotated[
        bool | None,
        typer.Option("--memory-only/--no-memory-only", help="No byte of the content may reach a disk."),
    ] = None,
    tier: Annotated[
        str | None, typer.Option("--tier", metavar="ALIAS", help="Where pinned files are kept; '' for any tier.")
    ] = None,
    placement: Annotated[
        str | None, typer.Option("--placement", metavar="POLICY", help="Which workers take new files; '' for none.")
    ] = None,
    read_placement: Annotated[
        str | None,
        typer.Option("--read-placement", metavar="POLICY", help="Which worker caches a file at its first read."),
    ] = None,
    recursive: RecursiveOption = False,
) -> None:
    """Shows, or sets, the rules of a file, or of what is made in a directory from now on.

    Memory-only data lives in memory tiers and nowhere else: it is not persisted, a write that finds no room in memory
    is refused, and it is lost with its last worker. Its name and size are in the metadata on disk, its content never.
    A file that has bytes already cannot become memory-only: they may have reached a disk.

    isotach fs policy /secret
    isotach fs policy --memory-only /secret
    isotach fs policy --placement ROUND_ROBIN /s3/logs
    """
    session = session_of(context)
    given = (memory_only, tier, placement, read_placement)
    with session.connect() as fs:
        if any(value is not None for value in given):
            counts = fs.set_policy(
                path,
                tier=tier,
                memory_only=memory_only,
                placement=placement,
                read_placement=read_placement,
                recursive=recursive,
            )
            _tell(session, "policy", path, counts)
            warn_of_missing_tier(session, fs, tier)
        else:
            _show(session, fs.stat(path))


def _tell(session: Session, name: str, path: str, counts: "ChangeCounts") -> None:
    told = f"{counts.skipped} left as they are" if session.out.terminal and counts.skipped else ""
    session.out.done(name, {"path": path, "changed": counts.changed, "skipped": counts.skipped}, told)


def _show(session: Session, info: "FileInfo") -> None:
    rules = info.policy
    facts = {name: getattr(rules, name) for name in rules.__struct_fields__}
    ttl = {"ttl_ms": "inherited_ttl_ms", "ttl_action": "inherited_ttl_action"}
    facts = {ttl.get(name, name): value for name, value in facts.items()} | {"pinned": info.pinned}
    if session.out.as_json:
        session.out.document({"path": info.path, **facts})
    else:
        session.out.table((Column("rule"), Column("value")), [(name, _text(value)) for name, value in facts.items()])


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if value not in ("", -1) else "any" if value == "" else "none"
