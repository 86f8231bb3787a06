"""What the contract of a SIP engine is tested with: each engine made alike, a NOTIFY to send, phones over TCP and TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

from resyncctl.sip.digest import Credentials
from resyncctl.sip.framing import Framer
from resyncctl.sip.hop import Hop, Transport
from resyncctl.sip.message import Request, parse
from resyncctl.sip.notify import NotifyTemplate, Sender, fields
from resyncctl.sip.transaction import Timers
from resyncctl.sip.uac import Outgoing, Result
from resyncctl.sip.uas import Address, reply
from resyncctl.transport.agent import Agent
from resyncctl.transport.endpoint import ANY, Endpoint
from resyncctl.transport.flow import FlowLimits
from resyncctl.transport.ip import IpNetwork, TlsFiles

PATIENCE = 8.0
"""Seconds of real time that a test waits for a result before it fails."""
FROM: Final = "sip:check@pbx.test"
TRUSTING: Final = FlowLimits()


@dataclass(slots=True, eq=False)
class Notice:
    """A NOTIFY to one hop, as an engine wants it (`agent.Request`)."""

    destination: Hop
    request_uri: str = "sip:100@phone.test"
    routes: tuple[str, ...] = ()
    text: str = ""
    credentials: Credentials | None = None
    headers: tuple[tuple[str, str], ...] = ()
    prepared: list[tuple[Address, Hop]] = field(default_factory=list)
    template: NotifyTemplate = field(init=False)
    via: str = ""

    @property
    def method(self) -> str:
        return "NOTIFY"

    @property
    def body(self) -> bytes:
        return self.text.encode()

    def prepare(self, local: Address, hop: Hop) -> None:
        """Take the local address and the hop that it leaves for."""
        self.prepared.append((local, hop))
        at = f"[{local[0]}]:{local[1]}" if ":" in local[0] else f"{local[0]}:{local[1]}"
        self.via = f"SIP/2.0/{hop.transport.upper()} {at}"
        self.template = NotifyTemplate(
            Sender(FROM, f"sip:check@{at}", "resyncctl test"),
            "check-sync;reboot=true",
            headers=self.headers,
            content_type="text/plain" if self.text else None,
            body=self.text,
        )

    def render(self, *, token: str, branch: str, cseq: int, extra: str) -> bytes:
        route_set = fields(("Route", ", ".join(self.routes))) if self.routes else ""
        return self.template.render(
            request_uri=self.request_uri,
            to_uri="sip:100@phone.test",
            via=self.via,
            token=token,
            branch=branch,
            cseq=cseq,
            extra=route_set + extra,
        )


def prepare(request: Outgoing, local: Address, hop: Hop) -> None:
    """Make a Notice ready for a hop."""
    assert isinstance(request, Notice)
    request.prepare(local, hop)


class Engine(Protocol):
    """Makes an agent."""

    def __call__(
        self,
        on_result: Callable[[Result], None],
        *,
        local: Address = ANY,
        timers: Timers = ...,
        limits: FlowLimits = ...,
        tls: TlsFiles | None = None,
    ) -> Agent: ...


def asyncio_engine(
    on_result: Callable[[Result], None],
    *,
    local: Address = ANY,
    timers: Timers = Timers(),  # noqa: B008  (frozen)
    limits: FlowLimits = TRUSTING,
    tls: TlsFiles | None = None,
) -> Agent:
    """Make an agent of the default engine."""
    return Endpoint(IpNetwork(tls), local=local, timers=timers, on_result=on_result, prepare=prepare, limits=limits)


def pjsua2_engine(
    on_result: Callable[[Result], None],
    *,
    local: Address = ANY,
    timers: Timers = Timers(),  # noqa: B008  (frozen)
    limits: FlowLimits = TRUSTING,
    tls: TlsFiles | None = None,
) -> Agent:
    """Make an agent on PJSIP."""
    from resyncctl.transport.pjsip.agent import PjsipAgent  # noqa: PLC0415  loads C code

    return PjsipAgent(local=local, timers=timers, on_result=on_result, prepare=prepare, limits=limits, tls=tls)


class Results:
    """Takes the results of an agent; `taking` tells that `send` runs, in which none may come."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Result] = asyncio.Queue()
        self.taking = False

    def __call__(self, result: Result) -> None:
        assert not self.taking, "a result within send"
        self.queue.put_nowait(result)

    async def next(self) -> Result:
        """Wait for one."""
        async with asyncio.timeout(PATIENCE):
            return await self.queue.get()

    async def of(self, agent: Agent, *requests: Notice) -> list[Result]:
        """Send requests at once, numbered from 0, and return their results in that order."""
        for number, request in enumerate(requests):
            self.taking = True
            agent.send(request, number)
            self.taking = False
            if number % 50 == 49:
                await asyncio.sleep(0)  # a phone in the same process has a buffer for some hundred
        results = [await self.next() for _ in requests]
        by_key = {result.key: result for result in results}
        assert len(by_key) == len(requests), "a request with two results"
        return [by_key[number] for number in range(len(requests))]


class StreamPhone(asyncio.Protocol):
    """A phone at the other end of a connection, on asyncio's own sockets and TLS."""

    def __init__(self, calls: list[Request], status: int | None) -> None:
        self._calls = calls
        self._status = status
        self._framer = Framer()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        for message in self._framer.feed(data):
            if message.startswith(b"\r\n"):
                continue
            request = parse(message)
            assert isinstance(request, Request)
            self._calls.append(request)
            if self._status is None:
                self._transport.abort()
            elif self._status:
                source = self._transport.get_extra_info("peername")
                self._transport.write(bytes(reply(request, self._status, source=source[:2])))


@asynccontextmanager
async def stream_phone(
    *,
    host: str = "127.0.0.1",
    status: int | None = 200,
    tls: ssl.SSLContext | None = None,
    calls: list[Request] | None = None,
) -> AsyncIterator[Hop]:
    """Keep a phone running that answers with `status`; 0 is no answer, None ends the connection. Gives its hop."""
    heard: list[Request] = [] if calls is None else calls
    server = await asyncio.get_running_loop().create_server(lambda: StreamPhone(heard, status), host, 0, ssl=tls)
    address = server.sockets[0].getsockname()[:2]
    try:
        yield Hop(address, Transport.TCP if tls is None else Transport.TLS, "" if tls is None else "pbx.test")
    finally:
        server.close()
        await asyncio.sleep(0)
