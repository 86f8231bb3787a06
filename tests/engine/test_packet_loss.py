"""A network that loses a fifth of all datagrams, either way: every phone is reached, by the retransmissions of RFC 3261."""

from __future__ import annotations

from itertools import pairwise

import pytest

from resyncctl.engine.dispatcher import Left
from resyncctl.engine.results import results
from resyncctl.rollout.model import Action, Options, TargetState
from resyncctl.store.redis_store import RedisStore
from resyncctl.transport.memory import Weather
from tests.engine import accelerated
from tests.engine.accelerated import MemoryPhone
from tests.peers.redis_server import RedisServer

pytestmark = pytest.mark.needs("redis-server")

SCHEDULE = (0.5, 1.0, 2.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0)
"""Timer E: from one datagram of a transaction to the next (RFC 3261 17.1.2.2)."""
PRECISION = 0.25
"""Seconds of accelerated time that a timer may be late: 30 ms of ours."""


def test_every_phone_accepts_in_spite_of_a_fifth_of_all_datagrams_lost(shared_redis: RedisServer) -> None:
    async def story() -> tuple[Left, list[TargetState], list[MemoryPhone]]:
        store = RedisStore(shared_redis.url)
        network = accelerated.network(7)
        phones = [MemoryPhone(network, 10_000 + index) for index in range(300)]
        network.weather = Weather(loss=0.2, delay=0.01, jitter=0.02)
        options = Options(action=Action.REBOOT, batch_interval=0, random_delay=0, attempts=1, rate=60)
        record = await accelerated.planned(store, "lossy", options, phones)
        left = await accelerated.execute(record, store, network)
        states = [state async for _, state, _ in results(store, await store.get(record.id))]
        await store.close()
        return left, states, phones

    left, states, phones = accelerated.run(story())
    assert left is Left.ENDED
    assert states == [TargetState.ACCEPTED] * 300
    assert {len(set(phone.branches)) for phone in phones} == {1}
    assert sum(len(phone.received) for phone in phones) > 300 * 1.1


def test_retransmissions_follow_timer_e_until_timer_f(shared_redis: RedisServer) -> None:
    async def story() -> tuple[list[MemoryPhone], MemoryPhone]:
        store = RedisStore(shared_redis.url)
        network = accelerated.network(8)
        phones = [MemoryPhone(network, 10_000 + index, hears=lambda heard: heard == 4) for index in range(20)]
        silent = MemoryPhone(network, 20_000, hears=lambda _: False)
        options = Options(batch_interval=0, random_delay=0, attempts=1)
        record = await accelerated.planned(store, "timers", options, [*phones, silent])
        await accelerated.execute(record, store, network)
        await store.close()
        return phones, silent

    phones, silent = accelerated.run(story())
    for phone in phones:
        assert gaps(phone) == pytest.approx(SCHEDULE[:3], abs=PRECISION)
    assert gaps(silent) == pytest.approx(SCHEDULE[: len(silent.received) - 1], abs=PRECISION)
    assert len(silent.received) in {10, 11}  # 31.5 s after the first the last one may or may not come before Timer F


def gaps(phone: MemoryPhone) -> list[float]:
    return [later - earlier for (earlier, _), (later, _) in pairwise(phone.received)]
