"""How late the scheduler is: 1,000 schedules on a real redis-server, fifty of them at each of twenty seconds."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from resyncctl.cli.state import run_async
from resyncctl.clock import from_us, now_us
from resyncctl.engine.calendar import When
from resyncctl.engine.launch import Launched, Launcher
from resyncctl.engine.order import Order, read_order
from resyncctl.engine.scheduler import Launches, Scheduler
from resyncctl.logs import make_logger
from resyncctl.store.audit import Actor
from resyncctl.store.redis_store import RedisStore
from resyncctl.store.schedules import ScheduleRecord, ScheduleStore
from tests.peers.redis_server import RedisServer

SCHEDULES: Final = 1000
SPREAD: Final = 20
"""Seconds over which the fire times lie."""
LEAD: Final = 3
"""Seconds until the first of them."""
LIMIT: Final = 60.0
"""Seconds after which the run is given up."""
PHONES: Final = {"phones": [{"aor": "sip:1@pbx.invalid", "contact": "sip:1@127.0.0.1:9", "vendor": "yealink"}]}
Make = Callable[[RedisStore], Launches]


class Answering:
    """A launcher that has one rollout, made beforehand, for whoever asks."""

    def __init__(self, store: RedisStore) -> None:
        self._launcher = Launcher(store, {})
        self._made: Launched | None = None

    async def launch(self, order: Order, actor: Actor, *, name: str = "") -> Launched:
        """Return the rollout."""
        if self._made is None:
            self._made = await self._launcher.launch(order, actor, name=name)
        return self._made


async def _lags(url: str, make: Make) -> list[float]:
    """Fire every schedule once; return the seconds from each fire time to its launch."""
    store = RedisStore(url)
    schedules = ScheduleStore(store)
    launcher = make(store)
    await launcher.launch(read_order(PHONES), Actor("bench"), name="first")
    scheduler = Scheduler(store, launcher, make_logger("error"), token="bench")
    now = now_us()
    first = from_us(now).replace(microsecond=0) + timedelta(seconds=LEAD)
    for number in range(SCHEDULES):
        when = When(at=first + timedelta(seconds=number % SPREAD))
        await schedules.add(
            ScheduleRecord(name=f"s{number}", when=when.to_dict(), order=PHONES, created_us=now, decided_us=now)
        )
    all_fired = asyncio.Event()
    scheduler.on_fire = lambda _: all_fired.set() if len(scheduler.lags) == SCHEDULES else None
    running = asyncio.create_task(scheduler.run())
    async with asyncio.timeout(LIMIT):
        await all_fired.wait()
    scheduler.stop()
    await running
    fired = [record for record in await schedules.list() if record.last_fire_us]
    await store.close()
    assert len(fired) == SCHEDULES, f"{len(fired)} of {SCHEDULES} schedules have fired"
    return list(scheduler.lags)


def measure(make: Make = Answering) -> float:
    """Return the 99th percentile of the seconds from a fire time to its launch. `Launcher` makes fifty rollouts a second."""
    with RedisServer() as server:
        lags = sorted(run_async(lambda: _lags(server.url, make)))
    return lags[len(lags) * 99 // 100]


if __name__ == "__main__":
    sys.stdout.write(f"scheduler lag, p99 of {SCHEDULES}: {measure() * 1000:.1f} ms\n")
    with_rollouts = measure(lambda store: Launcher(store, {}))
    sys.stdout.write(f"  with fifty rollouts planned and stored in each second: {with_rollouts * 1000:.1f} ms\n")
