"""A target while the engine works on it: its request, its attempts, its times. The request builds itself for the SIP core."""

from __future__ import annotations

import asyncio
from typing import Final

from resyncctl.inventory.phone import credentials_of, line_key, parse_path
from resyncctl.rollout.model import Options, Target
from resyncctl.sip.digest import Credentials
from resyncctl.sip.notify import NotifyTemplate, Sender, fields
from resyncctl.sip.uas import Address
from resyncctl.sip.uri import Uri
from resyncctl.transport.link import Link
from resyncctl.transport.resolver import numeric
from resyncctl.vendors import Trigger

NOWHERE: Final[Address] = ("", 0)
"""The destination of a target whose host name has not been resolved."""
DEFAULT_PORT: Final = 5060
"""RFC 3261 19.1.2, UDP and TCP."""


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
        "extra", "forced_at", "forced_delay", "host", "idle_from", "place", "planned_at", "port", "reboots", "request_uri",
        "sent_at", "share", "slot_at", "template", "ticket", "to_uri", "trigger", "trigger_number", "via", "wanted_at",
    )  # fmt: skip

    method = "NOTIFY"

    def __init__(
        self, target: Target, share: Share, place: int, *, trigger: Trigger, proxy: str, forced_delay: float
    ) -> None:
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
        self.trigger_number = target.trigger
        self.reboots = target.reboots == "yes"
        self.body = trigger.render_body(call_id=target.call_id).encode() if trigger.body else b""
        self.credentials: Credentials | None = credentials_of(target.auth_username, target.auth_password)
        self._target = target
        self.template: NotifyTemplate
        self.via = ""
        self.extra = ""
        contact = target.contact or target.aor
        self.request_uri = contact if "?" not in contact else contact.partition("?")[0]
        aor = target.aor
        self.to_uri = bare_address(aor if ":" in aor else self.request_uri)  # an AOR without a scheme is only a name
        hop = self.request_uri
        if proxy or target.path:
            routes = [str(route) for route in parse_path(target.path)] if target.path else []
            if proxy:
                routes.insert(0, f"<{loose(proxy)}>")
            self.extra = fields(("Route", ", ".join(routes)))
            hop = proxy or parse_path(target.path)[0].uri
        self.host, self.port = next_hop(hop)
        self.destination: Address = (self.host, self.port) if numeric(self.host) else NOWHERE

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
    """NOTIFY templates by trigger and local address, each made once."""

    def __init__(self, options: Options, user_agent: str) -> None:
        self._options = options
        self._user_agent = user_agent
        self._known: dict[tuple[int, Address], tuple[NotifyTemplate, str]] = {}

    def dress(self, live: Live, link: Link) -> None:
        """Give a target the template that fits the link that it is sent over."""
        key = (live.trigger_number, link.local)
        known = self._known.get(key)
        if known is None:
            host, port = link.local
            via = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            address = f"sip:resyncctl@{via}"
            from_uri = self._options.from_uri or f"sip:resyncctl@{via.rpartition(':')[0]}"
            trigger = live.trigger
            template = NotifyTemplate(
                Sender(from_uri, address, self._user_agent),
                trigger.event,
                headers=trigger.headers,
                content_type=trigger.content_type,
                body=live.body.decode(),
            )
            known = (template, via)
            if not trigger.needs_call_id:  # a body of its own for each phone is not worth remembering
                self._known[key] = known
        live.template, live.via = known


def bare_address(uri: str) -> str:
    """Return a URI as To and From may carry it: no port, no parameters (RFC 3261 table 1). Some stacks trip over them."""
    if uri.count(":") == 1 and ";" not in uri and "?" not in uri:  # nearly all addresses of record
        return uri
    scheme, _, rest = uri.partition(":")
    user, at, hostport = rest.rpartition("@")
    host = hostport.partition(";")[0].partition("?")[0]
    host = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
    return f"{scheme}:{user}{at}{host}"


def loose(proxy: str) -> str:
    """Return an outbound proxy's URI with the `lr` parameter, which says that it is a loose router (RFC 3261 16.12.1.1)."""
    names = {name.lower() for name, _ in Uri.parse(proxy).parameters}
    return proxy if "lr" in names else f"{proxy};lr"


def next_hop(uri: str) -> tuple[str, int]:
    """Return host (without brackets) and port that a URI's requests go to over UDP (RFC 3261 19.1.1: maddr first)."""
    at = uri.find("@")
    host, _, port = uri[at + 1 :].partition(":")
    if at > 0 and (not port or port.isdigit()) and ";" not in host:  # nearly all contacts
        return host, int(port) if port else DEFAULT_PORT
    parsed = Uri.parse(uri)
    for name, value in parsed.parameters:
        if name.lower() == "maddr" and value:
            return value.strip("[]"), parsed.port or DEFAULT_PORT
    return parsed.address, parsed.port or DEFAULT_PORT
