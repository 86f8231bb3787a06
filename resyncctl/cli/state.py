"""What every command shares: the common options, output for people and for machines, errors to exit statuses."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import typer

from resyncctl.duration import parse_duration
from resyncctl.errors import InfrastructureError, InputError, ResyncError
from resyncctl.logs import unfailing

if TYPE_CHECKING:
    from rich.console import Console

    from resyncctl.cli.remote import RemoteBackend
    from resyncctl.config import Settings
    from resyncctl.engine.backend import Backend
    from resyncctl.store.audit import Actor

INTERRUPTED: Final = 130
"""Exit status after Ctrl-C."""
_UNCUT: Final = 1000
"""Columns of output that goes to no terminal: `rollout list | grep` shall find what a terminal would cut off."""
T = TypeVar("T")


@dataclass(slots=True)
class Common:
    """The options that every command takes, wherever they stand on the command line."""

    config: Path | None = None
    redis_url: str = ""
    data_dir: Path | None = None
    log_level: str = ""
    as_json: bool = False
    server: str = ""
    """URL of the service whose API is to be used; '' = our own Redis."""
    token_file: Path | None = None
    ca_file: Path | None = None

    def only_here(self) -> None:
        """Raise InputError when a service elsewhere is named: for what is done on this machine."""
        if self.server:
            raise InputError(
                f"this works on the machine of the service alone, not through --server {self.server}; run it there, without"
                " --server and RESYNCCTL_SERVER"
            )

    def settings(self, **told: str) -> Settings:
        """Return the settings; `told` are further ones from the command line, '' = not given. Raises InputError."""
        from resyncctl.config import load

        self.only_here()
        return load(
            file=self.config,
            environ=os.environ,
            redis_url=self.redis_url,
            data_dir=self.data_dir,
            log_level=self.log_level,
            told={name: value for name, value in told.items() if value},
        )

    def backend(self) -> AbstractAsyncContextManager[Backend]:
        """Return what opens that which carries commands out; raises InputError."""
        if self.server:
            return self.service()
        from resyncctl.engine.local import open_local
        from resyncctl.logs import make_logger

        settings = self.settings()
        return open_local(settings, local_actor(), make_logger(settings.log_level))

    def service(self) -> AbstractAsyncContextManager[RemoteBackend]:
        """Return what opens the service that --server names; raises InputError."""
        from resyncctl.cli.client import Server, read_token, read_url
        from resyncctl.cli.remote import open_remote

        if self.redis_url or self.data_dir:
            raise InputError("--server goes to a service, --redis-url and --data-dir to Redis: give one of them")
        token = read_token(self.token_file, os.environ.get("RESYNCCTL_TOKEN", ""))
        return open_remote(Server(url=read_url(self.server), token=token, ca_file=self.ca_file))

    def ask(self, main: Callable[[Backend], Coroutine[object, object, T]]) -> T:
        """Carry something out and return what came of it."""

        async def opened() -> T:
            async with self.backend() as backend:
                return await main(backend)

        return run_async(opened)


def duration(value: str | float) -> float:
    """Read a duration option; a default comes as the number it is."""
    if isinstance(value, int | float):
        return float(value)
    try:
        return parse_duration(value)
    except InputError as error:
        raise typer.BadParameter(str(error)) from error


def local_actor() -> Actor:
    """Return who runs this command, for the audit log: the user that the system knows, whatever the environment says."""
    import pwd
    import socket

    from resyncctl.store.audit import Actor

    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user may have no name
        user = str(os.getuid())
    return Actor(f"{user}@{socket.gethostname()}", "local")


def say(text: str) -> None:
    """Tell a person something, on standard error; nobody there to be told is no error."""
    print(text, file=unfailing(sys.stderr), flush=True)


def console(*, stderr: bool = True) -> Console:
    """Return a Rich console; standard error is for people, standard output for results."""
    from rich.console import Console

    class Pipe(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # Rich would exit with status 1

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _UNCUT
    return Pipe(file=unfailing(stream) if stderr else stream, highlight=False, width=width)


def emit(value: object, *, indent: int | None = 2) -> None:
    """Print a machine-readable result on standard output; a reader that has gone is no error."""
    try:
        print(json.dumps(value, indent=indent), flush=True)
    except BrokenPipeError:
        _silence()


def status_of(command: Callable[[], int | None], *, as_json: bool) -> int:
    """Run a command and return its exit status. Errors become one paragraph; anything else is a bug and keeps its traceback."""
    try:
        status = command()
        sys.stdout.flush()
    except BrokenPipeError:
        _silence()
        return 0
    except SystemExit as leaving:
        if not isinstance(leaving.__context__, BrokenPipeError):
            raise
        _silence()  # Typer's and Rich's way to say that the reader has gone (`| head`): nothing is left to be told
        return 0
    except typer.TyperException as error:
        return _told(_usage(error), error.exit_code, as_json=as_json)
    except ResyncError as error:
        return _told(f"resyncctl: {error}", error.exit_status, as_json=as_json)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        text = f"resyncctl: the system refuses: {error.strerror or error}{where}; correct that and try again"
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EIO}:  # it may be what standard output goes to
            _silence()
        return _told(text, InfrastructureError.exit_status, as_json=as_json)
    return status or 0


def _told(text: str, status: int, *, as_json: bool) -> int:
    if text:
        say(text)
    if text and as_json:
        emit({"error": text.partition(": ")[2]})
    return status


def _usage(error: typer.TyperException) -> str:
    """Return what is wrong with a command line as one paragraph; '' when its help has been shown instead."""
    message = error.format_message().strip().rstrip(".")
    context = getattr(error, "ctx", None)
    if not message or context is None:
        return f"resyncctl: {message}" if message else ""
    return f"{context.command_path}: {message}. `{context.command_path} --help` shows what it takes."


def _silence() -> None:
    """Let what is still buffered for standard output go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def open_standard_streams() -> None:
    """Open those of stdin, stdout and stderr that we were started without, so that no socket gets their numbers."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def run_async(main: Callable[[], Coroutine[object, object, T]]) -> T:
    """Run a coroutine, on uvloop when it is there."""
    import asyncio

    factory: Callable[[], asyncio.AbstractEventLoop] | None
    try:
        import uvloop
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())
