"""The other end of connections, in memory or on sockets of the loop: it keeps what comes and does what it is told."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

from resyncctl.sip.framing import Framer
from resyncctl.sip.hop import Hop, Transport
from resyncctl.sip.message import Request, Response, parse
from resyncctl.sip.uas import Address, reply
from resyncctl.transport.memory import MemoryNetwork
from tests.transport.phones import Notify

CHALLENGE = ("WWW-Authenticate", 'Digest realm="phone.test", nonce="abc", algorithm=MD5')


@dataclass(frozen=True, slots=True)
class Call(Notify):
    """A Notify whose Content-Length is that of its body: in a stream it counts."""

    def render(self, *, token: str, branch: str, cseq: int, extra: str) -> bytes:
        head, end, _ = (
            Notify(self.address, via=self.via)
            .render(token=token, branch=branch, cseq=cseq, extra=extra)
            .partition(b"\r\n\r\n")
        )
        return head.replace(b"Content-Length: 0", b"Content-Length: %d" % len(self.body)) + end + self.body


React = Callable[["Wire", Request], None]


class Wire(asyncio.Protocol):
    """One connection as the peer sees it. Times are those of the event loop."""

    def __init__(self, peer: Peer) -> None:
        self.requests: list[Request] = []
        self.responses: list[Response] = []
        self.times: list[float] = []
        """When each request came."""
        self.line_ends: list[tuple[float, bytes]] = []
        self.closed_at: float | None = None
        self.error: Exception | None = None
        """What the connection ended with."""
        self.transport: asyncio.Transport
        self._peer = peer
        self._framer = Framer()

    @property
    def client(self) -> Address:
        """Where the connection comes from."""
        name = self.transport.get_extra_info("peername")
        return str(name[0]), int(name[1])

    @property
    def pings(self) -> list[float]:
        """When each ping came, in whole seconds."""
        return [round(at) for at, data in self.line_ends if data == b"\r\n\r\n"]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._peer.wires.append(self)

    def data_received(self, data: bytes) -> None:
        now = asyncio.get_running_loop().time()
        for octets in self._framer.feed(data):
            if octets.startswith(b"\r\n"):
                self.line_ends.append((now, octets))
                continue
            message = parse(octets)
            if isinstance(message, Response):
                self.responses.append(message)
            else:
                assert isinstance(message, Request)
                self.requests.append(message)
                self.times.append(round(now, 6))
                self._peer.react(self, message)

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = exc
        self.closed_at = asyncio.get_running_loop().time()

    def answer(self, request: Request, status: int = 200, *headers: tuple[str, str]) -> None:
        """Answer a request."""
        self.transport.write(self.answer_to(request, status, *headers))

    def answer_to(self, request: Request, status: int = 200, *headers: tuple[str, str]) -> bytes:
        """Return the answer to a request."""
        return bytes(reply(request, status, source=self.client, headers=headers))

    def send(self, data: bytes, *, pieces: int = 100_000) -> None:
        """Send bytes in pieces of that size, each on its own."""
        for start in range(0, len(data), pieces):
            self.transport.write(data[start : start + pieces])


def accept(wire: Wire, request: Request) -> None:
    """Answer 200."""
    wire.answer(request)


def ignore(wire: Wire, request: Request) -> None:
    """Answer nothing."""


def challenge_once(wire: Wire, request: Request) -> None:
    """Answer 401 to what has no credentials, 200 to what has some."""
    if request.get("Authorization") is None:
        wire.answer(request, 401, CHALLENGE)
    else:
        wire.answer(request)


def challenge_and_close(wire: Wire, request: Request) -> None:
    """The same, with a connection for each request."""
    challenge_once(wire, request)
    wire.transport.close()


class Peer:
    """What has come to an address over connections."""

    def __init__(self, react: React = accept) -> None:
        self.react = react
        self.wires: list[Wire] = []
        """The connections that have been made."""

    @classmethod
    def listening(cls, network: MemoryNetwork, address: Address, react: React = accept) -> Peer:
        """Make one that listens in a network in memory."""
        peer = cls(react)
        network.listen(address, peer.make)
        return peer

    def make(self) -> Wire:
        """Take one more connection."""
        return Wire(self)

    @property
    def requests(self) -> Sequence[Request]:
        """All requests, connection by connection."""
        return [request for wire in self.wires for request in wire.requests]

    @property
    def open(self) -> list[Wire]:
        """Return the connections that have not ended."""
        return [wire for wire in self.wires if wire.closed_at is None]


@asynccontextmanager
async def serving(
    peer: Peer, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, name: str = ""
) -> AsyncIterator[Hop]:
    """Let a peer listen on a socket of the running loop; gives its hop."""
    server = await asyncio.get_running_loop().create_server(peer.make, host, 0, ssl=tls)
    address = server.sockets[0].getsockname()[:2]
    try:
        yield Hop(address, Transport.TCP if tls is None else Transport.TLS, name)
    finally:
        server.close()
        for wire in peer.open:
            wire.transport.abort()
        await asyncio.sleep(0)
