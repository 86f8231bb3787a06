"""What sharing a rollout costs: CPU of a NOTIFY with some workers, each a process of its own on one redis-server."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from resyncctl.engine.launch import Launcher
from resyncctl.engine.order import Order
from resyncctl.rollout.model import RolloutId
from resyncctl.store.audit import Actor
from resyncctl.store.redis_store import RedisStore
from resyncctl.store.service import ServiceStore
from tests.bench.product import COMMAND, LIMIT, bench

_TICKS: Final = os.sysconf("SC_CLK_TCK")


def cpu_of_a_notify(workers: int, *, count: int = 200_000) -> float:
    """Return the CPU microseconds that the workers together spend on one NOTIFY of a rollout without a rate."""
    with bench(count) as (redis, phones, _), _running(workers, redis.url) as processes:
        asyncio.run(_until_announced(redis.url, workers))
        before = sum(map(_cpu, processes))
        asyncio.run(_rollout(redis.url, phones))
        return (sum(map(_cpu, processes)) - before) / count * 1_000_000


@contextmanager
def _running(workers: int, url: str) -> Iterator[list[int]]:
    with ExitStack() as stack:
        pids = []
        for _ in range(workers):
            command = [*COMMAND, "--redis-url", url, "worker"]
            process = stack.enter_context(subprocess.Popen(command, stderr=subprocess.DEVNULL))
            stack.callback(process.wait, 10)
            stack.callback(process.terminate)
            pids.append(process.pid)
        yield pids


def _cpu(pid: int) -> float:
    """Return the CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


async def _until_announced(url: str, workers: int) -> None:
    store = RedisStore(url)
    deadline = time.monotonic() + 30
    while len(await ServiceStore(store).workers()) < workers:
        if time.monotonic() > deadline:
            raise AssertionError("the workers did not start")
        await asyncio.sleep(0.1)
    await store.close()


async def _rollout(url: str, phones: Path) -> None:
    store = RedisStore(url)
    options = {"now": True, "rate": 0, "yes": True, "seed": random.getrandbits(30), "batch_size": 500}
    order = Order.model_validate({"phones_file": str(phones), "options": options})
    name = RolloutId(f"bench-{random.getrandbits(30)}")
    await Launcher(store, {}).launch(order, Actor("bench"), name=name)
    deadline = time.monotonic() + LIMIT
    while not (record := await store.get(name)).finished_us:
        if time.monotonic() > deadline:
            raise AssertionError("the rollout did not end")
        await asyncio.sleep(0.2)
    counts = record.report["counts"]
    assert counts == {"accepted": record.targets}, counts
    await store.close()


def main(arguments: Sequence[str]) -> None:
    """Print the CPU of a NOTIFY with each number of workers."""
    for number in arguments or ("1", "4"):
        sys.stdout.write(f"{number} workers: {cpu_of_a_notify(int(number)):.1f} us of CPU a NOTIFY\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
