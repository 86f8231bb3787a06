"""Build NOTIFY requests (RFC 6665 outside a dialog, as phones expect `check-sync`).

What is the same for all phones that get the same event is written once into a template; a phone fills in the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from resyncctl.errors import SipError
from resyncctl.sip.grammar import CONTROL, TOKEN
from resyncctl.sip.headers import canonical
from resyncctl.sip.message import header
from resyncctl.sip.uri import Uri

MAX_FORWARDS: Final = 70
"""RFC 3261 8.1.1.6."""
_RESERVED: Final = frozenset(
    {
        "Via", "From", "To", "Call-ID", "CSeq", "Max-Forwards", "Content-Length", "Route", "Event", "Contact", "Content-Type",
        "Authorization", "Proxy-Authorization",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sender:
    """Who the NOTIFY says it is from: the From URI and the Contact URI, the User-Agent text."""

    from_uri: str
    contact_uri: str
    user_agent: str


class NotifyTemplate:
    """Everything of a NOTIFY that does not differ between phones. Raises SipError for a value that SIP cannot carry.

    `event` is the whole header value (`check-sync;reboot=true`); `headers` replace the defaults by name
    (Subscription-State: terminated). `body` is text, sent as UTF-8 with `content_type`.
    """

    __slots__ = ("_body", "_head", "_tail")

    def __init__(
        self,
        sender: Sender,
        event: str,
        *,
        headers: tuple[tuple[str, str], ...] = (),
        content_type: str | None = None,
        body: str = "",
    ) -> None:
        require_event(event)
        if body and not content_type:
            raise SipError("a body needs a Content-Type")
        fields = {"Subscription-State": "terminated", "User-Agent": sender.user_agent}
        for name, value in headers:
            if canonical(name) in _RESERVED:
                raise SipError(f"the header {name} is written by the sender and cannot be set")
            fields[next((key for key in fields if key.lower() == name.lower()), name)] = value
        try:
            content = body.encode()
        except UnicodeEncodeError as error:
            raise SipError("the body holds a lone surrogate, which UTF-8 cannot carry; remove it") from error
        lines = [
            header("Contact", f"<{Uri.parse(sender.contact_uri)}>"),
            header("Event", event),
            *(header(name, value) for name, value in fields.items()),
        ]
        if content_type and body:
            lines.append(header("Content-Type", content_type))
        lines.append(("Content-Length", str(len(content))))
        self._tail = "".join(f"{name}: {value}\r\n" for name, value in lines) + "\r\n"
        self._head = f"Max-Forwards: {MAX_FORWARDS}\r\nFrom: <{Uri.parse(sender.from_uri)}>;tag="
        self._body = content

    def render(
        self,
        *,
        request_uri: str,
        to_uri: str,
        via: str,
        token: str,
        branch: str,
        cseq: int = 1,
        extra: str = "",
    ) -> bytes:
        """Return the message. `via` is protocol and sent-by, `SIP/2.0/UDP host:port`; `token` goes into From tag and Call-ID.

        `request_uri` and `to_uri` come from `Uri`, which lets no control character through; `extra` is from `fields`.
        """
        return (
            f"NOTIFY {request_uri} SIP/2.0\r\n"
            f"Via: {via};branch={branch};rport\r\n"
            f"{self._head}{token}\r\n"
            f"To: <{to_uri}>\r\n"
            f"Call-ID: {token}@resyncctl\r\n"
            f"CSeq: {cseq} NOTIFY\r\n"
            f"{extra}{self._tail}"
        ).encode("utf-8", "surrogateescape") + self._body  # a realm comes back as it came, UTF-8 or not


def fields(*pairs: tuple[str, str]) -> str:
    """Write checked header lines for `NotifyTemplate.render(extra=…)`; raise SipError for a value with CR, LF and the like."""
    return "".join(f"{name}: {value}\r\n" for name, value in (header(name, value) for name, value in pairs))


def require_event(event: str) -> str:
    """Return an Event header value unchanged, or raise SipError (RFC 6665 8.2.1: a token, then parameters)."""
    kind = event.partition(";")[0].strip()
    if not kind or not TOKEN.issuperset(kind) or not CONTROL.isdisjoint(event) or not event.isascii():
        raise SipError(f"not an Event value: {event[:60]!r}; write for example check-sync;reboot=true")
    return event
