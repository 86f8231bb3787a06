"""`resyncctl` as a process of its own, and as a quick call in this one; phones that hear and phones that answer."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.peers.waiting import wait_until

COMMAND = Path(sys.executable).with_name("resyncctl")
WITHIN = 40.0
"""Seconds that a command may take unless told otherwise."""
HEADER = "aor,contact,user_agent,vendor"
YEALINK = "Yealink SIP-T46S 66.85.0.5"
"""A phone that does not reboot on resync."""
_MEASURE = """
import pathlib, resource, subprocess, sys
status = subprocess.call(sys.argv[2:])
pathlib.Path(sys.argv[1]).write_text(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(status)
"""
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a command."""

    status: int
    out: str
    err: str
    peak: int = 0
    """Most resident memory, in bytes."""

    @property
    def report(self) -> dict[str, object]:
        """Standard output, which is nothing but JSON."""
        parsed: dict[str, object] = json.loads(self.out)
        return parsed

    @property
    def complaint(self) -> str:
        """The one paragraph that says what is wrong: the last line of standard error, without a traceback before it."""
        assert "Traceback" not in self.err, self.err
        return self.err.rstrip("\n").rpartition("\n")[2]


class Resyncctl:
    """The installed command with an embedded Redis in a directory of the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data = directory / "data"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RESYNCCTL_", "COLUMNS"))}
        self.environment = {**kept, "RESYNCCTL_DATA_DIR": str(self.data), "TERM": "xterm"}

    @property
    def has_stored_nothing(self) -> bool:
        """Whether not even a data directory was made."""
        return not self.data.exists()

    @property
    def has_left_nothing_running(self) -> bool:
        """Whether no embedded server listens any more."""
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.data / "server.sock"))
            except OSError:
                return True
        return False

    def file(self, name: str, *lines: str) -> Path:
        """Write a file of lines into the test's directory."""
        path = self.directory / name
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    def start(self, *arguments: str | Path, **streams: int) -> subprocess.Popen[str]:
        """Start a command without a terminal; its streams are pipes unless told otherwise."""
        chosen = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
        return subprocess.Popen(
            [str(COMMAND), *map(str, arguments)],
            env=self.environment,
            text=True,
            stdin=chosen["stdin"],
            stdout=chosen["stdout"],
            stderr=chosen["stderr"],
        )

    @contextmanager
    def sending(self, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
        """Start a command that executes a rollout, and go on when it does."""
        with self.start(*arguments) as process:
            assert process.stderr is not None
            lines = iter(process.stderr.readline, "")
            assert any(line.startswith("rollout ") for line in lines), f"{arguments} has not begun a rollout"
            yield process

    def call(self, *arguments: str | Path, within: float = WITHIN) -> Answer:
        """Run a command without a terminal to its end; after `within` seconds it is killed, which is a failure."""
        with self.start(*arguments) as process:
            return finish(process, within=within)

    def measured(self, *arguments: str | Path, within: float = WITHIN) -> Answer:
        """Run a command and measure its memory as well. Its output must fit into a file.

        It is the child of a small process: what a process has by the time it begins is counted as its own, and pytest is large.
        """
        out, err, peak = (self.directory / name for name in ("out.txt", "err.txt", "peak.txt"))
        command = [sys.executable, "-c", _MEASURE, str(peak), str(COMMAND), *map(str, arguments)]
        with out.open("w") as out_file, err.open("w") as err_file:
            done = subprocess.run(
                command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out_file,
                stderr=err_file,
                timeout=within,
                check=False,
            )
        return Answer(done.returncode, out.read_text(), err.read_text(), int(peak.read_text()) * 1024)

    def shell(self, script: str, *, within: float = WITHIN) -> Answer:
        """Run a bash script in which $R is the command."""
        done = subprocess.run(
            ["bash", "--norc", "-c", script],
            env={**self.environment, "R": str(COMMAND)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    @contextmanager
    def terminal(self, *arguments: str | Path, columns: int = 100) -> Iterator[Terminal]:
        """Run a command on a terminal of its own; it is killed at the end if it has not ended."""
        master, slave = pty.openpty()
        environment = {**self.environment, "COLUMNS": str(columns), "LINES": "50"}
        process = subprocess.Popen(
            [str(COMMAND), *map(str, arguments)], env=environment, stdin=slave, stdout=slave, stderr=slave
        )
        os.close(slave)
        try:
            yield Terminal(master, process)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            os.close(master)


def finish(process: subprocess.Popen[str], *, within: float = WITHIN) -> Answer:
    """Wait for a process; kill it after `within` seconds."""
    try:
        out, err = process.communicate(timeout=within)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return Answer(process.returncode, out or "", err or "")


class Terminal:
    """A pseudo terminal with a command on it."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self._master = master
        self._process = process
        self._shown = ""

    @property
    def screen(self) -> str:
        """All that was shown, without colours and movements of the cursor."""
        return _CONTROL.sub("", self._shown)

    def read_until(self, text: str, *, within: float = WITHIN) -> str:
        """Read until a text has been shown."""
        deadline = time.monotonic() + within
        while text not in self.screen:
            self._read(deadline, f"{text!r} on the terminal")
        return self.screen

    def type(self, text: str) -> None:
        """Type a text."""
        os.write(self._master, text.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def status(self, *, within: float = WITHIN) -> int:
        """Read on until the command has ended; return its exit status."""
        deadline = time.monotonic() + within
        with suppress(OSError):  # EIO: nobody has the terminal open any more
            while True:
                self._read(deadline, "the end of the command")
        return self._process.wait(timeout=within)

    def _read(self, deadline: float, what: str) -> None:
        ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"{what} did not come in time:\n{self.screen}"
        part = os.read(self._master, 65_536)
        if not part:
            raise OSError("end of the terminal")
        self._shown += part.decode(errors="replace")


class Ear:
    """A phone that hears and never answers."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.port = int(self._socket.getsockname()[1])

    def rows(self, count: int = 1, *, user_agent: str = YEALINK) -> list[str]:
        """Return a phone list that leads here."""
        return [HEADER, *(f"sip:{n}@pbx.invalid,sip:{n}@127.0.0.1:{self.port},{user_agent}," for n in range(count))]

    def heard(self) -> list[bytes]:
        """Return what has come since the last time; on loopback a datagram is there once it is sent."""
        got = []
        with suppress(BlockingIOError):
            while True:
                got.append(self._socket.recv(65_536))
        return got

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


@contextmanager
def simulated(directory: Path, phones: Sequence[str], *options: str) -> Iterator[Path]:
    """Run `resyncctl sim` for a phone list; give the list that leads to the simulated phones."""
    directory.mkdir(parents=True, exist_ok=True)
    resyncctl = Resyncctl(directory)
    source, listed = resyncctl.file("real.csv", *phones), directory / "phones.csv"
    with resyncctl.start("sim", source, "--csv", listed, *options) as process:
        try:
            wait_until(listed.exists, "the list of the simulated phones", within=WITHIN)
            yield listed
        finally:
            process.send_signal(signal.SIGINT)
            finish(process)
