"""Connections over TCP and TLS, one for each hop, shared by all requests to it (RFC 3261 18, RFC 5626).

What is to be sent waits until its connection stands; its transaction begins then. Connections that nobody needs are closed
after a while, or when another one is needed and there are too many. Nothing listens at the address that a Via names: an answer
comes over the connection or not at all (RFC 3261 18.2.2 has the peer try a new one; behind a NAT it could not).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, cast

from resyncctl.errors import SipParseError
from resyncctl.sip.framing import Framer
from resyncctl.sip.hop import Hop, Transport
from resyncctl.sip.uac import Ending
from resyncctl.sip.uas import Address
from resyncctl.transport.link import UNLIKED, Connection, Network, Refusal, loss_of_error
from resyncctl.transport.pulse import PING, PONG, Pulse

_NEVER: Final = float("inf")
FRESH: Final = 1.0
"""Seconds that a connection is kept for whoever asked for it, though others wait for one."""


_WITHOUT_TCP: Final = 30.0
"""Seconds that an address which has refused a connection for a large request is not asked again."""
_MOST_WITHOUT_TCP: Final = 10_000


def connection_of(hop: Hop) -> Hop:
    """Return what names the connection to a hop: over TCP it is the same whatever name has led to the address."""
    return Hop(hop[0], Transport.TCP) if hop[1] is Transport.TCP else hop


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowLimits:
    """How long connections are waited for and kept, in seconds, and how many there may be."""

    connect: float = 5.0
    """Until a connection stands, TLS handshake included."""
    keep_alive: float = 100.0
    """From one ping to the next: RFC 5626 4.4.1 wants 95 to 120 s where the server says nothing."""
    pong: float = 10.0
    """For the answer to a ping of a peer that has answered one before (RFC 5626 4.4.1), and for a peer to read on."""
    idle: float = 300.0
    """Without a request until a connection is closed."""
    most: int = 500
    """Connections at once. What needs another one waits for one that has nothing to do."""


class Passenger(Protocol):
    """A request on its way to a connection."""

    @property
    def hop(self) -> Hop: ...


class Asker(NamedTuple):
    """A passenger that only wants to know of a connection: `then` gets None when it stands, else why there is none."""

    hop: Hop
    then: Callable[[Refusal | None], None]


class WithoutTcp:
    """Addresses that are known not to speak TCP, for a while: large requests go there over UDP (RFC 3261 18.1.1)."""

    def __init__(self) -> None:
        self._until: dict[Address, float] = {}

    def has(self, address: Address, now: float) -> bool:
        """Say whether an address is one of them."""
        return self._until.get(address, now) > now

    def add(self, address: Address, now: float) -> None:
        """Take note of an address."""
        if len(self._until) >= _MOST_WITHOUT_TCP:
            self._until.clear()
        self._until[address] = now + _WITHOUT_TCP

    def learn(
        self,
        address: Address,
        clock: Callable[[], float],
        then: Callable[[Refusal | None], None],
        refusal: Refusal | None,
    ) -> None:
        """Take note of why there is no connection to an address; whoever has asked is told that it can go on."""
        if refusal is not None:
            self.add(address, clock())
        then(None)


class FlowOwner(Protocol):
    """Who uses the connections. All methods are called from the event loop, never within `Flows.take`."""

    def flow_opened(self, flow: Flow, passenger: Passenger) -> None:
        """Send a request over the connection, which stands now."""

    def flow_refused(self, passenger: Passenger, ending: Ending, detail: str) -> None:
        """Take a request back for which there is no connection."""

    def flow_received(self, flow: Flow, data: bytes) -> None:
        """Take one whole message."""

    def flow_lost(self, flow: Flow, ending: Ending, detail: str) -> None:
        """Take note that a connection that stood has ended."""


class Flow(asyncio.Protocol):
    """One connection. `pending` counts the requests on it that have no result yet."""

    def __init__(self, hop: Hop, flows: Flows) -> None:
        self.hop = hop
        self.local: Address = ("", 0)
        self.pending = 0
        self.passengers: deque[Passenger] = deque()
        self.used_at = 0.0
        self._flows = flows
        self._limits = flows.limits
        self._framer = Framer()
        self._connection: Connection | None = None
        self._pulse: Pulse
        self._tick: asyncio.TimerHandle | None = None
        self._heard = False
        """Something has come: the peer has accepted us, a certificate that it asked for included."""
        self._relief_by = _NEVER
        """Until when a peer may leave unread what is more than the buffers hold."""
        self._closed = False

    @property
    def stands(self) -> bool:
        """True when requests may be written."""
        return self._connection is not None

    def write(self, data: bytes) -> None:
        """Send a message; it is lost without a trace when the connection has just ended, whose end is then reported."""
        if self._connection is not None:
            self._connection.write(data)

    def close(self) -> None:
        """End the connection, or what is to become one; nothing is reported."""
        self._closed = True
        self.passengers.clear()
        self._flows.forget(self)
        self._stop()

    def fail(self, detail: str) -> None:
        """End the connection at once, for a reason of ours, and report it."""
        self._end(Ending.CONNECTION_LOST, detail)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection; what waits for it is sent."""
        connection = cast("asyncio.Transport", transport)  # uvloop's are of no class of asyncio's
        if self._closed:
            connection.abort()
            return
        self._connection = connection
        name = transport.get_extra_info("sockname")
        self.local = (str(name[0]), int(name[1]))
        self._pulse = Pulse(interval=self._limits.keep_alive, patience=self._limits.pong, now=self._flows.clock())
        self._flows.opened(self)
        self._arm()

    def data_received(self, data: bytes) -> None:
        """Cut messages out of the stream."""
        if self._connection is None:
            return
        self._heard = True
        self._pulse.hear()
        try:
            while messages := self._framer.feed(data):
                data = b""
                for message in messages:
                    self._take(message)
        except SipParseError as error:
            self.fail(f"the stream cannot be followed: {error}")

    def _take(self, message: bytes) -> None:
        if message.startswith(b"\r\n"):
            self.write(PONG * self._pulse.hear_line_ends(len(message) // 2, now=self._flows.clock()))
        else:
            self._pulse.hear_message()
            self._flows.owner.flow_received(self, message)

    def eof_received(self) -> None:
        """Report the end now: who sends no more answers no more, and the next request needs another connection."""
        doubt = self.hop.transport is Transport.TLS and not self._heard
        why = f" and said nothing before: perhaps it {UNLIKED}" if doubt else ""
        self._end(Ending.CONNECTION_LOST, f"the peer has closed the connection{why}")

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the end, unless that has been done or it was we who wanted it."""
        if exc is None:
            self.eof_received()
        else:
            self._end(*loss_of_error(exc, self.hop, early=not self._heard))

    def pause_writing(self) -> None:
        """Give the peer some time to take what has been written."""
        self._relief_by = self._flows.clock() + self._limits.pong
        self._arm()

    def resume_writing(self) -> None:
        """Take note that the peer has gone on reading."""
        self._relief_by = _NEVER

    def _end(self, ending: Ending, detail: str) -> None:
        if self._connection is not None:
            self._stop()
            self._flows.forget(self)
            self._flows.owner.flow_lost(self, ending, detail)
            self._flows.refuse(self, Refusal(ending, detail))

    def _stop(self) -> None:
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()  # with a word of farewell over TLS,
            connection.abort()  # though without waiting half a minute for the peer's

    def _arm(self) -> None:
        """Wake up when the connection may be of no more use, wants a ping, or has a peer that owes something."""
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        if self._connection is not None:
            now = self._flows.clock()
            idle_at = self.used_at + self._limits.idle
            due_at = min(idle_at if idle_at > now else now + self._limits.idle, self._pulse.due_at, self._relief_by)
            self._tick = asyncio.get_running_loop().call_later(max(0.0, due_at - now), self._look_after)

    def _look_after(self) -> None:
        """Close the connection when it is of no more use, else see that both ends and the routers between know of it."""
        now = self._flows.clock()
        if not self.pending and now >= self.used_at + self._limits.idle:
            self.close()
        elif self._pulse.is_gone(now=now):
            self.fail("the peer has not answered a keep-alive")
        elif now >= self._relief_by:
            self.fail(f"the peer reads too slowly: its buffers have been full for {self._limits.pong:g} s")
        elif self._pulse.wants_ping(now=now):
            self.write(PING)
        self._arm()


class Flows:
    """The connections of one owner. `local` is the address to connect from, '' for any."""

    def __init__(
        self,
        network: Network,
        owner: FlowOwner,
        *,
        local: str,
        limits: FlowLimits,
        clock: Callable[[], float],
    ) -> None:
        self.owner = owner
        self.limits = limits
        self.clock = clock
        self._network = network
        self._local = local
        self._flows: dict[Hop, Flow] = {}
        """By when they were last used, so that the first idle one is the one to close."""
        self._line: deque[Passenger] = deque()
        self._connecting: set[asyncio.Task[None]] = set()
        self._moving = False
        self._later: asyncio.TimerHandle | None = None
        self._closed = False

    def __len__(self) -> int:
        """Return how many connections there are, those that are being made included."""
        return len(self._flows)

    def take(self, passenger: Passenger) -> None:
        """See that a request gets to its connection: `flow_opened` or `flow_refused` follows, though never at once."""
        if not self._closed:
            self._line.append(passenger)
            self._move_later()

    def find(self, hop: Hop) -> Flow | None:
        """Return the connection to a hop, None when there is none."""
        return self._flows.get(hop)

    def settled(self, flow: Flow) -> None:
        """Take note that a request on a connection has its result."""
        flow.pending -= 1
        if not flow.pending and self._line:
            self._move_later()

    def close(self) -> None:
        """End all connections without any report. Idempotent."""
        self._closed = True
        if self._later is not None:
            self._later.cancel()
        for task in self._connecting:
            task.cancel()
        for flow in list(self._flows.values()):
            flow.close()
        self._line.clear()

    def opened(self, flow: Flow) -> None:
        """Hand over what waits for a connection that stands now."""
        flow.used_at = self.clock()
        while flow.passengers and flow.stands:
            self.owner.flow_opened(flow, flow.passengers.popleft())

    def forget(self, flow: Flow) -> None:
        """Take note that a connection is no more."""
        if self._flows.get(flow.hop) is flow:
            del self._flows[flow.hop]
        if self._line:
            self._move_later()

    def _move_later(self) -> None:
        if not self._moving:
            self._moving = True
            asyncio.get_running_loop().call_soon(self._move)

    def _move(self) -> None:
        """Bring those in the line to their connections, as far as there may be connections."""
        self._moving = False
        line, self._line = self._line, deque()
        full = False
        for passenger in line:
            flow = self._flows.pop(passenger.hop, None)
            if flow is None:
                full = full or (len(self._flows) >= self.limits.most and not self._make_room())
                if full:
                    self._line.append(passenger)
                    continue
                flow = self._connect(passenger.hop)
            self._flows[passenger.hop] = flow  # at the end: used last
            flow.pending += 1
            flow.passengers.append(passenger)
            if flow.stands:
                self.opened(flow)

    def _make_room(self) -> bool:
        """Close the connection that has been of no use for longest; not one that was just made, or has just been used."""
        before = self.clock() - FRESH
        idle = next((flow for flow in self._flows.values() if not flow.pending and flow.used_at <= before), None)
        if idle is not None:
            idle.close()
        elif self._later is None:
            self._later = asyncio.get_running_loop().call_later(FRESH, self._look_again)
        return idle is not None

    def _look_again(self) -> None:
        self._later = None
        self._move()

    def _connect(self, hop: Hop) -> Flow:
        flow = Flow(hop, self)
        task = asyncio.create_task(self._open(flow))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return flow

    async def _open(self, flow: Flow) -> None:
        refusal: Refusal | None = Refusal(Ending.NO_CONNECTION, "no connection, for a reason that is in the log")
        try:
            async with asyncio.timeout(self.limits.connect):
                refusal = await self._network.connect(flow.hop, self._local, flow)
        except TimeoutError:
            refusal = Refusal(Ending.NO_CONNECTION, f"no connection within {self.limits.connect:g} s")
        finally:  # whatever happens, nothing waits for it any longer; it may have been made as the time ran out
            if refusal is not None and not flow.stands:
                self.forget(flow)
                self.refuse(flow, refusal)

    def refuse(self, flow: Flow, refusal: Refusal) -> None:
        """Give back what waits for a connection."""
        while flow.passengers:
            self.owner.flow_refused(flow.passengers.popleft(), refusal.ending, refusal.detail)
