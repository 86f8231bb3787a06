"""The transactions of one agent that PJSIP works on."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from resyncctl.errors import SipError, TransportError
from resyncctl.sip.hop import Transport
from resyncctl.sip.transaction import Timers
from resyncctl.transport.pjsip.exchange import Exchange
from resyncctl.transport.pjsip.stack import Ended, How, Stack
from resyncctl.transport.pjsip.udp import Failure

_BRANCH: Final = re.compile(rb"\r\nVia: [^\r\n]*?;branch=(z9hG4bK[^;\r\n]+)[;\r]")


class Flight:
    """Requests that have left and have no final response. Times are on `clock`."""

    def __init__(self, stack: Stack, timers: Timers, clock: Callable[[], float]) -> None:
        self._stack = stack
        self._timers = timers
        self._clock = clock
        self._exchanges: dict[str, Exchange] = {}
        """By branch."""
        self._ended: deque[tuple[Exchange, Ended]] = deque()

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._exchanges)

    def start(self, exchange: Exchange, data: bytes, transport: int) -> None:
        """Begin a transaction over a transport of PJSIP that stands, with the message that the exchange has rendered."""
        now, timers = self._clock(), self._timers
        exchange.sent_at, exchange.begun_at = exchange.sent_at or now, now
        if not exchange.copies and not exchange.left:
            exchange.expires_at = now + timers.timeout
        self._exchanges[exchange.branch] = exchange
        note = partial(self._note, exchange)
        self._stack.use_timers(t1=timers.t1, t2=timers.t2, timeout=exchange.expires_at - now)
        try:
            exchange.number = self._stack.send(data, exchange.request.request_uri, exchange.hop, transport, note)
        except (SipError, TransportError) as error:
            self._note(exchange, Ended(How.FAILED, text=str(error).encode()))

    def _note(self, exchange: Exchange, ended: Ended) -> None:
        self._ended.append((exchange, ended))

    def ended(self) -> Iterator[tuple[Exchange, Ended]]:
        """Yield those that have ended, each once."""
        while self._ended:
            exchange, ended = self._ended.popleft()
            if self._exchanges.pop(exchange.branch, None) is not None:
                yield exchange, ended

    def failed(self, failure: Failure) -> Iterator[Exchange]:
        """End and yield what an ICMP error is about: the request whose branch it quotes, else all to that destination."""
        for exchange in self._named_by(failure):
            if self._exchanges.pop(exchange.branch, None) is not None:
                self._withdraw(exchange)
                yield exchange

    def _named_by(self, failure: Failure) -> list[Exchange]:
        if failure.quoted.startswith(b"SIP/2.0 "):
            return []  # a response of ours, its branch is the peer's
        quoted = _BRANCH.search(failure.quoted)
        if quoted is not None:
            exchange = self._exchanges.get(quoted[1].decode("utf-8", "replace"))
            return [] if exchange is None else [exchange]
        hop = (failure.destination, Transport.UDP)
        return [one for one in self._exchanges.values() if one.hop[:2] == hop]

    def clear(self) -> None:
        """End all of them without a word."""
        for exchange in self._exchanges.values():
            self._withdraw(exchange)
        self._exchanges.clear()
        self._ended.clear()

    def _withdraw(self, exchange: Exchange) -> None:
        self._stack.withdraw(exchange.number, exchange.request.method, exchange.branch)
