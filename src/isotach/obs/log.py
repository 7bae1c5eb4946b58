"""Structured logs: an event name and fields, as JSON lines or in colour for people.

Owns: structlog (imported nowhere else), the processors, and the one sink of this process. Never: writes to standard
output, raises because a line could not be written, or shows a secret.

Before `configure_logging` warnings and errors go to standard error, so a library user sees trouble and nothing else.
structlog is imported with the first line that is written: importing this module costs nothing.
"""

import contextlib
import json
import logging
import os
import sys
import threading
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TextIO

from isotach.base.errors import ConfigError
from isotach.obs.redact import redact_text, redact_value

Format = Literal["auto", "json", "console"]

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Logger(Protocol):
    """What `get_logger` gives. `exception` is an error with the traceback of the exception being handled."""

    def debug(self, event: str, /, **fields: object) -> None: ...
    def info(self, event: str, /, **fields: object) -> None: ...
    def warning(self, event: str, /, **fields: object) -> None: ...
    def error(self, event: str, /, **fields: object) -> None: ...
    def exception(self, event: str, /, **fields: object) -> None: ...


def get_logger(name: str) -> Logger:
    """A logger whose lines say `logger=name`; cheap, and good for as long as the process lives."""
    return _NamedLogger(name)


def configure_logging(level: str = "info", format: str = "auto", file: Path | None = None, **bound: object) -> None:
    """Sets where and how this process logs; for the mains of processes, not for libraries.

    `level` is debug, info, warning or error; `format` is json, console, or auto (console on a terminal, else json);
    `file` is appended to instead of standard error; `bound` are fields of every line (`role="worker"`). The standard
    library's own warnings (asyncio, web servers) join the same sink. Raises ConfigError for a bad argument, and
    OSError if the file cannot be opened.
    """
    if level not in _LEVELS:
        raise ConfigError(f"log.level {level!r} is not one of {', '.join(_LEVELS)}")
    if format not in ("auto", "json", "console"):
        raise ConfigError(f"log.format {format!r} is not one of auto, json, console")
    _process_log.become(_Sink(_LEVELS[level], format, file, bound))
    root = logging.getLogger()
    root.handlers[:] = [handler for handler in root.handlers if not isinstance(handler, _FromStandardLogging)]
    root.addHandler(_FromStandardLogging(logging.WARNING))


class _Output:
    """A stream that never fails its writer: nobody should die for a log line."""

    def __init__(self, file: Path | None) -> None:
        self._file: TextIO | None = None
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._file = file.open("a", encoding="utf-8", errors="backslashreplace", buffering=1)

    @property
    def stream(self) -> TextIO | None:
        """Standard error is looked up for each line: test runners and daemons replace it."""
        return self._file or sys.stderr

    def write(self, text: str) -> None:
        stream = self.stream
        # OSError: the disk is full or the pipe's reader is gone; ValueError: the stream is closed (at exit).
        with contextlib.suppress(OSError, ValueError):
            if stream is not None:
                # One write per line, so that lines of several processes do not mix.
                stream.write(text)
                stream.flush()

    def is_terminal(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            return self.stream is not None and self.stream.isatty()
        return False

    def close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()


class _Sink:
    """Where lines go, in which form, from which level on."""

    def __init__(self, threshold: int, form: str, file: Path | None, bound: Mapping[str, object]) -> None:
        self.threshold = threshold
        self._form = form
        self._bound = dict(bound)
        self._output = _Output(file)
        self._chain: list[Any] | None = None
        self._lock = threading.Lock()

    def emit(self, level: str, logger: str, event: str, fields: Mapping[str, object]) -> None:
        # The empty time stamp holds the first place until the chain fills it in.
        line: Any = {"timestamp": "", "level": level, "logger": logger, "event": event, **self._bound, **fields}
        for process in self._chain or self._build():
            line = process(None, level, line)
        self._output.write(f"{line}\n")

    def close(self) -> None:
        self._output.close()

    def _build(self) -> list[Any]:
        import structlog  # costs 50 ms, which a client that never logs need not pay

        with self._lock:
            people = self._form == "console" or (self._form == "auto" and self._output.is_terminal())
            chain: list[Any] = [structlog.processors.TimeStamper(fmt="iso", utc=True), _redact]
            if people:
                colors = self._output.is_terminal() and "NO_COLOR" not in os.environ
                plain = structlog.dev.plain_traceback
                chain += [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]
            else:
                chain += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_json)]
            self._chain = chain
        return chain


class _ProcessLog:
    """Holds the sink of this process, so that loggers made before `configure_logging` follow it."""

    def __init__(self) -> None:
        self.sink = _Sink(_LEVELS["warning"], "auto", None, {})

    def become(self, sink: _Sink) -> None:
        before, self.sink = self.sink, sink
        before.close()


_process_log: Final = _ProcessLog()


class _NamedLogger:
    """The Logger that `get_logger` gives."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def debug(self, event: str, /, **fields: object) -> None:
        if _process_log.sink.threshold <= 10:
            _process_log.sink.emit("debug", self._name, event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        if _process_log.sink.threshold <= 20:
            _process_log.sink.emit("info", self._name, event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        if _process_log.sink.threshold <= 30:
            _process_log.sink.emit("warning", self._name, event, fields)

    def error(self, event: str, /, **fields: object) -> None:
        _process_log.sink.emit("error", self._name, event, fields)

    def exception(self, event: str, /, **fields: object) -> None:
        _process_log.sink.emit("error", self._name, event, {"exc_info": True, **fields})


class _FromStandardLogging(logging.Handler):
    """Lines of libraries that use the standard library's logging."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else "warning"
        write = get_logger(record.name).error if level == "error" else get_logger(record.name).warning
        write(record.getMessage(), **({"exc_info": record.exc_info} if record.exc_info else {}))


def _redact(_logger: object, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in line.items():
        line[name] = redact_value(name, _plain(value)) if name not in ("event", "exc_info") else value
    line["event"] = redact_text(str(line["event"]))
    return line


def _plain(value: object) -> object:
    """Values as people read them: a path in bytes as text, an error as its type and message."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value


def _json(line: object, **_options: object) -> str:
    return json.dumps(line, default=_text, separators=(",", ":"))


def _text(value: object) -> str:
    return str(_plain(value))
