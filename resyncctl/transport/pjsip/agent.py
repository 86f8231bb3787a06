"""The second SIP engine: a user agent client on PJSIP; see `agent.Agent`."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING, Final

from resyncctl.clock import monotonic, now_us
from resyncctl.sip.hop import CREDENTIALS, LARGE, Hop, Transport
from resyncctl.sip.transaction import Timers
from resyncctl.sip.uac import Ending, Outgoing, Result
from resyncctl.sip.uas import Address
from resyncctl.transport.agent import Prepare
from resyncctl.transport.endpoint import ANY, RandomTokens
from resyncctl.transport.flow import FRESH, Asker, FlowLimits, Passenger, WithoutTcp, connection_of
from resyncctl.transport.ip import TlsFiles
from resyncctl.transport.link import Refusal, ending_of
from resyncctl.transport.pjsip import layout as pj
from resyncctl.transport.pjsip.exchange import Exchange, exchange_of, judge
from resyncctl.transport.pjsip.flight import Flight
from resyncctl.transport.pjsip.flow import PjsipFlow, PjsipFlows
from resyncctl.transport.pjsip.stack import Ended, How, Work, stack
from resyncctl.transport.pjsip.udp import PjsipPort, PjsipPorts
from resyncctl.transport.udp import check_family, is_of_other_family

if TYPE_CHECKING:
    from resyncctl.transport.trace import Tracer

_BUSY: Final = 0.001
_WAITING: Final = 0.004
_IDLE: Final = 0.25
"""Seconds from one look at PJSIP to the next: while there is something to do, while answers are waited for, else."""
_OF_ANOTHER: Final = frozenset(
    {0, errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENOPROTOOPT, errno.EHOSTDOWN}
)
"""Errors of sending that Linux may report to whoever sends next, though they came of an earlier datagram."""
_TRIES: Final = 8
"""Times that such a request is sent again before the error counts as its own."""
_POLLS_TO_CLOSE: Final = 3
"""A transaction goes, then what it was sent over, then its socket."""


class PjsipAgent:
    """A SIP user agent client over UDP, TCP and TLS on PJSIP; the arguments are those of `endpoint.Endpoint`.

    All agents of a process share its PJSIP, have to be in the same thread, and should have the same T1 and T2. Raises
    TransportError when the wheel is not there, InputError for TLS files that cannot be used.
    """

    def __init__(
        self,
        *,
        local: Address = ANY,
        timers: Timers,
        on_result: Callable[[Result], None],
        prepare: Prepare,
        limits: FlowLimits | None = None,
        tls: TlsFiles | None = None,
        tracer: Tracer | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._stack = stack()
        self._stack.enter(self)
        if tls is not None:
            tls.context()  # it says what is wrong with the files
        self._local = local
        self._on_result = on_result
        self._prepare = prepare
        self._clock = clock
        self._without_tcp = WithoutTcp()
        self._again: list[Exchange] = []
        self._unsent = timers.t1 / 2
        """Seconds in which a request that could not be sent has not left at all."""
        self._tracer = tracer
        self._new_token = RandomTokens()
        self._ports = PjsipPorts(self._stack, local, self._watch_port)
        self._flows = PjsipFlows(
            self._stack,
            self,
            local=local[0],
            limits=limits or FlowLimits(),
            tls=tls or TlsFiles(),
            source=self._ports.source_for,
        )
        self._flight = Flight(self._stack, timers, clock)
        self._timer: asyncio.TimerHandle | None = None
        self._delay = _IDLE
        self._closed = False

    @property
    def in_flight(self) -> int:
        """Requests that have left and have no final response."""
        return len(self._flight)

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._flows)

    def bind(self) -> None:
        """Open the socket that a fixed local address needs; see `Agent.bind`."""
        if self._local[0]:
            self._ports.towards(self._local)
            self._wake()

    def send(self, request: Outgoing, key: Hashable) -> float:
        """Take a request; over UDP it leaves now. See `Agent.send`."""
        hop = request.destination
        pj.pack_address(hop.address)  # it is an address
        exchange = Exchange(request, key, hop, self._new_token())
        if hop.transport is Transport.UDP:
            self._start(exchange, self._ports.towards(hop.address))
        else:
            check_family(self._local[0], hop.address)
            exchange.hop = connection_of(hop)
            self._flows.take(exchange)
        self._wake()
        return exchange.sent_at or self._clock()

    def reach(self, hop: Hop, then: Callable[[Refusal | None], None], *, large: bool = False) -> bool:
        """Say whether a request would leave at once; see `Agent.reach`."""
        if hop.transport is Transport.UDP:
            if not large or self._without_tcp.has(hop.address, self._clock()):
                return True
            then = partial(self._without_tcp.learn, hop.address, self._clock, then)
            hop = Hop(hop.address, Transport.TCP)
        if is_of_other_family(self._local[0], hop.address):
            return True  # `send` says what is wrong
        hop = connection_of(hop)
        flow = self._flows.find(hop)
        if flow is not None and flow.stands:
            return True
        self._flows.take(Asker(hop, then))
        self._wake()
        return False

    def _start(self, exchange: Exchange, port: PjsipPort | PjsipFlow) -> None:
        """Begin a transaction over a UDP port, or over a connection that stands."""
        hop = exchange.hop
        over_udp = isinstance(port, PjsipPort)
        local = port.local if isinstance(port, PjsipPort) else self._stack.transports.local_address(port.transport)
        request = exchange.request
        if not exchange.branch:
            self._prepare(request, local, hop)
        data = exchange.render()
        most = LARGE - CREDENTIALS if request.credentials and exchange.cseq == 1 else LARGE
        known = exchange.large or self._without_tcp.has(hop.address, self._clock())
        if over_udp and len(data) > most and not known:
            exchange.large, exchange.branch = True, ""
            exchange.hop = Hop(hop.address, Transport.TCP)
            self._flows.take(exchange)
            return
        self._flight.start(exchange, data, port.transport)

    def flow_opened(self, flow: PjsipFlow, passenger: Passenger) -> None:
        """Send a request over its connection, or what answers a challenge to it."""
        if isinstance(passenger, Asker):
            flow.kept_until = self._clock() + FRESH
            self._flows.settled(flow)
            passenger.then(None)
            return
        exchange = exchange_of(passenger)
        if exchange.flow is not None:
            self._flows.settled(exchange.flow)
        exchange.flow = flow
        flow.kept_until = 0.0
        self._watch(flow.hop.transport, flow.transport, self._stack.transports.local_address(flow.transport))
        self._start(exchange, flow)

    def flow_refused(self, passenger: Passenger, ending: Ending, detail: str) -> None:
        """Report that there is no connection for a request, or send it over UDP after all."""
        if self._closed:
            return
        if isinstance(passenger, Asker):
            passenger.then(Refusal(ending, detail))
            return
        exchange = exchange_of(passenger)
        if exchange.large and not exchange.sent_at:
            self._without_tcp.add(exchange.hop.address, self._clock())
            exchange.hop = exchange.request.destination
            self._start(exchange, self._ports.towards(exchange.hop.address))
        else:
            self._tell(exchange, ending, 0, detail)

    def _watch_port(self, port: PjsipPort) -> None:
        self._watch(Transport.UDP, port.transport, port.local)

    def _watch(self, transport: Transport, known: int, local: Address) -> None:
        """Let the trace have what goes over a transport of PJSIP."""
        tracer = self._tracer
        if tracer is None:
            return

        def show(data: bytes, remote: Address, sent: bool) -> None:
            tracer.message(data, transport=transport, local=local, remote=remote, sent=sent, at_us=now_us())

        self._stack.transports.wire.watch(known, show)

    def make_room(self) -> bool:
        """End an idle connection for another agent; False when there is none."""
        return self._flows.make_room(self._clock())

    def close(self) -> None:
        """Close sockets and connections; requests that are still waiting end without a result. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._flight.clear()
        self._flows.close()
        self._ports.close()
        for _ in range(_POLLS_TO_CLOSE):
            self._stack.poll()
        self._stack.leave(self)

    def _wake(self) -> None:
        """See that PJSIP is looked at soon."""
        if self._timer is None or self._delay > _BUSY:
            if self._timer is not None:
                self._timer.cancel()
            self._arm(_BUSY)

    def _arm(self, delay: float) -> None:
        self._delay = delay
        self._timer = asyncio.get_running_loop().call_later(delay, self._look)

    def _look(self) -> None:
        """Let PJSIP work, and tell what came of it."""
        self._timer = None
        work = Work.SOME
        try:
            self._read_failures()
            work = self._stack.poll()
            self._repeat()
            self._settle()
            self._flows.look_after(now=self._clock())
            self._settle()
        finally:  # whatever a result has led to: the others wait for theirs
            if not self._closed:
                if work is Work.MORE:
                    self._arm(0.0)
                elif work is Work.SOME:
                    self._arm(_BUSY)
                else:
                    self._arm(_WAITING if self._flight or self._again or self._flows.waiting else _IDLE)

    def _repeat(self) -> None:
        """Go on with requests that have left, and could not be sent again for another one's sake: with the same branch."""
        again, self._again = self._again, []
        for exchange in again:
            if self._clock() >= exchange.expires_at:
                self._tell(exchange, Ending.TIMEOUT, 0)
            elif self._clock() - exchange.begun_at < self._unsent:
                self._again.append(exchange)
            else:
                self._start_again(exchange)

    def _settle(self) -> None:
        for exchange, ended in self._flight.ended():
            match ended.how:
                case How.ANSWERED:
                    verdict = judge(exchange, ended.status, ended.text, new_token=self._new_token)
                    if verdict is None:
                        self._start_again(exchange)
                    else:
                        self._tell(exchange, verdict.ending, ended.status, verdict.detail, verdict.retry_after)
                case How.TIMED_OUT:
                    self._tell(exchange, Ending.TIMEOUT, 0)
                case How.FAILED:
                    self._fail(exchange, ended)

    def _start_again(self, exchange: Exchange) -> None:
        """Send a request again, over the connection that it was sent on unless that has ended."""
        if exchange.flow is None:
            self._start(exchange, self._ports.towards(exchange.hop.address))
        else:
            self._flows.take(exchange)

    def _fail(self, exchange: Exchange, ended: Ended) -> None:
        """Report that a request could not be sent, or try again when that is because of another one."""
        error = ended.error
        if exchange.left and ended.text:
            self._again.append(exchange)  # its old transaction is not gone yet
            return
        if ended.text or error == pj.TOO_LONG:
            detail = ended.text.decode() or "PJSIP has room for 4000 bytes"
            self._tell(exchange, Ending.NOT_SENT, 0, f"cannot send: {detail}")
            return
        number = error - pj.SYSTEM_ERROR if error else 0
        if exchange.flow is not None:
            reset = number in {errno.ECONNRESET, errno.EPIPE}
            known = f"the peer has {'reset' if reset else 'closed'} the connection"
            detail = known if reset or error in {0, pj.END_OF_FILE} else self._stack.explain(error)
            self._tell(exchange, Ending.CONNECTION_LOST, 0, detail)
            return
        if number in _OF_ANOTHER and self._clock() < exchange.expires_at:
            self._read_failures()
            exchange.left = exchange.left or self._clock() - exchange.begun_at >= self._unsent
            if exchange.left:
                self._again.append(exchange)
                return
            if exchange.copies < _TRIES:
                exchange.copies += 1
                self._start_again(exchange)
                return
        if exchange.left:
            self._tell(exchange, Ending.TIMEOUT, 0)
            return
        of_system = 0 < number < pj.SYSTEM_ERROR
        ending = ending_of(number) if of_system else Ending.NOT_SENT
        detail = os.strerror(number) if of_system else self._stack.explain(error)
        self._tell(exchange, ending, 0, f"cannot send: {detail}")

    def _read_failures(self) -> None:
        """End the requests that ICMP tells of."""
        for failure in self._ports.failures():
            for exchange in self._flight.failed(failure):
                self._tell(exchange, ending_of(failure.number), 0, f"ICMP: {os.strerror(failure.number)}")

    def _tell(self, exchange: Exchange, ending: Ending, status: int, detail: str = "", retry_after: int = -1) -> None:
        if exchange.flow is not None:
            self._flows.settled(exchange.flow)
        if not self._closed:
            now = self._clock()
            self._on_result(Result(exchange.key, ending, status, exchange.sent_at, now, retry_after, detail))
