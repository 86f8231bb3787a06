"""An endpoint on a network in memory, in a world whose time jumps."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import dataclass, field

from resyncctl.sip.digest import Credentials
from resyncctl.sip.hop import Transport
from resyncctl.sip.transaction import Timers
from resyncctl.sip.uac import Ending, Result
from resyncctl.sip.uas import Address
from resyncctl.transport.endpoint import Endpoint
from resyncctl.transport.flow import FlowLimits
from resyncctl.transport.memory import MemoryNetwork, Weather
from tests import virtual_time
from tests.transport.phones import prepare
from tests.transport.stream_peer import Call

TCP = Transport.TCP
PHONE, OTHER, NOBODY = ("10.0.0.2", 5060), ("10.0.0.3", 5060), ("10.0.0.9", 5060)
LONELY = FlowLimits(idle=10_000.0)
"""Connections that are not closed for want of use."""


@dataclass
class World:
    """An endpoint on a network in memory, and what became of its requests."""

    network: MemoryNetwork
    endpoint: Endpoint
    results: list[Result] = field(default_factory=list)

    def send(
        self,
        key: object,
        address: Address = PHONE,
        *,
        body: bytes = b"",
        over: Transport = TCP,
        credentials: Credentials | None = None,
        name: str = "",
    ) -> None:
        self.endpoint.send(Call(address, body, credentials, over, name), key)

    @property
    def endings(self) -> dict[object, Ending]:
        """How each request has ended; one that has two results is an error."""
        assert len({result.key for result in self.results}) == len(self.results)
        return {result.key: result.ending for result in self.results}


def world(
    *, limits: FlowLimits = LONELY, weather: Weather | None = None, timers: Timers | None = None, seed: int = 1
) -> World:
    network, results = MemoryNetwork(rng=random.Random(seed), weather=weather), list[Result]()
    endpoint = Endpoint(
        network,
        timers=timers or Timers(),
        on_result=results.append,
        prepare=prepare,
        limits=limits,
        clock=asyncio.get_running_loop().time,
    )
    return World(network, endpoint, results)


def play(story: Coroutine[object, object, None]) -> None:
    virtual_time.run(story)
