"""Tests of log lines: their form, level, destination, and that nothing a caller does can break.

Owns: the promise of one JSON object per line. Never: writes to standard output.
"""

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from isotach.base.errors import ConfigError
from isotach.obs.log import configure_logging, get_logger

log = get_logger("test.log")
Lines = Callable[[], list[dict[str, object]]]


@pytest.fixture(autouse=True)
def unconfigured_afterwards() -> Iterator[None]:
    handlers = list(logging.getLogger().handlers)
    yield
    configure_logging("warning")
    logging.getLogger().handlers[:] = handlers


@pytest.fixture
def lines(tmp_path: Path) -> Lines:
    path = tmp_path / "logs" / "isotach.log"
    configure_logging("info", "json", path, role="worker")
    return lambda: [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_is_one_json_object_with_its_fields(lines: Lines) -> None:
    log.info("file_opened", path=b"/a\xff", length=3, folder=Path("/x"), error=ValueError("no"), text="a\nb")

    (line,) = lines()
    assert line.pop("timestamp")
    assert line == {
        "level": "info",
        "logger": "test.log",
        "event": "file_opened",
        "role": "worker",
        "path": "/a\\xff",
        "length": 3,
        "folder": "/x",
        "error": "ValueError: no",
        "text": "a\nb",
    }


def test_lines_under_the_level_are_left_out(lines: Lines) -> None:
    log.debug("too_fine")
    log.warning("coarse")

    assert [line["event"] for line in lines()] == ["coarse"]


def test_secrets_are_masked(lines: Lines) -> None:
    log.info("mounted s3://u:hidden@h", options={"secret_access_key": "hidden"}, token="hidden", uri="s3://u:hidden@h")

    assert "hidden" not in json.dumps(lines())


def test_an_exception_comes_with_its_traceback(lines: Lines) -> None:
    try:
        raise OSError(5, "broken")
    except OSError:
        log.exception("failed")

    assert "OSError: [Errno 5] broken" in str(lines()[0]["exception"])


def test_the_standard_library_joins_the_same_sink(lines: Lines) -> None:
    logging.getLogger("asyncio").warning("slow %s", "task")

    assert [(line["logger"], line["event"]) for line in lines()] == [("asyncio", "slow task")]


def test_values_that_json_does_not_know_are_shown_as_text(lines: Lines) -> None:
    log.info("odd", what={1}, name="\udcff", inner=[object])

    assert lines()[0]["what"] == "{1}"


def test_the_console_form_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "console")
    log.info("file_opened", length=3)
    captured = capsys.readouterr()

    assert captured.out == ""
    assert "file_opened" in captured.err
    assert "length=3" in captured.err
    assert "\x1b" not in captured.err


def test_auto_is_json_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "auto")
    log.info("file_opened")

    assert json.loads(capsys.readouterr().err)["event"] == "file_opened"


def test_bad_arguments_are_told() -> None:
    with pytest.raises(ConfigError, match=r"log\.level 'loud' is not one of debug"):
        configure_logging("loud")
    with pytest.raises(ConfigError, match=r"log\.format 'xml'"):
        configure_logging("info", "xml")


def test_a_process_that_configures_nothing_shows_warnings_on_standard_error_only() -> None:
    script = (
        "import sys; from isotach.obs.log import get_logger; log = get_logger('x');"
        "assert 'structlog' not in sys.modules;"
        "log.info('quiet'); log.warning('loud'); sys.stderr.close(); log.warning('unheard'); print('alive')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout == "alive\n"
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["loud"]
