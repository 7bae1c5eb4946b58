"""`isotach bench`: the speed figures, on a cluster started for them.

Owns: the flags, the table and the files written. Never: measures (`isotach.bench` does).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isotach.base.errors import InvalidArgumentError
from isotach.cli.output import Column
from isotach.cli.session import Session, session_of

if TYPE_CHECKING:
    from isotach.bench import Report, Row, S3Access


def bench(
    context: typer.Context,
    only: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Which to run. Default: all that can.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes: does it work, not how fast is it.")] = False,
    bucket: Annotated[str | None, typer.Option("--s3-bucket", help="Bucket for the benchmarks that need S3.")] = None,
    endpoint: Annotated[
        str | None, typer.Option("--s3-endpoint", envvar="AWS_ENDPOINT_URL", help="Its endpoint.")
    ] = None,
    key_id: Annotated[str, typer.Option("--s3-key-id", envvar="AWS_ACCESS_KEY_ID", help="Access key id.")] = "",
    secret: Annotated[
        str, typer.Option("--s3-secret", envvar="AWS_SECRET_ACCESS_KEY", help="Secret key.", show_default=False)
    ] = "",
    folder: Annotated[Path | None, typer.Option("--folder", help="Where the cluster's folder is made.")] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="PNG", help="Draws the result (needs matplotlib).")
    ] = None,
) -> None:
    """Measures Isotach against the plain thing on this machine; exit code 1 when a target is missed.

    Needs the extra isotach[bench]. Benchmarks that need S3 run when a bucket is given.

    isotach bench --quick
    isotach bench sequential tcp --plot bench.png
    """
    session = session_of(context)
    report = _run(session, only or [], quick, _s3_access(bucket, endpoint, key_id, secret), folder)
    if session.out.as_json:
        session.out.line(report.to_json().decode())
    elif session.out.terminal:
        _show(session, report)
    else:
        session.out.line(report.to_text())
    if plot is not None:
        from isotach.bench.plot import draw

        draw(report, plot)
    raise typer.Exit(0 if report.passed else 1)


def _run(session: Session, only: list[str], quick: bool, s3: "S3Access | None", folder: Path | None) -> "Report":
    try:
        from isotach.bench import names, run_suite
    except ImportError as error:
        raise InvalidArgumentError(
            f"{error.name} is not installed: get it with pip install 'isotach[bench]'"
        ) from error
    unknown = [name for name in only if name not in names()]
    if unknown:
        raise InvalidArgumentError(f"no benchmark is called {', '.join(unknown)}: there are {', '.join(names())}")

    def progress(name: str, rows: "list[Row] | None") -> None:
        if session.out.terminal and rows is None:
            session.out.line(f"{name} ...")
            session.out.flush()

    return run_suite(only=only, quick=quick, s3=s3, folder=folder, progress=progress)


def _s3_access(bucket: str | None, endpoint: str | None, key_id: str, secret: str) -> "S3Access | None":
    if bucket is None:
        return None
    from isotach.bench import S3Access

    return S3Access(bucket=bucket, endpoint=endpoint, access_key_id=key_id, secret_access_key=secret)


def _show(session: Session, report: "Report") -> None:
    from isotach.bench.result import COLUMNS

    title = "Isotach bench" + (" (quick)" if report.quick else "")
    session.out.table([Column(name) for name in COLUMNS], [row.cells() for row in report.rows], title)
