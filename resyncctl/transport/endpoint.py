"""The one loop that drives the SIP core: sends what it wants sent, hands on what ended, wakes it at its deadline."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Hashable

from resyncctl.clock import monotonic
from resyncctl.errors import TransportError
from resyncctl.sip.transaction import Timers
from resyncctl.sip.uac import Ending, Outgoing, Output, Result, Transmit, UserAgentClient
from resyncctl.sip.uas import Address
from resyncctl.transport.link import Link, Network
from resyncctl.transport.udp import ending_of, family_of

ANY: Address = ("", 0)
"""Local address for "wherever the first datagram leaves from"."""


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
    """A SIP user agent client on UDP. `on_result` is called once for every request that was sent, from the event loop.

    `local` is the address to send from: `ANY`, an address with port 0, or address and port. A second address family is
    opened when the first phone of that family comes, unless `local` fixes the family.
    """

    def __init__(
        self,
        network: Network,
        *,
        local: Address = ANY,
        timers: Timers,
        on_result: Callable[[Result], None],
        new_token: Callable[[], str] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._network = network
        self._local = local
        self._on_result = on_result
        self._clock = clock
        self._first_timer = min(timers.t1, timers.timeout)
        self._core = UserAgentClient(timers=timers, new_token=RandomTokens() if new_token is None else new_token)
        self._links: dict[socket.AddressFamily, Link] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._closed = False

    @property
    def core(self) -> UserAgentClient:
        """The SIP core, for its counters."""
        return self._core

    def link_for(self, destination: Address) -> Link:
        """Return the link that leads to `destination`, opened if need be; raise TransportError when there is none."""
        family = family_of(destination[0])
        link = self._links.get(family)
        if link is None:
            link = self._links[family] = self._open(family, destination)
        return link

    def _open(self, family: socket.AddressFamily, destination: Address) -> Link:
        host, port = self._local
        if not host:
            return self._network.open_towards(destination, port, self)
        if family_of(host) is not family:
            raise TransportError(f"--local-address {host} cannot reach {destination[0]}: it is of the other IP version")
        return self._network.open((host, port), self)

    def send(self, request: Outgoing, key: Hashable) -> float:
        """Start a transaction and return when its datagram left, on the endpoint's clock."""
        now = self._clock()
        destination = request.destination
        data = self._core.start(request, key, now=now)
        self._transmit(data, destination)
        if now + self._first_timer < self._timer_at:
            self._arm()
        return now

    def datagram_received(self, data: bytes, source: Address) -> None:
        """Take a datagram from a link."""
        output = self._core.receive(data, source, now=self._clock())
        if type(output) is Result:  # nearly always
            self._on_result(output)
        elif output is not None:
            self._do(output)

    def delivery_failed(self, quoted: bytes, destination: Address, ending: Ending, detail: str) -> None:
        """Take an ICMP error from a link, or our own of a datagram that could not be sent."""
        if self._closed:
            return
        for result in self._core.fail(quoted, destination, ending, detail, now=self._clock()):
            self._on_result(result)

    def close(self) -> None:
        """Close the links; requests that are still waiting end without a result. Idempotent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for link in self._links.values():
            link.close()
        self._links.clear()

    def _do(self, output: Output) -> None:
        match output:
            case Result():
                self._on_result(output)
            case Transmit():
                self._transmit(output.data, output.destination)
                self._arm()

    def _transmit(self, data: bytes, destination: Address) -> None:
        try:
            self.link_for(destination).send(data, destination)
        except TransportError as error:
            self._refuse(data, destination, Ending.NO_ROUTE, str(error))
        except OSError as error:
            number = error.errno or 0
            self._refuse(data, destination, ending_of(number), f"cannot send: {os.strerror(number)}")

    def _refuse(self, data: bytes, destination: Address, ending: Ending, detail: str) -> None:
        # Later, not now: whoever called `send` has not noted yet that the request is on its way.
        asyncio.get_running_loop().call_soon(self.delivery_failed, data, destination, ending, detail)

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
        self._arm()
