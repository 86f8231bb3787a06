"""TCP and TLS on real sockets, on asyncio's loop and on uvloop, against SIPp, PJSIP, Kamailio and peers on the loop's own."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
import uvloop

from resyncctl.sip.digest import Credentials
from resyncctl.sip.hop import Hop, Transport
from resyncctl.sip.message import Request
from resyncctl.sip.transaction import Timers
from resyncctl.sip.uac import Ending, Result
from resyncctl.transport.endpoint import Endpoint
from resyncctl.transport.flow import FlowLimits
from resyncctl.transport.ip import IpNetwork, TlsFiles
from tests.peers import sipp
from tests.peers.certificates import NAME, Certificates
from tests.peers.kamailio import Kamailio, why_no_tls
from tests.peers.pjsip_phone import PjsipPhone
from tests.peers.ports import free_port
from tests.peers.sipp import SippPhone
from tests.peers.waiting import wait_until_async
from tests.transport.phones import PATIENCE, EchoPhone, echo_phone, prepare
from tests.transport.stream_peer import (
    Call,
    Peer,
    Wire,
    accept,
    challenge_and_close,
    challenge_once,
    ignore,
    serving,
)

TCP, TLS = Transport.TCP, Transport.TLS
OURS = Credentials("phone", "secret")
LARGE = b"x" * 1400

Story = Callable[["Caller"], Awaitable[None]]


class Caller:
    """An endpoint and what became of its requests."""

    def __init__(self, tls: TlsFiles | None, limits: FlowLimits, timers: Timers) -> None:
        self.tls = tls
        self.results: list[Result] = []
        self.endpoint = Endpoint(
            IpNetwork(tls), timers=timers, on_result=self.results.append, prepare=prepare, limits=limits
        )

    def send(self, key: object, hop: Hop, *, body: bytes = b"", credentials: Credentials | None = None) -> None:
        self.endpoint.send(Call(hop.address, body, credentials, hop.transport, hop.name), key)

    async def until(self, count: int) -> list[Result]:
        """Wait until there are so many results, and return them."""
        await wait_until_async(lambda: len(self.results) >= count, f"{count} results", within=PATIENCE)
        return self.results

    async def ask(self, *hops: Hop, body: bytes = b"", credentials: Credentials | None = None) -> list[Result]:
        """Send a request to each, wait for all their results and return them in the order of sending."""
        before = len(self.results)
        for number, hop in enumerate(hops, before):
            self.send(number, hop, body=body, credentials=credentials)
        await self.until(before + len(hops))
        return sorted(self.results[before:], key=lambda result: str(result.key).zfill(9))


@dataclass(frozen=True, slots=True)
class Stage:
    """A kind of event loop to play a story on, with nothing left over."""

    loop: Callable[[], asyncio.AbstractEventLoop]
    tls: TlsFiles

    def play(
        self,
        story: Story,
        *,
        limits: FlowLimits | None = None,
        timers: Timers | None = None,
        debug: bool = False,
    ) -> None:
        complaints: list[str] = []
        before = descriptors()

        async def bounded() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))
            caller = Caller(self.tls, limits or FlowLimits(), timers or Timers())
            try:
                async with asyncio.timeout(20):
                    await story(caller)
            finally:
                caller.endpoint.close()

        with asyncio.Runner(loop_factory=self.loop, debug=debug) as runner:
            runner.run(bounded())
        gc.collect()  # what was not closed complains now, and a warning is an error
        assert [each for each in complaints if "incoming connection" not in each] == []  # those are the servers'
        assert descriptors() == before


def descriptors() -> int:
    """Return how many file descriptors are open."""
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.getbasetemp() / "certificates")


@pytest.fixture(scope="module", autouse=True)
def quick_collection() -> Iterator[None]:
    """Let `gc.collect` look at what these tests have made, and not at all that was imported."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(
    params=[pytest.param(asyncio.SelectorEventLoop, id="asyncio"), pytest.param(uvloop.new_event_loop, id="uvloop")]
)
def stage(request: pytest.FixtureRequest, certificates: Certificates) -> Stage:
    with asyncio.Runner(loop_factory=request.param) as first:  # libuv keeps a pipe
        first.run(asyncio.sleep(0))
    return Stage(request.param, TlsFiles(ca=certificates.ca))


@pytest.fixture
def served(certificates: Certificates) -> ssl.SSLContext:
    """What a TLS server of these tests runs with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.right.certificate, certificates.right.key)
    return context


@pytest.fixture(params=[TCP, TLS])
def over(request: pytest.FixtureRequest, served: ssl.SSLContext) -> ssl.SSLContext | None:
    """What a server speaks: TLS with that, or TCP."""
    return served if request.param is TLS else None


@pytest.fixture(scope="module")
def pjsip(certificates: Certificates) -> Iterator[Hop]:
    with PjsipPhone("300", transport="tls", tls=certificates.right) as phone:
        yield Hop(phone.address, TLS, NAME)


@pytest.fixture(scope="module")
def proxy(certificates: Certificates) -> Iterator[Kamailio]:
    with Kamailio(tls=certificates.right) as running:
        yield running


@pytest.fixture(scope="module")
def sipp_hop() -> Iterator[Hop]:
    with SippPhone(sipp.answers(), transport="tcp") as phone:
        yield Hop(phone.address, TCP)


def endings(results: list[Result]) -> list[Ending]:
    return [result.ending for result in results]


# What the peers of others do


@pytest.mark.needs("sipp", "pjsua2", "openssl")
def test_requests_to_phones_of_others_share_a_connection_that_outlives_keep_alives_without_answer(
    stage: Stage, sipp_hop: Hop, pjsip: Hop
) -> None:
    async def story(caller: Caller) -> None:
        for _ in range(2):
            results = await caller.ask(*[sipp_hop, pjsip] * 50)
            assert {(result.ending, result.status) for result in results} == {(Ending.ANSWERED, 200)}
            flows = [caller.endpoint._flows.find(hop) for hop in (sipp_hop, pjsip)]
            await asyncio.sleep(0.15)
            assert [caller.endpoint._flows.find(hop) for hop in (sipp_hop, pjsip)] == flows
            assert caller.endpoint.connections == 2

    stage.play(story, limits=FlowLimits(keep_alive=0.02, pong=0.02))


@pytest.mark.needs("kamailio", "openssl")
@pytest.mark.skipif(why_no_tls() is not None, reason=str(why_no_tls()))
def test_kamailio_that_stops_answering_keep_alives_is_given_up(stage: Stage, proxy: Kamailio) -> None:
    hops = [Hop(proxy.address, TCP), Hop(proxy.listener("tls").address, TLS, NAME)]

    async def story(caller: Caller) -> None:
        results = await caller.ask(*hops * 20)
        assert {(result.ending, result.status) for result in results} == {(Ending.ANSWERED, 404)}
        assert sorted(one.transport for one in proxy.connections()) == ["tcp", "tls"]
        await asyncio.sleep(0.35)
        assert caller.endpoint.connections == 2
        os.killpg(proxy.pid, signal.SIGSTOP)
        try:
            for number, hop in enumerate(hops):
                caller.send(f"stopped {number}", hop)
            lost = (await caller.until(42))[-2:]
        finally:
            os.killpg(proxy.pid, signal.SIGCONT)
        assert {(result.ending, result.detail) for result in lost} == {
            (Ending.CONNECTION_LOST, "the peer has not answered a keep-alive")
        }
        assert endings(await caller.ask(*hops)) == [Ending.ANSWERED] * 2

    stage.play(story, limits=FlowLimits(keep_alive=0.1, pong=0.2))


@pytest.mark.needs("sipp")
def test_phone_that_dies_ends_what_waits_for_it(stage: Stage) -> None:
    async def story(caller: Caller) -> None:
        with SippPhone(sipp.silent(), transport="tcp") as phone:
            hop = Hop(phone.address, TCP)
            for number in range(3):
                caller.send(number, hop)
            await asyncio.to_thread(phone.wait_for, 3)
            phone.end(gently=False)
            results = await caller.until(3)
        assert endings(results) == [Ending.CONNECTION_LOST] * 3
        assert endings(await caller.ask(hop)) == [Ending.REFUSED]

    stage.play(story)


# Challenges


def test_challenge_is_answered_on_the_same_connection(stage: Stage, over: ssl.SSLContext | None) -> None:
    async def story(caller: Caller) -> None:
        peer = Peer(challenge_once)
        async with serving(peer, tls=over, name=NAME) as hop:
            results = await caller.ask(*[hop] * 10, credentials=OURS)
        assert {(result.ending, result.status) for result in results} == {(Ending.ANSWERED, 200)}
        assert [len(wire.requests) for wire in peer.wires] == [20]

    stage.play(story)


def test_challenge_of_a_peer_that_closes_with_it_is_answered_over_another_connection(
    stage: Stage, over: ssl.SSLContext | None
) -> None:
    async def story(caller: Caller) -> None:
        peer = Peer(challenge_and_close)
        async with serving(peer, tls=over, name=NAME) as hop:
            for number in range(5):
                [result] = await caller.ask(hop, credentials=OURS)
                assert (result.ending, result.status) == (Ending.ANSWERED, 200)
                assert len(peer.wires) == 2 * number + 2
        assert [request.cseq.number for request in peer.requests] == [1, 2] * 5

    stage.play(story)


# Connections that end, or stand still


def test_reset_ends_what_waits_and_the_next_request_goes_over_another_connection(
    stage: Stage, over: ssl.SSLContext | None
) -> None:
    def reset(wire: Wire, request: Request) -> None:
        if request.body:
            own = wire.transport.get_extra_info("socket")
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            wire.transport.abort()
        else:
            wire.answer(request)

    async def story(caller: Caller) -> None:
        peer = Peer(reset)
        async with serving(peer, tls=over, name=NAME) as hop:
            assert endings(await caller.ask(hop)) == [Ending.ANSWERED]
            [lost] = await caller.ask(hop, body=b"reset")
            assert (lost.ending, lost.detail) == (Ending.CONNECTION_LOST, "the peer has reset the connection")
            assert endings(await caller.ask(hop)) == [Ending.ANSWERED]

    stage.play(story)


def test_peer_that_closes_between_requests_costs_none(stage: Stage, over: ssl.SSLContext | None) -> None:
    async def story(caller: Caller) -> None:
        peer = Peer()
        async with serving(peer, tls=over, name=NAME) as hop:
            for _ in range(5):
                assert endings(await caller.ask(hop)) == [Ending.ANSWERED]
                peer.open[0].transport.close()
                await wait_until_async(lambda: not caller.endpoint.connections, "the end", within=PATIENCE)
        assert [len(wire.requests) for wire in peer.wires] == [1] * 5

    stage.play(story)


def test_peer_that_reads_no_more_is_given_up(stage: Stage, over: ssl.SSLContext | None) -> None:
    async def story(caller: Caller) -> None:
        stuck = Peer(ignore)
        async with serving(stuck, tls=over, name=NAME) as hop:
            caller.send("first", hop)
            await wait_until_async(lambda: bool(stuck.requests), "a request", within=PATIENCE)
            transport = stuck.wires[0].transport
            transport.pause_reading()
            own = transport.get_extra_info("socket")
            own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)  # it would grow to 32 MB
            for number in range(150):  # more than all buffers hold
                caller.send(number, hop, body=b"x" * 60_000)
            results = await caller.until(151)
        assert {(result.ending, result.detail) for result in results} == {
            (Ending.CONNECTION_LOST, "the peer reads too slowly: its buffers have been full for 0.2 s")
        }
        assert len({result.key for result in results}) == 151

    stage.play(story, limits=FlowLimits(pong=0.2))


def test_peer_whose_system_is_gone_is_given_up_by_ours_as_soon_as_by_timer_f(
    stage: Stage, over: ssl.SSLContext | None
) -> None:
    async def story(caller: Caller) -> None:
        async with serving(Peer(), tls=over) as hop:
            await caller.ask(hop)
            flow = caller.endpoint._flows.find(hop)
            assert flow is not None
            own = cast("asyncio.Transport", flow._connection).get_extra_info("socket")
            assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 32_000

    stage.play(story)


# Large requests


def test_large_request_goes_over_tcp_and_over_udp_where_that_is_refused(stage: Stage) -> None:
    async def story(caller: Caller) -> None:
        peer = Peer()
        async with serving(peer) as hop, echo_phone() as address:
            results = await caller.ask(Hop(hop.address), Hop(address), body=LARGE)
            assert [(result.ending, result.status) for result in results] == [(Ending.ANSWERED, 200)] * 2
        [request] = peer.requests
        assert (request.top_via.transport, request.body) == ("TCP", LARGE)
        assert len(caller.results) == 2

    stage.play(story)


def test_large_request_goes_over_udp_where_tcp_is_not_answered(stage: Stage) -> None:
    async def story(caller: Caller) -> None:
        address = ("127.0.0.1", free_port())
        phone, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: EchoPhone(200), address)
        with ExitStack() as stack:
            stack.callback(phone.close)
            stack.enter_context(socket.create_server(address, backlog=0))
            for _ in range(3):  # a full queue: the next one gets no answer to its SYN
                other = stack.enter_context(socket.socket())
                other.setblocking(False)
                other.connect_ex(address)
            [result] = await caller.ask(Hop(address), body=LARGE)
        assert (result.ending, result.status) == (Ending.ANSWERED, 200)

    stage.play(story, limits=FlowLimits(connect=0.2))


# The end


@pytest.mark.parametrize("debug", [False, True])
def test_closing_in_any_state_leaves_nothing_behind_and_nobody_complains(
    stage: Stage, over: ssl.SSLContext | None, debug: bool, caplog: pytest.LogCaptureFixture
) -> None:
    transport = TCP if over is None else TLS

    async def story(caller: Caller) -> None:
        silent = Peer(ignore)
        async with AsyncExitStack() as stack:
            idle = await stack.enter_async_context(serving(Peer(), tls=over, name=NAME))
            waiting = await stack.enter_async_context(serving(silent, tls=over, name=NAME))
            closing = await stack.enter_async_context(serving(Peer(challenge_and_close), tls=over, name=NAME))
            mute = stack.enter_context(socket.create_server(("127.0.0.1", 0)))  # for TLS: in the handshake
            await caller.ask(idle)
            caller.send("waits", waiting)
            await wait_until_async(lambda: bool(silent.requests), "a request", within=PATIENCE)
            caller.send("challenged", closing, credentials=OURS)
            caller.send("connecting", Hop(mute.getsockname(), transport, NAME))
            caller.send("refused", Hop(("127.0.0.1", free_port()), transport, NAME))
            for _ in range(3):
                await asyncio.sleep(0)
            caller.send("in the line", Hop(("127.0.0.1", free_port()), transport, NAME))
            ended = len(caller.results)
            caller.endpoint.close()
            await wait_until_async(lambda: not silent.open, "the end of the connection", within=PATIENCE)
            assert len(caller.results) == ended

    with caplog.at_level(logging.WARNING):
        stage.play(story, limits=FlowLimits(most=4), debug=debug)
    assert [record for record in caplog.records if "Executing" not in record.getMessage()] == []


@pytest.mark.parametrize("moment", range(0, 12, 2))
def test_closing_at_any_moment_of_connecting_leaves_nothing_behind(
    stage: Stage, over: ssl.SSLContext | None, moment: int
) -> None:
    async def story(caller: Caller) -> None:
        peer = Peer()
        async with serving(peer, tls=over, name=NAME) as hop:
            for number in range(5):
                caller.send(number, hop)
            for _ in range(moment):
                await asyncio.sleep(0)
            caller.endpoint.close()
            ended = len(caller.results)
            await asyncio.sleep(0.02)
            assert len(caller.results) == ended
            assert peer.open == []

    stage.play(story)


def test_connections_that_were_opened_and_closed_leave_no_descriptors(
    stage: Stage, over: ssl.SSLContext | None
) -> None:
    """Two thousand over TCP; those over TLS are a tenth, since a handshake costs a millisecond at each end."""

    async def story(caller: Caller) -> None:
        peer = Peer()
        rounds = 4 if over is None else 2
        count = 500 if over is None else 50
        async with serving(peer, host="0.0.0.0", tls=over, name=NAME) as listening:
            before = descriptors()
            for number in range(rounds):
                hops = [
                    Hop((f"127.0.{index // 250}.{index % 250 + 1}", listening.address[1]), *listening[1:])
                    for index in range(count)
                ]
                opened = Caller(caller.tls, FlowLimits(most=count, idle=0.1), Timers())
                for start in range(0, count, 50):
                    assert set(endings(await opened.ask(*hops[start : start + 50]))) == {Ending.ANSWERED}
                if number % 2:
                    await wait_until_async(lambda: not opened.endpoint.connections, "idle close", within=5)  # noqa: B023
                opened.endpoint.close()
                await wait_until_async(lambda: not peer.open, "the end of all", within=PATIENCE)
                await asyncio.sleep(0.01)
            assert len(peer.wires) == rounds * count
            assert descriptors() <= before + 2

    stage.play(story)


def test_ten_thousand_requests_over_one_connection_take_no_memory(stage: Stage) -> None:
    async def story(caller: Caller) -> None:
        peer = Peer(accept_and_forget)
        async with serving(peer) as hop:
            await rush(caller, hop, 2_500)
            gc.collect()
            before = sys.getallocatedblocks()
            await rush(caller, hop, 10_000)
            gc.collect()
            assert sys.getallocatedblocks() - before < 2_000, "not one for each request"
        assert len(peer.wires) == 1

    stage.play(story)


def accept_and_forget(wire: Wire, request: Request) -> None:
    accept(wire, request)
    wire.requests.clear()
    wire.times.clear()


async def rush(caller: Caller, hop: Hop, count: int) -> None:
    """Send requests, a hundred at a time."""
    for _ in range(count // 100):
        assert set(endings(await caller.ask(*[hop] * 100))) == {Ending.ANSWERED}
        caller.results.clear()
