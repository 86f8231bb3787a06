"""How late the scheduler is: 1,000 schedules on a real redis-server, fifty of them at each of twenty seconds, real rollouts."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from typing import Final

from resyncctl.cli.state import run_async
from resyncctl.clock import from_us, now_us
from resyncctl.engine.calendar import When
from resyncctl.engine.launch import Launcher
from resyncctl.engine.scheduler import Scheduler
from resyncctl.logs import make_logger
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


async def _lags(url: str) -> list[float]:
    """Fire every schedule once; return the seconds from each fire time to its launch."""
    store = RedisStore(url)
    schedules = ScheduleStore(store)
    scheduler = Scheduler(store, Launcher(store, {}), make_logger("error"), token="bench")
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
    made = {record.id for record in await store.newest(2 * SCHEDULES)}
    await store.close()
    assert len(made) == SCHEDULES, f"{len(made)} rollouts were made of {SCHEDULES} fire times"
    return list(scheduler.lags)


def measure() -> float:
    """Return the 99th percentile of the seconds from a fire time to its launch."""
    with RedisServer() as server:
        lags = sorted(run_async(lambda: _lags(server.url)))
    return lags[len(lags) * 99 // 100]


if __name__ == "__main__":
    sys.stdout.write(f"scheduler lag, p99 of {SCHEDULES}: {measure() * 1000:.1f} ms\n")
