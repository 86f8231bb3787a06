"""A target while the engine works on it: its request, its attempts, its times. The request builds itself for the SIP core."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from resyncctl.engine.routing import asks_for_sips, way_to
from resyncctl.inventory.phone import credentials_of, line_key
from resyncctl.rollout.model import Options, Target
from resyncctl.sip.digest import Credentials
from resyncctl.sip.hop import CREDENTIALS, LARGE, Hop, Transport, next_hop
from resyncctl.sip.notify import NotifyTemplate, Sender, fields
from resyncctl.sip.uac import Outgoing
from resyncctl.sip.uas import Address
from resyncctl.transport.resolver import direct_hop
from resyncctl.vendors import Trigger

NOWHERE: Final = Hop(("", 0))
"""The destination of a target whose host name has not been resolved."""

_MOST_TEMPLATES: Final = 1000
_BULK: Final = LARGE - 450
"""Characters of what differs from NOTIFY to NOTIFY, from which one may be large: the rest has some 400."""
_UDP: Final = Transport.UDP


class Share:
    """A batch that this worker has: how many of its targets have no outcome yet, and how many are on the wire."""

    __slots__ = ("closing", "ended", "flying", "left", "number")

    def __init__(self, number: int, ended: asyncio.Future[bool]) -> None:
        self.number = number
        self.left = 0
        self.flying = 0
        self.closing = False
        """Its verdict is on its way to Redis."""
        self.ended = ended
        """True when it is done or given back, False when it was lost."""


class Live:
    """One target from the time its batch is opened to its outcome. Slotted and mutable: there are thousands at a time.

    Times are seconds on the engine's clock, except `due_us`, the offset in the plan.
    """

    __slots__ = (
        "_target", "attempts", "batch", "body", "busy_counted", "credentials", "deferred", "destination", "due_us",
        "extra", "forced_at", "forced_delay", "hops", "idle_from", "large", "look", "next_hop", "place", "planned_at",
        "reboots", "request_uri", "routes", "sent_at", "share", "sips", "slot_at", "template", "ticket", "to_uri", "trigger",
        "via", "wanted_at",
    )  # fmt: skip

    method = "NOTIFY"

    def __init__(
        self,
        target: Target,
        share: Share,
        place: int,
        *,
        trigger: Trigger,
        proxy: str,
        forced_delay: float,
        common: int = 0,
    ) -> None:
        """Make a target live; `common` is how many characters the options add to every request."""
        self.share = share
        self.batch = share.number
        self.place = place
        self.due_us = target.due_us
        self.ticket = 0
        """Its entry among the waiting targets; an entry with another number is out of date."""
        self.attempts = 0
        self.wanted_at = -1.0
        """When a retry or a released phone wants to be sent to; below zero: by the plan."""
        self.planned_at = 0.0
        self.sent_at = 0.0
        self.slot_at = 0.0
        """When it may leave: given with its intent."""
        self.deferred = False
        self.busy_counted = False
        self.forced_at = 0.0
        self.idle_from = 0.0
        """Until then it is not taken for idle, whatever the busy source says."""
        self.forced_delay = float(target.forced_delay) if target.forced_delay else forced_delay
        self.trigger = trigger
        self.reboots = target.reboots == "yes"
        self.body = trigger.render_body(call_id=target.call_id).encode() if trigger.body else b""
        self.credentials: Credentials | None = credentials_of(target.auth_username, target.auth_password)
        self._target = target
        self.template: NotifyTemplate
        self.via = ""
        contact = target.contact or target.aor
        if (
            proxy
            or target.path
            or target.received
            or ";" in contact
            or not contact.startswith("sip:")
            or "?" in contact
        ):
            way = way_to(contact, path=target.path, received=target.received, proxy=proxy)
            self.request_uri, self.routes, self.next_hop = way.request_uri, way.routes, way.next_hop
            self.sips = asks_for_sips(way)
            self.extra = fields(("Route", ", ".join(way.routes))) if way.routes else ""
        else:  # nearly all; what `way_to` would say
            self.request_uri, self.routes, self.next_hop = contact, (), next_hop(contact)
            self.sips, self.extra = False, ""
        self.look = target.trigger << 1 | self.sips
        """What decides its template, beside where it leaves from."""
        aor = target.aor
        # An AOR without a scheme is only a name.
        self.to_uri = bare_address(aor if ":" in aor else contact)
        bulk = len(self.extra) + len(contact) + len(self.to_uri) + len(self.body) + common
        self.large = bulk > (_BULK - CREDENTIALS if self.credentials else _BULK)
        """The request may be more than UDP shall carry (RFC 3261 18.1.1)."""
        self.hops: Sequence[Hop] = ()
        """Where else to try when `destination` fails (RFC 3263 4.3), in this order."""
        self.destination: Hop = direct_hop(self.next_hop) or NOWHERE

    def find_again(self) -> None:
        """Let the addresses of a host name be asked for again: another attempt is another request (RFC 3263 4)."""
        self.hops = ()
        self.destination = direct_hop(self.next_hop) or NOWHERE

    @property
    def lines(self) -> tuple[str, ...]:
        """The AORs of all its lines, as a busy source knows them."""
        target = self._target
        first = line_key(target.aor or target.contact)
        return (first, *target.lines.split(",")) if target.lines else (first,)

    def render(self, *, token: str, branch: str, cseq: int, extra: str) -> bytes:
        """Write the NOTIFY; see `sip.uac.Outgoing`."""
        return self.template.render(
            request_uri=self.request_uri,
            to_uri=self.to_uri,
            via=self.via,
            token=token,
            branch=branch,
            cseq=cseq,
            extra=self.extra + extra,
        )


class Templates:
    """NOTIFY templates by trigger, transport and local address, each made once."""

    def __init__(self, options: Options, user_agent: str) -> None:
        self._options = options
        self._user_agent = user_agent
        self._over_udp: dict[tuple[int, Address], tuple[NotifyTemplate, str]] = {}
        self._over_connections: dict[tuple[int, Address], tuple[NotifyTemplate, str]] = {}
        self._identity = (("P-Asserted-Identity", f"<{options.identity}>"),) if options.identity else ()

    def dress(self, request: Outgoing, local: Address, hop: Hop) -> None:
        """Give a target the template that fits where it is sent from and what over; see `transport.agent.Prepare`."""
        live: Live = request  # type: ignore[assignment]  # what the sender has sent; a check costs as much as the rest
        looks = self._over_udp if hop[1] is _UDP else self._over_connections
        known = looks.get((live.look, local))
        if known is None:
            known = self._make(live, local, hop.transport)
            if not live.trigger.needs_call_id:  # a body of its own for each phone is not worth remembering
                if len(looks) >= _MOST_TEMPLATES:  # each connection has a port of its own
                    looks.clear()
                looks[live.look, local] = known
        live.template, live.via = known

    def _make(self, live: Live, local: Address, transport: Transport) -> tuple[NotifyTemplate, str]:
        host, port = local
        sent_by = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        scheme = "sips" if live.sips else "sip"
        over = f";transport={transport}" if transport.reliable and not live.sips else ""
        from_uri = self._options.from_uri or f"sip:resyncctl@{sent_by.rpartition(':')[0]}"
        trigger = live.trigger
        template = NotifyTemplate(
            Sender(from_uri, f"{scheme}:resyncctl@{sent_by}{over}", self._user_agent),
            trigger.event,
            headers=trigger.headers + self._identity,
            content_type=trigger.content_type,
            body=live.body.decode(),
        )
        return template, f"SIP/2.0/{transport.upper()} {sent_by}"


def bare_address(uri: str) -> str:
    """Return a URI as To and From may carry it: no port, no parameters (RFC 3261 table 1). Some stacks trip over them."""
    if uri.count(":") == 1 and ";" not in uri and "?" not in uri:  # nearly all addresses of record
        return uri
    scheme, _, rest = uri.partition(":")
    user, at, hostport = rest.rpartition("@")
    host = hostport.partition(";")[0].partition("?")[0]
    host = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
    return f"{scheme}:{user}{at}{host}"
