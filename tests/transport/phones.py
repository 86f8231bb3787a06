"""What the transport tests talk with: a receiver that keeps everything, a phone that answers, a NOTIFY to send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

from resyncctl.sip.digest import Credentials
from resyncctl.sip.hop import Hop, Transport
from resyncctl.sip.message import Request, parse
from resyncctl.sip.notify import NotifyTemplate, Sender
from resyncctl.sip.uac import Ending, Outgoing
from resyncctl.sip.uas import Address, reply
from resyncctl.transport.link import Link, Network

PATIENCE = 5.0
"""Seconds of real time that a test waits for a datagram on loopback before it fails."""
_TEMPLATE = NotifyTemplate(Sender("sip:check@pbx", "sip:check@pbx", "resyncctl"), "check-sync")


@dataclass(frozen=True, slots=True)
class Failure:
    """A delivery failure as a receiver got it."""

    quoted: bytes
    destination: Address
    ending: Ending
    detail: str


class Mailbox:
    """A receiver that keeps what arrives, in order."""

    def __init__(self) -> None:
        self.datagrams: list[tuple[bytes, Address]] = []
        self.failures: list[Failure] = []
        self._arrived = asyncio.Event()

    def datagram_received(self, data: bytes, source: Address) -> None:
        self.datagrams.append((data, source))
        self._arrived.set()

    def delivery_failed(self, quoted: bytes, destination: Address, ending: Ending, detail: str) -> None:
        self.failures.append(Failure(quoted, destination, ending, detail))
        self._arrived.set()

    async def until(self, *, datagrams: int = 0, failures: int = 0) -> None:
        """Wait until that many have arrived."""
        async with asyncio.timeout(PATIENCE):
            while len(self.datagrams) < datagrams or len(self.failures) < failures:
                self._arrived.clear()
                await self._arrived.wait()


class Phone:
    """Answers every request with `status` over a link, and keeps when each came."""

    def __init__(self, network: Network, local: Address, *, status: int = 200) -> None:
        self.status = status
        self.requests: list[Request] = []
        self.times: list[float] = []
        self.link: Link = network.open(local, self)

    def datagram_received(self, data: bytes, source: Address) -> None:
        request = parse(data)
        assert isinstance(request, Request)
        self.requests.append(request)
        self.times.append(round(asyncio.get_running_loop().time(), 6))
        if self.status:
            self.link.send(bytes(reply(request, self.status, source=source)), source)

    def delivery_failed(self, quoted: bytes, destination: Address, ending: Ending, detail: str) -> None:
        """Take no notice: a phone does not care what became of its answer."""


class EchoPhone(asyncio.DatagramProtocol):
    """A phone on a socket of asyncio's own, so that our sockets are not judged by themselves."""

    def __init__(self, status: int) -> None:
        self._status = status
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        request = parse(data)
        assert isinstance(request, Request)
        assert self._transport is not None
        self._transport.sendto(bytes(reply(request, self._status, source=addr[:2])), addr)


@asynccontextmanager
async def echo_phone(host: str = "127.0.0.1", *, status: int = 200) -> AsyncIterator[Address]:
    """Keep an EchoPhone running; gives its address."""
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: EchoPhone(status), local_addr=(host, 0)
    )
    name = transport.get_extra_info("sockname")
    try:
        yield str(name[0]), int(name[1])
    finally:
        transport.close()
        await asyncio.sleep(0)  # asyncio closes the socket in its next round


@dataclass(frozen=True, slots=True)
class Notify:
    """A NOTIFY to one phone, as the SIP core wants it (`sip.uac.Outgoing`)."""

    address: Address
    body: bytes = b""
    credentials: Credentials | None = None
    transport: Transport = Transport.UDP
    name: str = ""
    via: str = "SIP/2.0/UDP 192.0.2.1:5060"

    @property
    def destination(self) -> Hop:
        return Hop(self.address, self.transport, self.name)

    def prepared(self, local: Address, hop: Hop) -> None:
        """Take the Via of the hop; for `Endpoint`'s `prepare`."""
        host = f"[{local[0]}]" if ":" in local[0] else local[0]
        object.__setattr__(self, "via", f"SIP/2.0/{hop.transport.upper()} {host}:{local[1]}")

    @property
    def method(self) -> str:
        return "NOTIFY"

    @property
    def request_uri(self) -> str:
        host, port = self.address
        return f"sip:phone@[{host}]:{port}" if ":" in host else f"sip:phone@{host}:{port}"

    def render(self, *, token: str, branch: str, cseq: int, extra: str) -> bytes:
        head = _TEMPLATE.render(
            request_uri=self.request_uri,
            to_uri=self.request_uri,
            via=self.via,
            token=token,
            branch=branch,
            cseq=cseq,
            extra=extra,
        )
        return head + self.body


def prepare(request: Outgoing, local: Address, hop: Hop) -> None:
    """Make a Notify ready for a hop."""
    assert isinstance(request, Notify)
    request.prepared(local, hop)
