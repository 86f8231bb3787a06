"""`resyncctl` as its users have it: a process on a terminal's other end, with signals and exit statuses."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from tests.peers.process import REPOSITORY
from tests.peers.waiting import wait_until

PATIENCE: Final = 40.0
"""Seconds that any command may take."""
FAST: Final = ("--now", "--random-delay", "0")
TERMINAL: Final = frozenset(
    "accepted rejected unreachable overloaded unauthorized skipped cancelled unknown".split()  # noqa: SIM905
)


class Process:
    """A command that runs. `with` it: it is killed at the end if it still runs."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str]) -> None:
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed at the end of the block)
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "resyncctl", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "default", **environment},
            start_new_session=True,
        )

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this process."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.wait(10)

    def status(self, *, within: float = PATIENCE) -> int:
        """Wait for its end and return the exit status; what it printed is checked for tracebacks."""
        try:
            status = self.process.wait(within)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"still running after {within} s\n{self.errors()}") from error
        assert "Traceback" not in self.errors(), self.errors()
        assert "Warning" not in self.errors(), self.errors()
        return status

    def errors(self) -> str:
        """Return what it wrote to standard error so far."""
        return _written(self._errors)

    def output(self) -> str:
        """Return what it wrote to standard output so far."""
        return _written(self._output)

    def report(self) -> dict[str, Any]:
        """Return the JSON report."""
        found: dict[str, Any] = json.loads(self.output())
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(10)
        self._output.close()
        self._errors.close()


class Controller:
    """Starts commands on one Redis (or, without a URL, on the embedded server of one data directory)."""

    def __init__(self, data_dir: Path, url: str = "") -> None:
        self._environment = {"RESYNCCTL_DATA_DIR": str(data_dir), "RESYNCCTL_REDIS_URL": url}

    def start(self, *arguments: str | float | Path) -> Process:
        """Start `resyncctl --json …`."""
        return Process(["--json", *map(str, arguments)], self._environment)

    def run(self, *arguments: str | float | Path, within: float = PATIENCE) -> tuple[int, str, str]:
        """Run a command to its end; return exit status, standard output and standard error."""
        with self.start(*arguments) as process:
            return process.status(within=within), process.output(), process.errors()

    def show(self, rollout: str) -> dict[str, Any]:
        """Return the report of a rollout."""
        status, output, errors = self.run("rollout", "show", rollout)
        assert status == 0, errors
        found: dict[str, Any] = json.loads(output)
        return found

    def results(self, rollout: str) -> dict[str, dict[str, Any]]:
        """Return the results of a rollout by the user of the phone."""
        status, output, errors = self.run("rollout", "results", rollout)
        assert status == 0, errors
        rows = [json.loads(line) for line in output.splitlines()]
        return {row["contact"].removeprefix("sip:").partition("@")[0]: row for row in rows}


def states(results: Mapping[str, Mapping[str, Any]]) -> Counter[str]:
    """Count results by state."""
    return Counter(row["state"] for row in results.values())


def eventually(condition: Callable[[], bool], what: str, *, within: float = 10.0) -> None:
    """Wait for a condition."""
    wait_until(condition, what, within=within)


def _written(file: IO[bytes]) -> str:
    return os.pread(file.fileno(), 1 << 26, 0).decode()
