"""Where a request goes next: what a URI says (`NextHop`), and one address that this leads to (`Hop`)."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from resyncctl.errors import SipParseError
from resyncctl.sip.grammar import parameter
from resyncctl.sip.uas import Address
from resyncctl.sip.uri import Uri

LARGE: Final = 1300
"""Bytes of a request from which it goes over a transport with congestion control (RFC 3261 18.1.1)."""
CREDENTIALS: Final = 400
"""Bytes that the answer to a challenge may add: a request that will not be small then is not sent over UDP before."""


class Transport(StrEnum):
    """A transport as a URI parameter names it (RFC 3261 19.1.1, RFC 7118 5)."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"
    """In a URI `sips:`, or the deprecated `transport=tls` that PBXes still write (RFC 3261 26.2.2)."""
    WS = "ws"
    WSS = "wss"

    @property
    def reliable(self) -> bool:
        """True when nothing is sent again (RFC 3261 17.1.2.2)."""
        return self is not Transport.UDP

    @property
    def default_port(self) -> int:
        """The port of a URI that names none (RFC 3261 19.1.2)."""
        return 5061 if self is Transport.TLS else 5060


SPOKEN: Final = frozenset({Transport.UDP, Transport.TCP, Transport.TLS})
"""What an endpoint sends over. WebSocket clients listen nowhere: only the proxy that they are connected to reaches them."""


_ALONE: Final = {f"transport={transport}": transport for transport in (Transport.UDP, Transport.TCP, Transport.TLS)}


class Hop(NamedTuple):
    """One address to send to. `name` is what the certificate has to name with TLS: the host as the URI writes it."""

    address: Address
    transport: Transport = Transport.UDP
    name: str = ""


class NextHop(NamedTuple):
    """What RFC 3263 starts from: host without brackets, a port or None, a transport or None for "any that we speak"."""

    host: str
    port: int | None = None
    transport: Transport | None = None
    secure: bool = False
    """From a `sips:` URI: TLS, whatever the transport parameter says of what is below it."""

    @property
    def chosen(self) -> Transport | None:
        """The transport that is asked for, or the default (RFC 3263 4.1); None when it cannot be had."""
        if self.secure or self.transport is Transport.TLS:  # there is no sips: over UDP (RFC 3261 26.2.2)
            return Transport.TLS if self.transport in {None, Transport.TCP, Transport.TLS} else None
        if self.transport is None:
            return Transport.UDP
        return self.transport if self.transport in SPOKEN else None


def next_hop(uri: str) -> NextHop:
    """Return where requests with that topmost Route or Request-URI go (RFC 3263 4: maddr first); SipParseError.

    A transport that we have never heard of is a SipParseError too.
    """
    at = uri.find("@")
    host, _, port = uri[at + 1 :].partition(":")
    if at > 0 and uri.startswith("sip:"):
        if port.isdigit():  # nearly all contacts
            return NextHop(host, int(port))
        port, _, parameters = port.partition(";")
        transport = _ALONE.get(parameters)
        if transport is not None and port.isdigit():
            return NextHop(host, int(port), transport, transport is Transport.TLS)
    return hop_of(Uri.parse(uri))


def hop_of(uri: Uri) -> NextHop:
    """Return where requests with that topmost Route or Request-URI go; see `next_hop`."""
    try:
        transport = Transport(uri.transport) if uri.transport else None
    except ValueError as error:
        raise SipParseError(f"unknown transport {uri.transport!r} in {str(uri)[:60]!r}") from error
    maddr = parameter(uri.parameters, "maddr")
    host = maddr.strip("[]") if maddr else uri.address
    secure = uri.secure or transport in {Transport.TLS, Transport.WSS}
    return NextHop(host, uri.port, transport, secure)
