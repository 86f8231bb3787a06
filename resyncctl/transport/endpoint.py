"""The one loop that drives the SIP core: sends what it wants sent, hands on what ended, wakes it at its deadline."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING, Final

from resyncctl.clock import monotonic, now_us
from resyncctl.errors import TransportError
from resyncctl.sip.hop import CREDENTIALS, LARGE, Hop, Transport
from resyncctl.sip.transaction import Timers
from resyncctl.sip.uac import Ending, Outgoing, Output, Reply, Result, Transmit, UserAgentClient
from resyncctl.sip.uas import Address
from resyncctl.transport.flow import Asker, Flow, FlowLimits, Flows, Passenger, WithoutTcp, connection_of
from resyncctl.transport.link import Link, Network, Refusal, ending_of
from resyncctl.transport.ride import Ride
from resyncctl.transport.udp import check_family, family_of, is_of_other_family

if TYPE_CHECKING:
    from resyncctl.transport.agent import Prepare
    from resyncctl.transport.trace import Tracer

ANY: Address = ("", 0)
"""Local address for "wherever the first datagram leaves from"."""
_UDP: Final = Transport.UDP
_TCP: Final = Transport.TCP


class RandomTokens:
    """Fresh random token strings of 16 characters, drawn from the system in blocks (a draw each costs a system call)."""

    def __init__(self) -> None:
        self._block = ""
        self._next = 0

    def __call__(self) -> str:
        start = self._next
        if start >= len(self._block):
            self._block = os.urandom(8 * 1024).hex()
            start = 0
        self._next = start + 16
        return self._block[start : start + 16]


class Endpoint:
    """A SIP user agent client over UDP, TCP and TLS; see `transport.agent.Agent`.

    `local` is the address to send from: `ANY`, an address with port 0, or address and port (which is that of UDP: a
    connection takes any port). A second address family is opened when the first phone of that family comes, unless `local`
    fixes the family. `prepare` makes a request ready for its hop just before its transaction begins.
    """

    def __init__(  # noqa: PLR0913  (most have a default that only tests change)
        self,
        network: Network,
        *,
        local: Address = ANY,
        timers: Timers,
        on_result: Callable[[Result], None],
        prepare: Prepare,
        limits: FlowLimits | None = None,
        tracer: Tracer | None = None,
        new_token: Callable[[], str] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._network = network
        self._local = local
        self._on_result = on_result
        self._prepare = prepare
        self._clock = clock
        self._first_timer = min(timers.t1, timers.timeout)
        self._core = UserAgentClient(timers=timers, new_token=RandomTokens() if new_token is None else new_token)
        self._links: dict[socket.AddressFamily, Link] = {}
        self._flows = Flows(network, self, local=local[0], limits=limits or FlowLimits(), clock=clock)
        self._without_tcp = WithoutTcp()
        self._rides: dict[bytes, Ride] = {}
        """What has begun over connections and has no result yet, by its latest message."""
        self._tracer = tracer
        self._sources: dict[str, str] = {}
        """For the trace: which address of ours a link sends from, by where to."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._closed = False

    @property
    def core(self) -> UserAgentClient:
        """The SIP core, for its counters."""
        return self._core

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._flows)

    def bind(self) -> None:
        """Open the socket that a fixed local address needs; see `Agent.bind`."""
        if self._local[0]:
            self._link_for(self._local)

    def _link_for(self, destination: Address) -> Link:
        """Return the link that leads to `destination`, opened if need be; raise TransportError when there is none."""
        family = family_of(destination[0])
        link = self._links.get(family)
        if link is None:
            link = self._links[family] = self._open(destination)
        return link

    def _open(self, destination: Address) -> Link:
        host, port = self._local
        if not host:
            return self._network.open_towards(destination, port, self)
        check_family(host, destination)
        return self._network.open((host, port), self)

    def send(self, request: Outgoing, key: Hashable) -> float:
        """Take a request; over UDP it leaves now. See `Agent.send`."""
        hop = request.destination
        if hop[1] is not _UDP:
            check_family(self._local[0], hop.address)
            self._flows.take(Ride(request, key, connection_of(hop), self._rides))
            return self._clock()
        link = self._link_for(hop[0])
        self._prepare(request, link.local, hop)
        now = self._clock()
        data = self._core.start(request, key, now=now)
        if len(data) > (LARGE - CREDENTIALS if request.credentials else LARGE) and not self._without_tcp.has(
            hop[0], now
        ):
            self._core.withdraw(data)
            self._flows.take(Ride(request, key, Hop(hop.address, _TCP), self._rides, large=True))
            return now
        self._transmit(data, hop)
        if now + self._first_timer < self._timer_at:
            self._arm()
        return now

    def reach(self, hop: Hop, then: Callable[[Refusal | None], None], *, large: bool = False) -> bool:
        """Say whether a request would leave at once; see `Agent.reach`."""
        if (hop[1] is _UDP and not large) or is_of_other_family(self._local[0], hop.address):
            return True  # `send` says what is wrong
        if hop[1] is _UDP:
            if self._without_tcp.has(hop.address, self._clock()):
                return True
            then = partial(self._without_tcp.learn, hop.address, self._clock, then)
            hop = Hop(hop.address, _TCP)
        hop = connection_of(hop)
        flow = self._flows.find(hop)
        if flow is not None and flow.stands:
            return True
        self._flows.take(Asker(hop, then))
        return False

    def _send_large(self, ride: Ride) -> None:
        """Send a large request over UDP after all."""
        hop = ride.request.destination
        self._prepare(ride.request, self._link_for(hop.address).local, hop)
        self._transmit(self._core.start(ride.request, ride.key, now=self._clock()), hop)
        self._arm()

    def datagram_received(self, data: bytes, source: Address) -> None:
        """Take a datagram from a link."""
        if self._tracer is not None:
            self._trace(data, _UDP, self._link_for(source).local, source, sent=False)
        output = self._core.receive(data, source, now=self._clock())
        if type(output) is Result and type(output.key) is not Ride:  # nearly always
            self._on_result(output)
        elif output is not None:
            self._do(output)

    def delivery_failed(self, quoted: bytes, destination: Address, ending: Ending, detail: str) -> None:
        """Take an ICMP error from a link, or our own of a datagram that could not be sent."""
        if self._closed:
            return
        for result in self._core.fail(quoted, destination, ending, detail, now=self._clock()):
            self._do(result)

    def flow_opened(self, flow: Flow, passenger: Passenger) -> None:
        """Send a request over its connection, or what answers a challenge to it."""
        if isinstance(passenger, Asker):
            self._flows.settled(flow)
            passenger.then(None)
            return
        ride = _ride(passenger)
        if not ride.message:
            self._prepare(ride.request, flow.local, ride.hop)
            self._core.start(ride, ride, now=self._clock())
        elif ride.message not in self._rides:  # it has ended by Timer F meanwhile
            self._flows.settled(flow)
            return
        elif ride.flow is not None:
            self._flows.settled(ride.flow)
        ride.flow, ride.written = flow, True
        self._write(flow, ride.message)
        self._arm()

    def flow_refused(self, passenger: Passenger, ending: Ending, detail: str) -> None:
        """Report that there is no connection for a request."""
        if self._closed:
            return
        if isinstance(passenger, Asker):
            passenger.then(Refusal(ending, detail))
            return
        ride = _ride(passenger)
        if ride.message:
            self._fail(ride, ending, detail)
        else:
            self._do(Result(ride, ending, 0, 0.0, self._clock(), -1, detail))

    def flow_received(self, flow: Flow, data: bytes) -> None:
        """Take a message from a connection; what answers it goes back over the same."""
        if self._tracer is not None:
            self._trace(data, flow.hop.transport, flow.local, flow.hop.address, sent=False)
        output = self._core.receive(data, flow.hop.address, now=self._clock())
        if type(output) is Reply:
            self._write(flow, output.data)
        elif output is not None:
            self._do(output)

    def flow_lost(self, flow: Flow, ending: Ending, detail: str) -> None:
        """Report that a connection has ended: whatever waits for an answer over it will get none."""
        for ride in [one for one in self._rides.values() if one.flow is flow and one.written]:
            self._fail(ride, ending, detail)

    def _fail(self, ride: Ride, ending: Ending, detail: str) -> None:
        for result in self._core.fail(ride.message, ride.hop.address, ending, detail, now=self._clock()):
            self._do(result)

    def close(self) -> None:
        """Close links and connections; requests that are still waiting end without a result. Idempotent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for link in self._links.values():
            link.close()
        self._links.clear()
        self._flows.close()
        self._rides.clear()

    def _do(self, output: Output) -> None:
        if self._closed:  # by who got the last result
            return
        match output:
            case Result():
                self._tell(output)
            case Transmit() if output.destination[1] is _UDP:
                self._transmit(output.data, output.destination)
                self._arm()
            case Transmit():
                self._answer_challenge(self._rides[output.data])
            case Reply():
                self._transmit(output.data, Hop(output.destination))

    def _tell(self, result: Result) -> None:
        ride = result.key
        if type(ride) is not Ride:
            self._on_result(result)
            return
        self._rides.pop(ride.message, None)
        if ride.flow is not None:
            self._flows.settled(ride.flow)
        if ride.large and not ride.message:
            self._without_tcp.add(ride.hop.address, self._clock())
            self._send_large(ride)
        else:
            self._on_result(result._replace(key=ride.key))

    def _answer_challenge(self, ride: Ride) -> None:
        """Send the request again, with credentials, over the connection that it came on, or a new one.

        A peer may close the connection with its 401: two rounds of the loop pass before this is sent, in which that is seen.
        When it is seen later, the request ends with the connection, for nobody knows whether the peer has taken it.
        """
        ride.written = False
        asyncio.get_running_loop().call_soon(self._flows.take, ride)
        self._arm()

    def _write(self, flow: Flow, data: bytes) -> None:
        if self._tracer is not None:
            self._trace(data, flow.hop.transport, flow.local, flow.hop.address, sent=True)
        flow.write(data)

    def _transmit(self, data: bytes, hop: Hop) -> None:
        try:
            link = self._link_for(hop[0])
            if self._tracer is not None:
                self._trace(data, _UDP, link.local, hop.address, sent=True)
            link.send(data, hop[0])
        except TransportError as error:
            self._refuse(data, hop.address, Ending.NO_ROUTE, str(error))
        except OSError as error:
            number = error.errno or 0
            self._refuse(data, hop.address, ending_of(number), f"cannot send: {os.strerror(number)}")

    def _refuse(self, data: bytes, destination: Address, ending: Ending, detail: str) -> None:
        # Later, not now: whoever called `send` has not noted yet that the request is on its way.
        asyncio.get_running_loop().call_soon(self.delivery_failed, data, destination, ending, detail)

    def _trace(self, data: bytes, transport: Transport, local: Address, remote: Address, *, sent: bool) -> None:
        """Hand a message to the trace, with the address that the routing table sends it from."""
        assert self._tracer is not None  # noqa: S101  (the callers have looked)
        if transport is _UDP and not self._local[0]:
            source = self._sources.get(remote[0])
            if source is None:
                source = self._sources[remote[0]] = self._network.source_for(remote)
            local = (source, local[1])
        self._tracer.message(data, transport=transport, local=local, remote=remote, sent=sent, at_us=now_us())

    def _arm(self) -> None:
        deadline = self._core.next_deadline()
        if deadline is None or (self._timer is not None and self._timer_at <= deadline):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        delay = max(0.0, deadline - self._clock())
        self._timer = asyncio.get_running_loop().call_later(delay, self._wake_up)

    def _wake_up(self) -> None:
        self._timer = None
        self._timer_at = float("inf")
        for output in self._core.advance(now=self._clock()):
            self._do(output)
        if not self._closed:
            self._arm()


def _ride(passenger: Passenger) -> Ride:
    assert isinstance(passenger, Ride)  # noqa: S101  (what `send` gave)
    return passenger
