"""Find where a request goes, by RFC 3263: NAPTR, SRV with weights, A and AAAA, each only where the URI leaves it open.

`answers` remembers what the DNS said, `addresses` asks for hosts, `name_server` is dnspython. What is drawn at random is
drawn in every call: the memory holds records, so that phones under one name spread over its servers.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias, TypeVar

from resyncctl.clock import monotonic
from resyncctl.errors import InputError
from resyncctl.sip.hop import Hop, NextHop, Transport
from resyncctl.sip.uas import Address
from resyncctl.transport.addresses import HostAddresses, System, ask_system, loopback
from resyncctl.transport.answers import (
    FORGET_FAILURE,
    Answer,
    Kind,
    Known,
    Memory,
    Naptr,
    Query,
    Record,
    Srv,
)

T = TypeVar("T")

BOTH: Final = frozenset({socket.AF_INET, socket.AF_INET6})
_STAGE: Final = 0.9
"""Seconds that NAPTR, SRV and the addresses of SRV targets may take, each. What is late counts as absent for this time, and
is remembered when it comes: a name server that drops NAPTR questions, as some do, must not hide an A record."""
_MOST_TARGETS: Final = 16
"""SRV records of one service that are used: each is two more questions, and the answer is somebody else's."""
_MOST_AVOIDED: Final = 10_000

_SERVICES: Final = {"SIP+D2U": Transport.UDP, "SIP+D2T": Transport.TCP, "SIPS+D2T": Transport.TLS}
"""NAPTR services of what we speak (RFC 3263 4.1)."""
_PREFIXES: Final = {Transport.UDP: "_sip._udp.", Transport.TCP: "_sip._tcp.", Transport.TLS: "_sips._tcp."}


class Target(NamedTuple):
    """One SRV target, or a host itself: its weight and its addresses in the order to try."""

    weight: int
    hops: tuple[Hop, ...]


Group: TypeAlias = tuple[Target, ...]
"""Targets of one priority, those of weight 0 first (RFC 2782)."""
Service: TypeAlias = tuple[str, Transport]
"""The name of an SRV record and the transport that it stands for."""


def numeric(host: str) -> bool:
    """Say whether the host (without brackets) is an IPv4 or IPv6 address."""
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    except (OSError, ValueError):
        return False
    return True


def direct_hop(next_hop: NextHop) -> Hop | None:
    """Return the hop that a numeric host is, without any look-up (RFC 3263 4.2); None for a name."""
    host, port, asked, secure = next_hop
    transport = Transport.UDP if asked is None and not secure else next_hop.chosen  # nearly all need not ask
    if transport is None or not numeric(host):
        return None
    return Hop((host, port or transport.default_port), transport, host)


class Resolver:
    """Turns what a URI says into addresses.

    `nameserver` is "IP", "IP:PORT" or "[IPV6]:PORT"; "" takes the system's name servers, and asks the system itself for hosts
    that these do not know. `families` limits what names lead to; a numeric host is used as it is.
    """

    def __init__(
        self,
        *,
        nameserver: str = "",
        families: frozenset[socket.AddressFamily] = BOTH,
        clock: Callable[[], float] = monotonic,
        rng: random.Random | None = None,
        query: Query | None = None,
        system: System = ask_system,
    ) -> None:
        """Raise InputError for a nameserver that is none of these texts."""
        self._server = _server(nameserver) if nameserver else None
        self._clock = clock
        self._rng = random.Random() if rng is None else rng  # noqa: S311  (spreads load, keeps no secret)
        self._query = query
        hosts = HostAddresses(self._ask, system=None if nameserver else system, families=families)
        self._addresses: Memory[str, str] = Memory(hosts, clock=clock)
        self._srv: Memory[str, Record] = Memory(lambda name: self._ask(name, Kind.SRV), clock=clock)
        self._naptr: Memory[str, Record] = Memory(lambda name: self._ask(name, Kind.NAPTR), clock=clock)
        self._plans: Memory[NextHop, Group] = Memory(self._plan, clock=clock)
        self._avoided: dict[tuple[Address, Transport], float] = {}
        self._avoiding_until = float("-inf")

    async def resolve(self, next_hop: NextHop) -> list[Hop]:
        """Return the addresses in the order to try, none when there are none; drawn anew in each call.

        An answer takes at most PATIENCE seconds, and none of what the DNS does is raised. A transport that we do not speak
        has no address, nor has `sips:` over UDP (RFC 3261 26.2.2).
        """
        host, port, _, _ = next_hop
        chosen = next_hop.chosen
        if chosen is None:
            return []
        direct = direct_hop(next_hop)
        if direct is not None:
            return [direct]
        if port is None:
            hops = self._drawn((await self._plans.get(next_hop)).records)
        else:
            known = await self._addresses.get(_canonical(host))
            hops = [Hop((address, port), chosen, host) for address in known.records]
        return self._avoided_last(hops) if len(hops) > 1 else hops

    def avoid(self, hop: Hop, *, seconds: float) -> None:
        """Put a hop that has just failed (time-out, refused, 503) last among the alternatives of any name, for that long."""
        if numeric(hop.name):
            return  # it has no alternatives
        until = max(self._avoided.pop(hop[:2], 0.0), self._clock() + seconds)
        self._avoided[hop[:2]] = until
        self._avoiding_until = max(self._avoiding_until, until)
        if len(self._avoided) > _MOST_AVOIDED:
            del self._avoided[next(iter(self._avoided))]

    def _drawn(self, groups: Sequence[Group]) -> list[Hop]:
        hops: list[Hop] = []
        for group in groups:
            for target in group if len(group) == 1 else by_weight(group, rng=self._rng):
                hops += target.hops
        return hops

    def _avoided_last(self, hops: list[Hop]) -> list[Hop]:
        now = self._clock()
        if now >= self._avoiding_until:
            return hops
        return sorted(hops, key=lambda hop: self._avoided.get(hop[:2], now) > now)

    async def _ask(self, name: str, kind: Kind) -> Answer[Record]:
        if self._query is None:  # in a thread: the import must not stop the event loop
            self._query = await asyncio.to_thread(_dnspython, self._server, self._clock)
        return await self._query(name, kind)

    async def _plan(self, next_hop: NextHop) -> Answer[Group]:
        """Find the servers of a name without a port (RFC 3263 4.1 and 4.2)."""
        host, _, transport, _ = next_hop
        name, chosen = _canonical(host), next_hop.chosen
        if not name or chosen is None:
            return Answer((), FORGET_FAILURE)
        parts: list[Known[Record]] = []
        if transport is None and not loopback(name):
            pointers = await self._soon(self._naptr.get(name))
            services = _pointed_to(pointers.records, secure=chosen is Transport.TLS)
            found = await self._services(services)
            parts += [pointers, *found]
            if any(known.records for known in found):
                return await self._served(host, services, found, parts)
        # Without NAPTR a `sip:` URI does not become TLS: nothing has said that the domain speaks it.
        open_to = (Transport.UDP, Transport.TCP) if transport is None and chosen is Transport.UDP else (chosen,)
        services = [] if loopback(name) else [(_PREFIXES[each] + name, each) for each in open_to]
        self._addresses.start(name)  # most names have no SRV; where they have, it is not waited for
        found = await self._services(services)
        parts += found
        if any(known.records for known in found):
            return await self._served(host, services, found, parts)
        known = await self._addresses.get(name)
        hops = tuple(Hop((address, chosen.default_port), chosen, host) for address in known.records)
        return self._answer([(Target(0, hops),)], [*parts, known])

    async def _services(self, services: Sequence[Service]) -> list[Known[Record]]:
        return await asyncio.gather(*(self._soon(self._srv.get(name)) for name, _ in services))

    async def _served(
        self, host: str, services: Sequence[Service], found: Sequence[Known[Record]], parts: Sequence[Known[Record]]
    ) -> Answer[Group]:
        """Give SRV records their addresses: service by service, by priority. `parts` is what led to them."""
        used = [
            (
                transport,
                sorted(record for record in known.records if isinstance(record, Srv) and record.port)[:_MOST_TARGETS],
            )
            for (_, transport), known in zip(services, found, strict=True)
        ]
        names = list(dict.fromkeys(record.target for _, records in used for record in records))
        answers = await asyncio.gather(*(self._of_target(name) for name in names))
        addresses = dict(zip(names, answers, strict=True))
        groups = [group for transport, records in used for group in _grouped(host, transport, records, addresses)]
        return self._answer(groups, [*parts, *answers])

    async def _of_target(self, name: str) -> Known[str]:
        if not name:  # "." says that the service is not available (RFC 2782)
            return Known((), float("inf"))
        if numeric(name):  # forbidden, and found in zones all the same
            return Known((name,), float("inf"))
        return await self._soon(self._addresses.get(name))

    async def _soon(self, question: Coroutine[None, None, Known[T]]) -> Known[T]:
        try:
            async with asyncio.timeout(_STAGE):
                return await question
        except TimeoutError:
            return Known((), self._clock() + FORGET_FAILURE)

    def _answer(self, groups: Sequence[Group], parts: Sequence[Known[Record]]) -> Answer[Group]:
        """Leave out the targets without an address; usable for as long as all its parts, a failure when nothing is left."""
        usable = [tuple(target for target in group if target.hops) for group in groups]
        some = tuple(group for group in usable if group)
        until = min(part.until for part in parts)
        return Answer(some, until - self._clock() if some else FORGET_FAILURE)


def by_weight(targets: Sequence[Target], *, rng: random.Random) -> list[Target]:
    """Draw an order in which a target comes first as often as its weight says (RFC 2782, "Weight").

    The running sum there runs from 0 only for those of weight 0, which come first in `targets`: without one, a draw of 0 would
    favour whoever is first. When nothing but weights of 0 are left each is as likely as the other.
    """
    left, drawn = list(targets), []
    while len(left) > 1:
        total = sum(target.weight for target in left)
        index = int(rng.random() * len(left))
        if total:
            least = 1 if left[0].weight else 0
            number = least + int(rng.random() * (total + 1 - least))
            index = 0
            while number > left[index].weight:
                number -= left[index].weight
                index += 1
        drawn.append(left.pop(index))
    return drawn + left


def _grouped(
    host: str, transport: Transport, records: Sequence[Srv], addresses: Mapping[str, Known[str]]
) -> Iterator[Group]:
    """Yield the targets of each priority; `records` are in order of priority and weight."""
    for _, same in itertools.groupby(records, key=lambda record: record.priority):
        yield tuple(
            Target(
                record.weight, tuple(Hop((ip, record.port), transport, host) for ip in addresses[record.target].records)
            )
            for record in same
        )


def _pointed_to(records: Sequence[Record], *, secure: bool) -> list[Service]:
    """Return what NAPTR records point to, by order and preference: what we speak, for `sips:` only TLS (RFC 3263 4.1)."""
    services: list[Service] = []
    for record in sorted(record for record in records if isinstance(record, Naptr)):
        transport = _SERVICES.get(record.service.upper())
        if transport is None or (secure and transport is not Transport.TLS):
            continue
        if record.flags.lower() == "s" and not record.regexp and record.replacement:
            services.append((record.replacement, transport))
    return list(dict.fromkeys(services))


def _canonical(host: str) -> str:
    return host.lower().rstrip(".")


def _dnspython(server: Address | None, clock: Callable[[], float]) -> Query:
    from resyncctl.transport.name_server import NameServer  # noqa: PLC0415  (50 ms that most lists need not spend)

    return NameServer(server, clock=clock)


def _server(text: str) -> Address:
    host, port = text, "53"
    if text.startswith("[") and "]" in text:
        host, _, after = text[1:].partition("]")
        if after:
            port = after[1:] if after.startswith(":") else ""
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not numeric(host) or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise InputError(
            f"nameserver {text!r} is not an address; write IP, IP:PORT or [IPV6]:PORT, as in 192.0.2.53:53"
        )
    return host, int(port)
