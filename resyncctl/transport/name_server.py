"""Questions to a name server, asked with dnspython.

Importing it takes 50 ms, which only lists with host names need to spend: `resolver` imports this module when it asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import dns.asyncbackend
import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdata
import dns.rdtypes.ANY.CNAME
import dns.rdtypes.ANY.SOA
import dns.rdtypes.IN.A
import dns.rdtypes.IN.AAAA
import dns.rdtypes.IN.NAPTR
import dns.rdtypes.IN.SRV
import dns.resolver

from resyncctl.sip.uas import Address
from resyncctl.transport.answers import NO_ANSWER, PATIENCE, Answer, Kind, Naptr, Record, Srv

_TRY: Final = 0.8
"""Seconds before the next name server is asked, or the same one again: one dead server leaves room for an answer."""
_AT_ONCE: Final = 64
"""Questions at a time, as each has a socket, and a process may often have no more than a thousand."""
_REREAD: Final = 30.0
"""Seconds between looks at the system's configuration: networks change while a service runs."""


class NameServer:
    """A `Query` to one name server, or to those of the system's configuration (None). Keeps no answers."""

    def __init__(self, server: Address | None, *, clock: Callable[[], float]) -> None:
        self._server = server
        self._clock = clock
        self._backend = dns.asyncbackend.get_backend("asyncio")  # uvloop's loops are asyncio's too
        self._resolver: dns.asyncresolver.Resolver | None = None
        self._read_at = 0.0
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def __call__(self, name: str, kind: Kind) -> Answer[Record]:
        """Ask; see `Query`. A name without a dot is completed by the system's search list."""
        search = "." not in _host_of(name)
        try:
            async with self._room:
                answer = await self._configured().resolve(
                    name, kind.value, raise_on_no_answer=False, search=search, backend=self._backend
                )
            return Answer(tuple(_records(answer.rrset or ())), answer.chaining_result.minimum_ttl)
        except dns.resolver.NXDOMAIN as error:
            return Answer((), min(each.resolve_chaining().minimum_ttl for each in error.kwargs["responses"].values()))
        except (dns.exception.DNSException, OSError, EOFError, ValueError):  # what cannot be a name is a ValueError too
            return NO_ANSWER

    def _configured(self) -> dns.asyncresolver.Resolver:
        """Return dnspython's resolver; raises DNSException when the system has no configuration."""
        now = self._clock()
        resolver = self._resolver
        if resolver is None or (self._server is None and now - self._read_at >= _REREAD):
            resolver = dns.asyncresolver.Resolver(configure=self._server is None)
            if self._server is not None:
                host, resolver.port = self._server
                resolver.nameservers = [host]
            resolver.timeout, resolver.lifetime = _TRY, PATIENCE
            self._resolver, self._read_at = resolver, now
        return resolver


def _host_of(name: str) -> str:
    """Return a name without the labels that SRV puts before it (RFC 2782)."""
    return ".".join(label for label in name.split(".") if not label.startswith("_"))


def _records(found: Iterable[dns.rdata.Rdata]) -> Iterable[Record]:
    for record in found:
        match record:
            case dns.rdtypes.IN.A.A() | dns.rdtypes.IN.AAAA.AAAA():
                yield record.address
            case dns.rdtypes.IN.SRV.SRV():
                yield Srv(record.priority, record.weight, record.port, _text(record.target))
            case dns.rdtypes.IN.NAPTR.NAPTR():
                yield Naptr(
                    record.order,
                    record.preference,
                    record.flags.decode("latin-1"),
                    record.service.decode("latin-1"),
                    record.regexp.decode("latin-1"),
                    _text(record.replacement),
                )
            case _:
                pass  # nothing else was asked for


def _text(name: dns.name.Name) -> str:
    """Return a name in lower case without its final dot, "" for the root."""
    return name.to_text(omit_final_dot=True).lower().removesuffix(".")
