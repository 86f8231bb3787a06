"""Logging with structlog: readable on a terminal, JSON elsewhere, always to standard error. Secrets are redacted.

Nothing global is configured. `capture_stdlib` sends what libraries log through the same chain.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import IO, TYPE_CHECKING, Final, TextIO, cast

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger, Processor

LEVELS: Final = ("debug", "info", "warning", "error")
LIBRARIES: Final = ("uvicorn", "uvicorn.error", "taskiq", "apscheduler")
"""Loggers of the libraries that the service runs on."""
ACCESS: Final = "uvicorn.access"
"""A line for each request, which the audit log and the metrics say better."""
_REDACTED: Final = "***"
_SECRET: Final = re.compile(r".*(?:password|passwd|token|secret|authorization|cookie|api[_-]?key)\Z", re.IGNORECASE)
"""The end of the name of what nobody may read in a log."""
_IN_URL: Final = re.compile(r"(://[^\s/?#:@]*:)[^\s/?#]+@")
_IN_QUERY: Final = re.compile(r"([?&][^\s=&?#]*(?:password|token|secret|signature)=)[^\s&#\"']+", re.IGNORECASE)
_CREDENTIALS: Final = re.compile(r"(\bBearer |\bAuthorization: ?\w+ |\brsy_)[A-Za-z0-9._~+/=-]{12,}")
"""Ours begin with `rsy_`."""
_DEEPEST: Final = 6
"""Levels of a nested value that are looked through; what is deeper is not logged."""


class _Unfailing:
    """A stream for people to read. Who closes the terminal or pipes it to `head` stops reading, not the rollout."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def unfailing(stream: IO[str]) -> TextIO:
    """Wrap a stream so that writing to it never fails."""
    return cast("TextIO", _Unfailing(stream))


class Threshold:
    """The least level that is logged, for a logger whose level may change while it is in use."""

    def __init__(self, level: str) -> None:
        self.level = level

    def __call__(self, _: object, method: str, record: MutableMapping[str, object]) -> MutableMapping[str, object]:
        """Let a record pass, as a structlog processor does; raise DropEvent for one that is below the level."""
        if _number(method) < _number(self.level):
            from structlog import DropEvent  # noqa: PLC0415  (only a process that logs has loaded it)

            raise DropEvent
        return record


def make_logger(level: str | Threshold = "warning", *, log_format: str = "auto") -> FilteringBoundLogger:
    """Return a logger that writes records of at least `level` to standard error; nothing global is configured.

    `log_format` is json, text, or auto: text on a terminal, else JSON. A `Threshold` may be changed later on.
    """
    import structlog  # noqa: PLC0415  (70 ms that --help does not need)

    terminal = sys.stderr.isatty()
    processors: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    if isinstance(level, Threshold):
        processors.insert(0, level)
    if log_format == "text" or (log_format == "auto" and terminal):
        processors.append(
            structlog.dev.ConsoleRenderer(
                colors=terminal and "NO_COLOR" not in os.environ,
                exception_formatter=structlog.dev.plain_traceback,  # Rich's shows the values of variables
            )
        )
    else:
        processors.append(structlog.processors.JSONRenderer())
    least = logging.DEBUG if isinstance(level, Threshold) else _number(level)
    bound: FilteringBoundLogger = structlog.wrap_logger(
        structlog.PrintLogger(unfailing(sys.stderr)),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(least),
        cache_logger_on_first_use=True,
    )
    return bound


def _number(level: str) -> int:
    """Return the number that `logging` has for a level or for a method that logs at it."""
    return logging.getLevelNamesMapping().get({"exception": "error"}.get(level, level).upper(), logging.INFO)


def redact(_: object, __: str, record: MutableMapping[str, object]) -> MutableMapping[str, object]:
    """Replace secrets in a record, as a structlog processor: values by the names of their keys, passwords in URLs."""
    return {key: _clean(key, value, _DEEPEST) for key, value in record.items()}


def _clean(key: object, value: object, depth: int) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(key, str) and _SECRET.match(key):
        return _REDACTED
    if isinstance(value, int | float):
        return value
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return _clean_inside(value, depth - 1) if depth else "…"
    return redact_text(repr(value))  # as the JSON renderer would write it


def _clean_inside(value: Mapping[object, object] | Iterable[object], depth: int) -> object:
    if isinstance(value, Mapping):
        return {key: _clean(key, inner, depth) for key, inner in value.items()}
    return [_clean(None, inner, depth) for inner in value]


def redact_text(text: str) -> str:
    """Return a text without the passwords of URLs, secrets of query strings, and bearer tokens in it."""
    if "://" in text:
        text = _IN_URL.sub(rf"\1{_REDACTED}@", text)
    if "=" in text:
        text = _IN_QUERY.sub(rf"\1{_REDACTED}", text)
    return _CREDENTIALS.sub(rf"\1{_REDACTED}", text)


def redact_url(url: str) -> str:
    """Return what is known to be one URL without its password, whatever characters that has."""
    url = _IN_QUERY.sub(rf"\1{_REDACTED}", url)
    scheme, separator, rest = url.partition("://")
    userinfo, at, host = rest.rpartition("@")
    return f"{scheme}{separator}{userinfo.partition(':')[0]}:{_REDACTED}@{host}" if at else url


class _Forward(logging.Handler):
    """Hands records of the standard library's loggers to ours."""

    def __init__(self, target: FilteringBoundLogger) -> None:
        super().__init__()
        self._target = target

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record with its level, the name of its logger and its exception."""
        try:
            level = "error" if record.levelno >= logging.ERROR else record.levelname.lower()
            log = getattr(self._target, level if level in LEVELS else "info")
            extra = {"exc_info": record.exc_info} if record.exc_info else {}
            log(record.getMessage().strip(), logger=record.name, **extra)
        except Exception:  # noqa: BLE001  (the contract of logging: a broken record stops nobody's work)
            self.handleError(record)


def capture_stdlib(
    logger: FilteringBoundLogger, level: str | Threshold, *, names: Iterable[str] = LIBRARIES, access: bool = False
) -> Callable[[], None]:
    """Send what libraries log, at least at `level`, to `logger` and nowhere else; return what undoes it.

    Start uvicorn with `log_config=None`, or it takes its loggers back. Its line for each request is left out without `access`.
    """
    handler = _Forward(logger)
    least = logging.DEBUG if isinstance(level, Threshold) else _number(level)
    undone = [_take(logging.getLogger(name), [handler], least) for name in names]
    undone.append(_take(logging.getLogger(ACCESS), [handler] if access else [], least if access else logging.CRITICAL))

    def undo() -> None:
        for one in undone:
            one()

    return undo


def _take(taken: logging.Logger, handlers: list[logging.Handler], level: int) -> Callable[[], None]:
    kept = (taken.handlers, taken.propagate, taken.level)
    taken.handlers, taken.propagate = handlers, False
    taken.setLevel(level)

    def give_back() -> None:
        taken.handlers, taken.propagate = kept[0], kept[1]
        taken.setLevel(kept[2])

    return give_back
