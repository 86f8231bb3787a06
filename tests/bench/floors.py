"""What the machine can do without resyncctl, measured in the same minute: a bare uvloop loop, and SIPp.

    python -m tests.bench.floors [RUNS]

Every sender is a process of its own, and all talk to the same C responder (`responder.c`), whose own limit is
above theirs. Numbers on a shared machine drift, so the rows take turns and the table shows best and median.
"""

from __future__ import annotations

import csv
import json
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from resyncctl.clock import monotonic
from tests.bench.bare_loop import LIMIT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

HERE: Final = Path(__file__).parent
COUNT: Final = 200_000
"""Transactions of one run of the bare loop, about one second of work."""
WINDOW: Final = 128
"""Requests in flight; 64 to 256 give the same rate."""
SIPP_COUNT: Final = 100_000
"""Calls of one SIPp trial, about one second of work."""
SIPP_BUDGET: Final = 15.0
"""Seconds for all trials of one `sipp_best`."""
SIPP_TUNED: Final[tuple[tuple[str, ...], ...]] = tuple(
    (*load, "-timer_resol", "1", "-buff_size", "4000000")
    for load in (
        ("-users", "100"),
        ("-users", "200"),
        ("-users", "20"),
        ("-r", "80000", "-l", "1000"),
        ("-r", "60000", "-l", "1000"),
        ("-r", "40000", "-l", "1000"),
    )
)
"""Closed loop (`-users` calls always open) and open loop (`-r` new calls a second, at most `-l` open)."""
SIPP_LADDER: Final = (5_000, 10_000, 15_000, 20_000, 25_000, 30_000)
"""Call rates for `sipp_as_installed`."""


@dataclass(frozen=True, slots=True)
class Served:
    """What the responder counted: `distinct` Call-IDs, `ignored` datagrams, and its own CPU seconds."""

    requests: int
    distinct: int
    ignored: int
    cpu: float


class Responder:
    """A running C responder on 127.0.0.1; `stop` ends it and returns what it counted."""

    def __init__(self, program: Path, *, log: Path | None = None) -> None:
        command = [str(program), "0", *(["--log", str(log)] if log else [])]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(_lines(self._process).readline().split()[1])

    def stop(self) -> Served:
        """Send SIGTERM and read the counts; the log file is complete afterwards."""
        self._process.send_signal(signal.SIGTERM)
        output, _ = self._process.communicate(timeout=10)
        words = output.split()
        return Served(int(words[1]), int(words[3]), int(words[5]), float(words[7]))

    def kill(self) -> None:
        """Make sure that the process is gone."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate(timeout=10)


def build_responder(directory: Path) -> Path:
    """Compile `responder.c` into `directory` and return the program."""
    program = directory / "responder"
    subprocess.run(["cc", "-O2", "-o", str(program), str(HERE / "responder.c")], check=True, timeout=60)
    return program


@contextmanager
def running_responder(*, log: Path | None = None) -> Iterator[Responder]:
    """Build and run a responder, and end it with the block; call `stop` inside to get its counts."""
    with tempfile.TemporaryDirectory(prefix="resyncctl-bench-") as directory:
        phone = Responder(build_responder(Path(directory)), log=log)
        try:
            yield phone
        finally:
            phone.kill()


def read_log(path: Path) -> list[tuple[int, str]]:
    """Read a responder's log: the receive time of each request in microseconds since 1970, and the user it went to."""
    with path.open(encoding="utf-8", errors="surrogateescape") as lines:
        return [(int(at), user.rstrip("\n")) for at, _, user in (line.partition(" ") for line in lines)]


def bare_loop(count: int, window: int, port: int, *, words: Collection[str] = ()) -> float:
    """Return the transactions per second of a uvloop send and receive loop that records nothing.

    `words` are those of `tests.bench.bare_loop`. Raises CalledProcessError when it did not finish.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.bare_loop", str(count), str(window), str(port), *words],
        check=True,
        capture_output=True,
        cwd=HERE.parents[1],
        timeout=LIMIT + 10,
    )
    return float(json.loads(done.stdout)["rate"])


def sipp_best(
    count: int,
    port: int,
    *,
    settings: Sequence[tuple[str, ...]] = SIPP_TUNED,
    budget: float = SIPP_BUDGET,
) -> float:
    """Return the calls per second of SIPp's best trial without a failed call or a retransmission.

    Each of `settings` is one trial of `count` calls, in turn until `budget` seconds are spent.
    Returns 0.0 when no trial was clean. Needs `sipp` on PATH.
    """
    best = 0.0
    end_at = monotonic() + budget
    for setting in settings:
        left = end_at - monotonic()
        if left < 1.0:
            break
        best = max(best, _sipp_trial(count, port, setting=setting, seconds=left))
    return best


def sipp_as_installed(port: int, *, budget: float = SIPP_BUDGET) -> float:
    """Return SIPp's highest clean rate with `-r` and nothing else, as its manual begins.

    That leaves it a timer of 10 ms and small socket buffers, which bursts overflow: it is what SIPp gives who does not
    tune it, and no measure of what SIPp can do. One second at each rate of the ladder, up to the first that is not
    clean; 0.0 when none is.
    """
    best = 0.0
    end_at = monotonic() + budget
    for rate in SIPP_LADDER:
        left = end_at - monotonic()
        reached = _sipp_trial(rate, port, setting=("-r", str(rate)), seconds=left) if left >= 2.0 else 0.0
        if not reached:
            break
        best = max(best, reached)
    return best


def _sipp_trial(count: int, port: int, *, setting: tuple[str, ...], seconds: float) -> float:
    """Run SIPp once; 0.0 for a trial that failed a call, retransmitted, or did not finish in time."""
    with tempfile.TemporaryDirectory(prefix="resyncctl-sipp-") as directory:
        table = Path(directory) / "statistics.csv"
        command = ["sipp", f"127.0.0.1:{port}", "-sf", str(HERE / "sipp_notify.xml"), "-i", "127.0.0.1"]
        command += ["-m", str(count), "-nostdin", "-trace_stat", "-stf", str(table), *setting]
        try:
            subprocess.run(
                command,
                check=True,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=seconds,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return 0.0
        with table.open(encoding="ascii", newline="") as rows:
            last = list(csv.DictReader(rows, delimiter=";"))[-1]
    clean = int(last["SuccessfulCall(C)"]) == count and last["FailedCall(C)"] == last["Retransmissions(C)"] == "0"
    seconds_used = float(last["CurrentTime"].split("\t")[2]) - float(last["StartTime"].split("\t")[2])
    return count / seconds_used if clean else 0.0


def measure(runs: int) -> dict[str, list[float]]:
    """Measure every floor `runs` times, taking turns; maps the name of a row to transactions per second."""
    rows: dict[str, list[float]] = {}
    with running_responder() as phone:
        for _ in range(runs):
            for name, words in (
                ("bare uvloop loop", ()),
                ("  with distinct requests", ("distinct",)),
                ("  with one connected socket", ("connected",)),
            ):
                rows.setdefault(name, []).append(bare_loop(COUNT, WINDOW, phone.port, words=words))
            if shutil.which("sipp"):
                best = sipp_best(SIPP_COUNT, phone.port)
                rows.setdefault("SIPp, best of all settings", []).append(best)
                rows.setdefault("  with -r alone", []).append(sipp_as_installed(phone.port))
    return rows


def table(rows: dict[str, list[float]]) -> str:
    """Lay the rows out as text, in transactions per second."""
    lines = [f"{'transactions/s':<30}{'best':>10}{'median':>10}  runs"]
    for name, rates in rows.items():
        each = " ".join(f"{rate:,.0f}" for rate in rates)
        lines.append(f"{name:<30}{max(rates):>10,.0f}{statistics.median(rates):>10,.0f}  {each}")
    return "\n".join(lines)


def _lines(process: subprocess.Popen[str]) -> IO[str]:
    if process.stdout is None:
        raise AssertionError("started with a pipe")
    return process.stdout


if __name__ == "__main__":
    sys.stdout.write(table(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 3)) + "\n")
