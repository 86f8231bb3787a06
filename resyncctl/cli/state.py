"""What every command shares: the common options, output for people and for machines, errors to exit statuses."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import typer

from resyncctl.cli.duration import parse_duration
from resyncctl.errors import InputError, ResyncError

if TYPE_CHECKING:
    from rich.console import Console

    from resyncctl.config import Settings

INTERRUPTED: Final = 130
"""Exit status after Ctrl-C."""
T = TypeVar("T")


@dataclass(slots=True)
class Common:
    """The options that every command takes, wherever they stand on the command line."""

    config: Path | None = None
    redis_url: str = ""
    data_dir: Path | None = None
    log_level: str = ""
    as_json: bool = False

    def settings(self) -> Settings:
        """Return the settings; raises InputError."""
        from resyncctl.config import load

        return load(
            file=self.config,
            environ=os.environ,
            redis_url=self.redis_url,
            data_dir=self.data_dir,
            log_level=self.log_level,
        )


def duration(value: str | float) -> float:
    """Read a duration option; a default comes as the number it is."""
    if isinstance(value, int | float):
        return float(value)
    try:
        return parse_duration(value)
    except InputError as error:
        raise typer.BadParameter(str(error)) from error


def say(text: str) -> None:
    """Tell a person something, on standard error."""
    print(text, file=sys.stderr, flush=True)


def console(*, stderr: bool = True) -> Console:
    """Return a Rich console; standard error is for people, standard output for results."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def emit(value: object) -> None:
    """Print a machine-readable result on standard output."""
    print(json.dumps(value, indent=2))


@contextlib.contextmanager
def errors_told(*, as_json: bool = False) -> Iterator[None]:
    """Turn our errors into one paragraph and an exit status; anything else is a bug and keeps its traceback."""
    try:
        yield
    except ResyncError as error:
        say(f"resyncctl: {error}")
        if as_json:
            emit({"error": str(error)})
        raise typer.Exit(error.exit_status) from error
    except BrokenPipeError:
        # The reader has gone (`| head`): nothing is left to be told.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        say("interrupted; nothing more is sent")
        raise typer.Exit(INTERRUPTED) from None


def run_async(main: Callable[[], Coroutine[object, object, T]]) -> T:
    """Run a coroutine, on uvloop when it is there."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None
    try:
        import uvloop
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())
