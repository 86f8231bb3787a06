"""A worker that cannot send as a rollout wants: its SIP engine is not installed there, its certificate is gone."""

from __future__ import annotations

import asyncio
import random

import pytest

from resyncctl.engine.alone import execute_alone
from resyncctl.engine.sender import Sender
from resyncctl.errors import TransportError
from resyncctl.logs import make_logger
from resyncctl.rollout.model import Options
from resyncctl.rollout.states import RolloutState
from resyncctl.store.records import RolloutRecord
from resyncctl.store.redis_store import RedisStore
from resyncctl.transport.memory import MemoryNetwork
from tests.engine.accelerated import MemoryPhone, planned
from tests.peers.redis_server import RedisServer

pytestmark = pytest.mark.needs("redis-server")


async def test_the_rollout_is_paused_with_that_reason_and_its_batches_are_not_offered_for_ever(
    shared_redis: RedisServer,
) -> None:
    store = RedisStore(shared_redis.url)
    phones = [MemoryPhone(MemoryNetwork(rng=random.Random(1)), 5060)]
    record = await planned(store, "unusable", Options(batch_interval=0, random_delay=0), phones)
    tries: list[str] = []

    def make(_: RolloutRecord, worker: str) -> Sender:
        tries.append(worker)
        raise TransportError("--engine pjsua2 needs the PJSIP wheel")

    assert await store.acquire(record.id, "me") is None
    running = asyncio.create_task(
        execute_alone(record, "me", store, make, make_logger("critical"), leaving=asyncio.Event())
    )
    now = record
    for _ in range(200):
        now = await store.get(record.id)
        if now.state is RolloutState.PAUSED:
            break
        await asyncio.sleep(0.05)
    assert (now.state, now.pause_reason) == (RolloutState.PAUSED, "machine")
    await asyncio.sleep(1)
    assert len(tries) <= 2
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await store.close()
