"""The endpoint on real loopback sockets, against a phone on a socket of asyncio's own."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator

import pytest

from resyncctl.clock import monotonic
from resyncctl.sip.transaction import Timers
from resyncctl.sip.uac import Ending, Result
from resyncctl.sip.uas import Address
from resyncctl.transport.endpoint import Endpoint
from resyncctl.transport.ip import IpNetwork
from tests.transport.phones import PATIENCE, Notify, echo_phone, prepare


class Results:
    """Waits for results."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Result] = asyncio.Queue()

    async def next(self) -> Result:
        async with asyncio.timeout(PATIENCE):
            return await self.queue.get()


@pytest.fixture
def results() -> Results:
    return Results()


@pytest.fixture
async def endpoint(results: Results) -> AsyncIterator[Endpoint]:
    one = Endpoint(IpNetwork(), timers=Timers(), on_result=results.queue.put_nowait, prepare=prepare)
    yield one
    one.close()


def closed_port() -> Address:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        return "127.0.0.1", int(taken.getsockname()[1])


@pytest.mark.parametrize("status", [200, 202, 404, 486, 503])
async def test_a_phone_answers(endpoint: Endpoint, results: Results, status: int) -> None:
    async with echo_phone(status=status) as address:
        before = monotonic()
        sent_at = endpoint.send(Notify(address), "phone")
        result = await results.next()
    assert (result.key, result.ending, result.status) == ("phone", Ending.ANSWERED, status)
    assert before <= sent_at == result.sent_at <= result.ended_at <= monotonic()
    assert endpoint.core.strays == 0


async def test_a_thousand_requests_fifty_at_a_time_are_each_answered_once(endpoint: Endpoint, results: Results) -> None:
    answered = []
    async with echo_phone() as address:
        for first in range(0, 1000, 50):
            for number in range(first, first + 50):
                endpoint.send(Notify(address), number)
            answered += [(await results.next()).key for _ in range(50)]
    assert sorted(answered, key=str) == sorted(range(1000), key=str)
    assert endpoint.core.in_flight == 0


async def test_a_closed_port_ends_exactly_the_requests_to_it_and_quickly(endpoint: Endpoint, results: Results) -> None:
    async with echo_phone() as address:
        order = [*(closed_port() for _ in range(5)), *[address] * 20]
        random.Random(1).shuffle(order)
        before = monotonic()
        for number, destination in enumerate(order):
            endpoint.send(Notify(destination), (number, destination))
        ended = [await results.next() for _ in order]
        assert monotonic() - before < 0.4  # before the first retransmission
    expected = {
        (number, destination): Ending.ANSWERED if destination == address else Ending.REFUSED
        for number, destination in enumerate(order)
    }
    assert {result.key: result.ending for result in ended} == expected
    assert endpoint.core.retransmissions == 0


async def test_a_datagram_that_the_system_refuses_is_an_outcome(endpoint: Endpoint, results: Results) -> None:
    async with echo_phone() as address:
        endpoint.send(Notify(address, body=b"x" * 70_000), "too large")
        endpoint.send(Notify(address), "fine")
        ended = {result.key: result for result in (await results.next(), await results.next())}
    assert ended["too large"].ending is Ending.NOT_SENT
    assert ended["too large"].detail == "cannot send: Message too long"
    assert ended["fine"].ending is Ending.ANSWERED


async def test_both_ip_versions_are_served_at_once(endpoint: Endpoint, results: Results, ipv6: str) -> None:
    async with echo_phone() as four, echo_phone(ipv6) as six:
        endpoint.send(Notify(four), "four")
        endpoint.send(Notify(six), "six")
        assert {(await results.next()).key, (await results.next()).key} == {"four", "six"}


async def test_a_closed_endpoint_tells_no_results(results: Results) -> None:
    endpoint = Endpoint(IpNetwork(), timers=Timers(), on_result=results.queue.put_nowait, prepare=prepare)
    async with echo_phone() as address:
        endpoint.send(Notify(address), 1)
        endpoint.close()
        endpoint.close()
        await asyncio.sleep(0.02)
    assert results.queue.empty()


async def test_without_a_local_address_the_socket_reaches_phones_behind_every_interface() -> None:
    """Bound to the first phone's way out (here loopback), a socket could not send to any other network."""
    link = IpNetwork().open_towards(("127.0.0.1", 9), 0, _Nobody())
    try:
        assert link.local[0] == "127.0.0.1"
        bound = link._socket.getsockname()  # type: ignore[attr-defined]
        assert bound == ("0.0.0.0", link.local[1])
    finally:
        link.close()


class _Nobody:
    def datagram_received(self, data: bytes, source: Address) -> None: ...
    def delivery_failed(self, quoted: bytes, destination: Address, ending: Ending, detail: str) -> None: ...
