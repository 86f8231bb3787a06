"""An event loop that lives SPEED times as fast as we do, with real sockets: minutes of SIP timers beside a real Redis."""

from __future__ import annotations

import asyncio
import random
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from resyncctl.engine.alone import execute_alone
from resyncctl.engine.app import store_plan
from resyncctl.engine.dispatcher import Left
from resyncctl.engine.planning import Planner
from resyncctl.engine.sender import Sender, Surroundings
from resyncctl.inventory.phone import parse_phone
from resyncctl.logs import make_logger
from resyncctl.rollout.model import Options, RolloutId
from resyncctl.sip.uas import Address
from resyncctl.store.records import RolloutRecord
from resyncctl.store.redis_store import RedisStore
from resyncctl.transport.endpoint import Endpoint
from resyncctl.transport.link import Link
from resyncctl.transport.memory import MemoryNetwork
from resyncctl.transport.resolver import Resolver
from resyncctl.vendors import Catalogue

T = TypeVar("T")
SPEED: Final = 8.0
HOST: Final = "127.0.0.1"


class _ShortSelector(selectors.SelectSelector):
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(None if timeout is None else timeout / SPEED)


class AcceleratedLoop(asyncio.SelectorEventLoop):
    """`time()` runs SPEED times as fast as the monotonic clock."""

    def __init__(self) -> None:
        self._origin = time.monotonic()
        super().__init__(_ShortSelector())

    def time(self) -> float:
        return self._origin + (time.monotonic() - self._origin) * SPEED


def run(story: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in accelerated time."""
    with asyncio.Runner(loop_factory=AcceleratedLoop) as runner:
        return runner.run(story)


class MemoryPhone:
    """A phone on a MemoryNetwork that answers 200 to what `hears` lets through, and keeps when each datagram came."""

    def __init__(self, network: MemoryNetwork, port: int, *, hears: Callable[[int], bool] = lambda _: True) -> None:
        self.address: Address = (HOST, port)
        self.received: list[tuple[float, bytes]] = []
        self._hears = hears
        self._link: Link = network.open(self.address, self)

    def datagram_received(self, data: bytes, source: Address) -> None:
        self.received.append((asyncio.get_running_loop().time(), data))
        if not self._hears(len(self.received)):
            return
        lines = data.decode().split("\r\n")
        kept = [line for line in lines if line.startswith(("Via:", "From:", "Call-ID:", "CSeq:", "To:"))]
        self._link.send("\r\n".join(["SIP/2.0 200 OK", *kept, "Content-Length: 0", "", ""]).encode(), source)

    def delivery_failed(self, *_: object) -> None:
        """Nobody listens any more."""

    @property
    def branches(self) -> list[str]:
        return [data.decode().partition(";branch=")[2].partition(";")[0] for _, data in self.received]


async def planned(store: RedisStore, name: str, options: Options, phones: list[MemoryPhone]) -> RolloutRecord:
    """Plan a rollout for phones and store it."""
    planner = Planner(options, Catalogue.load())
    for phone in phones:
        planner.add(parse_phone({"contact": f"sip:u{phone.address[1]}@{HOST}:{phone.address[1]}"}))
    return await store_plan(store, RolloutId(name), planner.make(name=name))


def surroundings(store: RedisStore, network: MemoryNetwork) -> Surroundings:
    """Return what a Sender works with, on the loop's own clock."""
    clock = asyncio.get_running_loop().time
    return Surroundings(
        store=store,
        agent=lambda timers, on_result, prepare: Endpoint(
            network, timers=timers, on_result=on_result, prepare=prepare, clock=clock
        ),
        resolver=Resolver(),
        log=make_logger("error"),
        user_agent="test",
        clock=clock,
    )


async def execute(record: RolloutRecord, store: RedisStore, network: MemoryNetwork) -> Left:
    """Execute a rollout on the loop's own clock."""
    around = surroundings(store, network)
    assert await store.acquire(record.id, "me") is None
    return await execute_alone(
        record,
        "me",
        store,
        lambda known, worker: Sender(known, worker, around),
        around.log,
        leaving=asyncio.Event(),
        clock=around.clock,
    )


def network(seed: int) -> MemoryNetwork:
    """Return a network with a generator of its own."""
    return MemoryNetwork(rng=random.Random(seed))
