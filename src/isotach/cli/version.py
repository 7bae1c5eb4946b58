"""`isotach version`.

Owns: what is told of this installation. Never: asks a cluster (`status` shows the master's version).
"""

import platform

import typer

from isotach.cli.session import session_of


def version(context: typer.Context) -> None:
    """Shows the version of Isotach, of Python, and of the protocol."""
    import isotach
    from isotach.wire.frames import PROTOCOL_MAX, PROTOCOL_MIN

    out = session_of(context).out
    facts: dict[str, object] = {
        "isotach": isotach.__version__,
        "python": platform.python_version(),
        "protocol_min": PROTOCOL_MIN,
        "protocol_max": PROTOCOL_MAX,
    }
    if out.as_json:
        out.document(facts)
        return
    out.line(f"isotach {isotach.__version__} (Python {platform.python_version()}, protocol {PROTOCOL_MAX})")
