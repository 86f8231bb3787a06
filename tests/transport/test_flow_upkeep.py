"""How long connections are kept, and how many at once: keep-alives, idle connections, the line that waits for one."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resyncctl.sip.digest import Credentials
from resyncctl.sip.hop import Hop
from resyncctl.sip.message import Request
from resyncctl.sip.uac import Ending
from resyncctl.sip.uas import Address
from resyncctl.transport.flow import FlowLimits
from resyncctl.transport.memory import Weather
from tests.transport.memory_world import PHONE, TCP, World, play, world
from tests.transport.stream_peer import CHALLENGE, Peer, Wire, accept, ignore

OURS = Credentials("phone", "secret")
PING, PONG = b"\r\n\r\n", b"\r\n"


def hop(number: int) -> Address:
    return f"10.0.1.{number}", 5060


def hops(here: World, count: int, react: Callable[[Wire, Request], None] = accept) -> list[Peer]:
    return [Peer.listening(here.network, hop(number), react) for number in range(count)]


async def ponging(wire: Wire, *, until: float) -> None:
    """Answer each ping at once."""
    loop = asyncio.get_running_loop()
    answered = 0
    while loop.time() < until:
        await asyncio.sleep(1)
        if len(wire.line_ends) > answered:
            answered = len(wire.line_ends)
            wire.send(PONG)


# Keep-alives


@pytest.mark.parametrize("answers", [True, False])
def test_connection_is_pinged_at_each_interval_whether_the_peer_answers_or_not(answers: bool) -> None:
    async def story() -> None:
        here = world()
        peer = Peer.listening(here.network, PHONE)
        here.send(1)
        await asyncio.sleep(1)
        [wire] = peer.wires
        if answers:
            await ponging(wire, until=1000)
        else:
            await asyncio.sleep(1000)
        assert wire.pings[:9] == [100, 200, 300, 400, 500, 600, 700, 800, 900]
        here.send(2)
        await asyncio.sleep(1)
        assert (len(wire.requests), len(peer.wires), here.endings[2]) == (2, 1, Ending.ANSWERED)

    play(story())


def test_peer_that_has_answered_pings_and_no_longer_does_is_given_up() -> None:
    async def story() -> None:
        here = world()
        peer = Peer.listening(here.network, PHONE)
        here.send("answered")
        await asyncio.sleep(1)
        [wire] = peer.wires
        await ponging(wire, until=250)
        await asyncio.sleep(45)
        peer.react = ignore
        here.send("waits")
        await asyncio.sleep(30)
        assert here.endings == {"answered": Ending.ANSWERED, "waits": Ending.CONNECTION_LOST}
        lost = here.results[-1]
        assert lost.detail == "the peer has not answered a keep-alive"
        assert lost.ended_at == pytest.approx(310.0, abs=1e-6)
        assert wire.closed_at == pytest.approx(310.0, abs=1e-6)
        here.send("next")
        await asyncio.sleep(1)
        assert len(peer.wires) == 2

    play(story())


def test_peer_that_sends_anything_after_a_ping_is_there() -> None:
    async def story() -> None:
        here = world()
        peer = Peer.listening(here.network, PHONE, ignore)
        here.send(1)
        await asyncio.sleep(1)
        [wire] = peer.wires
        await ponging(wire, until=150)
        for _ in range(3):
            await asyncio.sleep(wire.pings[-1] + 109 - asyncio.get_running_loop().time())
            wire.answer(wire.requests[0], 100)
        assert wire.pings == [100, 200, 300, 400]
        await asyncio.sleep(99)
        assert wire.closed_at is None

    play(story())


@pytest.mark.parametrize("habit", [PING, PONG, PONG + PING])
def test_peer_with_keep_alives_of_its_own_owes_no_answer_to_ours(habit: bytes) -> None:
    async def story() -> None:
        here = world()
        peer = Peer.listening(here.network, PHONE)
        here.send(1)
        await asyncio.sleep(1)
        [wire] = peer.wires
        for _ in range(20):
            await asyncio.sleep(90)  # as PJSIP does
            wire.send(habit)
        assert wire.closed_at is None

    play(story())


@pytest.mark.parametrize(
    ("chunks", "answers"),
    [
        ([PING], [PONG]),
        ([b"\r", b"\n\r\n"], [PONG]),
        ([PONG, PONG], [PONG]),
        ([PING + PING], [PONG + PONG]),
        ([PING, PING, PING], [PONG] * 3),
        ([PONG], []),
        ([PONG, b"message", PONG], []),
        ([PING + b"message" + PING], [PONG] * 2),
    ],
)
def test_ping_of_the_peer_is_answered(chunks: list[bytes], answers: list[bytes]) -> None:
    async def story() -> None:
        here = world(weather=Weather(delay=0.01))
        peer = Peer.listening(here.network, PHONE, ignore)
        here.send(1)
        await asyncio.sleep(1)
        [wire] = peer.wires
        trying = wire.answer_to(wire.requests[0], 100)
        for chunk in chunks:
            wire.send(chunk.replace(b"message", trying))
            await asyncio.sleep(0.1)
        assert [data for _, data in wire.line_ends] == answers

    play(story())


def test_peer_that_goes_on_reading_in_time_is_kept_and_one_that_does_not_is_given_up() -> None:
    async def story() -> None:
        here = world()
        peer = Peer.listening(here.network, PHONE, ignore)
        here.send(1)
        await asyncio.sleep(1)
        flow = here.endpoint._flows.find(Hop(PHONE, TCP))
        assert flow is not None
        for _ in range(3):  # as a transport does whose buffer is full
            flow.pause_writing()
            await asyncio.sleep(9)
            flow.resume_writing()
            await asyncio.sleep(0)
        here.send(2)
        await asyncio.sleep(0)
        flow.pause_writing()
        await asyncio.sleep(30)
        assert here.endings == {1: Ending.TIMEOUT, 2: Ending.CONNECTION_LOST}
        result = here.results[-1]
        assert (result.ending, result.detail) == (
            Ending.CONNECTION_LOST,
            "the peer reads too slowly: its buffers have been full for 10 s",
        )
        assert result.ended_at == peer.wires[0].closed_at == pytest.approx(38.0)

    play(story())


# Idle connections


def test_idle_connection_is_closed_after_its_time_and_not_before() -> None:
    async def story() -> None:
        here = world(limits=FlowLimits(idle=30.0))
        peer = Peer.listening(here.network, PHONE)
        here.send(1)
        await asyncio.sleep(20)
        here.send(2)
        await asyncio.sleep(29.9)
        assert (here.endpoint.connections, len(peer.open)) == (1, 1)
        await asyncio.sleep(0.2)
        assert (here.endpoint.connections, peer.open) == (0, [])
        assert peer.wires[0].closed_at == pytest.approx(50.0, abs=1e-6)
        here.send(3)
        await asyncio.sleep(1)
        assert [len(wire.requests) for wire in peer.wires] == [2, 1]
        assert set(here.endings.values()) == {Ending.ANSWERED}

    play(story())


def test_idle_connections_are_closed_between_keep_alives_too() -> None:
    async def story() -> None:
        here = world(limits=FlowLimits(idle=250.0, keep_alive=100.0))
        peer = Peer.listening(here.network, PHONE)
        here.send(1)
        await asyncio.sleep(1000)
        [wire] = peer.wires
        assert wire.pings == [100, 200]
        assert wire.closed_at == pytest.approx(250.0, abs=1e-6)

    play(story())


def test_connection_is_not_idle_while_an_answer_is_awaited() -> None:
    async def story() -> None:
        here = world(limits=FlowLimits(idle=10.0))
        peer = Peer.listening(here.network, PHONE, ignore)
        here.send(1)
        await asyncio.sleep(25)
        [wire] = peer.wires
        assert wire.closed_at is None
        wire.answer(wire.requests[0])
        await asyncio.sleep(20)
        assert here.endings == {1: Ending.ANSWERED}
        assert wire.closed_at is not None

    play(story())


# As many as there may be


def test_next_connection_closes_the_one_longest_unused() -> None:
    async def story() -> None:
        here = world(limits=FlowLimits(most=3))
        peers = hops(here, 5)
        for number in (0, 1, 2, 0, 3, 4):  # 0 is used again
            here.send((number, here.endpoint.core.in_flight), hop(number))
            await asyncio.sleep(10)
            assert here.endpoint.connections <= 3
        assert [len(peer.open) for peer in peers] == [1, 0, 0, 1, 1]
        assert [len(peer.wires) for peer in peers] == [1, 1, 1, 1, 1]

    play(story())


def test_when_all_connections_are_busy_requests_wait_and_are_sent_as_soon_as_one_is_free() -> None:
    async def story() -> None:
        here = world(limits=FlowLimits(most=2))
        peers = hops(here, 4, ignore)
        for number in range(4):
            here.send(number, hop(number))
        here.send("also to 2", hop(2))
        here.send("to one that has a connection", hop(0))
        await asyncio.sleep(10.5)
        assert [len(peer.requests) for peer in peers] == [2, 1, 0, 0]
        peers[1].wires[0].answer(peers[1].requests[0])
        await asyncio.sleep(0.001)
        assert [len(peer.requests) for peer in peers] == [2, 1, 2, 0], "both of one hop, and they only"
        assert peers[1].open == []
        peers[0].wires[0].transport.close()
        await asyncio.sleep(0.001)
        assert [len(peer.requests) for peer in peers] == [2, 1, 2, 1]
        assert (here.endpoint.connections, len(here.results)) == (2, 3)
        await asyncio.sleep(60)
        assert Counter(here.endings.values()) == {
            Ending.ANSWERED: 1, Ending.CONNECTION_LOST: 2, Ending.TIMEOUT: 3,
        }  # fmt: skip

    play(story())


def test_the_line_goes_on_when_a_connection_is_refused() -> None:
    async def story() -> None:
        here = world(limits=FlowLimits(most=1), weather=Weather(delay=0.1))
        hops(here, 1)
        for number in (3, 2, 1, 0):
            here.send(number, hop(number))
        await asyncio.sleep(10)
        assert here.endings == {3: Ending.REFUSED, 2: Ending.REFUSED, 1: Ending.REFUSED, 0: Ending.ANSWERED}
        assert here.results[-1].ended_at == pytest.approx(0.6)

    play(story())


# Storms


class Storm:
    """Peers whose connections end at any moment; they keep what they have got: number of the request, its CSeq."""

    def __init__(self, rng: random.Random) -> None:
        self.arrived: Counter[tuple[int, int]] = Counter()
        self.answered: set[int] = set()
        self._rng = rng

    def react(self, wire: Wire, request: Request) -> None:
        number = int(request.body)
        self.arrived[number, request.cseq.number] += 1
        fate = self._rng.random()
        if fate < 0.2 and request.get("Authorization") is None:
            wire.answer(request, 401, CHALLENGE)
            if fate < 0.1:
                wire.transport.close()
        elif fate < 0.05:
            wire.transport.abort()
        elif fate < 0.9:
            asyncio.get_running_loop().call_later(self._rng.random() ** 4 * 5, self._answer, wire, request, fate)

    def _answer(self, wire: Wire, request: Request, fate: float) -> None:
        if not wire.transport.is_closing():
            self.answered.add(int(request.body))
            wire.send(PING * (fate < 0.3) + wire.answer_to(request), pieces=self._rng.choice([3, 50, 100_000]))
            if fate < 0.1:
                wire.transport.close()


@pytest.mark.parametrize("seed", range(3))
def test_in_a_storm_every_request_has_one_result_and_reaches_its_peer_at_most_once(seed: int) -> None:
    async def story() -> None:
        rng = random.Random(seed)
        weather = Weather(loss=0.02, resets=0.02, delay=0.02)
        here = world(limits=FlowLimits(most=7, idle=20.0), weather=weather, seed=seed)
        storm = Storm(rng)
        peers = hops(here, 50, storm.react)
        for number in range(2000):
            here.send(number, hop(rng.randrange(50)), body=b"%d" % number, credentials=OURS)
            await asyncio.sleep(rng.random() * 0.2 * (rng.random() < 0.5))
            assert here.endpoint.connections <= 7
            if rng.random() < 0.02:
                for wire in rng.choice(peers).open:
                    wire.transport.close()
        await asyncio.sleep(3000)

        assert Counter(result.key for result in here.results) == Counter(range(2000))
        assert max(storm.arrived.values()) == 1
        by_ending = {ending: {result.key for result in here.results if result.ending is ending} for ending in Ending}
        assert by_ending[Ending.ANSWERED] <= storm.answered
        never_left = {result.key for result in here.results if not result.sent_at} - {0}
        assert never_left.isdisjoint(number for number, _ in storm.arrived)
        assert not never_left & by_ending[Ending.ANSWERED]
        counts = Counter(result.ending for result in here.results)
        assert set(counts) == {
            Ending.ANSWERED, Ending.TIMEOUT, Ending.REFUSED, Ending.NO_CONNECTION, Ending.CONNECTION_LOST,
        }  # fmt: skip
        assert counts[Ending.ANSWERED] > 500
        assert (here.endpoint.connections, here.endpoint.core.in_flight) == (0, 0)
        assert not here.endpoint._rides

    play(story())


STEPS = st.lists(
    st.tuples(st.sampled_from(["send", "send", "answer", "close", "garbage", "wait"]), st.integers(0, 3)), max_size=40
)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.sampled_from([1, 2, 4]))
def test_whatever_the_peers_do_every_request_has_one_result(steps: list[tuple[str, int]], most: int) -> None:
    async def story() -> None:
        here = world(limits=FlowLimits(most=most, idle=50.0))
        peers = hops(here, 3, ignore)  # to the fourth nobody listens
        sent = 0
        for deed, number in steps:
            wires = peers[number].open if number < 3 else []
            if deed == "send":
                here.send(sent, hop(number), body=b"%d" % sent)
                sent += 1
            elif deed == "wait":
                await asyncio.sleep((0.0, 0.001, 5.0, 60.0)[number])
            for wire in wires:
                if deed == "answer":
                    wire.send(b"".join(wire.answer_to(request) for request in reversed(wire.requests)))
                elif deed == "garbage":
                    wire.send(b"\x00\r\n\r\n")
                elif deed == "close":
                    wire.transport.close()
        await asyncio.sleep(200)
        assert Counter(result.key for result in here.results) == Counter(range(sent))
        arrived = Counter(int(request.body) for peer in peers for request in peer.requests)
        assert max(arrived.values(), default=1) == 1
        assert (here.endpoint.connections, here.endpoint.core.in_flight, here.endpoint._rides) == (0, 0, {})

    play(story())
