"""A fleet of simulated phones on one UDP socket or many: hears requests, answers, reboots, registers. No task per phone.

A phone that is booting hears nothing, and has forgotten its transactions when it is back: a NOTIFY that is retransmitted
into the next boot is a new one to it, as it is to a real phone, and reboots it again.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from resyncctl.clock import monotonic
from resyncctl.errors import InputError, SipParseError, TransportError
from resyncctl.sim.behaviour import QUIET, Behaviour, Guard, Range, Verdict, deal, event_kind, known_kinds, reboots
from resyncctl.sim.port import Incoming, Network, Port, Registrar, Registration
from resyncctl.sim.roster import SimulatedPhone
from resyncctl.sip.message import Request, check_request
from resyncctl.sip.uas import Address
from resyncctl.sip.uri import Uri
from resyncctl.vendors import Catalogue, Vendor

HISTORY: Final = 16
"""NOTIFYs remembered for each phone, the latest."""

_TIMER_J: Final = 32.0
"""Seconds that an answer is kept for retransmissions, at least (RFC 3261 17.2.2) …"""
_TRANSACTIONS: Final = 65_536
"""… unless that many newer ones come."""
_REGISTER_RATE: Final = 500.0
"""Phones that register at start in a second: a registrar's socket buffer is small."""
_REGISTER_AGAIN: Final = (20.0, 40.0)
"""Seconds until a phone whose registration failed tries again."""
_ALLOW: Final = (("Allow", "NOTIFY, OPTIONS"),)


class Heard(NamedTuple):
    """One NOTIFY that a phone heard, on the fleet's clock; `status` is what it answers, 0 = nothing."""

    at: float
    event: str
    call_id: str
    status: int


@dataclass(slots=True)
class Stats:
    """What a fleet has done so far."""

    requests: int = 0
    """NOTIFYs heard, each once however often it was retransmitted."""
    retransmissions: int = 0
    """NOTIFYs heard again."""
    answers: Counter[int] = field(default_factory=Counter)
    """Final answers to NOTIFYs by code, each once."""
    reboots: int = 0
    registrations: int = 0
    failed_registrations: int = 0
    lost: int = 0
    """Datagrams lost on purpose, either way."""
    unheard: int = 0
    """Requests to a phone that was booting."""
    strays: int = 0
    """Datagrams that are not SIP, and requests to users who are not here."""


class _Transaction:
    """A server transaction: what was said last and is said again."""

    __slots__ = ("said",)

    def __init__(self) -> None:
        self.said = QUIET


@dataclass(slots=True, eq=False)
class _Device:
    """A phone at work. `status` is what it answers with, 0 = nothing, `mute` that it reboots without an answer."""

    phone: SimulatedPhone
    vendor: Vendor | None
    status: int
    mute: bool
    contact: str = ""
    port: Port | None = None
    up: bool = True
    boots: int = 0
    refusals: int = 0
    heard: deque[Heard] | None = None


class Fleet:
    """Simulated phones that behave as told. `open` binds them, `run` lets them register and waits, `close` ends it all.

    `listen` is the address of the first socket, the others get the ports behind it (port 0: any); there are `sockets` of
    them, 0 = one for each phone.
    """

    def __init__(
        self,
        network: Network,
        phones: Sequence[SimulatedPhone],
        behaviour: Behaviour,
        *,
        catalogue: Catalogue,
        listen: Address,
        sockets: int = 1,
        registrar: Registrar | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Raises InputError for no phones, and for an address that nobody could send to."""
        if not phones or sockets < 0:
            raise InputError("a fleet needs at least one phone, and one socket or more (0: one for each phone)")
        if listen[0] in {"", "0.0.0.0", "::"}:
            raise InputError(f"phones cannot be reached at {listen[0]!r}; listen on an address of this machine")
        self.stats = Stats()
        self._network = network
        self._behaviour = behaviour
        self._listen = listen
        self._sockets = min(sockets or len(phones), len(phones))
        self._registrar = registrar
        self._clock = clock
        self._rng = random.Random(behaviour.seed)  # noqa: S311  (a rehearsal repeats by its seed)
        self._guard = Guard(behaviour.challenge, behaviour.algorithm)
        self._kinds = known_kinds(catalogue)
        self._allow_events = (("Allow-Events", ", ".join(sorted(self._kinds))),)
        self._devices = _devices(phones, behaviour, catalogue)
        self._by_contact: dict[str, _Device] = {}
        self._ports: list[Port] = []
        self._recent: dict[str, _Transaction] = {}
        self._older: dict[str, _Transaction] = {}
        self._turned_at = float("-inf")
        self._timers: set[asyncio.TimerHandle] = set()
        self._ended = asyncio.Event()

    def open(self) -> None:
        """Bind the sockets; every phone has a contact afterwards. Raises TransportError, with nothing left open."""
        host, first = self._listen
        try:
            for number in range(self._sockets):
                local = host, first + number if first else 0
                self._ports.append(Port(self, self._network, local, clock=self._clock))
        except (TransportError, OSError, OverflowError) as error:
            self.close()
            raise TransportError(
                f"cannot open {self._sockets} sockets for phones: {error}; choose other ports, or fewer sockets"
            ) from error
        for number, device in enumerate(self._devices):
            self._place(device, self._ports[number % self._sockets])

    def rows(self) -> Iterator[dict[str, str]]:
        """Yield the phone list that reaches the phones, in their order."""
        return (device.phone.row(device.contact) for device in self._devices)

    def heard(self) -> Iterator[tuple[SimulatedPhone, tuple[Heard, ...]]]:
        """Yield each phone with the NOTIFYs that it heard, oldest first, the last HISTORY of them."""
        return ((device.phone, tuple(device.heard or ())) for device in self._devices)

    async def run(self) -> None:
        """Let the phones register, when they are to, and stay until `close`."""
        if self._registrar is not None and self._registrar.at_start:
            for number, device in enumerate(self._devices):
                self._register_later(number / _REGISTER_RATE, device, device.boots)
        await self._ended.wait()

    def close(self) -> None:
        """Stop everything at once; idempotent."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        for port in self._ports:
            port.close()
        self._ended.set()

    # What the ports need

    def loses(self) -> bool:
        """Say whether the next datagram is lost."""
        lost = self._rng.random() < self._behaviour.loss
        self.stats.lost += lost
        return lost

    def later(self, delay: float, act: Callable[[], None]) -> None:
        """Call `act` in `delay` seconds, unless the fleet is closed by then."""

        def fire() -> None:
            self._timers.discard(timer)
            act()

        timer = asyncio.get_running_loop().call_later(delay, fire)
        self._timers.add(timer)

    def take_stray(self) -> None:
        """Count a datagram that is not SIP."""
        self.stats.strays += 1

    def take_request(self, incoming: Incoming) -> None:
        """Answer a request, unless nobody hears it; raises SipParseError when there is no Via to answer to."""
        request, port = incoming.request, incoming.port
        if request.method == "ACK":
            return
        device = self._by_contact.get(f"{_user(request.uri)}@{port.host}")
        if device is None:
            self.stats.strays += 1
            incoming.answer(Verdict(404))
            return
        if not device.up:
            self.stats.unheard += 1
            return
        # RFC 3261 17.2.3: branch, sent-by (both in the Via) and method tell a transaction; the Call-ID and the whole CSeq
        # are there for senders of RFC 2543, whose Via may be the same for all that they send.
        key = f"{device.boots} {request.get('CSeq')} {request.get('Call-ID')} {request.get('Via')}"
        known = self._recent.get(key) or self._older.get(key)
        if known is not None:
            self.stats.retransmissions += request.method == "NOTIFY"
            incoming.answer(known.said)
            return
        transaction = self._remember(key)
        verdict = self._judge(device, request)
        if request.method == "NOTIFY":
            self._notify(device, incoming, transaction, verdict)
        else:
            transaction.said = verdict
            incoming.answer(verdict)

    def _remember(self, key: str) -> _Transaction:
        """Keep a new transaction for _TIMER_J at least: of two tables the older one is dropped as a whole."""
        now = self._clock()
        if now - self._turned_at > _TIMER_J or len(self._recent) >= _TRANSACTIONS:
            self._older, self._recent, self._turned_at = self._recent, {}, now
        transaction = self._recent[key] = _Transaction()
        return transaction

    def _judge(self, device: _Device, request: Request) -> Verdict:
        """Decide what to answer to a new request."""
        if not device.status:
            return QUIET
        try:
            check_request(request)
        except SipParseError:
            return Verdict(400)
        if request.method != "NOTIFY":
            return Verdict(200 if request.method == "OPTIONS" else 405, _ALLOW)
        if device.refusals < self._behaviour.overloaded:
            device.refusals += 1
            return Verdict(503, (("Retry-After", str(self._behaviour.retry_after)),))
        refused = self._guard.check(request, device.phone)
        if refused is not None:
            return refused
        if event_kind(request.get("Event") or "") not in self._kinds:
            return Verdict(489, self._allow_events)  # RFC 6665 4.1.3, 7.1
        return Verdict(device.status)

    def _notify(self, device: _Device, incoming: Incoming, transaction: _Transaction, verdict: Verdict) -> None:
        request, boots = incoming.request, device.boots
        event = request.get("Event") or ""
        reboot = 200 <= verdict.status < 300 and reboots(
            device.vendor, event, request.body.decode("utf-8", "surrogateescape")
        )
        final = QUIET if reboot and device.mute else verdict
        self.stats.requests += 1
        if device.heard is None:
            device.heard = deque(maxlen=HISTORY)
        device.heard.append(Heard(self._clock(), event, request.get("Call-ID") or "", final.status))
        if verdict == QUIET:
            return
        if self._behaviour.provisional:
            transaction.said = Verdict(100)
            incoming.answer(transaction.said)

        def conclude() -> None:
            if device.boots != boots:
                return  # it went down in the meantime
            if final != QUIET:
                transaction.said = final
                self.stats.answers[final.status] += 1
                incoming.answer(final)
            if reboot:
                self._reboot(device)

        delay = self._draw(self._behaviour.delay)
        if delay:
            self.later(delay, conclude)
        else:
            conclude()

    def _draw(self, between: Range) -> float:
        return between[0] + (between[1] - between[0]) * self._rng.random()

    def _reboot(self, device: _Device) -> None:
        self.stats.reboots += 1
        device.up = False
        device.boots += 1

        def come_back() -> None:
            device.up = True
            self._register_later(0.0, device, device.boots)

        self.later(self._draw(self._behaviour.boot_time), come_back)

    def _register_later(self, delay: float, device: _Device, boots: int) -> None:
        """Register a phone in `delay` seconds, unless it reboots before, and try again when that fails."""
        registrar = self._registrar

        def done(status: int) -> None:
            if device.boots != boots:
                return  # the answer reached a phone that is down
            if 200 <= status < 300:
                self.stats.registrations += 1
                return
            self.stats.failed_registrations += 1
            self._register_later(self._draw(_REGISTER_AGAIN), device, boots)

        def register() -> None:
            if device.boots == boots and device.port is not None and registrar is not None:
                device.port.register(Registration(device.phone, device.contact, registrar), done)

        if registrar is not None:
            self.later(delay, register)

    def _place(self, device: _Device, port: Port) -> None:
        """Give a phone its contact, with a number behind its user name when another phone has that on this socket."""
        name, copy = f"{device.phone.user}@{port.host}", 1
        while name in self._by_contact:
            copy += 1
            name = f"{device.phone.user}-{copy}@{port.host}"
        self._by_contact[name] = device
        device.port, device.contact = port, f"sip:{name}"


def _devices(phones: Sequence[SimulatedPhone], behaviour: Behaviour, catalogue: Catalogue) -> list[_Device]:
    """Give each phone its part of the behaviour."""
    names = [f"{phone.aor} {phone.mac} {phone.instance}" for phone in phones]
    answers = deal(names, [share for _, share in behaviour.answers], seed=behaviour.seed)
    mutes = deal(names, [behaviour.mute_on_reboot, 1 - behaviour.mute_on_reboot], seed=behaviour.seed + 1)
    return [
        _Device(
            phone,
            catalogue.get(phone.vendor) if phone.vendor else catalogue.match(phone.user_agent),
            behaviour.answers[answer].status,
            mute == 0,
        )
        for phone, answer, mute in zip(phones, answers, mutes, strict=True)
    ]


def _user(uri: str) -> str | None:
    """Return the user of a Request-URI; None when there is none, or the URI is of a kind that phones do not have."""
    try:
        return Uri.parse(uri).user
    except SipParseError:
        return None
