"""The loop that drives the SIP core, over a network in memory with time moved by hand."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from resyncctl.errors import TransportError
from resyncctl.sip.hop import Transport
from resyncctl.sip.transaction import Timers
from resyncctl.sip.uac import Ending, Result
from resyncctl.sip.uas import Address
from resyncctl.transport.endpoint import ANY, Endpoint, RandomTokens
from resyncctl.transport.memory import MemoryNetwork, Weather
from tests import virtual_time
from tests.transport.phones import Mailbox, Notify, Phone, prepare

PHONE = ("10.0.0.2", 5060)
TIMER_E = [0.0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
"""When a request without an answer is sent: RFC 3261 17.1.2.2 with T1 0.5 s and T2 4 s, until Timer F at 32 s."""


def tokens() -> Callable[[], str]:
    numbers: Iterator[int] = count(1)
    return lambda: f"token{next(numbers)}"


def endpoint_on(
    network: MemoryNetwork, results: list[Result], *, local: Address = ANY, timers: Timers | None = None
) -> Endpoint:
    return Endpoint(
        network,
        local=local,
        timers=timers or Timers(),
        on_result=results.append,
        prepare=prepare,
        new_token=tokens(),
        clock=asyncio.get_running_loop().time,
    )


def network_of(weather: Weather | None = None, *, seed: int = 1) -> MemoryNetwork:
    return MemoryNetwork(rng=random.Random(seed), weather=weather)


def test_an_answer_is_a_result_with_its_key_and_times() -> None:
    async def story() -> None:
        network, results = network_of(Weather(delay=0.25)), list[Result]()
        Phone(network, PHONE)
        endpoint = endpoint_on(network, results)
        sent_at = endpoint.send(Notify(PHONE), "reception")
        await asyncio.sleep(1)
        [result] = results
        assert (result.key, result.ending, result.status) == ("reception", Ending.ANSWERED, 200)
        assert (result.sent_at, result.retry_after) == (sent_at, -1)
        assert result.ended_at == pytest.approx(0.5)
        assert endpoint.core.in_flight == 0

    virtual_time.run(story())


def test_a_request_without_answer_is_sent_again_on_the_schedule_of_timer_e_until_timer_f() -> None:
    async def story() -> None:
        network, results = network_of(), list[Result]()
        phone = Phone(network, PHONE, status=0)
        endpoint = endpoint_on(network, results)
        endpoint.send(Notify(PHONE), 1)
        await asyncio.sleep(60)
        assert phone.times == TIMER_E
        assert len({bytes(request) for request in phone.requests}) == 1
        [result] = results
        assert (result.ending, result.status) == (Ending.TIMEOUT, 0)
        assert result.ended_at == pytest.approx(32.0)
        assert endpoint.core.retransmissions == 10

    virtual_time.run(story())


def test_a_provisional_response_slows_retransmission_to_t2() -> None:
    async def story() -> None:
        network, results = network_of(), list[Result]()
        phone = Phone(network, PHONE, status=100)
        endpoint_on(network, results).send(Notify(PHONE), 1)
        await asyncio.sleep(60)
        assert phone.times == [0.0, 0.5, 4.5, 8.5, 12.5, 16.5, 20.5, 24.5, 28.5]
        assert results[0].ending is Ending.TIMEOUT

    virtual_time.run(story())


def test_a_short_t1_is_kept_also_by_a_request_that_starts_while_another_waits() -> None:
    async def story() -> None:
        network, results = network_of(), list[Result]()
        first, second = Phone(network, PHONE, status=0), Phone(network, ("10.0.0.3", 5060), status=0)
        endpoint = endpoint_on(network, results, timers=Timers(t1=0.1, timeout=2.0))
        endpoint.send(Notify(PHONE), 1)
        await asyncio.sleep(0.31)
        endpoint.send(Notify(("10.0.0.3", 5060)), 2)
        await asyncio.sleep(10)
        assert first.times == [0.0, 0.1, 0.3, 0.7, 1.5]
        assert second.times == [0.31, 0.41, 0.61, 1.01, 1.81]
        assert [result.ending for result in results] == [Ending.TIMEOUT] * 2

    virtual_time.run(story())


@pytest.mark.parametrize("loss", [0.2, 0.7])
def test_with_loss_both_ways_every_request_ends_answered_or_by_timer_f(loss: float) -> None:
    async def story() -> None:
        network, results = network_of(Weather(loss=loss, delay=0.01, jitter=0.05)), list[Result]()
        phones = [Phone(network, ("10.0.1.1", port)) for port in range(5000, 5300)]
        endpoint = endpoint_on(network, results)
        for phone in phones:
            endpoint.send(Notify(phone.link.local), phone.link.local)
            await asyncio.sleep(0.01)
        await asyncio.sleep(40)
        assert Counter(result.key for result in results) == Counter(phone.link.local for phone in phones)
        endings = Counter(result.ending for result in results)
        assert set(endings) <= {Ending.ANSWERED, Ending.TIMEOUT}
        assert endings[Ending.ANSWERED] >= (300 if loss == 0.2 else 150)
        for result in results:
            spent = result.ended_at - result.sent_at
            assert spent == pytest.approx(32.0) if result.ending is Ending.TIMEOUT else spent < 32.0
        assert endpoint.core.in_flight == 0
        assert endpoint.core.next_deadline() is None

    virtual_time.run(story())


def test_retransmissions_through_loss_arrive_only_at_the_times_of_timer_e() -> None:
    async def story() -> None:
        network = network_of(Weather(loss=0.2))
        phone = Phone(network, PHONE, status=0)
        endpoint_on(network, []).send(Notify(PHONE), 1)
        await asyncio.sleep(40)
        assert set(phone.times) < set(TIMER_E)

    virtual_time.run(story())


def test_duplicated_answers_are_one_result_and_no_stray() -> None:
    async def story() -> None:
        network, results = network_of(Weather(duplication=1.0)), list[Result]()
        Phone(network, PHONE)
        endpoint = endpoint_on(network, results)
        endpoint.send(Notify(PHONE), 1)
        await asyncio.sleep(20)
        assert [result.status for result in results] == [200]
        assert endpoint.core.strays == 0

    virtual_time.run(story())


def test_a_reset_ends_the_right_request_at_once() -> None:
    async def story() -> None:
        network, results = network_of(), list[Result]()
        Phone(network, PHONE, status=0)
        endpoint = endpoint_on(network, results)
        endpoint.send(Notify(PHONE), "silent")
        endpoint.send(Notify(("10.0.0.9", 5060)), "closed")
        await asyncio.sleep(0.1)
        [result] = results
        assert (result.key, result.ending, result.detail) == ("closed", Ending.REFUSED, "ICMP: Connection refused")
        assert endpoint.core.in_flight == 1

    virtual_time.run(story())


def test_a_challenge_without_credentials_is_unanswerable() -> None:
    async def story() -> None:
        network, results = network_of(), list[Result]()
        Phone(network, PHONE, status=401)
        endpoint_on(network, results).send(Notify(PHONE), 1)
        await asyncio.sleep(1)
        assert [(result.ending, result.status) for result in results] == [(Ending.UNANSWERABLE, 401)]

    virtual_time.run(story())


def test_a_request_from_outside_is_answered_and_makes_no_result() -> None:
    async def story() -> None:
        network, results, stranger = network_of(), list[Result](), Mailbox()
        here = ("10.0.0.1", 5060)
        endpoint_on(network, results, local=here).bind()
        notify = Notify(here).render(token="t", branch="z9hG4bKt", cseq=1, extra="")
        network.open(PHONE, stranger).send(notify, here)
        await asyncio.sleep(1)
        [(answer, source)] = stranger.datagrams
        assert answer.startswith(b"SIP/2.0 405 Method Not Allowed\r\n")
        assert source == here
        assert results == []

    virtual_time.run(story())


def test_a_phone_of_the_other_ip_version_is_refused_and_says_why() -> None:
    async def story() -> None:
        network, results = network_of(), list[Result]()
        endpoint = endpoint_on(network, results, local=("127.0.0.1", 0))
        for transport in (Transport.UDP, Transport.TCP):
            with pytest.raises(
                TransportError, match=r"^--local-address 127\.0\.0\.1 cannot reach ::1: it is of the other"
            ):
                endpoint.send(Notify(("::1", 5060), transport=transport), 1)
        await asyncio.sleep(60)
        assert results == []

    virtual_time.run(story())


def test_both_ip_versions_are_served_at_once_each_from_its_own_link() -> None:
    async def story() -> None:
        network, results = network_of(), list[Result]()
        four, six = Phone(network, ("127.0.0.1", 5060)), Phone(network, ("::1", 5060))
        endpoint = endpoint_on(network, results)
        for phone in (four, six, four, six):
            endpoint.send(Notify(phone.link.local), phone.link.local)
        await asyncio.sleep(1)
        assert Counter(result.key for result in results) == {four.link.local: 2, six.link.local: 2}
        assert {request.top_via.host for request in four.requests} == {"127.0.0.1"}
        assert {request.top_via.host for request in six.requests} == {"[::1]"}

    virtual_time.run(story())


def test_a_fixed_port_in_use_is_refused_before_anything_is_sent() -> None:
    async def story() -> None:
        network, results = network_of(), list[Result]()
        Phone(network, PHONE)
        endpoint = endpoint_on(network, results, local=PHONE)
        for use in (endpoint.bind, lambda: endpoint.send(Notify(("10.0.0.3", 5060)), 1)):
            with pytest.raises(TransportError, match=r"^cannot open port 5060 on 10\.0\.0\.2: Address already in use"):
                use()

    virtual_time.run(story())


def test_closing_ends_everything_without_further_results_and_may_be_repeated() -> None:
    async def story() -> None:
        network, results = network_of(), list[Result]()
        phone = Phone(network, PHONE, status=0)
        endpoint = endpoint_on(network, results, local=("10.0.0.1", 5060))
        endpoint.send(Notify(PHONE), 1)
        endpoint.send(Notify(PHONE, transport=Transport.TCP), "its connection is being made")
        endpoint.close()
        endpoint.close()
        await asyncio.sleep(60)
        assert results == []
        assert phone.times == [0.0]
        network.open(("10.0.0.1", 5060), phone).close()  # the address is free again

    virtual_time.run(story())


def test_random_tokens_are_sixteen_token_characters_and_do_not_repeat() -> None:
    new_token = RandomTokens()
    drawn = [new_token() for _ in range(3000)]  # more than one block
    assert len(set(drawn)) == 3000
    assert all(len(token) == 16 and set(token) <= set("0123456789abcdef") for token in drawn)
