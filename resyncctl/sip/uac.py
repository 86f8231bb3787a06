"""The user agent client core: many transactions at once, digest answers, and what became of each request. No I/O.

It is told the time and what arrived; it answers with values: bytes to send (`Transmit`) and finished requests (`Result`).
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from enum import Enum, auto
from typing import Final, NamedTuple, Protocol

from resyncctl.errors import SipParseError
from resyncctl.sip.challenges import Answered, Unanswered, Why, respond
from resyncctl.sip.digest import Credentials
from resyncctl.sip.grammar import printable
from resyncctl.sip.headers import parse_retry_after
from resyncctl.sip.hop import Hop, Transport
from resyncctl.sip.message import KeepAlive, Request, Response, parse, scan_response
from resyncctl.sip.transaction import ClientTransaction, Effect, State, Timers
from resyncctl.sip.uas import Address, answer, reply_address

_FORGET_LATE: Final = 0.25
"""Seconds that Timer K may be late: it only forgets, and this lets one wake-up forget many."""
_UDP: Final = Transport.UDP
_FORGET_BEYOND: Final = 1000
"""Answered requests over reliable transports that are kept until their Timer F at most, beside as many as wait."""
_MAGIC: Final = "z9hG4bK"
"""RFC 3261 8.1.1.7."""


class Outgoing(Protocol):
    """A request that the core can send, again with another branch, CSeq and credentials if need be."""

    @property
    def method(self) -> str: ...
    @property
    def request_uri(self) -> str: ...
    @property
    def destination(self) -> Hop: ...
    @property
    def credentials(self) -> Credentials | None: ...
    @property
    def body(self) -> bytes: ...

    def render(self, *, token: str, branch: str, cseq: int, extra: str) -> bytes:
        """Write the message; `extra` are header lines to add."""


class Ending(Enum):
    """How a request ended."""

    ANSWERED = auto()
    """A final response; `status` holds its code."""
    TIMEOUT = auto()
    """Timer F: nobody answered."""
    REFUSED = auto()
    """ICMP port unreachable: nothing listens there."""
    NO_ROUTE = auto()
    """ICMP host, network or protocol unreachable, or no route from here."""
    NOT_SENT = auto()
    """The local system refused to send the datagram."""
    NO_CREDENTIALS = auto()
    """A challenge, and nothing to answer it with."""
    CREDENTIALS_REFUSED = auto()
    """A challenge again, although it was answered: the credentials are wrong."""
    UNANSWERABLE = auto()
    """A challenge that is malformed, or of an algorithm that we do not speak."""
    NO_CONNECTION = auto()
    """The connection was not made in time."""
    NO_TLS = auto()
    """The TLS handshake failed: no common version or cipher, our certificate is not accepted, or that is no TLS."""
    NOT_TRUSTED = auto()
    """The peer's certificate is of nobody that we trust: self-signed, or of an unknown authority."""
    EXPIRED = auto()
    """The peer's certificate has expired, or is not valid yet."""
    WRONG_NAME = auto()
    """The peer's certificate is for another name."""
    CONNECTION_LOST = auto()
    """The connection ended before the answer came."""


UNANSWERED: Final = {
    Why.NO_CREDENTIALS: Ending.NO_CREDENTIALS,
    Why.REFUSED: Ending.CREDENTIALS_REFUSED,
    Why.UNANSWERABLE: Ending.UNANSWERABLE,
}


class Result(NamedTuple):
    """What became of one request. Times are on the clock that `now` came from."""

    key: Hashable
    ending: Ending
    status: int
    """The final response's code; 0 without one."""
    sent_at: float
    """When the request was first handed over; 0 when nothing left, since there was no connection."""
    ended_at: float
    retry_after: int
    """Seconds from a Retry-After header; -1 without one."""
    detail: str
    """Text for people; '' when there is nothing to add."""


class Transmit(NamedTuple):
    """A request to send now."""

    data: bytes
    destination: Hop


class Reply(NamedTuple):
    """A response to send now: over the connection that the request came on, over UDP to `destination`."""

    data: bytes
    destination: Address


Output = Transmit | Reply | Result


class _Exchange(ClientTransaction):
    """A transaction and the request it carries (one object, not two: it is made for every NOTIFY)."""

    __slots__ = (
        "answers",
        "branch",
        "cseq",
        "cseq_value",
        "data",
        "key",
        "request",
        "sent_at",
        "token",
    )

    branch: bytes
    cseq: int
    cseq_value: bytes
    data: bytes
    key: Hashable
    request: Outgoing
    sent_at: float
    token: str
    answers: Answered


class UserAgentClient:
    """All client transactions of one endpoint.

    `new_token` returns a fresh random string of token characters; it makes branches, tags and Call-IDs.
    """

    def __init__(self, *, timers: Timers, new_token: Callable[[], str]) -> None:
        self._timers = timers
        self._new_token = new_token
        self._exchanges: dict[bytes, _Exchange] = {}
        # Timers without a heap where they expire in the order they were set: every first Timer E is T1 from its start, every
        # Timer K is T4 from its answer. Measured: 4 microseconds less per NOTIFY. Of a completed transaction only the
        # branch is kept; in Completed every row of the table but Timer K does nothing.
        self._first_e: deque[tuple[float, _Exchange]] = deque()
        self._repeating: list[tuple[float, int, _Exchange]] = []
        self._reliable: deque[tuple[float, _Exchange]] = deque()
        self._completed: set[bytes] = set()
        self._k: deque[tuple[float, bytes]] = deque()
        self._serial = 0
        self.retransmissions = 0
        """Requests sent again by Timer E."""
        self.strays = 0
        """Datagrams that belong to nothing we wait for, or are not SIP."""

    @property
    def in_flight(self) -> int:
        """Requests without a final response."""
        return len(self._exchanges)

    def start(self, request: Outgoing, key: Hashable, *, now: float) -> bytes:
        """Begin a transaction and return the message for `request.destination`; `key` comes back in the Result."""
        token = self._new_token()
        return self._begin(request, key, token, cseq=1, now=now).data

    def _begin(
        self,
        request: Outgoing,
        key: Hashable,
        token: str,
        *,
        cseq: int,
        now: float,
        extra: str = "",
    ) -> _Exchange:
        reliable = request.destination[1] is not _UDP
        exchange = _Exchange(self._timers, now=now, reliable=reliable)
        branch = f"{_MAGIC}{token}{cseq}"
        exchange.branch = encoded = branch.encode()
        exchange.cseq = cseq
        exchange.cseq_value = f"{cseq} {request.method}".encode()
        exchange.data = request.render(token=token, branch=branch, cseq=cseq, extra=extra)
        exchange.key = key
        exchange.request = request
        exchange.sent_at = now
        exchange.token = token
        exchange.answers = ()
        self._exchanges[encoded] = exchange
        if reliable:  # Timer F alone, which is the same for all of them
            self._reliable.append((exchange.due_at, exchange))
            if len(self._reliable) > 2 * len(self._exchanges) + _FORGET_BEYOND:
                self._reliable = deque(one for one in self._reliable if one[1].waiting)
        else:
            self._first_e.append((exchange.due_at, exchange))
        return exchange

    def withdraw(self, data: bytes) -> None:
        """Forget a request that `start` has returned and that was not sent."""
        exchange = self._exchanges.pop(_branch_of(data))
        exchange.fail()

    def receive(self, data: bytes, source: Address, *, now: float) -> Output | None:
        """Take a message: a response that finishes a request, a request to answer, or nothing of use (None)."""
        scanned = scan_response(data)
        if scanned is None:
            return self._receive_other(data, source, now=now)
        status, branch, cseq = scanned
        exchange = self._exchanges.get(branch)
        if exchange is None:
            if branch not in self._completed:
                self.strays += 1
            return None
        if cseq != exchange.cseq_value:  # RFC 3261 17.1.3: of another method, or ours in another spelling (`01 NOTIFY`)
            return self._receive_other(data, source, now=now)
        if exchange.receive(status, now=now) is not Effect.ANSWER:
            return None
        if status < 300:
            del self._exchanges[branch]
            if not exchange.reliable:
                self._completed.add(branch)
                self._k.append((exchange.due_at, branch))
            return Result(exchange.key, Ending.ANSWERED, status, exchange.sent_at, now, -1, "")
        try:
            response = parse(data)
        except SipParseError:
            return self._finish(exchange, Ending.ANSWERED, status, now=now, detail="the response is malformed")
        return self._judge(exchange, response, now=now) if isinstance(response, Response) else None

    def _receive_other(self, data: bytes, source: Address, *, now: float) -> Output | None:
        try:
            message = parse(data)
        except SipParseError:
            self.strays += 1
            return None
        match message:
            case KeepAlive():
                return None
            case Request():
                reply = answer(message, source=source)
                return None if reply is None else Reply(reply, reply_address(message, source=source))
            case Response():
                return self._receive_response(message, now=now)

    def _receive_response(self, response: Response, *, now: float) -> Output | None:
        try:
            branch, cseq = response.top_via.branch.encode("utf-8", "surrogateescape"), response.cseq
        except SipParseError:
            self.strays += 1
            return None
        exchange = self._exchanges.get(branch)
        if exchange is None or str(cseq).encode() != exchange.cseq_value:
            if branch not in self._completed:
                self.strays += 1
            return None
        if exchange.receive(response.status, now=now) is not Effect.ANSWER:
            return None
        return self._judge(exchange, response, now=now)

    def _judge(self, exchange: _Exchange, response: Response, *, now: float) -> Output:
        status = response.status
        if status in {401, 407}:
            return self._authenticate(exchange, response, now=now)
        wait, detail = said_in(response)
        return self._finish(exchange, Ending.ANSWERED, status, now=now, retry_after=wait, detail=detail)

    def _authenticate(self, exchange: _Exchange, response: Response, *, now: float) -> Output:
        """Answer a challenge once (RFC 3261 22.2, 22.3), or say why that is impossible."""
        request = exchange.request
        reaction = respond(
            response,
            exchange.answers,
            method=request.method,
            uri=request.request_uri,
            body=request.body,
            credentials=request.credentials,
            round_number=exchange.cseq,
            new_token=self._new_token,
        )
        if isinstance(reaction, Unanswered):
            ending = UNANSWERED[reaction.why]
            return self._finish(exchange, ending, response.status, now=now, detail=reaction.detail)
        # RFC 3261 22.2: the same Call-ID and From tag with a higher CSeq; a new branch by its own rule.
        self._retire(exchange)
        again = self._begin(
            request, exchange.key, exchange.token, cseq=exchange.cseq + 1, now=now, extra=reaction.lines
        )
        again.sent_at = exchange.sent_at
        again.answers = reaction.answered
        return Transmit(again.data, request.destination)

    def fail(self, data: bytes, destination: Address, ending: Ending, detail: str, *, now: float) -> Iterator[Result]:
        """Take a delivery failure over UDP: `data` is what the error quotes of our datagram, perhaps nothing of use.

        Yields the requests that end by it: the one whose branch is quoted, else all to that destination.
        """
        if data.startswith(b"SIP/2.0 "):
            return  # a response of ours, its branch is the peer's
        branch = _branch_of(data)
        if branch:
            quoted = self._exchanges.get(branch)
            failed = [] if quoted is None else [quoted]  # none: of a transaction that has ended
        else:
            hop = (destination, _UDP)
            failed = [one for one in self._exchanges.values() if one.request.destination[:2] == hop]
        for exchange in failed:
            if exchange.fail() is Effect.FAILURE:
                yield self._finish(exchange, ending, 0, now=now, detail=detail)

    def advance(self, *, now: float) -> Iterator[Output]:
        """Let every timer that is due expire: yields retransmissions and time-outs."""
        while self._k and self._k[0][0] <= now:
            self._completed.discard(self._k.popleft()[1])
        while self._first_e and self._first_e[0][0] <= now:
            yield from self._expire(self._first_e.popleft()[1], now=now)
        while self._reliable and self._reliable[0][0] <= now:
            yield from self._expire(self._reliable.popleft()[1], now=now)
        while self._repeating and self._repeating[0][0] <= now:
            yield from self._expire(heapq.heappop(self._repeating)[2], now=now)

    def _expire(self, exchange: _Exchange, *, now: float) -> Iterator[Output]:
        if not exchange.waiting:
            return
        effect = exchange.advance(now=now)
        if effect is Effect.TIMEOUT:
            yield self._finish(exchange, Ending.TIMEOUT, 0, now=now)
            return
        self._serial += 1
        heapq.heappush(self._repeating, (exchange.due_at, self._serial, exchange))
        if effect is Effect.RETRANSMIT:
            self.retransmissions += 1
            yield Transmit(exchange.data, exchange.request.destination)

    def next_deadline(self) -> float | None:
        """Return when `advance` wants to be called; None when nothing is pending."""
        deadline = None
        for in_order in (self._first_e, self._reliable):
            while in_order and not in_order[0][1].waiting:
                in_order.popleft()
            if in_order and (deadline is None or in_order[0][0] < deadline):
                deadline = in_order[0][0]
        if self._repeating and (deadline is None or self._repeating[0][0] < deadline):
            deadline = self._repeating[0][0]
        if self._k and (deadline is None or self._k[0][0] + _FORGET_LATE < deadline):
            deadline = self._k[0][0] + _FORGET_LATE
        return deadline

    def _finish(
        self,
        exchange: _Exchange,
        ending: Ending,
        status: int,
        *,
        now: float,
        retry_after: int = -1,
        detail: str = "",
    ) -> Result:
        self._retire(exchange)
        return Result(exchange.key, ending, status, exchange.sent_at, now, retry_after, detail)

    def _retire(self, exchange: _Exchange) -> None:
        branch = exchange.branch
        del self._exchanges[branch]
        if exchange.state is State.COMPLETED and not exchange.reliable:
            self._completed.add(branch)
            self._k.append((exchange.due_at, branch))


def said_in(response: Response) -> tuple[int, str]:
    """Return the seconds of the Retry-After of a final response, -1 without one, and its reason for people."""
    detail, retry_after = printable(response.reason), response.get("Retry-After")
    if retry_after is None:
        return -1, detail
    try:
        return parse_retry_after(retry_after), detail
    except SipParseError:
        return -1, f"{detail}; unreadable Retry-After"


def _branch_of(data: bytes) -> bytes:
    """Return the branch of a request of ours, b'' when what is quoted of it ends before."""
    via = data.find(b"\r\nVia: ")  # another branch may be in the Request-URI
    start = data.find(b";branch=", via) + 8 if via >= 0 else 0
    end = data.find(b";", start)  # ours are followed by `;rport`, unless the quotation was cut
    return data[start:end] if start >= 8 and end >= 0 else b""
