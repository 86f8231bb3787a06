"""A uvloop send and receive loop that records nothing: the ceiling of any asyncio sender on this machine.

Run as a process of its own, `python -m tests.bench.bare_loop COUNT WINDOW PORT [WORD…]`, it prints one JSON object.
It is not a SIP stack: it sends the same valid NOTIFY again and again and takes any datagram for its answer. Words:

    distinct    every NOTIFY has its own user, branch, tag and Call-ID: the least that makes it a transaction
    connected   one connected socket, which is cheaper, and which a sender to many phones cannot use
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from typing import TYPE_CHECKING, Final, cast

import uvloop

from resyncctl.clock import monotonic

if TYPE_CHECKING:
    from collections.abc import Collection

SOCKET_BUFFER: Final = 4 << 20
"""Bytes; the usual 212,992 hold fewer than 200 datagrams of 450 bytes with the kernel's own overhead."""
PATIENCE: Final = 0.25
"""Seconds without an answer after which what was in flight counts as lost."""
FIRST: Final = 10_000_001
"""Number of the first request; eight digits keep every NOTIFY at the same size."""
LIMIT: Final = 60.0
"""Seconds after which a run is given up."""


def notify(port: int) -> bytes:
    """Return a NOTIFY check-sync as resyncctl would send it, about 450 bytes, with four `%d` to fill in."""
    return (
        f"NOTIFY sip:%d@127.0.0.1:{port} SIP/2.0\r\n"
        "Via: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bK4f1c7a9e%d;rport\r\n"
        "Max-Forwards: 70\r\n"
        "From: <sip:resyncctl@127.0.0.1>;tag=7c9e%d\r\n"
        f"To: <sip:1001@127.0.0.1:{port}>\r\n"
        "Call-ID: 0d9f4a3c%d@127.0.0.1\r\n"
        "CSeq: 1 NOTIFY\r\n"
        "Contact: <sip:resyncctl@127.0.0.1:5060>\r\n"
        "Event: check-sync\r\n"
        "Subscription-State: terminated;reason=noresource\r\n"
        "User-Agent: resyncctl/0.1.0\r\n"
        "Content-Length: 0\r\n"
        "\r\n"
    ).encode("ascii")


class BareLoop(asyncio.DatagramProtocol):
    """Keeps `window` requests in flight until `count` answers came; every answer sends the next request."""

    def __init__(self, count: int, window: int, *, port: int, words: Collection[str]) -> None:
        self.finished = asyncio.get_running_loop().create_future()
        self.received = 0
        self.lost = 0
        self._idle = 0.0  # seconds waited for datagrams that were lost; no part of the rate
        self._count, self._window = count, window
        self._template = notify(port)
        self._datagram = self._template % (FIRST, FIRST, FIRST, FIRST)
        self._distinct = "distinct" in words
        self._number = FIRST
        self._peer = None if "connected" in words else ("127.0.0.1", port)
        self._seen_at = self._started_at = self._ended_at = 0.0
        self._seen = 0

    @property
    def rate(self) -> float:
        """Transactions per second, without the time spent waiting for lost datagrams."""
        return self.received / (self._ended_at - self._started_at - self._idle)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)
        self._send = self._transport.sendto
        self._started_at = self._seen_at = monotonic()
        self._fill()
        asyncio.get_running_loop().call_later(PATIENCE, self._watch)

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:  # noqa: ARG002 -- asyncio's
        self.received += 1
        if self.received < self._count:
            if self._distinct:
                self._number = number = self._number + 1
                self._datagram = self._template % (number, number, number, number)
            self._send(self._datagram, self._peer)
        elif not self.finished.done():
            self._ended_at = monotonic()
            self.finished.set_result(None)

    def _fill(self) -> None:
        for _ in range(self._window):
            self._send(self._datagram, self._peer)

    def _watch(self) -> None:
        now = monotonic()
        if self.received == self._seen:
            self.lost += self._window
            self._idle += now - self._seen_at
            self._fill()
        self._seen, self._seen_at = self.received, now
        if not self.finished.done():
            asyncio.get_running_loop().call_later(PATIENCE, self._watch)


async def run(count: int, window: int, *, port: int, words: Collection[str]) -> BareLoop:
    """Do `count` transactions; raises TimeoutError after LIMIT seconds."""
    ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ours.setblocking(False)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        ours.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER)
    ours.bind(("127.0.0.1", 0))
    if "connected" in words:
        ours.connect(("127.0.0.1", port))
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: BareLoop(count, window, port=port, words=words), sock=ours
    )
    try:
        async with asyncio.timeout(LIMIT):
            await protocol.finished
    finally:
        transport.close()
    return protocol


def main(arguments: list[str]) -> None:
    """Print `{"rate": …, "lost": …}` for COUNT WINDOW PORT [WORD…]."""
    count, window, port = (int(argument) for argument in arguments[:3])
    done = uvloop.run(run(count, window, port=port, words=arguments[3:]))
    print(json.dumps({"rate": done.rate, "lost": done.lost}))  # noqa: T201 -- the result of the process


if __name__ == "__main__":
    main(sys.argv[1:])
