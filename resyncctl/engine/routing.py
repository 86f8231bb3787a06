"""Which way a request takes to a phone: Request-URI, Route set and next hop (RFC 3261 8.1.2, 12.2.1.1, 16.12)."""

from __future__ import annotations

from typing import Final, NamedTuple

from resyncctl.errors import SipParseError
from resyncctl.inventory.phone import parse_path
from resyncctl.rollout.model import Reason
from resyncctl.sip.grammar import parameter
from resyncctl.sip.hop import NextHop, Transport, next_hop
from resyncctl.sip.uri import Uri, parse_hostport

_ALIAS_TRANSPORTS: Final = {"1": "udp", "2": "tcp", "3": "tls", "5": "ws", "6": "wss"}
"""The last part of `;alias=ip~port~proto`, by which Kamailio keeps where a registration came from (nathelper module)."""
_WEBSOCKET: Final = frozenset({Transport.WS, Transport.WSS})


class Way(NamedTuple):
    """The way to a phone. `routes` are Route header values, the topmost first."""

    request_uri: str
    routes: tuple[str, ...]
    next_hop: NextHop
    through_proxy: bool
    """By a Path or an outbound proxy, not straight to the phone."""


def way_to(contact: str, *, path: str, received: str, proxy: str) -> Way:
    """Find the way to a contact as it is registered (or an AOR); raise SipParseError, or InputError for the path.

    `received` is the URI that a registrar keeps of where the registration came from; like `;alias=` in the contact it says
    where the phone is behind a NAT, and is of no interest to a request that goes through a proxy. A `sips:` contact is
    reached straight over TLS only; to a proxy the transport is the one that the proxy's URI says. RFC 3261 8.1.2 wants TLS
    there too, but the Path of an edge proxy names its inner side, and it is the edge that has the phone's connection.
    """
    target = contact if "?" not in contact else _without_headers(contact)
    if not path and not proxy:
        if received:
            return Way(target, (), _as_contact(next_hop(received), target), through_proxy=False)
        if ";alias=" in target:
            return _by_alias(target)
        return Way(target, (), next_hop(target), through_proxy=False)
    route_set = parse_path(path) if path else []
    first = proxy or route_set[0].uri
    routes = tuple(str(route) for route in route_set)
    if proxy:
        return Way(target, (f"<{loose(proxy)}>", *routes), next_hop(first), through_proxy=True)
    if is_loose(first):
        return Way(target, routes, next_hop(first), through_proxy=True)
    # RFC 3261 12.2.1.1: a strict router finds itself in the Request-URI, and the phone at the end of the Route set.
    return Way(_without_headers(first), (*routes[1:], f"<{target}>"), next_hop(first), through_proxy=True)


def why_not(way: Way) -> Reason:
    """Say why a phone cannot be reached that way; Reason.NONE when it can."""
    if way.next_hop.chosen is not None:
        return Reason.NONE
    websocket = way.next_hop.transport in _WEBSOCKET and not way.through_proxy
    return Reason.WEBSOCKET if websocket else Reason.TRANSPORT


def asks_for_sips(way: Way) -> bool:
    """Say whether the request has to have a `sips:` Contact: its Request-URI or topmost Route is one (RFC 3261 8.1.1.8)."""
    first_route = way.routes[0].partition("<")[2] if way.routes else ""
    return _is_sips(way.request_uri) or _is_sips(first_route)


def loose(proxy: str) -> str:
    """Return an outbound proxy's URI with the `lr` parameter, which says that it is a loose router (RFC 3261 16.12.1.1)."""
    bare = _without_headers(proxy)
    return bare if is_loose(bare) else f"{bare};lr"


def is_loose(uri: str) -> bool:
    """Say whether a route is that of a loose router (RFC 3261 19.1.1, `lr`)."""
    return parameter(Uri.parse(uri).parameters, "lr") is not None


def _by_alias(contact: str) -> Way:
    """Send to the address that a proxy has seen, with the contact as the phone has written it."""
    uri = Uri.parse(contact)
    alias = parameter(uri.parameters, "alias") or ""
    host, _, rest = alias.partition("~")
    port, _, number = rest.partition("~")
    plain = ";".join(part for part in contact.split(";") if not part.lower().startswith("alias="))
    try:
        name, port_number = parse_hostport(f"{host}:{port}")
        transport = Transport(_ALIAS_TRANSPORTS[number])
    except (SipParseError, KeyError):
        return Way(contact, (), next_hop(contact), through_proxy=False)  # an alias of another kind
    secure = transport in {Transport.TLS, Transport.WSS}
    hop = NextHop(name.strip("[]"), port_number, transport, secure)
    return Way(plain, (), _as_secure(hop, contact), through_proxy=False)


def _as_secure(hop: NextHop, contact: str) -> NextHop:
    """Return the hop of a phone itself; what is known of where a `sips:` contact is does not take its TLS away."""
    return hop._replace(secure=True) if _is_sips(contact) else hop


def _as_contact(hop: NextHop, contact: str) -> NextHop:
    """Return where a phone was seen, by the transport of its contact unless the registrar names one."""
    own = next_hop(contact)
    if own.transport in _WEBSOCKET or hop.transport is None:  # a WebSocket phone listens nowhere, wherever it was seen
        hop = hop._replace(transport=own.transport, secure=hop.secure or own.secure)
    return _as_secure(hop, contact)


def _is_sips(uri: str) -> bool:
    return uri[:5].lower() == "sips:"


def _without_headers(uri: str) -> str:
    """Cut off what only a URI outside of messages may have (RFC 3261 19.1.1); a user part may hold a question mark."""
    mark = uri.find("?", uri.find("@") + 1)
    return uri if mark < 0 else uri[:mark]
