"""Connections shared by all requests to a hop: how they are made, used, kept and lost. In memory, with time moved by hand."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from resyncctl.sip.digest import Credentials
from resyncctl.sip.hop import Hop, Transport
from resyncctl.sip.message import Request
from resyncctl.sip.uac import Ending, Result
from resyncctl.transport.flow import FlowLimits
from resyncctl.transport.memory import MemoryNetwork, Weather
from tests.transport.memory_world import NOBODY, OTHER, PHONE, TCP, play, world
from tests.transport.phones import Notify, Phone
from tests.transport.stream_peer import (
    CHALLENGE,
    Peer,
    Wire,
    accept,
    challenge_and_close,
    challenge_once,
    ignore,
)

LARGE = b"x" * 1400
OURS = Credentials("phone", "secret")


def keys(requests: Sequence[Request]) -> list[int]:
    """Return the numbers that requests carry as their bodies."""
    return [int(request.body) for request in requests]


# One connection for all requests


@pytest.mark.parametrize("pieces", [1, 7, 300, 100_000])
def test_requests_share_a_connection_and_their_answers_come_in_any_order_cut_anywhere(pieces: int) -> None:
    async def story() -> None:
        here, peer = world(), Peer(ignore)
        here.network.listen(PHONE, peer.make)
        for number in range(5):
            here.send(number, body=b"%d" % number)
            await asyncio.sleep(0.1 * (number % 2))  # some come together
        await asyncio.sleep(1)
        [wire] = peer.wires
        assert keys(wire.requests) == [0, 1, 2, 3, 4], "none waits for the answer to the one before"
        answers = [wire.answer_to(request, 480 + int(request.body)) for request in reversed(wire.requests)]
        wire.send(b"\r\n\r\n" + b"\r\n".join(answers) + b"\r\n\r\n", pieces=pieces)
        await asyncio.sleep(1)
        assert [(result.key, result.status) for result in here.results] == [
            (4, 484), (3, 483), (2, 482), (1, 481), (0, 480),
        ]  # fmt: skip
        assert here.endpoint.core.strays == 0
        assert len(peer.wires) == 1

    play(story())


def test_via_names_the_connection_and_the_transport() -> None:
    async def story() -> None:
        here = world()
        peer = Peer.listening(here.network, PHONE)
        here.send(1)
        await asyncio.sleep(1)
        [wire] = peer.wires
        via = wire.requests[0].top_via
        assert (via.transport, via.host, via.port) == ("TCP", *wire.client)

    play(story())


def test_hops_over_tcp_are_one_connection_whatever_name_led_there_and_others_are_not() -> None:
    async def story() -> None:
        here = world()
        phone, other = Peer.listening(here.network, PHONE), Peer.listening(here.network, OTHER)
        for number, (address, name) in enumerate([(PHONE, ""), (PHONE, "pbx.test"), (OTHER, "pbx.test")]):
            here.send(number, address, name=name)
        for name in ("pbx.test", "pbx.test", "other.test"):  # whose certificates differ
            here.send(name + str(len(here.results)), over=Transport.TLS, name=name)
            await asyncio.sleep(1)
        assert set(here.endings.values()) == {Ending.ANSWERED}
        assert [len(wire.requests) for wire in phone.wires] == [2, 2, 1]
        assert [len(wire.requests) for wire in other.wires] == [1]

    play(story())


def test_requests_of_the_peer_are_answered_on_its_connection_amid_ours() -> None:
    async def story() -> None:
        here, peer = world(), Peer(ignore)
        here.network.listen(PHONE, peer.make)
        here.send("ours")
        await asyncio.sleep(1)
        [wire] = peer.wires
        options = Notify(PHONE).render(token="theirs", branch="z9hG4bKtheirs", cseq=1, extra="")
        wire.send(
            options.replace(b"NOTIFY", b"OPTIONS") + wire.answer_to(wire.requests[0]) + options.replace(b"theirs", b"x")
        )
        await asyncio.sleep(1)
        assert [(one.status, one.top_via.branch, one.cseq.method) for one in wire.responses] == [
            (200, "z9hG4bKtheirs", "OPTIONS"),
            (405, "z9hG4bKx", "NOTIFY"),
        ]
        assert here.endings == {"ours": Ending.ANSWERED}

    play(story())


def test_nothing_is_sent_again_over_a_connection_until_timer_f() -> None:
    async def story() -> None:
        here, peer = world(), Peer(ignore)
        here.network.listen(PHONE, peer.make)
        here.send("silent")
        await asyncio.sleep(60)
        [result] = here.results
        assert (result.ending, result.sent_at) == (Ending.TIMEOUT, 0.0)
        assert result.ended_at == pytest.approx(32.0)
        assert peer.wires[0].times == [0.0]
        here.send("later")
        await asyncio.sleep(1)
        assert len(peer.wires) == 1, "the connection is still good"

    play(story())


# Connections that are not made


def test_refused_connection_ends_what_waits_for_it_and_nothing_has_left() -> None:
    async def story() -> None:
        here = world()
        peer = Peer.listening(here.network, PHONE)
        for number in range(3):
            here.send(number, NOBODY)
        here.send("other")
        await asyncio.sleep(1)
        assert here.endings == {0: Ending.REFUSED, 1: Ending.REFUSED, 2: Ending.REFUSED, "other": Ending.ANSWERED}
        refused = [result for result in here.results if result.ending is Ending.REFUSED]
        assert {(one.sent_at, one.detail) for one in refused} == {(0.0, "no connection: Connection refused")}
        assert here.endpoint.core.in_flight == 0
        assert len(peer.requests) == 1
        here.network.listen(NOBODY, peer.make)
        here.send("again", NOBODY)
        await asyncio.sleep(1)
        assert here.endings["again"] is Ending.ANSWERED

    play(story())


def test_connection_that_is_not_made_in_time_ends_what_waits_for_it() -> None:
    async def story() -> None:
        here = world(limits=FlowLimits(connect=5.0), weather=Weather(loss=1.0))
        peer = Peer.listening(here.network, PHONE)
        here.send("first")
        await asyncio.sleep(3)
        here.send("waits for the same connection")
        await asyncio.sleep(10)
        assert [(one.ending, one.sent_at, one.detail) for one in here.results] == [
            (Ending.NO_CONNECTION, 0.0, "no connection within 5 s")
        ] * 2
        assert [one.ended_at for one in here.results] == pytest.approx([5.0, 5.0])
        assert (peer.wires, here.endpoint.connections) == ([], 0)
        here.network.weather = Weather()
        here.send("again")
        await asyncio.sleep(1)
        assert here.endings["again"] is Ending.ANSWERED

    play(story())


# Connections that end


def test_lost_connection_ends_exactly_the_requests_that_wait_on_it() -> None:
    async def story() -> None:
        here = world()
        phone, other = Peer.listening(here.network, PHONE, ignore), Peer.listening(here.network, OTHER, ignore)
        datagrams = Phone(here.network, PHONE, status=0)
        here.send("answered")
        await asyncio.sleep(1)
        phone.wires[0].answer(phone.requests[0])
        for key, address, over in (
            ("lost", PHONE, TCP),
            ("lost too", PHONE, TCP),
            ("over UDP", PHONE, Transport.UDP),
            ("over TLS", PHONE, Transport.TLS),
            ("to another", OTHER, TCP),
        ):
            here.send(key, address, over=over)
        await asyncio.sleep(1)
        phone.wires[0].transport.close()
        await asyncio.sleep(1)
        assert here.endings == {
            "answered": Ending.ANSWERED, "lost": Ending.CONNECTION_LOST, "lost too": Ending.CONNECTION_LOST,
        }  # fmt: skip
        lost = here.results[-1]
        assert lost.detail == "the peer has closed the connection"
        assert (lost.sent_at, lost.ended_at) == pytest.approx((1.0, 2.0))
        assert here.endpoint.core.in_flight == 3
        assert (len(other.requests), len(datagrams.requests) > 0) == (1, True)

    play(story())


def test_after_a_connection_has_ended_the_next_request_makes_another_one() -> None:
    async def story() -> None:
        here = world()
        peer = Peer.listening(here.network, PHONE)
        for number in range(3):
            here.send(number)
            await asyncio.sleep(1)
            peer.open[0].transport.close()
            await asyncio.sleep(0.001)
        assert here.endings == {0: Ending.ANSWERED, 1: Ending.ANSWERED, 2: Ending.ANSWERED}
        assert [len(wire.requests) for wire in peer.wires] == [1, 1, 1]

    play(story())


def test_stream_that_cannot_be_followed_ends_its_requests_and_the_next_goes_over_another() -> None:
    async def story() -> None:
        here, peer = world(), Peer(ignore)
        here.network.listen(PHONE, peer.make)
        here.send("lost")
        await asyncio.sleep(1)
        peer.wires[0].send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        here.send("sent in the same moment")
        await asyncio.sleep(1)
        peer.react = accept
        here.send("next")
        await asyncio.sleep(1)
        assert here.endings["lost"] is Ending.CONNECTION_LOST
        assert here.endings["next"] is Ending.ANSWERED
        assert here.results[0].detail == (
            "the stream cannot be followed: a message in a stream needs one Content-Length"
        )
        assert peer.wires[0].closed_at == pytest.approx(1.0)

    play(story())


def test_answer_with_rubbish_after_it_counts() -> None:
    async def story() -> None:
        here, peer = world(), Peer(ignore)
        here.network.listen(PHONE, peer.make)
        here.send("answered")
        here.send("lost")
        await asyncio.sleep(1)
        [wire] = peer.wires
        wire.send(wire.answer_to(wire.requests[0]) + b"\0 rubbish\r\n\r\n")
        await asyncio.sleep(1)
        assert here.endings == {"answered": Ending.ANSWERED, "lost": Ending.CONNECTION_LOST}

    play(story())


# Challenges


def test_challenge_is_answered_on_the_same_connection() -> None:
    async def story() -> None:
        here = world()
        peer = Peer.listening(here.network, PHONE, challenge_once)
        for number in range(3):
            here.send(number, credentials=OURS)
        here.send("no credentials")
        await asyncio.sleep(1)
        assert here.endings == {
            0: Ending.ANSWERED, 1: Ending.ANSWERED, 2: Ending.ANSWERED, "no credentials": Ending.NO_CREDENTIALS,
        }  # fmt: skip
        [wire] = peer.wires
        assert [request.cseq.number for request in wire.requests] == [1, 1, 1, 1, 2, 2, 2]
        assert len({request.get("Call-ID") for request in wire.requests}) == 4

    play(story())


def test_challenge_of_a_peer_that_closes_with_it_is_answered_over_another_connection() -> None:
    async def story() -> None:
        here = world()
        peer = Peer.listening(here.network, PHONE, challenge_and_close)
        here.send(1, credentials=OURS)
        await asyncio.sleep(1)
        assert [(one.key, one.ending, one.status) for one in here.results] == [(1, Ending.ANSWERED, 200)]
        assert [[request.cseq.number for request in wire.requests] for wire in peer.wires] == [[1], [2]]
        assert len({request.get("Call-ID") for request in peer.requests}) == 1
        assert (here.endpoint.connections, here.endpoint.core.in_flight) == (0, 0)

    play(story())


def test_challenge_of_a_peer_that_closes_later_ends_the_request_with_its_connection() -> None:
    """Whether it has read the answer is not known: sent again, that could be a second reboot."""

    async def story() -> None:
        here = world(weather=Weather(delay=0.1))

        def react(wire: Wire, request: Request) -> None:
            wire.answer(request, 401, CHALLENGE)
            asyncio.get_running_loop().call_later(0.05, wire.transport.close)

        peer = Peer.listening(here.network, PHONE, react)
        here.send(1, credentials=OURS)
        await asyncio.sleep(60)
        [result] = here.results
        assert result.ending is Ending.CONNECTION_LOST
        assert result.ended_at == pytest.approx(0.35)
        assert len(peer.wires) == 1

    play(story())


def test_challenge_that_needs_another_connection_ends_when_there_is_none() -> None:
    async def story() -> None:
        here = world(weather=Weather(delay=0.1))
        peer = Peer.listening(here.network, PHONE, challenge_and_close)
        here.send("refused", credentials=OURS)
        await asyncio.sleep(0.15)  # its connection stands
        here.network.listen(OTHER, peer.make)
        here.network._listeners.pop(PHONE)
        await asyncio.sleep(60)
        [result] = here.results
        assert (result.ending, result.detail) == (Ending.REFUSED, "no connection: Connection refused")
        assert result.sent_at == pytest.approx(0.1), "the request had left"
        assert here.endpoint.core.in_flight == 0

    play(story())


def test_challenge_that_waits_for_a_connection_in_vain_ends_by_timer_f() -> None:
    async def story() -> None:
        here = world(limits=FlowLimits(most=1, idle=10_000.0), weather=Weather(delay=0.1))
        Peer.listening(here.network, PHONE, challenge_and_close)
        busy = Peer.listening(here.network, OTHER, ignore)
        here.send("challenged", credentials=OURS)
        here.send("first in the line", OTHER)
        for number in range(8):  # its hop is never idle
            await asyncio.sleep(10)
            here.send(number, OTHER)
        assert here.endings["challenged"] is Ending.TIMEOUT
        timed_out = next(one for one in here.results if one.key == "challenged")
        assert timed_out.ended_at == pytest.approx(0.3 + 32.0)
        await asyncio.sleep(100)
        assert set(here.endings.values()) == {Ending.TIMEOUT}
        assert len(busy.requests) == 9
        assert here.endpoint.core.in_flight == 0
        here.send("last")
        await asyncio.sleep(10)
        assert here.endings["last"] is Ending.NO_CREDENTIALS, "the line goes on"

    play(story())


# Large requests


def test_large_request_goes_over_tcp_though_the_hop_is_udp() -> None:
    async def story() -> None:
        here = world()
        over_tcp, over_udp = Peer.listening(here.network, PHONE), Phone(here.network, PHONE)
        for number in range(3):
            here.send(number, body=LARGE, over=Transport.UDP)
        here.send("small", over=Transport.UDP)
        await asyncio.sleep(1)
        assert set(here.endings.values()) == {Ending.ANSWERED}
        assert len(here.results) == 4
        [wire] = over_tcp.wires
        assert [request.top_via.transport for request in wire.requests] == ["TCP"] * 3
        assert [request.top_via.transport for request in over_udp.requests] == ["UDP"]

    play(story())


@pytest.mark.parametrize(("loss", "after"), [(0.0, 0.0), (1.0, 5.0)])
def test_large_request_goes_over_udp_where_tcp_is_refused_or_not_answered(loss: float, after: float) -> None:
    async def story() -> None:
        here = world(weather=Weather(loss=loss))
        if loss:
            Peer.listening(here.network, PHONE)
        phone = Phone(here.network, PHONE)
        here.send("large", body=LARGE, over=Transport.UDP)
        await asyncio.sleep(4.9)
        here.network.weather = Weather()
        await asyncio.sleep(60)
        [result] = here.results
        assert (result.key, result.ending, result.status) == ("large", Ending.ANSWERED, 200)
        assert result.sent_at == pytest.approx(after, abs=1e-6)
        [request] = phone.requests
        assert (request.top_via.transport, request.body) == ("UDP", LARGE)

    play(story())


def test_large_request_that_was_written_to_a_connection_goes_nowhere_else() -> None:
    async def story() -> None:
        here = world()
        phone = Phone(here.network, PHONE)
        Peer.listening(here.network, PHONE, lambda wire, _: wire.transport.close())
        here.send("large", body=LARGE, over=Transport.UDP)
        await asyncio.sleep(60)
        assert here.endings == {"large": Ending.CONNECTION_LOST}
        assert phone.requests == []

    play(story())


# The end


class LateNetwork(MemoryNetwork):
    """Makes connections although whoever wanted them has gone, as sockets do that were just connected."""

    async def connect(self, hop: Hop, local: str, protocol: asyncio.Protocol) -> None:
        asyncio.get_running_loop().call_later(1.0, asyncio.ensure_future, super().connect(hop, local, protocol))
        await asyncio.sleep(60)


def test_closing_ends_requests_in_every_state_without_results() -> None:
    async def story() -> None:
        here = world(limits=FlowLimits(most=3), weather=Weather(delay=0.1))

        def challenge_and_be_closed(wire: Wire, request: Request) -> None:
            wire.answer(request, 401, CHALLENGE)
            asyncio.get_running_loop().call_later(0.1, here.endpoint.close)  # as the 401 arrives
            asyncio.get_running_loop().call_later(0.2, here.endpoint.close)

        phone = Peer.listening(here.network, PHONE, challenge_and_be_closed)
        silent = Peer.listening(here.network, OTHER, ignore)
        here.send("challenged", credentials=OURS)
        here.send("waits for an answer", OTHER)
        await asyncio.sleep(0.25)
        here.send("its connection is being made", ("10.0.0.4", 5060))
        here.send("waits in the line", ("10.0.0.5", 5060))
        await asyncio.sleep(60)
        assert here.results == []
        assert (here.endpoint.connections, phone.open, silent.open) == (0, [], [])
        assert [len(peer.requests) for peer in (phone, silent)] == [1, 1]

    play(story())


def test_connection_that_stands_only_after_closing_is_ended_and_carries_nothing() -> None:
    async def story() -> None:
        here = world()
        late = LateNetwork(rng=random.Random(1))
        here.endpoint._flows._network = late
        peer = Peer.listening(late, PHONE)
        here.send("too late")
        await asyncio.sleep(0.5)
        here.endpoint.close()
        await asyncio.sleep(100)
        assert len(peer.wires) == 1
        assert (peer.open, peer.requests, here.results) == ([], [], [])

    play(story())


def test_who_closes_on_a_result_gets_no_further_one() -> None:
    async def story() -> None:
        here, peer = world(), Peer(ignore)
        here.network.listen(PHONE, peer.make)
        told: list[Result] = []

        def close(result: Result) -> None:
            told.append(result)
            here.endpoint.close()

        here.endpoint._on_result = close
        for number in range(3):
            here.send(number)
        await asyncio.sleep(1)
        [wire] = peer.wires
        wire.send(b"".join(wire.answer_to(request) for request in wire.requests))
        await asyncio.sleep(60)
        assert [result.key for result in told] == [0]
        assert wire.closed_at == pytest.approx(1.0)

    play(story())


@pytest.mark.parametrize("over", [Transport.UDP, TCP])
def test_who_closes_on_a_time_out_gets_no_further_one_and_leaves_no_timer(over: Transport) -> None:
    async def story() -> None:
        here, peer = world(), Peer(ignore)
        here.network.listen(PHONE, peer.make)
        Phone(here.network, PHONE, status=0)
        told: list[Result] = []

        def close(result: Result) -> None:
            told.append(result)
            here.endpoint.close()

        here.endpoint._on_result = close
        for number in range(3):
            here.send(number, over=over)
        await asyncio.sleep(10)
        here.send("later", over=over)
        await asyncio.sleep(22.1)
        assert here.endpoint._timer is None
        await asyncio.sleep(100)
        assert [result.key for result in told] == [0]

    play(story())
