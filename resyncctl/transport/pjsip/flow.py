"""Connections over TCP and TLS that PJSIP makes: one for each hop, shared by all requests to it.

What is to be sent waits until its connection stands; its transaction begins then, as with the other engine (`flow`). PJSIP
keeps them alive with CRLF every 90 s. It has few sockets, so that idle connections end early when others are wanted.
"""

from __future__ import annotations

import errno
import os
import ssl
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from resyncctl.errors import TransportError
from resyncctl.sip.hop import Hop, Transport
from resyncctl.sip.uac import Ending
from resyncctl.sip.uas import Address
from resyncctl.transport.flow import FlowLimits, Passenger
from resyncctl.transport.ip import TlsFiles
from resyncctl.transport.link import ending_of
from resyncctl.transport.pjsip import layout as pj
from resyncctl.transport.pjsip.stack import Stack
from resyncctl.transport.pjsip.transports import CONNECTIONS, TOO_MANY_FILES, Change

_LOST: Final = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED})

_LONGEST_WAIT: Final = 60.0
"""Seconds that a request waits for one of PJSIP's few connections."""
_HUNG_UP: Final = (
    "TLS: the peer has ended the handshake: it wants a certificate of ours (--tls-cert), or does not speak TLS 1.2, which is"
    " the newest that this PJSIP does, or no TLS at all"
)


class FlowOwner(Protocol):
    """Who uses the connections. The methods are called from the event loop, and never within `take`."""

    def flow_opened(self, flow: PjsipFlow, passenger: Passenger) -> None:
        """Send a request over the connection, which stands now."""

    def flow_refused(self, passenger: Passenger, ending: Ending, detail: str) -> None:
        """Take a request back for which there is no connection."""


class PjsipFlow:
    """One connection. `pending` counts the requests on it that have no result yet."""

    __slots__ = ("deadline", "hop", "kept_until", "passengers", "pending", "stands", "transport", "used_at")

    def __init__(self, hop: Hop, deadline: float, passengers: deque[Passenger]) -> None:
        self.hop = hop
        self.deadline = deadline
        """Until when it has to stand."""
        self.transport = 0
        self.stands = False
        self.pending = len(passengers)
        self.passengers = passengers
        self.used_at = 0.0
        self.kept_until = 0.0
        """Until then it is not closed for others: somebody has asked for it, and has yet to use it."""


class PjsipFlows:
    """The connections of one owner. `local` is the address to connect from, '' for any."""

    def __init__(
        self,
        stack: Stack,
        owner: FlowOwner,
        *,
        local: str,
        limits: FlowLimits,
        tls: TlsFiles,
        source: Callable[[Address], str],
    ) -> None:
        """Prepare; `source` returns the address of ours that leads to another one, or raises TransportError."""
        self._stack = stack
        self._owner = owner
        self._local = local
        self._limits = limits
        self._most = min(limits.most, CONNECTIONS)
        self._tls = tls
        self._source = source
        self._factories: dict[tuple[Transport, bool], int] = {}
        self._flows: dict[Hop, PjsipFlow] = {}
        """By when they were last used, so that the first idle one is the one to close."""
        self._arrived: deque[Passenger] = deque()
        self._line: dict[Hop, deque[Passenger]] = {}
        """What waits for a connection that cannot be made yet."""
        self._since: dict[Hop, float] = {}
        """Since when."""
        self._changes: deque[tuple[PjsipFlow, Change]] = deque()
        self._closed = False

    def __len__(self) -> int:
        """Return how many connections there are, those that are being made included."""
        return len(self._flows)

    @property
    def waiting(self) -> bool:
        """True when something waits for a connection."""
        return bool(self._line or self._arrived) or any(not flow.stands for flow in self._flows.values())

    def find(self, hop: Hop) -> PjsipFlow | None:
        """Return the connection to a hop, None when there is none."""
        return self._flows.get(hop)

    def take(self, passenger: Passenger) -> None:
        """See that a request gets to its connection: `flow_opened` or `flow_refused` follows from `look_after`."""
        self._arrived.append(passenger)

    def settled(self, flow: PjsipFlow) -> None:
        """Take note that a request on a connection has its result."""
        flow.pending -= 1

    def look_after(self, *, now: float) -> None:
        """Tell what became of connections, make those that are wanted, end those that are not."""
        while self._changes:
            self._change(*self._changes.popleft(), now=now)
        late = [flow for flow in self._flows.values() if not flow.stands and flow.deadline <= now]
        for flow in late:
            self._refuse(flow, Ending.NO_CONNECTION, f"no connection within {self._limits.connect:g} s")
        for flow in list(self._flows.values()):
            if flow.stands and not flow.pending and now - flow.used_at >= self._limits.idle:
                self._forget(flow)
        while self._arrived:
            self._receive(self._arrived.popleft(), now=now)
        for hop in list(self._line):
            if self._closed or not self._connect(hop, now=now):
                break
        for hop in [hop for hop, since in self._since.items() if now - since >= _LONGEST_WAIT]:
            waiting = PjsipFlow(hop, now, self._line.pop(hop, deque()))
            del self._since[hop]
            self._turn_away(waiting, Ending.NO_CONNECTION, f"PJSIP has no connection left for {_LONGEST_WAIT:g} s")

    def close(self) -> None:
        """End all connections without any report. Idempotent."""
        self._closed = True
        for flow in list(self._flows.values()):
            self._forget(flow)
        for factory in self._factories.values():
            self._stack.transports.stop(factory)
        self._factories.clear()
        self._line.clear()
        self._since.clear()
        self._arrived.clear()
        self._changes.clear()

    def _receive(self, passenger: Passenger, *, now: float) -> None:
        """Bring a request to its connection, or into the line."""
        hop = passenger.hop
        flow = self._flows.pop(hop, None)
        if flow is None:
            self._line.setdefault(hop, deque()).append(passenger)
            self._since.setdefault(hop, now)
            return
        self._flows[hop] = flow  # at the end: used last
        flow.pending += 1
        flow.passengers.append(passenger)
        if flow.stands:
            self._board(flow, now=now)

    def _connect(self, hop: Hop, *, now: float) -> bool:
        """Begin a connection for what waits for it; False when there can be none for anybody now."""
        transports = self._stack.transports
        if len(self._flows) >= self._most and not self.make_room(now):
            return False
        if not transports.room:
            if transports.cooling < len(self._line) and not self.make_room(now):
                self._stack.make_room()
            return False
        flow = PjsipFlow(hop, now + self._limits.connect, self._line.pop(hop))
        self._since.pop(hop, None)
        try:
            published = self._source(hop.address)
        except TransportError as error:
            self._turn_away(flow, Ending.NO_ROUTE, str(error))
            return True
        try:
            factory = self._factory(hop, published)
        except TransportError as error:
            self._turn_away(flow, Ending.NOT_SENT, str(error))
            return True
        flow.transport, refused = transports.connect(factory, hop, partial(self._note, flow))
        if refused:
            self._turn_away(flow, *self._why(hop, Change(connected=False, error=refused, faults=0)))
        else:
            self._flows[hop] = flow
        return True

    def make_room(self, now: float) -> bool:
        """End the connection that has been idle for longest; False when there is none."""
        idle = next((flow for flow in self._flows.values() if not flow.pending and flow.kept_until <= now), None)
        if idle is not None:
            self._forget(idle)
        return idle is not None

    def _factory(self, hop: Hop, published: str) -> int:
        """Return what makes connections of that kind; raise TransportError."""
        six = ":" in hop.address[0]
        key = (hop.transport, six)
        factory = self._factories.get(key)
        if factory is None:
            host = self._local or ("::" if six else "0.0.0.0")
            make = self._start_tls if hop.transport is Transport.TLS else self._stack.transports.start_tcp
            factory = self._factories[key] = make(host, published)
        return factory

    def _start_tls(self, host: str, published: str) -> int:
        tls = self._tls
        system = ssl.get_default_verify_paths()
        return self._stack.transports.start_tls(
            host,
            published,
            ca=str(tls.ca or system.cafile or ""),
            path="" if tls.ca or system.cafile else system.capath or "",
            cert=str(tls.cert or ""),
            key=str(tls.key or tls.cert or ""),
            verify=tls.verify,
        )

    def _note(self, flow: PjsipFlow, change: Change) -> None:
        self._changes.append((flow, change))

    def _change(self, flow: PjsipFlow, change: Change, *, now: float) -> None:
        if self._flows.get(flow.hop) is not flow:
            return
        if change.connected:
            flow.stands = True
            self._board(flow, now=now)
        elif flow.stands:
            self._forget(flow)  # the requests on it hear of it from PJSIP
        else:
            self._refuse(flow, *self._why(flow.hop, change))

    def _board(self, flow: PjsipFlow, *, now: float) -> None:
        flow.used_at = now
        while flow.passengers and flow.stands:
            self._owner.flow_opened(flow, flow.passengers.popleft())

    def _refuse(self, flow: PjsipFlow, ending: Ending, detail: str) -> None:
        self._forget(flow)
        self._turn_away(flow, ending, detail)

    def _turn_away(self, flow: PjsipFlow, ending: Ending, detail: str) -> None:
        while flow.passengers:
            self._owner.flow_refused(flow.passengers.popleft(), ending, detail)

    def _forget(self, flow: PjsipFlow) -> None:
        if self._flows.get(flow.hop) is flow:
            del self._flows[flow.hop]
            flow.stands = False
            self._stack.transports.disconnect(flow.transport)

    def _why(self, hop: Hop, change: Change) -> tuple[Ending, str]:
        """Say why there is no connection."""
        if change.error == pj.TOO_BIG:
            return Ending.NOT_SENT, TOO_MANY_FILES
        if change.error == pj.NOT_VERIFIED:
            name, faults = hop.name or hop.address[0], self._stack.transports.faults(change.faults)
            return _verdict(change.faults), f"TLS: the certificate for {name} is not accepted: {faults}"
        number = change.error - pj.SYSTEM_ERROR
        if hop.transport is Transport.TLS and (change.error == pj.END_OF_FILE or number in _LOST):
            return Ending.NO_TLS, _HUNG_UP
        if 0 < number < pj.SYSTEM_ERROR:
            return ending_of(number), f"no connection: {os.strerror(number)}"
        if hop.transport is Transport.TLS:
            return Ending.NO_TLS, f"TLS: {self._stack.explain(change.error)}"
        return Ending.NO_CONNECTION, f"no connection: {self._stack.explain(change.error)}"


def _verdict(faults: int) -> Ending:
    """Return how a request ends for what is wrong with a certificate; who it is from comes first."""
    if faults & ~(pj.FAULT_OF_TIME | pj.FAULT_OF_NAME):
        return Ending.NOT_TRUSTED
    return Ending.EXPIRED if faults & pj.FAULT_OF_TIME else Ending.WRONG_NAME
