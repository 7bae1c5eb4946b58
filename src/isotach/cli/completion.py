"""Completion of namespace paths in the shell.

Owns: what is offered for a half-typed path. Never: complains: a shell prompt is no place for an error.
"""

import contextlib
from typing import Final

#: What a user waits for at most after pressing Tab.
PATIENCE: Final = "2s"
OFFERS_MAX: Final = 500


def complete_namespace_path(incomplete: str) -> list[str]:
    """Paths that start with what is typed; directories end with a slash."""
    import isotach
    from isotach.base.errors import IsotachError

    if not incomplete.startswith("/"):
        return ["/"] if not incomplete else []
    parent = incomplete.rpartition("/")[0] or "/"
    offers: list[str] = []
    with contextlib.suppress(OSError, IsotachError), isotach.connect(deadline=PATIENCE, retry_total="0s") as fs:
        for info in fs.list(parent, metadata_sync_interval=-1):
            if info.path.startswith(incomplete):
                offers.append(info.path + "/" if info.is_dir else info.path)
            if len(offers) == OFFERS_MAX:
                break
    return offers
