"""What is special about the engine on PJSIP: one stack for the process, few sockets, C code that must not crash."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from resyncctl.errors import TransportError
from resyncctl.sip.hop import Hop, Transport
from resyncctl.sip.message import Request, parse
from resyncctl.sip.transaction import Timers
from resyncctl.sip.uac import Ending
from resyncctl.sip.uas import Address
from resyncctl.transport.agent import Agent
from resyncctl.transport.ip import TlsFiles
from resyncctl.transport.pjsip import library as pjsip_library
from resyncctl.transport.pjsip.agent import PjsipAgent
from tests.peers import sipp
from tests.peers.certificates import Certificates
from tests.peers.process import REPOSITORY
from tests.peers.sipp import SippPhone
from tests.transport.agents import Notice, Results, pjsua2_engine, prepare, stream_phone
from tests.transport.phones import echo_phone

pytestmark = pytest.mark.needs("pjsua2")

TCP = Transport.TCP


@pytest.fixture
def results() -> Results:
    return Results()


@pytest.fixture
async def agent(results: Results) -> AsyncIterator[Agent]:
    made = pjsua2_engine(results)
    yield made
    made.close()
    await asyncio.sleep(0)


def resident() -> int:
    """Return how many bytes of memory this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def listening() -> list[Address]:
    """Return where this process listens for connections."""
    found: list[Address] = []
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # no socket
            probe = socket.socket(fileno=int(path.name))
            if probe.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                found.append(probe.getsockname()[:2])
            probe.detach()
    return found


ALONE = """
import asyncio, socket, sys
from resyncctl.sip.hop import Hop, Transport
from resyncctl.sip.transaction import Timers
from tests.transport.agents import Notice, Results, prepare, pjsua2_engine, stream_phone
from tests.transport.phones import echo_phone

async def story():
    results = Results()
    agent = pjsua2_engine(results, timers=Timers(t1=0.05, timeout=5.0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
        nobody.bind(("127.0.0.1", 0))
        silent = Hop(nobody.getsockname())
        def send(hop):
            agent.send(Notice(hop), object())
%s

asyncio.run(story())
"""


def run_alone(story: str) -> tuple[int, str, str]:
    """Run a story in a process of its own, where C code may crash; return its status and what it wrote.

    It finds an agent, `send(hop)` and a `silent` phone.
    """
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", ALONE % textwrap.indent(textwrap.dedent(story), " " * 8)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stderr, done.stdout


def test_without_the_wheel_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib.util, "find_spec", absent)
    with pytest.raises(TransportError) as raised:
        pjsip_library.load()
    assert str(raised.value) == "--engine pjsua2 needs the PJSIP wheel: pip install 'resyncctl[pjsua2]'"
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    with pytest.raises(
        TransportError, match=r"'resyncctl\[pjsua2\]' \(there is none for Python 3\.13 yet: use Python 3\.11"
    ):
        pjsip_library.load()


def test_another_version_than_the_one_whose_structures_are_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pjsip_library, "VERSION", b"2.14")
    with pytest.raises(
        TransportError, match=r"^--engine pjsua2 works with PJSIP 2\.14 on 64 bits, and this is 2\.15\.1: pip"
    ):
        pjsip_library.load()


async def test_another_thread_is_told_that_there_is_one_pjsip(agent: Agent, results: Results) -> None:
    told: list[str] = []

    def elsewhere() -> None:
        with pytest.raises(TransportError) as raised:
            pjsua2_engine(results)
        told.append(str(raised.value))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert told[0].startswith(
        "--engine pjsua2: PJSIP is one for a process, and another thread of this one sends with it"
    )


def test_threads_may_take_turns() -> None:
    statuses: list[int] = []

    async def story() -> None:
        results = Results()
        agent = pjsua2_engine(results)
        async with echo_phone() as address:
            [result] = await results.of(agent, Notice(Hop(address)))
        agent.close()
        statuses.append(result.status)

    for _ in range(3):
        thread = threading.Thread(target=asyncio.run, args=(story(),))
        thread.start()
        thread.join()
    assert statuses == [200, 200, 200]


async def test_pjsip_writes_nothing_to_the_terminal(
    agent: Agent, results: Results, capfd: pytest.CaptureFixture[str]
) -> None:
    async with echo_phone() as address, stream_phone(status=None) as broken:
        await results.of(agent, Notice(Hop(address)), Notice(broken), Notice(Hop(("127.0.0.1", 9), TCP)))
    assert capfd.readouterr() == ("", "")


class Copies:
    """A trace that keeps what it is given."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, Transport, Address, Address, bool]] = []

    def message(
        self, data: bytes, *, transport: Transport, local: Address, remote: Address, sent: bool, at_us: int
    ) -> None:
        assert at_us > 1_500_000_000_000_000
        assert data.endswith(b"\r\n\r\n")
        self.messages.append((data.decode().partition("\r\n")[0], transport, local, remote, sent))

    def close(self) -> None:
        """Keep what there is."""


@pytest.mark.needs("openssl")
async def test_a_trace_gets_every_message_with_its_real_addresses(
    results: Results, tmp_path_factory: pytest.TempPathFactory
) -> None:
    certificates = Certificates(tmp_path_factory.getbasetemp() / "certificates")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.right.certificate, certificates.right.key)
    copies = Copies()
    agent = PjsipAgent(
        timers=Timers(), on_result=results, prepare=prepare, tls=TlsFiles(ca=certificates.ca), tracer=copies
    )
    untraced = pjsua2_engine(results)
    async with echo_phone() as address, stream_phone() as over_tcp, stream_phone(tls=context, status=404) as over_tls:
        for hop in (Hop(address), over_tcp, over_tls):
            notice = Notice(hop)
            await results.of(agent, notice)
            [(local, _)] = notice.prepared
            status = "SIP/2.0 404 Not Found" if hop is over_tls else "SIP/2.0 200 OK"
            assert copies.messages == [
                ("NOTIFY sip:100@phone.test SIP/2.0", hop.transport, local, hop.address, True),
                (status, hop.transport, local, hop.address, False),
            ]
            copies.messages.clear()
        await results.of(untraced, Notice(Hop(address)))
        assert copies.messages == []
    agent.close()
    untraced.close()


@pytest.mark.needs("sipp")
async def test_five_thousand_requests_leave_the_memory_as_it_was(results: Results) -> None:
    agent = pjsua2_engine(results, timers=Timers())
    with SippPhone(sipp.answers(), trace=False) as phone:
        destination = Hop(phone.address)
        for _ in range(10):
            await results.of(agent, *[Notice(destination) for _ in range(100)])
        before = resident()
        for _ in range(50):
            ended = await results.of(agent, *[Notice(destination) for _ in range(100)])
            assert {result.status for result in ended} == {200}
        grown = resident() - before
    agent.close()
    assert grown < 3_000_000


async def test_more_phones_than_pjsip_has_sockets_wait_for_their_turn(agent: Agent, results: Results) -> None:
    async with stream_phone(host="0.0.0.0") as everywhere:
        hops = [Hop((f"127.0.0.{last}", everywhere.address[1]), TCP) for last in range(1, 101)]
        ended = await results.of(agent, *map(Notice, hops))
    assert {(result.ending, result.status) for result in ended} == {(Ending.ANSWERED, 200)}


@pytest.mark.needs("sipp")
async def test_nobody_can_connect_to_who_only_sends(agent: Agent, results: Results) -> None:
    with SippPhone(sipp.answers(), transport="tcp") as phone:
        await results.of(agent, Notice(Hop(phone.address, TCP)), Notice(Hop(("127.0.0.1", 9), Transport.TLS)))
        assert listening() == []


@pytest.mark.parametrize("transport", [Transport.UDP, TCP])
async def test_a_request_that_pjsip_has_no_room_for_is_not_sent(
    agent: Agent, results: Results, transport: Transport
) -> None:
    async with echo_phone() as address, stream_phone() as stream:
        hop = stream if transport is TCP else Hop(address)
        ended = await results.of(agent, Notice(hop, text="x" * 4000), Notice(hop))
    assert (ended[0].ending, ended[0].detail) == (Ending.NOT_SENT, "cannot send: PJSIP has room for 4000 bytes")
    assert ended[1].ending is Ending.ANSWERED


async def test_what_pjsip_cannot_read_is_not_sent(
    agent: Agent, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Notice):
        def render(self, *, token: str, branch: str, cseq: int, extra: str) -> bytes:
            data = super().render(token=token, branch=branch, cseq=cseq, extra=extra)
            return data.replace(b"\r\nFrom: <", b"\r\nFrom: <<")

    async with echo_phone() as address:
        ended = await results.of(agent, Broken(Hop(address)), Notice(Hop(address)))
    assert (ended[0].ending, ended[0].detail) == (Ending.NOT_SENT, "cannot send: PJSIP cannot read this: From")
    assert ended[1].ending is Ending.ANSWERED


@pytest.mark.parametrize("transport", [Transport.UDP, TCP])
@pytest.mark.parametrize("host", ["phone.test", "fe80::1%lo"])
async def test_an_address_that_pjsip_cannot_use_is_refused(agent: Agent, host: str, transport: Transport) -> None:
    with pytest.raises(TransportError) as raised:
        agent.send(Notice(Hop((host, 5060), transport)), 1)
    assert str(raised.value) == f"--engine pjsua2 cannot use the address {host!r}; use --engine asyncio"


STORIES = {
    "waiting over UDP": """
        send(silent)
        agent.close()
        """,
    "thousands wait": """
        for _ in range(3000):
            send(silent)
        agent.close()
        """,
    "connecting": """
        send(Hop(silent.address, Transport.TCP))
        await asyncio.sleep(0.002)
        agent.close()
        """,
    "exit without close": """
        send(silent)
        await asyncio.sleep(0.1)
        sys.exit(0)
        """,
    "the loop ends without close": """
        send(silent)
        await asyncio.sleep(0.1)
        """,
    "waiting over TCP": """
        async with stream_phone(status=0) as hop:
            send(hop)
            await asyncio.sleep(0.05)
            agent.close()
        """,
    "closed by a result": """
        async with echo_phone() as address:
            closing = pjsua2_engine(lambda _: closing.close())
            for number in range(100):
                closing.send(Notice(Hop(address)), number)
            await asyncio.sleep(0.1)
        agent.close()
        """,
    "agent after agent": """
        async with echo_phone() as address:
            for _ in range(15):
                one = pjsua2_engine(results)
                for hop in (Hop(address), silent, Hop(("127.0.0.1", 9)), Hop(("127.0.0.1", 9), Transport.TCP)):
                    one.send(Notice(hop), object())
                await asyncio.sleep(0.002)
                one.close()
        agent.close()
        """,
}


@pytest.mark.parametrize("story", [pytest.param(story, id=name) for name, story in STORIES.items()])
def test_ending_in_the_midst_does_not_crash(story: str) -> None:
    assert run_alone(story) == (0, "", "")


def test_more_agents_than_there_are_sockets_are_told_so() -> None:
    status, error, output = run_alone(
        """
        async with echo_phone() as address:
            agents = [pjsua2_engine(results) for _ in range(70)]
            try:
                for each in agents:
                    each.send(Notice(Hop(address)), object())
            except Exception as refused:
                print(refused)
            for each in agents:
                each.close()
            await asyncio.sleep(0.7)
            send(Hop(address))
            result = await results.next()
            print(result.status)
        agent.close()
        """
    )
    assert (status, error) == (0, "")
    assert output.splitlines() == [
        "--engine pjsua2: this process has all the 64 sockets that PJSIP can have; use --engine asyncio",
        "200",
    ]


def test_more_open_files_than_pjsip_knows_are_told_of() -> None:
    status, error, output = run_alone(
        """
        import os, resource
        async with echo_phone() as address:
            send(Hop(address))
            await results.next()
            resource.setrlimit(resource.RLIMIT_NOFILE, (1200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            for _ in range(1000):
                os.open(os.devnull, os.O_RDONLY)
            send(Hop(address))
            print((await results.next()).ending.name)
            send(Hop(address, Transport.TCP))
            print((await results.next()).detail)
            try:
                pjsua2_engine(results).send(Notice(Hop(address)), 1)
            except Exception as refused:
                print(refused)
        agent.close()
        """
    )
    assert (status, error) == (0, "")
    told = "--engine pjsua2: this process has more than 1000 files open, and PJSIP cannot have a socket beyond; use --engine"
    assert output.splitlines() == ["ANSWERED", f"{told} asyncio", f"{told} asyncio"]


def test_torture_messages_from_outside_do_not_crash() -> None:
    story = """
        from tests.sip.test_torture import messages
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            async with echo_phone() as address:
                notice = Notice(Hop(address))
                await results.of(agent, notice)
                for message in messages().values():
                    for data in (message, message[: len(message) // 2], message.replace(b":", b";", 3), message[::-1]):
                        stranger.sendto(data, ("127.0.0.1", notice.prepared[0][0][1]))
                    await asyncio.sleep(0.003)
                [result] = await results.of(agent, Notice(Hop(address)))
                print(result.status)
        agent.close()
        """
    assert run_alone(story) == (0, "", "200\n")


async def test_errors_of_other_datagrams_make_no_second_request_of_one_that_waits(results: Results) -> None:
    """What Linux says of one datagram it says to whoever sends the next one on that socket, PJSIP's retransmissions too."""
    agent = PjsipAgent(
        local=("127.0.0.1", 0), timers=Timers(t1=0.01, t2=0.02, timeout=2.0), on_result=results, prepare=prepare
    )
    agent.bind()
    ours = agent._ports.towards(("127.0.0.1", 1))._socket
    over = threading.Event()

    def provoke() -> None:
        over.wait(0.05)  # it has left by then
        while not over.wait(0.00001):
            with contextlib.suppress(OSError):
                ours.sendto(b"x", ("127.0.0.1", 1))

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.setblocking(False)
        thread = threading.Thread(target=provoke)
        thread.start()
        try:
            [result] = await results.of(agent, Notice(Hop(silent.getsockname())))
        finally:
            over.set()
            thread.join()
            agent.close()
        heard = []
        with contextlib.suppress(BlockingIOError):
            while True:
                heard.append(silent.recv(4096))
    assert result.ending is Ending.TIMEOUT
    branches = {message.top_via.branch for data in heard if isinstance(message := parse(data), Request)}
    assert len(branches) == 1
    assert len(heard) > 3


async def test_an_agent_gives_up_idle_connections_for_another_one(results: Results) -> None:
    """PJSIP's sockets are few, and one for the process."""
    others = Results()
    first, second = pjsua2_engine(results), pjsua2_engine(others)
    async with contextlib.AsyncExitStack() as stack:
        hops = [await stack.enter_async_context(stream_phone()) for _ in range(60)]
        answered = [await results.of(first, Notice(hop)) for hop in hops[:49]]
        assert {result.ending for [result] in answered} == {Ending.ANSWERED}
        got = [await others.of(second, Notice(hop)) for hop in hops[49:]]
        assert {result.ending for [result] in got} == {Ending.ANSWERED}
        first.close()
        second.close()
        await asyncio.sleep(0)
