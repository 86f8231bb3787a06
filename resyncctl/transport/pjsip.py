"""The second SIP engine: a user agent client on PJSIP; see `agent.Agent`."""

from __future__ import annotations

import asyncio
import errno
import os
import re
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Final

from resyncctl.clock import monotonic
from resyncctl.errors import SipError, SipParseError, TransportError
from resyncctl.sip.challenges import Answered, Unanswered, Why, respond
from resyncctl.sip.grammar import printable
from resyncctl.sip.headers import parse_retry_after
from resyncctl.sip.hop import LARGE, Hop, Transport
from resyncctl.sip.message import Response, parse
from resyncctl.sip.transaction import Timers
from resyncctl.sip.uac import Ending, Result
from resyncctl.sip.uas import Address
from resyncctl.transport import pjsip_library as pj
from resyncctl.transport.agent import Prepare, Request
from resyncctl.transport.endpoint import ANY, RandomTokens
from resyncctl.transport.flow import FlowLimits, Passenger
from resyncctl.transport.ip import IpNetwork, TlsFiles
from resyncctl.transport.link import ending_of
from resyncctl.transport.pjsip_flow import PjsipFlow, PjsipFlows
from resyncctl.transport.pjsip_stack import Ended, How, Work, stack
from resyncctl.transport.pjsip_udp import Failure, PjsipPort

_BUSY: Final = 0.001
_WAITING: Final = 0.004
_IDLE: Final = 0.25
"""Seconds from one look at PJSIP to the next: while there is something to do, while answers are waited for, else."""
_MAGIC: Final = "z9hG4bK"
_BRANCH: Final = re.compile(rb";branch=(z9hG4bK[^;\r\n]+)[;\r]")
_NO_TCP: Final = frozenset({Ending.REFUSED, Ending.NO_CONNECTION, Ending.NO_ROUTE, Ending.NOT_SENT})
_OF_ANOTHER: Final = frozenset(
    {0, errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENOPROTOOPT, errno.EHOSTDOWN}
)
"""Errors of sending that Linux may report to whoever sends next, though they came of an earlier datagram."""
_TRIES: Final = 8
"""Times that such a request is sent again before the error counts as its own."""
_POLLS_TO_CLOSE: Final = 3
"""A transaction goes, then what it was sent over, then its socket."""
_ENDINGS: Final = {
    Why.NO_CREDENTIALS: Ending.NO_CREDENTIALS,
    Why.REFUSED: Ending.CREDENTIALS_REFUSED,
    Why.UNANSWERABLE: Ending.UNANSWERABLE,
}


@dataclass(slots=True, eq=False)
class _Exchange:
    """A request on its way."""

    request: Request
    key: Hashable
    hop: Hop
    token: str
    large: bool = False
    """It goes over TCP for its size alone, and over UDP where that is not spoken (RFC 3261 18.1.1)."""
    flow: PjsipFlow | None = None
    branch: str = ""
    number: int = 0
    cseq: int = 1
    tries: int = 0
    answered: Answered = ()
    lines: str = ""
    """What answers a challenge."""
    sent_at: float = 0.0
    expires_at: float = 0.0


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
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._stack = stack()
        self._stack.enter(self)
        if tls is not None:
            tls.context()  # it says what is wrong with the files
        self._local = local
        self._timers = timers
        self._on_result = on_result
        self._prepare = prepare
        self._clock = clock
        self._network = IpNetwork()
        self._new_token = RandomTokens()
        self._ports: dict[bool, PjsipPort] = {}
        self._flows = PjsipFlows(
            self._stack, self, local=local[0], limits=limits or FlowLimits(), tls=tls or TlsFiles(), source=self._source
        )
        self._flight: dict[str, _Exchange] = {}
        """By branch: what has no answer yet."""
        self._ended: deque[tuple[_Exchange, Ended]] = deque()
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
            self._port_for(self._local)
            self._wake()

    def send(self, request: Request, key: Hashable) -> float:
        """Take a request; over UDP it leaves now. See `Agent.send`."""
        hop = request.destination
        exchange = _Exchange(request, key, hop, self._new_token())
        if hop.transport is Transport.UDP:
            self._start(exchange, self._port_for(hop.address))
        else:
            self._check_family(hop.address)
            self._flows.take(exchange)
        self._wake()
        return exchange.sent_at or self._clock()

    def _port_for(self, destination: Address) -> PjsipPort:
        six = ":" in destination[0]
        port = self._ports.get(six)
        if port is None:
            self._check_family(destination)
            host, number = self._local
            published = host or self._network.source_for(destination)
            port = self._ports[six] = PjsipPort(self._stack, (host or ("::" if six else "0.0.0.0"), number), published)
        return port

    def _source(self, hop: Hop) -> str:
        return self._network.source_for(hop.address)

    def _check_family(self, destination: Address) -> None:
        host = self._local[0]
        if host and (":" in host) is not (":" in destination[0]):
            raise TransportError(f"--local-address {host} cannot reach {destination[0]}: it is of the other IP version")

    def _start(self, exchange: _Exchange, port: PjsipPort | PjsipFlow) -> None:
        """Begin a transaction over a UDP port, or over a connection that stands."""
        hop, now = exchange.hop, self._clock()
        over_udp = isinstance(port, PjsipPort)
        local = port.local if isinstance(port, PjsipPort) else self._stack.local_address(port.transport)
        request = exchange.request
        if not exchange.branch:
            self._prepare(request, local, hop)
        branch = exchange.branch = f"{_MAGIC}{exchange.token}{exchange.cseq}{'x' * exchange.tries}"
        data = request.render(token=exchange.token, branch=branch, cseq=exchange.cseq, extra=exchange.lines)
        if over_udp and len(data) > LARGE and not exchange.large:
            exchange.large, exchange.branch = True, ""
            exchange.hop = hop._replace(transport=Transport.TCP)
            self._flows.take(exchange)
            return
        exchange.sent_at = exchange.sent_at or now
        if not exchange.tries:
            exchange.expires_at = now + self._timers.timeout
        self._flight[branch] = exchange
        note = partial(self._note, exchange)
        timers = self._timers
        self._stack.use_timers(t1=timers.t1, t2=timers.t2, timeout=exchange.expires_at - now)
        try:
            exchange.number = self._stack.send(data, request.request_uri, hop, port.transport, note)
        except (SipError, TransportError) as error:
            self._ended.append((exchange, Ended(How.FAILED, text=str(error).encode())))

    def _note(self, exchange: _Exchange, ended: Ended) -> None:
        self._ended.append((exchange, ended))

    def flow_opened(self, flow: PjsipFlow, passenger: Passenger) -> None:
        """Send a request over its connection."""
        exchange = _exchange(passenger)
        exchange.flow = flow
        self._start(exchange, flow)

    def flow_refused(self, passenger: Passenger, ending: Ending, detail: str) -> None:
        """Report that there is no connection for a request, or send it over UDP after all."""
        exchange = _exchange(passenger)
        if exchange.large and ending in _NO_TCP:
            exchange.hop = exchange.request.destination
            self._start(exchange, self._port_for(exchange.hop.address))
        else:
            self._tell(exchange, ending, 0, detail=detail)

    def close(self) -> None:
        """Close sockets and connections; requests that are still waiting end without a result. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for exchange in self._flight.values():
            self._withdraw(exchange)
        self._flight.clear()
        self._flows.close()
        for port in self._ports.values():
            port.close()
        self._ports.clear()
        for _ in range(_POLLS_TO_CLOSE):
            self._stack.poll()
        self._ended.clear()
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
        self._read_failures()
        work = self._stack.poll()
        self._settle()
        self._flows.look_after(now=self._clock())
        self._settle()
        if self._closed:
            return
        if work is Work.MORE:
            self._arm(0.0)
        elif work is Work.SOME:
            self._arm(_BUSY)
        else:
            self._arm(_WAITING if self._flight or self._flows.waiting else _IDLE)

    def _settle(self) -> None:
        while self._ended and not self._closed:
            exchange, ended = self._ended.popleft()
            if self._flight.pop(exchange.branch, None) is None:
                continue  # ICMP was faster
            match ended.how:
                case How.ANSWERED:
                    self._judge(exchange, ended)
                case How.TIMED_OUT:
                    self._tell(exchange, Ending.TIMEOUT, 0)
                case How.FAILED:
                    self._fail(exchange, ended)

    def _judge(self, exchange: _Exchange, ended: Ended) -> None:
        if ended.status < 300:
            self._tell(exchange, Ending.ANSWERED, ended.status)
            return
        try:
            response = parse(ended.text)
            assert isinstance(response, Response)  # noqa: S101  (PJSIP has read its status)
        except SipParseError:
            self._tell(exchange, Ending.ANSWERED, ended.status, detail="the response is malformed")
            return
        if ended.status in {401, 407}:
            self._authenticate(exchange, response)
            return
        wait, detail = -1, printable(response.reason)
        retry_after = response.get("Retry-After")
        if retry_after is not None:
            try:
                wait = parse_retry_after(retry_after)
            except SipParseError:
                detail = f"{detail}; unreadable Retry-After"
        self._tell(exchange, Ending.ANSWERED, ended.status, retry_after=wait, detail=detail)

    def _authenticate(self, exchange: _Exchange, response: Response) -> None:
        request = exchange.request
        answers = respond(
            response,
            exchange.answered,
            method=request.method,
            uri=request.request_uri,
            body=request.body,
            credentials=request.credentials,
            round_number=exchange.cseq,
            new_token=self._new_token,
        )
        if isinstance(answers, Unanswered):
            self._tell(exchange, _ENDINGS[answers.why], response.status, detail=answers.detail)
            return
        # RFC 3261 22.2: the same Call-ID and From tag with a higher CSeq; a new branch by its own rule.
        exchange.cseq += 1
        exchange.tries = 0
        exchange.lines, exchange.answered = answers
        self._start_again(exchange)

    def _start_again(self, exchange: _Exchange) -> None:
        flow = exchange.flow
        if flow is None:
            self._start(exchange, self._port_for(exchange.hop.address))
        elif flow.stands:
            self._start(exchange, flow)
        else:
            self._tell(exchange, Ending.CONNECTION_LOST, 0, detail="the peer has closed the connection")

    def _fail(self, exchange: _Exchange, ended: Ended) -> None:
        """Report that a request could not be sent, or try again when that is because of another one."""
        error = ended.error
        if ended.text or error == pj.TOO_LONG:
            detail = ended.text.decode() or "PJSIP has room for 4000 bytes"
            self._tell(exchange, Ending.NOT_SENT, 0, detail=f"cannot send: {detail}")
            return
        if exchange.flow is not None:
            closed = error in {0, pj.END_OF_FILE}
            detail = "the peer has closed the connection" if closed else self._stack.explain(error)
            self._tell(exchange, Ending.CONNECTION_LOST, 0, detail=detail)
            return
        number = error - pj.SYSTEM_ERROR if error else 0
        if number in _OF_ANOTHER and exchange.tries < _TRIES and self._clock() < exchange.expires_at:
            exchange.tries += 1
            self._read_failures()
            self._start_again(exchange)
            return
        known = 0 < number < pj.SYSTEM_ERROR
        ending = ending_of(number) if known else Ending.NOT_SENT
        detail = os.strerror(number) if known else self._stack.explain(error)
        self._tell(exchange, ending, 0, detail=f"cannot send: {detail}")

    def _read_failures(self) -> None:
        """End the requests that ICMP tells of."""
        for port in list(self._ports.values()):
            for failure in port.failures():
                for exchange in self._named_by(failure):
                    del self._flight[exchange.branch]
                    self._withdraw(exchange)
                    detail = f"ICMP: {os.strerror(failure.number)}"
                    self._tell(exchange, ending_of(failure.number), 0, detail=detail)

    def _named_by(self, failure: Failure) -> list[_Exchange]:
        """Return the request whose branch is quoted, else all to that destination."""
        if failure.quoted.startswith(b"SIP/2.0 "):
            return []
        quoted = _BRANCH.search(failure.quoted)
        if quoted is not None:
            exchange = self._flight.get(quoted[1].decode())
            return [] if exchange is None else [exchange]
        hop = (failure.destination, Transport.UDP)
        return [one for one in self._flight.values() if one.hop[:2] == hop]

    def _withdraw(self, exchange: _Exchange) -> None:
        self._stack.withdraw(exchange.number, exchange.request.method, exchange.branch)

    def _tell(
        self, exchange: _Exchange, ending: Ending, status: int, *, retry_after: int = -1, detail: str = ""
    ) -> None:
        if exchange.flow is not None:
            self._flows.settled(exchange.flow)
        if not self._closed:
            now = self._clock()
            self._on_result(Result(exchange.key, ending, status, exchange.sent_at, now, retry_after, detail))


def _exchange(passenger: Passenger) -> _Exchange:
    assert isinstance(passenger, _Exchange)  # noqa: S101  (what `send` gave)
    return passenger
