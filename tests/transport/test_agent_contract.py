"""What both SIP engines owe to whoever sends with them, against SIPp and against asyncio's own sockets and TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import pytest

from resyncctl.clock import monotonic
from resyncctl.errors import TransportError
from resyncctl.sip.digest import Credentials
from resyncctl.sip.hop import Hop, Transport
from resyncctl.sip.message import Request
from resyncctl.sip.transaction import Timers
from resyncctl.sip.uac import Ending
from resyncctl.sip.uas import Address
from resyncctl.transport.agent import Agent
from resyncctl.transport.endpoint import ANY
from resyncctl.transport.flow import FlowLimits
from resyncctl.transport.ip import TlsFiles
from resyncctl.transport.link import Refusal
from tests.peers import sipp
from tests.peers.certificates import NAME, Certificate, Certificates
from tests.peers.digest import Credentials as PeerCredentials
from tests.peers.ports import free_port
from tests.peers.sipp import SippPhone
from tests.peers.waiting import wait_until_async
from tests.transport.agents import (
    FROM,
    TRUSTING,
    Engine,
    Notice,
    Results,
    asyncio_engine,
    pjsua2_engine,
    stream_phone,
)
from tests.transport.phones import echo_phone

UDP, TCP, TLS = Transport.UDP, Transport.TCP, Transport.TLS
PATIENT = Timers()
IMPATIENT = Timers(t1=0.05, t2=0.2, timeout=0.5)

MakeAgent = Callable[..., Agent]


@pytest.fixture(
    params=[
        pytest.param(asyncio_engine, id="asyncio"),
        pytest.param(pjsua2_engine, id="pjsua2", marks=pytest.mark.needs("pjsua2")),
    ]
)
def engine(request: pytest.FixtureRequest) -> Engine:
    made: Engine = request.param
    return made


@pytest.fixture
def results() -> Results:
    return Results()


@pytest.fixture
async def opened(engine: Engine, results: Results) -> AsyncIterator[MakeAgent]:
    """Make agents that are closed with the test."""
    agents: list[Agent] = []

    def make(
        *, local: Address = ANY, timers: Timers = PATIENT, limits: FlowLimits = TRUSTING, tls: TlsFiles | None = None
    ) -> Agent:
        agents.append(engine(results, local=local, timers=timers, limits=limits, tls=tls))
        return agents[-1]

    yield make
    for agent in agents:
        agent.close()
    await asyncio.sleep(0)


@pytest.fixture
def agent(opened: MakeAgent) -> Agent:
    return opened()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.getbasetemp() / "certificates")


@pytest.fixture
def closed_port() -> Address:
    return "127.0.0.1", free_port()


def served(certificate: Certificate, *, client_ca: Path | None = None) -> ssl.SSLContext:
    """Return what a TLS server of the tests runs with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)
    return context


@pytest.mark.needs("sipp")
@pytest.mark.parametrize("transport", [UDP, TCP])
@pytest.mark.parametrize(("status", "reason"), [(200, "OK"), (404, "Not Found"), (603, "Decline")])
async def test_a_final_response_is_reported_with_its_times(
    agent: Agent, results: Results, transport: Literal[Transport.UDP, Transport.TCP], status: int, reason: str
) -> None:
    over: Literal["udp", "tcp"] = "udp" if transport is UDP else "tcp"
    with SippPhone(sipp.answers(status, reason), transport=over) as phone:
        before = monotonic()
        sent_at = agent.send(Notice(Hop(phone.address, transport)), "phone")
        result = await results.next()
    assert (result.key, result.ending, result.status) == ("phone", Ending.ANSWERED, status)
    assert result.retry_after == -1
    assert result.detail == reason or status == 200
    assert before <= sent_at <= result.sent_at <= result.ended_at <= monotonic()
    assert result.ended_at - result.sent_at < 0.1


@pytest.mark.needs("sipp")
async def test_retry_after_is_reported_in_seconds(agent: Agent, results: Results) -> None:
    with SippPhone(sipp.busy_then_ok(retry_after=17)) as phone:
        [result] = await results.of(agent, Notice(Hop(phone.address)))
    assert (result.ending, result.status, result.retry_after) == (Ending.ANSWERED, 503, 17)


@pytest.mark.needs("sipp")
async def test_who_never_answers_gets_the_request_again_until_timer_f(opened: MakeAgent, results: Results) -> None:
    agent = opened(timers=IMPATIENT)
    with SippPhone(sipp.silent()) as phone:
        [result] = await results.of(agent, Notice(Hop(phone.address)))
        requests = phone.wait_for(4)
    assert (result.ending, result.status) == (Ending.TIMEOUT, 0)
    assert 0.49 <= result.ended_at - result.sent_at < 0.8  # PJSIP counts in milliseconds
    # T1 0.05, T2 0.2: sent at 0, 0.05, 0.15, 0.35
    assert len(requests) == 4
    assert len({request.text for request in requests}) == 1


@pytest.mark.needs("sipp")
async def test_over_tcp_nothing_is_sent_again(opened: MakeAgent, results: Results) -> None:
    agent = opened(timers=IMPATIENT)
    with SippPhone(sipp.silent(), transport="tcp") as phone:
        [result] = await results.of(agent, Notice(Hop(phone.address, TCP)))
        requests = phone.wait_for(1)
    assert (result.ending, len(requests)) == (Ending.TIMEOUT, 1)
    assert 0.49 <= result.ended_at - result.sent_at < 0.8


@pytest.mark.needs("sipp")
async def test_a_provisional_response_is_no_result(agent: Agent, results: Results) -> None:
    with SippPhone(sipp.trying_then_ok(pause=0.3)) as phone:
        [result] = await results.of(agent, Notice(Hop(phone.address)))
    assert (result.ending, result.status) == (Ending.ANSWERED, 200)
    assert result.ended_at - result.sent_at >= 0.25


@pytest.mark.needs("sipp")
@pytest.mark.parametrize("transport", [UDP, TCP])
async def test_the_request_is_on_the_wire_as_it_was_given(
    agent: Agent, results: Results, transport: Literal[Transport.UDP, Transport.TCP]
) -> None:
    routes = ("<sip:edge.test;lr=on;received=sip:192.0.2.7:5060%3btransport%3Dtcp>", "<sip:core.test:5070;lr>;x=1")
    uri = "sip:10%2f0@192.0.2.7:4711;ob;transport=UDP;X-Long=%41"
    identity = (("P-Asserted-Identity", "<sip:boss@pbx.test>"), ("X-Order", "as it came"))
    over: Literal["udp", "tcp"] = "udp" if transport is UDP else "tcp"
    with SippPhone(sipp.answers(), transport=over) as phone:
        notice = Notice(Hop(phone.address, transport), uri, routes, "line one\r\nline two", headers=identity)
        [result] = await results.of(agent, notice)
        [received] = phone.wait_for(1)
    assert result.status == 200
    assert received.start_line == f"NOTIFY {uri} SIP/2.0"
    assert received.headers("Route") == [", ".join(routes)]
    assert received.headers("Event") == ["check-sync;reboot=true"]
    assert received.headers("Subscription-State") == ["terminated"]
    assert [received.header(name) for name, _ in identity] == [value for _, value in identity]
    assert received.headers("Content-Type") == ["text/plain"]
    assert received.headers("Content-Length") == ["18"]
    assert received.body.strip() == "line one\nline two"
    sender, _, tag = (received.header("From") or "").partition(";tag=")
    assert (sender, bool(tag)) == (f"<{FROM}>", True)
    [via] = received.headers("Via")
    [(local, hop)] = notice.prepared
    assert hop == notice.destination
    assert via.startswith(f"SIP/2.0/{transport.upper()} {local[0]}:{local[1]};")
    assert ";rport" in via
    assert ";branch=z9hG4bK" in via
    assert received.header("Contact") == f"<sip:check@{local[0]}:{local[1]}>"


@pytest.mark.needs("sipp")
@pytest.mark.parametrize("status", [401, 407])
async def test_a_challenge_is_answered_with_the_phones_own_credentials(
    agent: Agent, results: Results, status: Literal[401, 407]
) -> None:
    uri = "sip:100@phone.test"
    first, second = PeerCredentials("alice", "secret-a"), PeerCredentials("bob", "secret-b")
    with (
        SippPhone(sipp.challenge_expected(first, uri, status=status)) as one,
        SippPhone(sipp.challenge_expected(second, uri, status=status)) as other,
    ):
        ended = await results.of(
            agent,
            Notice(Hop(one.address), uri, credentials=Credentials("alice", "secret-a")),
            Notice(Hop(other.address), uri, credentials=Credentials("bob", "secret-b")),
            Notice(Hop(other.address), uri, credentials=Credentials("alice", "secret-a")),
            Notice(Hop(other.address), uri),
        )
        requests = one.wait_for(2)
    assert [(result.ending, result.status) for result in ended] == [
        (Ending.ANSWERED, 200),
        (Ending.ANSWERED, 200),
        (Ending.ANSWERED, 403),
        (Ending.NO_CREDENTIALS, status),
    ]
    assert ended[3].detail == "the challenge is for realm 'phone.test'"
    assert [request.header("CSeq") for request in requests] == ["1 NOTIFY", "2 NOTIFY"]
    assert len({request.header("Call-ID") for request in requests}) == 1
    assert len({request.header("From") for request in requests}) == 1


@pytest.mark.needs("sipp")
async def test_a_challenge_is_answered_once(agent: Agent, results: Results) -> None:
    uri = "sip:100@phone.test"
    with SippPhone(sipp.challenge_again(PeerCredentials("alice", "secret"), uri)) as phone:
        notice = Notice(Hop(phone.address), uri, credentials=Credentials("alice", "wrong"))
        [result] = await results.of(agent, notice)
        requests = phone.wait_for(2)
    assert (result.ending, result.status) == (Ending.CREDENTIALS_REFUSED, 401)
    assert len(requests) == 2


@pytest.mark.needs("sipp")
async def test_the_strongest_algorithm_is_chosen_and_a_stale_nonce_is_answered_again(
    agent: Agent, results: Results
) -> None:
    uri = "sip:100@phone.test"
    ours, theirs = Credentials("alice", "secret"), PeerCredentials("alice", "secret")
    with (
        SippPhone(sipp.challenge_choice(theirs, uri)) as choosy,
        SippPhone(sipp.challenge_stale(theirs, uri), transport="tcp") as stale,
    ):
        ended = await results.of(
            agent,
            Notice(Hop(choosy.address), uri, credentials=ours),
            Notice(Hop(stale.address, TCP), uri, credentials=ours),
        )
    assert [(result.ending, result.status) for result in ended] == [(Ending.ANSWERED, 200)] * 2


async def test_a_closed_port_is_told_at_once_and_only_of_what_went_there(
    agent: Agent, results: Results, closed_port: Address
) -> None:
    async with echo_phone() as address, stream_phone() as over_tcp:
        before = monotonic()
        order = [Hop(closed_port), Hop(address), Hop(closed_port, TCP), over_tcp] * 5
        ended = await results.of(agent, *map(Notice, order))
        assert monotonic() - before < 0.5
    assert [result.ending for result in ended] == [Ending.REFUSED, Ending.ANSWERED, Ending.REFUSED, Ending.ANSWERED] * 5
    assert {result.detail for result in ended[0::4]} == {"ICMP: Connection refused"}
    assert {result.detail for result in ended[2::4]} == {"no connection: Connection refused"}
    assert {result.sent_at for result in ended[2::4]} == {0.0}, "nothing has left without a connection"
    assert all(result.sent_at for result in ended[0::4])


async def test_two_thousand_requests_are_each_answered_once(
    agent: Agent, results: Results, closed_port: Address
) -> None:
    async with echo_phone() as address:
        for _ in range(20):
            order = [Hop(closed_port) if number in {7, 8} else Hop(address) for number in range(100)]
            ended = await results.of(agent, *map(Notice, order))
            assert [result.ending for result in ended] == [
                Ending.REFUSED if hop.address == closed_port else Ending.ANSWERED for hop in order
            ]
    assert results.queue.empty()


async def test_as_many_may_wait_for_an_answer_as_there_are(opened: MakeAgent, results: Results) -> None:
    agent = opened(timers=IMPATIENT)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        ended = await results.of(agent, *[Notice(Hop(silent.getsockname())) for _ in range(1500)])
    assert {result.ending for result in ended} == {Ending.TIMEOUT}
    assert results.queue.empty()


@pytest.mark.needs("sipp")
async def test_all_requests_to_a_hop_share_one_connection(opened: MakeAgent, results: Results) -> None:
    agent = opened()
    with SippPhone(sipp.answers(), transport="tcp") as phone:
        notices = [Notice(Hop(phone.address, TCP)) for _ in range(200)]
        ended = await results.of(agent, *notices)
    assert {(result.ending, result.status) for result in ended} == {(Ending.ANSWERED, 200)}
    assert len({notice.prepared[0] for notice in notices}) == 1


async def test_more_connections_than_there_may_be_are_made_one_after_another(
    opened: MakeAgent, results: Results
) -> None:
    agent = opened(limits=FlowLimits(most=3))
    async with stream_phone() as one, stream_phone() as two, stream_phone() as three, stream_phone() as four:
        ended = await results.of(agent, *[Notice(hop) for hop in (one, two, three, four, one, two, three, four)])
    assert {(result.ending, result.status) for result in ended} == {(Ending.ANSWERED, 200)}


async def test_a_connection_that_ends_before_the_answer_is_told(agent: Agent, results: Results) -> None:
    async with stream_phone(status=None) as hop:
        [result] = await results.of(agent, Notice(hop))
        assert result.ending is Ending.CONNECTION_LOST
        assert result.sent_at > 0.0
        assert result.detail.startswith("the peer has ")
        [again] = await results.of(agent, Notice(hop))  # over a new one
        assert again.ending is Ending.CONNECTION_LOST


@pytest.mark.parametrize("transport", [TCP, TLS])
async def test_a_connection_that_takes_too_long_is_told(
    opened: MakeAgent, results: Results, transport: Transport
) -> None:
    agent = opened(limits=FlowLimits(connect=0.3))
    with ExitStack() as sockets:
        silent = sockets.enter_context(socket.socket())
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        address = silent.getsockname()
        for _ in range(3 if transport is TCP else 0):  # a full queue: the next one gets no answer to its SYN
            other = sockets.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(address)
        before = monotonic()
        [result] = await results.of(agent, Notice(Hop(address, transport)))
    assert (result.ending, result.sent_at) == (Ending.NO_CONNECTION, 0.0)
    assert result.detail == "no connection within 0.3 s"
    assert 0.3 <= result.ended_at - before < 0.6


@pytest.mark.needs("openssl")
async def test_tls_is_verified_by_the_name_of_the_hop(
    opened: MakeAgent, results: Results, certificates: Certificates
) -> None:
    agent = opened(tls=TlsFiles(ca=certificates.ca))
    heard: list[Request] = []
    async with stream_phone(tls=served(certificates.right), calls=heard) as hop:
        assert hop.name == NAME
        ended = await results.of(agent, *[Notice(hop) for _ in range(3)])
    assert [(result.ending, result.status) for result in ended] == [(Ending.ANSWERED, 200)] * 3
    assert heard[0].top_via.transport == "TLS"


@pytest.mark.needs("openssl")
async def test_without_an_authority_of_our_own_those_of_the_system_are_trusted(
    opened: MakeAgent, results: Results, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stream_phone(tls=served(certificates.right)) as hop:
        [unknown] = await results.of(opened(), Notice(hop))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))  # what OpenSSL takes for those of the system
        [known] = await results.of(opened(), Notice(hop))
    assert (unknown.ending, unknown.sent_at) == (Ending.NOT_TRUSTED, 0.0)
    assert (known.ending, known.status) == (Ending.ANSWERED, 200)


@pytest.mark.needs("openssl")
@pytest.mark.parametrize(
    ("kind", "ending", "words"),
    [
        ("wrong_name", Ending.WRONG_NAME, ("match", "mismatch")),
        ("expired", Ending.EXPIRED, ("expired",)),
        ("self_signed", Ending.NOT_TRUSTED, ("self-signed", "self signed", "untrusted", "issuer")),
    ],
)
async def test_a_certificate_that_is_not_accepted_is_told_with_what_is_wrong(
    opened: MakeAgent, results: Results, certificates: Certificates, kind: str, ending: Ending, words: tuple[str, ...]
) -> None:
    certificate: Certificate = getattr(certificates, kind)
    heard: list[Request] = []
    async with stream_phone(tls=served(certificate), calls=heard) as hop:
        [result] = await results.of(opened(tls=TlsFiles(ca=certificates.ca)), Notice(hop))
        assert (result.ending, result.sent_at) == (ending, 0.0)
        assert result.detail.startswith(f"TLS: the certificate for {NAME} is not accepted: ")
        assert any(word in result.detail for word in words), result.detail
        assert not heard, "nothing may be sent to whom nobody trusts"
        [accepted] = await results.of(opened(tls=TlsFiles(ca=certificates.ca, verify=False)), Notice(hop))
        assert accepted.ending is Ending.ANSWERED


@pytest.mark.needs("openssl")
async def test_a_certificate_of_our_own_is_shown_where_it_is_wanted(
    opened: MakeAgent, results: Results, certificates: Certificates
) -> None:
    ours = certificates.client
    async with stream_phone(tls=served(certificates.right, client_ca=certificates.ca)) as hop:
        known = opened(tls=TlsFiles(ca=certificates.ca, cert=ours.certificate, key=ours.key))
        [result] = await results.of(known, Notice(hop))
        assert (result.ending, result.status) == (Ending.ANSWERED, 200)
        [refused] = await results.of(opened(tls=TlsFiles(ca=certificates.ca)), Notice(hop))
        assert refused.ending in {Ending.NO_TLS, Ending.CONNECTION_LOST}


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["hangs up", "speaks HTTP"])
async def test_what_does_not_speak_tls_is_told(agent: Agent, results: Results, answer: bytes) -> None:
    class Other(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(answer if data else b"")
            self.transport.close()

    server = await asyncio.get_running_loop().create_server(Other, "127.0.0.1", 0)
    [result] = await results.of(agent, Notice(Hop(server.sockets[0].getsockname(), TLS, NAME)))
    server.close()
    assert (result.ending, result.sent_at) == (Ending.NO_TLS, 0.0)
    assert result.detail.startswith("TLS: ")


async def test_who_asks_for_a_connection_is_told_when_it_stands_or_why_it_does_not(
    agent: Agent, results: Results, closed_port: Address
) -> None:
    told: asyncio.Queue[Refusal | None] = asyncio.Queue()
    async with stream_phone() as hop, echo_phone() as address:
        assert agent.reach(Hop(address), told.put_nowait), "over UDP it always would"
        assert not agent.reach(hop, told.put_nowait)
        assert told.empty()
        async with asyncio.timeout(5):
            assert await told.get() is None
        assert agent.reach(hop, told.put_nowait)
        [result] = await results.of(agent, Notice(hop))
        assert result.status == 200
        assert not agent.reach(Hop(closed_port, TCP), told.put_nowait)
        async with asyncio.timeout(5):
            refusal = await told.get()
    assert refusal == Refusal(Ending.REFUSED, "no connection: Connection refused")
    assert told.empty()


@pytest.mark.parametrize("transport", [UDP, TCP])
async def test_ipv6_is_spoken_where_the_phone_is_there(
    agent: Agent, results: Results, ipv6: str, transport: Transport
) -> None:
    async with echo_phone(ipv6) as six, echo_phone() as four, stream_phone(host=ipv6) as stream:
        target = Hop(six) if transport is UDP else stream
        notice = Notice(target)
        ended = await results.of(agent, notice, Notice(Hop(four)))
    assert [(result.ending, result.status) for result in ended] == [(Ending.ANSWERED, 200)] * 2
    assert notice.prepared[0][0][0] == "::1"


@pytest.mark.needs("sipp")
async def test_a_large_request_goes_over_tcp_and_over_udp_where_tcp_is_not_spoken(
    agent: Agent, results: Results
) -> None:
    text = "x" * 1400
    with SippPhone(sipp.answers()) as phone:
        notice = Notice(Hop(phone.address), text=text)
        [result] = await results.of(agent, notice)
        assert (result.ending, result.status) == (Ending.ANSWERED, 200)
        assert notice.prepared[-1][1] == Hop(phone.address)
    with SippPhone(sipp.answers(), transport="tcp") as phone:
        notice = Notice(Hop(phone.address), text=text)
        [result] = await results.of(agent, notice)
        assert (result.ending, result.status) == (Ending.ANSWERED, 200)
        assert notice.prepared[-1][1] == Hop(phone.address, TCP)


async def test_a_fixed_local_address_is_where_requests_come_from(opened: MakeAgent, results: Results) -> None:
    local = ("127.0.0.1", free_port())
    agent = opened(local=local)
    agent.bind()
    with pytest.raises(TransportError, match=r"^cannot open UDP port \d+ on 127\.0\.0\.1: .*; choose another"):
        opened(local=local).bind()
    async with echo_phone() as address:
        notice = Notice(Hop(address))
        [result] = await results.of(agent, notice)
    assert (result.status, notice.prepared[0][0]) == (200, local)


async def test_a_phone_of_the_other_ip_version_than_the_local_address_is_refused(opened: MakeAgent) -> None:
    agent = opened(local=("127.0.0.1", 0))
    for transport in (UDP, TCP):
        with pytest.raises(TransportError, match=r"^--local-address 127\.0\.0\.1 cannot reach ::1: it is of the other"):
            agent.send(Notice(Hop(("::1", 5060), transport)), 1)


async def test_a_closed_agent_tells_no_results_and_another_one_works(
    opened: MakeAgent, results: Results, closed_port: Address
) -> None:
    agent = opened()
    async with echo_phone() as address, stream_phone(status=0) as silent, stream_phone() as answering:
        for number, hop in enumerate([Hop(address), silent, answering, Hop(closed_port), Hop(closed_port, TCP)]):
            agent.send(Notice(hop), number)
        agent.close()
        agent.close()
        ended = await results.of(opened(), Notice(Hop(address)), Notice(answering))
        assert [result.status for result in ended] == [200, 200]
        assert results.queue.empty()


async def test_two_agents_at_once_each_get_their_own_results(opened: MakeAgent, results: Results) -> None:
    one, other = opened(), opened(local=("127.0.0.1", 0))
    async with echo_phone(status=486) as busy, echo_phone() as idle:
        for number in range(50):
            one.send(Notice(Hop(busy)), ("one", number))
            other.send(Notice(Hop(idle)), ("other", number))
        one_more = [await results.next() for _ in range(100)]
    assert {(result.key[0], result.status) for result in one_more if isinstance(result.key, tuple)} == {
        ("one", 486),
        ("other", 200),
    }


async def test_a_request_from_outside_is_answered(agent: Agent, results: Results) -> None:
    async with echo_phone() as address:
        notice = Notice(Hop(address))
        await results.of(agent, notice)
        local = ("127.0.0.1", notice.prepared[0][0][1])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.setblocking(False)
            stranger.bind(("127.0.0.1", 0))
            loop = asyncio.get_running_loop()
            for method, status in (("OPTIONS", 200), ("INVITE", 405)):
                host, port = stranger.getsockname()
                lines = [
                    f"{method} sip:x@127.0.0.1 SIP/2.0",
                    f"Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{method};rport",
                    "Max-Forwards: 70",
                    "From: <sip:a@test>;tag=1",
                    "To: <sip:b@test>",
                    f"Call-ID: {method}",
                    f"CSeq: 1 {method}",
                    "Content-Length: 0",
                ]
                await loop.sock_sendto(stranger, ("\r\n".join(lines) + "\r\n\r\n").encode(), local)
                async with asyncio.timeout(2):
                    answer = await loop.sock_recv(stranger, 4000)
                assert answer.startswith(f"SIP/2.0 {status} ".encode())
    assert results.queue.empty()


async def test_results_come_while_nobody_sends(agent: Agent, results: Results) -> None:
    """An engine that is looked at now and then has to look by itself."""
    async with echo_phone() as address:
        before = monotonic()
        agent.send(Notice(Hop(address)), 1)
        await wait_until_async(lambda: not results.queue.empty(), "an answer", within=1.0)
        result = await results.next()
    assert result.ended_at - before < 0.05
