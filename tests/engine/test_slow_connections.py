"""A connection that takes its time: nothing is lost by it, nothing is sent twice, and the rate is kept all the same."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import cast

import pytest

from resyncctl.engine.app import store_plan
from resyncctl.engine.dispatcher import Left
from resyncctl.engine.planning import Planner
from resyncctl.engine.results import Row, results
from resyncctl.inventory.phone import parse_phone
from resyncctl.rollout.model import Action, Options, RolloutId
from resyncctl.sip.framing import Framer
from resyncctl.sip.message import Request, parse
from resyncctl.sip.uas import Address, reply
from resyncctl.store.redis_store import RedisStore
from resyncctl.transport.memory import MemoryConnection, MemoryNetwork, Weather
from resyncctl.vendors import Catalogue
from tests.engine import accelerated
from tests.engine.accelerated import MemoryPhone
from tests.peers.redis_server import RedisServer

pytestmark = pytest.mark.needs("redis-server")

PROXY: Address = ("127.0.0.1", 5060)
RATE = 20
SLACK = 2
"""Sends by which a second on an accelerated clock may be miscounted."""


class Proxy:
    """Answers 200 over any connection, and keeps when each NOTIFY came for whom; resets the connection after `dies_after`."""

    def __init__(self, network: MemoryNetwork, *, dies_after: int = 0) -> None:
        self.heard: list[tuple[float, str]] = []
        self.connections = 0
        self._dies_after = dies_after
        network.listen(PROXY, self._connected)

    def _connected(self) -> asyncio.Protocol:
        self.connections += 1
        return _Side(self)

    def take(self, request: Request, connection: MemoryConnection) -> None:
        self.heard.append((asyncio.get_running_loop().time(), request.uri))
        if len(self.heard) == self._dies_after:
            connection.abort()
        else:
            connection.write(bytes(reply(request, 200, source=("127.0.0.1", 1))))

    @property
    def busiest_second(self) -> int:
        times = [at for at, _ in self.heard]
        return max(sum(1 for at in times if start <= at < start + 1) for start in times)


class _Side(asyncio.Protocol):
    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._framer = Framer()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connection = cast("MemoryConnection", transport)

    def data_received(self, data: bytes) -> None:
        for message in self._framer.feed(data):
            request = parse(message)
            if isinstance(request, Request):
                self._proxy.take(request, self._connection)


def rollout(
    redis: RedisServer, name: str, *, phones: int, delay: float, action: Action = Action.RESYNC, dies_after: int = 0
) -> tuple[Proxy, list[Row]]:
    """Send to phones behind a proxy over TCP; `delay` is what a connection takes, and each way of a message."""

    async def story() -> tuple[Proxy, list[Row]]:
        store = RedisStore(redis.url)
        network = accelerated.network(1)
        network.weather = Weather(delay=delay)
        proxy = Proxy(network, dies_after=dies_after)
        options = Options(
            action=action,
            batch_interval=0,
            random_delay=0,
            rate=RATE,
            attempts=3 if action is Action.RESYNC else 1,
            outbound_proxy=f"sip:{PROXY[0]}:{PROXY[1]};transport=tcp",
        )
        planner = Planner(options, Catalogue.load())
        for number in range(phones):
            planner.add(parse_phone({"contact": f"sip:u{number}@192.0.2.1"}))
        record = await store_plan(store, RolloutId(name), planner.make(name=name))
        assert await accelerated.execute(record, store, network) is Left.ENDED
        outcomes = [outcome async for _, _, outcome in results(store, await store.get(record.id))]
        await store.close()
        return proxy, outcomes

    return accelerated.run(story())


def test_what_waited_for_a_slow_connection_does_not_leave_in_a_burst(shared_redis: RedisServer) -> None:
    proxy, outcomes = rollout(shared_redis, "slow", phones=100, delay=2.0)
    assert Counter(outcome.state for outcome in outcomes) == {"accepted": 100}
    assert {outcome.attempts for outcome in outcomes} == {1}
    assert max(Counter(uri for _, uri in proxy.heard).values()) == 1
    assert proxy.connections == 1
    assert proxy.busiest_second <= RATE + SLACK


@pytest.mark.parametrize("action", [Action.RESYNC, Action.REBOOT])
def test_a_connection_that_dies_under_way_loses_no_phone_and_reboots_none_twice(
    shared_redis: RedisServer, action: Action
) -> None:
    proxy, outcomes = rollout(shared_redis, f"dies-{action}", phones=80, delay=0.5, action=action, dies_after=30)
    assert len(outcomes) == 80
    assert proxy.connections >= 2
    assert proxy.busiest_second <= RATE + SLACK
    times = Counter(uri for _, uri in proxy.heard)
    states = Counter(outcome.state for outcome in outcomes)
    if action is Action.REBOOT:
        assert max(times.values()) == 1
        assert states["accepted"] + states["unreachable"] == 80
        assert states["unreachable"] <= RATE * 2
    else:
        assert states == {"accepted": 80}


def test_large_requests_to_a_phone_without_tcp_go_over_udp_at_the_rate(shared_redis: RedisServer) -> None:
    """Over 1300 bytes TCP is tried (RFC 3261 18.1.1); what waited for its refusal does not leave in a burst."""

    async def story() -> tuple[list[float], set[bytes], list[str]]:
        store = RedisStore(shared_redis.url)
        network = accelerated.network(2)
        phone = MemoryPhone(network, 5060)
        network.weather = Weather(delay=2.0)
        options = Options(batch_interval=0, random_delay=0, rate=RATE, identity=f"sip:{'x' * 1200}@pbx.example.com")
        planner = Planner(options, Catalogue.load())
        for number in range(100):
            planner.add(parse_phone({"contact": f"sip:u{number}@{phone.address[0]}:{phone.address[1]}"}))
        record = await store_plan(store, RolloutId("large"), planner.make(name="large"))
        assert await accelerated.execute(record, store, network) is Left.ENDED
        states = [row.state async for _, _, row in results(store, await store.get(record.id))]
        await store.close()
        first = {data.partition(b";branch=")[2].partition(b";")[0]: at for at, data in reversed(phone.received)}
        return sorted(first.values()), {data.split(b" ")[1] for _, data in phone.received}, states

    times, uris, states = accelerated.run(story())
    assert states == ["accepted"] * 100
    assert len(times) == len(uris) == 100
    assert max(sum(1 for at in times if start <= at < start + 1) for start in times) <= RATE + SLACK
