"""A process that works on the queue of batches, and writes a line for each start and end of a batch into a journal.

What a batch does is said by its rollout: `sleep:SECONDS`, `fail` (raise an exception) or `refuse` (hand it back) each time,
`refuse-once`. SIGTERM stops it as it stops a worker.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from resyncctl.logs import make_logger
from resyncctl.store.queue import BatchRef
from resyncctl.store.queue_broker import BatchBroker
from resyncctl.store.queue_redis import BatchQueue
from tests.peers.process import REPOSITORY, ServerProcess
from tests.peers.redis_sentinel import SERVICE

if TYPE_CHECKING:
    from redis.asyncio import ConnectionPool

READY_WITHIN = 30.0


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the journal: who did what with which batch, and when (monotonic seconds)."""

    pid: int
    event: str
    rollout: str
    batch: int
    at: float


class Journal:
    """A file that several processes append to, a line at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def write(self, event: str, rollout: str = "-", batch: int = -1) -> None:
        """Append a line."""
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(file, f"{os.getpid()} {event} {rollout} {batch} {time.monotonic()}\n".encode())
        finally:
            os.close(file)

    def entries(self, event: str, *, pid: int | None = None) -> list[Entry]:
        """Return the lines of an event, of one process or all, in order."""
        lines = [line.split() for line in self.path.read_text().splitlines()]
        entries = [Entry(int(line[0]), line[1], line[2], int(line[3]), float(line[4])) for line in lines]
        return [entry for entry in entries if entry.event == event and pid in {None, entry.pid}]

    def batches(self, event: str) -> list[int]:
        """Return the batches of an event, sorted, each as often as it occurs."""
        return sorted(entry.batch for entry in self.entries(event))


def sentinel_pool(host: str, port: int) -> ConnectionPool:
    """Return connections to the primary of the moment."""
    sentinel = Sentinel([(host, port)], sentinel_kwargs={"socket_timeout": 1.0})  # type: ignore[no-untyped-call]
    client = sentinel.master_for(SERVICE, socket_timeout=3.0, socket_connect_timeout=1.0, retry=Retry(NoBackoff(), 0))
    pool: ConnectionPool = client.connection_pool
    return pool


class QueueWorker(ServerProcess):
    """This file as a process. `where` is a URL or `sentinel:HOST:PORT`."""

    def __init__(
        self, where: str, journal: Journal, *, lease: float = 2.0, concurrency: int = 4, pools: Sequence[str] = ("",)
    ) -> None:
        super().__init__("queue-worker")
        self.journal = journal
        self._arguments = [where, str(journal.path), str(lease), str(concurrency), *pools]

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.store.queue_worker", *self._arguments]

    def environment(self) -> Mapping[str, str]:
        return {"PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "default", "PYTHONASYNCIODEBUG": ""}

    def launch(self) -> None:
        """Start it without waiting."""
        self._launch(self.command())

    def wait_until_ready(self) -> None:
        """Block until it asks for batches."""
        self.wait_until(lambda: bool(self.journal.entries("ready", pid=self.pid)), "getting ready", within=READY_WITHIN)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.end(gently=False)

    def terminate(self, *, within: float = 10.0) -> int:
        """End it with SIGTERM and return its exit status."""
        self.send_signal(signal.SIGTERM)
        return self.exit_status(within=within)

    def exit_status(self, *, within: float = 10.0) -> int:
        """Wait for its end and return its exit status."""
        assert self._process is not None
        return self._process.wait(within)


async def handle(ref: BatchRef, journal: Journal, seen: set[BatchRef]) -> bool:
    """Do what the batch says."""
    journal.write("start", ref.rollout, ref.batch)
    action, _, argument = ref.rollout.partition(":")
    if action == "fail":
        raise RuntimeError("as the batch says")
    if action == "refuse" or (action == "refuse-once" and ref not in seen):
        seen.add(ref)
        return False
    await asyncio.sleep(float(argument or 0))
    journal.write("done", ref.rollout, ref.batch)
    return True


async def work(where: str, journal: Journal, *, lease: float, concurrency: int, pools: Sequence[str]) -> None:
    """Work until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    kind, _, address = where.partition(":")
    host, _, port = address.partition(":")
    target = sentinel_pool(host, int(port)) if kind == "sentinel" else where
    broker = BatchBroker(target, pools=pools, consumer=f"worker-{os.getpid()}", log=make_logger(), lease=lease)

    async def poisoned(ref: BatchRef) -> None:
        journal.write("poison", ref.rollout, ref.batch)

    queue = BatchQueue(broker, on_poison=poisoned)
    seen: set[BatchRef] = set()
    await queue.start()
    journal.write("ready")
    await queue.work(lambda ref: handle(ref, journal, seen), concurrency=concurrency, stop=stop)
    await queue.stop()


def main() -> None:
    """Read the command line: WHERE JOURNAL LEASE CONCURRENCY POOL…"""
    parser = argparse.ArgumentParser()
    parser.add_argument("where")
    parser.add_argument("journal", type=Path)
    parser.add_argument("lease", type=float)
    parser.add_argument("concurrency", type=int)
    parser.add_argument("pools", nargs="+")
    given = parser.parse_args()
    asyncio.run(
        work(given.where, Journal(given.journal), lease=given.lease, concurrency=given.concurrency, pools=given.pools)
    )


if __name__ == "__main__":
    main()
