"""A network in memory with loss, delay, duplication and resets, for tests and for rehearsals without sockets."""

from __future__ import annotations

import asyncio
import errno
import os
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from resyncctl.errors import TransportError
from resyncctl.sip.hop import Hop
from resyncctl.sip.uac import Ending
from resyncctl.sip.uas import Address
from resyncctl.transport.link import Link, Receiver, Refusal


@dataclass(frozen=True, slots=True)
class Weather:
    """What happens to a datagram on its way. Shares are 0 to 1, times are seconds."""

    loss: float = 0.0
    duplication: float = 0.0
    resets: float = 0.0
    """Share of datagrams that come back as ICMP port unreachable, as from a phone that is booting."""
    delay: float = 0.0
    jitter: float = 0.0
    """Up to this much is added to the delay, so that datagrams overtake each other."""


class MemoryNetwork:
    """Links and connections in one process. What goes to an address that nobody has opened is refused, as ICMP and TCP would.

    `rng` decides loss and the like, so that a seed repeats a run. Works on any event loop, also one with its own time.
    """

    def __init__(self, *, rng: random.Random, weather: Weather | None = None) -> None:
        self._rng = rng
        self.weather = Weather() if weather is None else weather
        self._links: dict[Address, MemoryLink] = {}
        self._listeners: dict[Address, Callable[[], asyncio.Protocol]] = {}
        self._next_port = 49_152
        self.sent = 0
        """Datagrams handed over, those that were lost on the way included."""

    def open(self, local: Address, receiver: Receiver) -> Link:
        """Open a link (port 0 = any); raise TransportError when the address is taken."""
        if local[1] == 0:
            while (local[0], self._next_port) in self._links:
                self._next_port += 1
            local = (local[0], self._next_port)
            self._next_port += 1
        if local in self._links:
            raise TransportError(
                f"cannot open port {local[1]} on {local[0]}: Address already in use; choose another --local-address"
            )
        link = MemoryLink(self, local, receiver)
        self._links[local] = link
        return link

    def open_towards(self, destination: Address, port: int, receiver: Receiver) -> Link:
        """Open a link at the address that leads to `destination`; here one address reaches all."""
        return self.open((self.source_for(destination), port), receiver)

    def source_for(self, destination: Address) -> str:
        """Every address is reached from the loopback address of its family."""
        return "::1" if ":" in destination[0] else "127.0.0.1"

    def listen(self, local: Address, make: Callable[[], asyncio.Protocol]) -> None:
        """Take connections to that address, over whatever transport; `make` makes the protocol of each."""
        self._listeners[local] = make

    async def connect(self, hop: Hop, local: str, protocol: asyncio.Protocol) -> Refusal | None:
        """Connect to a listener; see `Network.connect`. Loss on the way there shows as silence."""
        await asyncio.sleep(self.weather.delay)
        if self._rng.random() < self.weather.loss:
            await asyncio.get_running_loop().create_future()
        make = self._listeners.get(hop.address)
        if make is None or self._rng.random() < self.weather.resets:
            return Refusal(Ending.REFUSED, "no connection: Connection refused")
        self._next_port += 1
        name = (local or self.source_for(hop.address), self._next_port)
        ours = MemoryConnection(self, name, hop.address, protocol)
        theirs = MemoryConnection(self, hop.address, name, make())
        ours.peer, theirs.peer = theirs, ours
        theirs.protocol.connection_made(theirs)
        protocol.connection_made(ours)
        return None

    def carry(self, data: bytes, source: MemoryLink, destination: Address) -> None:
        """Take a datagram and deliver it, or not, as the weather is."""
        self.sent += 1
        weather, rng = self.weather, self._rng
        if rng.random() < weather.loss:
            return
        copies = 2 if rng.random() < weather.duplication else 1
        reset = rng.random() < weather.resets
        loop = asyncio.get_running_loop()
        for _ in range(copies):
            delay = weather.delay + rng.random() * weather.jitter
            loop.call_later(delay, self._arrive, data, source, destination, reset)

    def _arrive(self, data: bytes, source: MemoryLink, destination: Address, reset: bool) -> None:
        link = self._links.get(destination)
        if link is None or reset:
            if not source.closed:
                source.receiver.delivery_failed(data, destination, Ending.REFUSED, "ICMP: Connection refused")
            return
        link.receiver.datagram_received(data, source.local)

    def forget(self, local: Address) -> None:
        """Close the address for further datagrams."""
        self._links.pop(local, None)


class MemoryLink:
    """One open address of a MemoryNetwork."""

    def __init__(self, network: MemoryNetwork, local: Address, receiver: Receiver) -> None:
        self._network = network
        self.receiver = receiver
        self.local = local
        self.closed = False

    def send(self, data: bytes, destination: Address) -> None:
        """Hand a datagram to the network; see `Link.send`."""
        if self.closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        self._network.carry(data, self, destination)

    def close(self) -> None:
        """Stop receiving."""
        if not self.closed:
            self.closed = True
            self._network.forget(self.local)


class MemoryConnection(asyncio.Transport):
    """One end of a connection in memory: bytes arrive in order, later by the weather's delay."""

    def __init__(self, network: MemoryNetwork, local: Address, remote: Address, protocol: asyncio.Protocol) -> None:
        super().__init__({"sockname": local, "peername": remote})
        self.protocol = protocol
        self.peer: MemoryConnection
        self._network = network
        self._closed = False
        self._on_its_way: deque[Callable[[], None]] = deque()
        """What this end has sent: timers of one moment expire in any order, the bytes of a stream may not."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes to the other end."""
        if not self._closed:
            self._send(partial(self.peer.arrive, bytes(data)))

    def arrive(self, data: bytes) -> None:
        """Take bytes from the other end."""
        if not self._closed:
            self.protocol.data_received(data)

    def is_closing(self) -> bool:
        """Say whether this end has been closed."""
        return self._closed

    def close(self) -> None:
        """End the connection; the other end learns of it after what has been written."""
        self.end(None)

    def abort(self) -> None:
        """End the connection."""
        self.end(None)

    def end(self, error: Exception | None) -> None:
        """Close this end and tell both, this one with `error`. Idempotent."""
        if not self._closed:
            self._closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, error)
            self._send(partial(self.peer.end, None))

    def _send(self, event: Callable[[], None]) -> None:
        self._on_its_way.append(event)
        asyncio.get_running_loop().call_later(self._network.weather.delay, self._deliver)

    def _deliver(self) -> None:
        self._on_its_way.popleft()()
