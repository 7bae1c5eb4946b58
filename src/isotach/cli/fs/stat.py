"""`isotach fs stat`.

Owns: the order and form of the fields. Never: leaves one out: they are those of the Python client.
"""

from typing import TYPE_CHECKING, Final

import typer

from isotach.cli.arguments import PathsArgument, SyncOption, sync_interval_s
from isotach.cli.entry_text import mode_text, time_text
from isotach.cli.session import session_of
from isotach.conf.units import approximate_size, format_duration

if TYPE_CHECKING:
    from isotach.base.types import FileInfo
    from isotach.cli.output import Output

#: What the fields of a policy hold where nobody set a rule.
_NO_RULE: Final = (0, -1, "", False, "DELETE")


def stat(context: typer.Context, paths: PathsArgument, sync: SyncOption = None) -> None:
    """Shows everything that is known of a path; with --json one object per line.

    isotach fs stat /s3/table.parquet
    """
    session = session_of(context)
    interval_s = sync_interval_s(sync)
    with session.connect() as fs:
        for path in paths:
            with session.each_failure():
                _print(session.out, fs.stat(path, metadata_sync_interval=interval_s))
    session.finish()


def _print(out: "Output", info: "FileInfo") -> None:
    facts = info.to_dict()
    if out.as_json:
        out.json_line(facts)
        return
    texts = {name: _text(name, value, info, out.terminal) for name, value in facts.items()}
    width = max(map(len, texts))
    for name, text in texts.items():
        if out.terminal:
            out.line(f"{out.paint(name.ljust(width), 'dim')}  {out.path(text)}")
        else:
            out.line(f"{name}\t{text}")


def _text(name: str, value: object, info: "FileInfo", friendly: bool) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{rule}={text}" for rule, text in value.items() if text not in _NO_RULE) or "none"
    if name == "mode":
        return f"{info.mode:04o} {mode_text(info)}" if friendly else f"{info.mode:04o}"
    if not friendly:
        return str(value)
    if name in ("mtime", "ctime") and isinstance(value, float):
        return time_text(value)
    if name in ("length", "block_size") and isinstance(value, int):
        return f"{value} ({approximate_size(value)})"
    if name == "ttl" and isinstance(value, float):
        return format_duration(value)
    return f"{value}%" if name.endswith("_percent") else str(value)
