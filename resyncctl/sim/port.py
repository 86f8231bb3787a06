"""One socket of a fleet: datagrams in and out, or lost on purpose, and the REGISTERs of the phones behind it."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from resyncctl.errors import SipParseError
from resyncctl.sim.behaviour import QUIET, Verdict
from resyncctl.sim.roster import SimulatedPhone
from resyncctl.sip.digest import Credentials
from resyncctl.sip.hop import Hop
from resyncctl.sip.message import Request, parse
from resyncctl.sip.notify import fields
from resyncctl.sip.transaction import Timers
from resyncctl.sip.uac import Ending, Outgoing, Output, Result, Transmit, UserAgentClient
from resyncctl.sip.uas import Address, reply, reply_address
from resyncctl.sip.uri import Uri

EXPIRES: Final = 3600
"""Seconds that a registration asks for. It is not refreshed: a rehearsal that takes longer loses its bindings."""


class Receiver(Protocol):
    """What a link calls; the shape of `transport.link.Receiver`, which this layer may not import."""

    def datagram_received(self, data: bytes, source: Address) -> None: ...
    def delivery_failed(self, quoted: bytes, destination: Address, ending: Ending, detail: str) -> None: ...


class Link(Protocol):
    """The shape of `transport.link.Link`."""

    @property
    def local(self) -> Address: ...
    def send(self, data: bytes, destination: Address) -> None: ...
    def close(self) -> None: ...


class Network(Protocol):
    """The part of `transport.link.Network` that phones need."""

    def open(self, local: Address, receiver: Receiver) -> Link: ...


class Owner(Protocol):
    """The fleet, as its ports see it."""

    def loses(self) -> bool:
        """Say whether the next datagram is lost."""

    def later(self, delay: float, act: Callable[[], None]) -> None:
        """Call `act` in `delay` seconds, unless the fleet is closed by then."""

    def take_request(self, incoming: Incoming) -> None:
        """Take a request; it may raise SipParseError."""

    def take_stray(self) -> None:
        """Count a datagram that is not SIP."""


@dataclass(frozen=True, slots=True)
class Registrar:
    """Where phones register: the Request-URI of the REGISTER, and the address that it goes to."""

    uri: Uri
    address: Address
    at_start: bool = False
    """Also when the fleet starts, not only after a reboot."""


class Incoming(NamedTuple):
    """A request as it arrived."""

    port: Port
    request: Request
    source: Address

    def answer(self, verdict: Verdict) -> None:
        """Send an answer; a retransmission gets the same bytes, as `reply` keeps its tag. Raises SipParseError."""
        if verdict != QUIET:
            response = reply(self.request, verdict.status, source=self.source, headers=verdict.headers)
            self.port.send(bytes(response), reply_address(response, source=self.source))


class Port:
    """A bound socket; binding raises what the network raises. Registrations run on a SIP core of the port's own."""

    def __init__(self, owner: Owner, network: Network, local: Address, *, clock: Callable[[], float]) -> None:
        self._owner = owner
        self._clock = clock
        self._core = UserAgentClient(timers=Timers(), new_token=lambda: secrets.token_hex(8))
        self._wakes_at = float("inf")
        self._link = network.open(local, self)
        host, number = self._link.local
        self.host = f"[{host}]:{number}" if ":" in host else f"{host}:{number}"

    def datagram_received(self, data: bytes, source: Address) -> None:
        """Take a datagram from the link."""
        if self._owner.loses():
            return
        if data.startswith(b"SIP/2.0 "):
            self._do(self._core.receive(data, source, now=self._clock()))
            return
        try:
            message = parse(data)
            if isinstance(message, Request):
                self._owner.take_request(Incoming(self, message, source))
        except SipParseError:
            self._owner.take_stray()

    def delivery_failed(self, quoted: bytes, destination: Address, ending: Ending, detail: str) -> None:
        """Let the registration fail that was not delivered; that an answer was not, no phone cares about."""
        for result in self._core.fail(quoted, destination, ending, detail, now=self._clock()):
            self._do(result)

    def send(self, data: bytes, destination: Address) -> None:
        """Send a datagram; what the system refuses to send is lost."""
        if not self._owner.loses():
            with contextlib.suppress(OSError):
                self._link.send(data, destination)

    def register(self, request: Outgoing, done: Callable[[int], None]) -> None:
        """Send a REGISTER and see it through; `done` gets the status of its final response, 0 = none."""
        self._do(Transmit(self._core.start(request, done, now=self._clock()), request.destination))

    def close(self) -> None:
        """Close the socket; idempotent."""
        self._link.close()

    def _do(self, output: Output | None) -> None:
        if isinstance(output, Transmit):
            self.send(output.data, output.destination.address)
            self._arm()
        elif isinstance(output, Result) and callable(output.key):
            output.key(output.status)

    def _arm(self) -> None:
        deadline = self._core.next_deadline()
        if deadline is not None and deadline < self._wakes_at:
            self._wakes_at = deadline
            self._owner.later(max(0.0, deadline - self._clock()), self._wake_up)

    def _wake_up(self) -> None:
        self._wakes_at = float("inf")
        for output in self._core.advance(now=self._clock()):
            self._do(output)
        self._arm()


class Registration:
    """The REGISTER of one phone (RFC 3261 10.2), an `Outgoing`; every one that is sent has a Call-ID of its own."""

    method: Final = "REGISTER"
    body: Final = b""

    def __init__(self, phone: SimulatedPhone, contact: str, registrar: Registrar) -> None:
        self.request_uri = str(registrar.uri)
        self.destination = Hop(registrar.address)
        self.credentials = Credentials(phone.username, phone.password) if phone.username else None
        self._phone = phone
        self._contact = contact

    def render(self, *, token: str, branch: str, cseq: int, extra: str) -> bytes:
        """Write the datagram, with the instance-id of RFC 5626 4.1 when the phone has one."""
        phone, host = self._phone, self._contact.partition("@")[2]
        instance = f';+sip.instance="<{phone.instance}>"' if phone.instance else ""
        lines = fields(
            ("Via", f"SIP/2.0/UDP {host};branch={branch};rport"),
            ("Max-Forwards", "70"),
            ("From", f"<{phone.aor}>;tag={token}"),
            ("To", f"<{phone.aor}>"),
            ("Call-ID", f"{token}@{host}"),
            ("CSeq", f"{cseq} {self.method}"),
            ("Contact", f"<{self._contact}>{instance}"),
            ("Expires", str(EXPIRES)),
            ("User-Agent", phone.user_agent or "resyncctl sim"),
        )
        text = f"{self.method} {self.request_uri} SIP/2.0\r\n{lines}{extra}Content-Length: 0\r\n\r\n"
        return text.encode("utf-8", "surrogateescape")
