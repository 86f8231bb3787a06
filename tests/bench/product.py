"""What resyncctl does, measured through its command line, against the C responder and a real redis-server."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from tests.bench.floors import read_log, running_responder
from tests.peers.redis_server import RedisServer

COMMAND: Final = (sys.executable, "-m", "resyncctl")
USER_AGENTS: Final = (
    "Yealink SIP-T46U 108.86.0.20",
    "snomD862/10.1.226.13",
    "Grandstream GRP2615 1.0.13.122",
    "PolycomVVX-VVX_450-UA/6.4.2.1234",
)
LIMIT: Final = 600.0
"""Seconds after which a run is given up."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one rollout cost: its report, the peak resident memory of its process in bytes, its CPU seconds."""

    report: dict[str, object]
    resident: int
    cpu: float

    @property
    def seconds(self) -> float:
        """From the first datagram to the last outcome."""
        return float(str(self.report["sending_seconds"]))


def write_phones(path: Path, count: int, port: int) -> Path:
    """Write a list of believable phones that all listen on one port of loopback."""
    rng = random.Random(1)
    with path.open("w", encoding="ascii") as file:
        file.write("aor,contact,user_agent,mac,site\n")
        for number in range(100_000, 100_000 + count):
            agent = rng.choice(USER_AGENTS)
            mac = f"{rng.getrandbits(48):012x}"
            file.write(f"sip:{number}@pbx.example.com,sip:{number}@127.0.0.1:{port},{agent},{mac},site{number % 20}\n")
    return path


def rollout(redis: RedisServer, phones: Path, *options: str) -> Run:
    """Run a rollout and return its figures; AssertionError when a phone did not accept."""
    process = subprocess.Popen(
        [*COMMAND, "--json", "--redis-url", redis.url, "run", str(phones), "--yes", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    output = process.stdout.read()
    process.stdout.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    report = json.loads(output)
    assert report["counts"] == {"accepted": report["targets"]}, report
    return Run(report, usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime)


@contextmanager
def bench(count: int, *, log: bool = False) -> Iterator[tuple[RedisServer, Path, Path]]:
    """Start Redis and the responder, write a list of phones; yields (Redis, the list, the responder's log)."""
    with tempfile.TemporaryDirectory(prefix="resyncctl-bench-") as folder:
        where = Path(folder)
        heard = where / "heard.log"
        with RedisServer() as redis, running_responder(log=heard if log else None) as responder:
            yield redis, write_phones(where / "phones.csv", count, responder.port), heard
            if log:
                responder.stop()


def throughput(redis: RedisServer, phones: Path) -> float:
    """Return NOTIFY transactions per second with durable outcomes."""
    run = rollout(redis, phones, "--now", "--rate", "0", "--seed", str(random.getrandbits(30)))
    return int(str(run.report["targets"])) / run.seconds


@dataclass(frozen=True, slots=True)
class Pacing:
    """How exactly a rollout kept its plan: `sent_at` minus `planned_at` in seconds, and sends at the phones."""

    p50: float
    p99: float
    busiest_second: int
    """The most requests that the phones heard within any one second."""


def pacing(rate: int, seconds: float) -> Pacing:
    """Send at a rate for some seconds and compare with the plan."""
    with tempfile.TemporaryDirectory(prefix="resyncctl-bench-") as folder:
        heard = Path(folder) / "heard.log"
        with RedisServer() as redis, running_responder(log=heard) as responder:
            phones = write_phones(Path(folder) / "phones.csv", int(rate * seconds), responder.port)
            run = rollout(redis, phones, "--now", "--rate", str(rate))
            lags = sorted(_lags(redis, str(run.report["rollout"])))
            responder.stop()
        times = sorted(at for at, _ in read_log(heard))
    busiest = start = 0
    for end, at in enumerate(times):
        while at - times[start] >= 1_000_000:
            start += 1
        busiest = max(busiest, end - start + 1)
    return Pacing(statistics.median(lags), lags[int(len(lags) * 0.99)], busiest)


def _lags(redis: RedisServer, name: str) -> Iterator[float]:
    done = subprocess.run(
        [*COMMAND, "--redis-url", redis.url, "rollout", "results", name, "--format", "csv"],
        check=True,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    for row in csv.DictReader(done.stdout.splitlines()):
        sent, planned = (datetime.fromisoformat(row[name]) for name in ("sent_at", "planned_at"))
        yield (sent - planned).total_seconds()


def million(count: int = 1_000_000) -> tuple[Run, float]:
    """Plan and run a million phones; returns the run and the bytes of Redis a phone."""
    with bench(count) as (redis, phones, _):
        before = _used(redis)
        run = rollout(redis, phones, "--now", "--rate", "0")
        return run, (_used(redis) - before) / count


def _used(redis: RedisServer) -> int:
    import redis as client  # noqa: PLC0415

    with client.Redis.from_url(redis.url) as connection:
        return int(connection.info("memory")["used_memory"])


def help_seconds(runs: int = 5) -> float:
    """Return how long `resyncctl --help` takes, the median of some runs."""
    times = []
    for _ in range(runs):
        began = time.monotonic()
        subprocess.run([*COMMAND, "--help"], check=True, capture_output=True, timeout=30)
        times.append(time.monotonic() - began)
    return statistics.median(times)


def pause_seconds() -> float:
    """Pause a rollout at 1,000/s from another process; returns how long after the command the last NOTIFY was heard."""
    with tempfile.TemporaryDirectory(prefix="resyncctl-bench-") as folder:
        heard = Path(folder) / "heard.log"
        with RedisServer() as redis, running_responder(log=heard) as responder:
            phones = write_phones(Path(folder) / "phones.csv", 20_000, responder.port)
            running = subprocess.Popen(
                [
                    *COMMAND,
                    "--redis-url",
                    redis.url,
                    "run",
                    str(phones),
                    "--now",
                    "--rate",
                    "1000",
                    "--yes",
                    "--id",
                    "bench",
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                _until_running(redis)
                time.sleep(2)
                pause = [*COMMAND, "--redis-url", redis.url, "rollout", "pause", "bench"]
                subprocess.run(pause, check=True, capture_output=True, timeout=30)
                returned = time.time()
                time.sleep(2)
            finally:
                running.terminate()
                running.wait(timeout=60)
            responder.stop()
        return max(at for at, _ in read_log(heard)) / 1_000_000 - returned


def _until_running(redis: RedisServer) -> None:
    show = [*COMMAND, "--json", "--redis-url", redis.url, "rollout", "show", "bench"]
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        done = subprocess.run(show, check=False, capture_output=True, text=True, timeout=30)
        if re.search(r'"state": "running"', done.stdout):
            return
    raise AssertionError("the rollout did not start")


def cpu_seconds() -> float:
    """Return the CPU seconds of all processes waited for so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)
