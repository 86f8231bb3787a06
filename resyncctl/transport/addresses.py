"""The addresses of a host name: from the DNS, IPv4 first, else from the system, which knows its hosts file and mDNS."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

from resyncctl.transport.answers import FORGET_FAILURE, NO_ANSWER, Answer, Kind, Query, Record

System: TypeAlias = Callable[[str], Awaitable[tuple[str, ...]]]
"""Asks the system for the addresses of a name; none when it knows none. Raises nothing."""

_REMEMBER: Final = 60.0
"""Seconds that an answer of the system is used: it tells no TTL."""
_BEFORE_SYSTEM: Final = 1.5
"""Seconds for the DNS where the system is asked next, so that a hosts file helps while no name server answers."""
_OTHER_FAMILY: Final = 0.3
"""Seconds after which addresses of one family do not wait for the other: there are name servers that drop AAAA questions."""
_FAMILIES: Final = {
    socket.AF_INET: (Kind.A, "127.0.0.1"),
    socket.AF_INET6: (Kind.AAAA, "::1"),
}
"""A before AAAA, and what is `localhost`. Phone networks are IPv4 first, and many a phone has an AAAA record that leads
nowhere; failover reaches IPv6 all the same, as it would reach IPv4 the other way round (RFC 3263 4.2 leaves the order open)."""


def loopback(name: str) -> bool:
    """Say whether the name is this machine, whatever a name server says: not a question for the DNS (RFC 6761 6.3)."""
    return name == "localhost" or name.endswith(".localhost")


class HostAddresses:
    """Asks for the addresses of names (lower case, without final dot); `system` is None where only the DNS counts."""

    def __init__(self, query: Query, *, system: System | None, families: frozenset[socket.AddressFamily]) -> None:
        self._query = query
        self._system = system
        self._families = [known for family, known in _FAMILIES.items() if family in families]

    async def __call__(self, name: str) -> Answer[str]:
        """Return the addresses in the order to try, IPv4 first; a name without one is NO_ANSWER, so asked for again soon."""
        if not name:
            return NO_ANSWER
        if loopback(name):
            return Answer(tuple(address for _, address in self._families), _REMEMBER)
        if self._system is None:
            return await self._in_dns(name)
        found = NO_ANSWER
        if "." in name:  # else it is a name of this network, which the system completes
            try:
                async with asyncio.timeout(_BEFORE_SYSTEM):
                    found = await self._in_dns(name)
            except TimeoutError:
                found = NO_ANSWER
        return found if found.records else self._fitting(await self._system(name))

    async def _in_dns(self, name: str) -> Answer[str]:
        """Ask for both families at the same time."""
        asked = [asyncio.ensure_future(self._query(name, kind)) for kind, _ in self._families]
        try:
            _, waiting = await asyncio.wait(asked, timeout=_OTHER_FAMILY)
            while waiting and not _arrived(asked):
                _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for question in asked:
                question.cancel()
        addresses = _arrived(asked)
        if not addresses:
            return NO_ANSWER
        ttl = min(question.result().ttl for question in asked if question.done())
        return Answer(addresses, min(ttl, FORGET_FAILURE) if waiting else ttl)

    def _fitting(self, addresses: tuple[str, ...]) -> Answer[str]:
        """Order what the system said by family."""
        of = {kind: [each for each in addresses if (":" in each) == (kind is Kind.AAAA)] for kind, _ in self._families}
        fitting = [address for found in of.values() for address in found]
        return Answer(tuple(dict.fromkeys(fitting)), _REMEMBER) if fitting else NO_ANSWER


async def ask_system(name: str) -> tuple[str, ...]:
    """Ask the system's resolver, in a thread of the event loop's pool."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(str(address[0]) for _, _, _, _, address in found)


def _arrived(asked: Sequence[asyncio.Future[Answer[Record]]]) -> tuple[str, ...]:
    """Return the addresses of the questions that are answered, in the order of the questions."""
    answers = [question.result() for question in asked if question.done() and not question.cancelled()]
    return tuple(record for answer in answers for record in answer.records if isinstance(record, str))
