"""Logging with structlog: readable on a terminal, JSON elsewhere, always to standard error. Secrets have a redacting repr."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import IO, TYPE_CHECKING, Final, TextIO, cast

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger, Processor

LEVELS: Final = ("debug", "info", "warning", "error")


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


def make_logger(level: str = "warning") -> FilteringBoundLogger:
    """Return a logger that writes records of at least `level` to standard error; nothing global is configured."""
    import structlog  # noqa: PLC0415  (70 ms that --help does not need)

    processors: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    if sys.stderr.isatty():
        processors.append(structlog.dev.ConsoleRenderer())
    else:
        processors.append(structlog.processors.JSONRenderer())
    bound: FilteringBoundLogger = structlog.wrap_logger(
        structlog.PrintLogger(unfailing(sys.stderr)),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        cache_logger_on_first_use=True,
    )
    return bound
