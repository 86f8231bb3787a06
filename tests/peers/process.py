"""One server process: started in a temporary directory, stopped by its pid, its log kept for the failure text."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.peers.waiting import WaitTimeoutError, wait_until

LOG_TAIL = 6_000
"""Characters of a peer's log that a failure shows."""
REPOSITORY = Path(__file__).resolve().parents[2]


class PeerError(AssertionError):
    """A peer did not start, ended early, or did not do what was waited for; the message ends with its log."""


class ServerProcess(ABC):
    """A process with a temporary directory and a log file, both gone after `stop()`; what it logged stays readable.

    `with Peer(…) as peer` starts it and waits until it is ready.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.directory = Path(tempfile.mkdtemp(prefix=f"resyncctl-{name}-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._kept: dict[str, str] = {}

    @abstractmethod
    def command(self) -> Sequence[str]:
        """Write what the command needs into the directory and return the command."""

    @abstractmethod
    def wait_until_ready(self) -> None:
        """Block until the peer can be used; raise PeerError."""

    def environment(self) -> Mapping[str, str]:
        """Return further environment variables."""
        return {}

    def start(self) -> Self:
        """Start the peer and wait until it is ready; raises PeerError with its log."""
        try:
            self._launch(self.command())
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def _launch(self, command: Sequence[str]) -> None:
        """Start `command` in the directory, its output appended to `output.log`.

        It gets a session of its own, so that a server which signals its process group does not reach pytest, and
        a pipe as standard input, which ends when we end. TZ is UTC.
        """
        with (self.directory / "output.log").open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env={**os.environ, "TZ": "UTC", **self.environment()},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id; raises PeerError when it was never started."""
        if self._process is None:
            raise PeerError(f"{self.name} was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def read(self, file: str) -> str:
        """Return the text of a file in the directory, "" when it does not exist; works after `stop()` too."""
        if file in self._kept:
            return self._kept[file]
        path = self.directory / file
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def log(self) -> str:
        """Return everything that the process wrote to its standard output and error."""
        return self.read("output.log")

    def wait_until(self, condition: Callable[[], bool], what: str, *, within: float = 5.0) -> None:
        """Block until `condition()`; raise PeerError with the log when it takes too long or the process ends."""

        def settled() -> bool:
            return condition() or not self.running

        try:
            wait_until(settled, f"{self.name}: {what}", within=within)
        except WaitTimeoutError as timeout:
            raise self.error(str(timeout)) from None
        if not condition():
            status = None if self._process is None else self._process.returncode
            raise self.error(f"{self.name} ended with status {status} before: {what}")

    def error(self, what: str) -> PeerError:
        """Return, not raise, a PeerError that ends with the log."""
        log = self.log()
        cut = "…" if len(log) > LOG_TAIL else ""
        return PeerError(f"{what}\n--- log of {self.name} ---\n{cut}{log[-LOG_TAIL:]}\n--- end of log ---")

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to this process only, if it still runs."""
        if self._process is not None and self.running:
            self._process.send_signal(number)

    def end(self, *, gently: bool = True, within: float = 3.0) -> None:
        """End the process: SIGTERM, then after `within` seconds SIGKILL to its session. Its directory stays."""
        process = self._process
        if process is None:
            return
        if gently and self.running:
            process.terminate()
            process.send_signal(signal.SIGCONT)  # a stopped process would not see it
            with contextlib.suppress(subprocess.TimeoutExpired):  # the SIGKILL below ends it
                process.wait(within)
        if self.running:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(within)
        if process.stdin is not None:
            process.stdin.close()

    def stop(self) -> None:
        """End the process and remove its directory. Harmless when repeated."""
        try:
            self.end()
        finally:
            if self.directory.exists():
                self._kept = {
                    file.name: self.read(file.name) for file in self.directory.iterdir() if self._is_kept(file)
                }
                shutil.rmtree(self.directory, ignore_errors=True)

    @staticmethod
    def _is_kept(file: Path) -> bool:
        return file.is_file() and file.suffix in {".log", ".csv", ".ndjson"}

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
