"""A running `resyncctl serve`, and one command given twice: with our own Redis, and through the API."""

from __future__ import annotations

import io
import os
import re
import subprocess
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

from resyncctl.cli.main import app
from resyncctl.cli.state import status_of
from tests.cli.command import COMMAND, Answer, finish
from tests.peers.process import ServerProcess

FAST = ("--now", "--yes", "--timeout", "3s", "--attempts", "1")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?")
_CHANGING = re.compile(
    r"(sending took|sending_seconds\W+|last_outcome\W+|first_sent\W+|rtt_ms\W+) *[\d.]+|,\d+\.\d+$", re.MULTILINE
)


class Service(ServerProcess):
    """`resyncctl serve` on a free port of loopback."""

    def __init__(self, url: str, data: Path, config: Path) -> None:
        super().__init__("serve")
        self._environment = {
            "RESYNCCTL_REDIS_URL": url,
            "RESYNCCTL_DATA_DIR": str(data),
            "RESYNCCTL_CONFIG": str(config),
        }

    def command(self) -> list[str]:
        """Return the command."""
        return [str(COMMAND), "serve", "--listen", "127.0.0.1:0"]

    def environment(self) -> Mapping[str, str]:
        """Return its settings."""
        return self._environment

    def wait_until_ready(self) -> None:
        """Block until it listens."""
        self.wait_until(lambda: "listening on " in self.log(), "listening", within=20)

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.log().partition("listening on ")[2].split()[0]


class Both:
    """One command twice: with our own Redis, and through the API."""

    def __init__(self, url: str, service: Service, token_file: Path, data: Path, config: Path) -> None:
        self.here = {
            "RESYNCCTL_REDIS_URL": url,
            "RESYNCCTL_DATA_DIR": str(data),
            "RESYNCCTL_CONFIG": str(config),
        }
        self.there = {"RESYNCCTL_SERVER": service.url, "RESYNCCTL_TOKEN_FILE": str(token_file)}
        self._data = data

    def call(self, environment: Mapping[str, str], *words: str | Path) -> Answer:
        """Give a command on one of the sides."""
        with self.start(environment, *words) as process:
            return finish(process)

    def start(self, environment: Mapping[str, str], *words: str | Path) -> subprocess.Popen[str]:
        """Begin a command on one of the sides."""
        return subprocess.Popen(
            [str(COMMAND), *map(str, words)],
            env={"PATH": "/usr/bin:/bin", "HOME": str(self._data), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def same(self, *words: str | Path) -> Answer:
        """Check that both sides say the same, times aside; return what the service says."""
        ours, theirs = _quickly(self.here, *words), _quickly(self.there, *words)
        assert (theirs.status, _steady(theirs.out)) == (ours.status, _steady(ours.out)), theirs.err
        return theirs


def _quickly(environment: Mapping[str, str], *words: str | Path) -> Answer:
    """Give a command that only looks, in this process: starting one takes longer than all else."""
    arguments = [str(word) for word in words]

    def command() -> int | None:
        ended: int | None = app(args=arguments, prog_name="resyncctl", standalone_mode=False)
        return ended

    out, err = io.StringIO(), io.StringIO()
    with mock.patch.dict(os.environ, environment), redirect_stdout(out), redirect_stderr(err):
        status = status_of(command, as_json="--json" in arguments)
    return Answer(status, out.getvalue(), err.getvalue())


def _steady(text: str) -> str:
    return _CHANGING.sub("N", _TIME.sub("T", text))
