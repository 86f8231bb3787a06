"""Stateless answers to requests that reach us (RFC 3261 8.2.7), and the reply writer that simulated phones share."""

from __future__ import annotations

import hashlib
from typing import Final

from resyncctl.errors import SipParseError
from resyncctl.sip.grammar import Parameters, is_token, parameter
from resyncctl.sip.headers import NameAddr, Via, split_values
from resyncctl.sip.message import HeaderFields, Message, Request, Response, check_request, header

Address = tuple[str, int]
"""Where a datagram came from or goes to: address without brackets, port."""

REASONS: Final = {
    100: "Trying", 180: "Ringing", 200: "OK", 202: "Accepted", 301: "Moved Permanently", 302: "Moved Temporarily",
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    406: "Not Acceptable", 407: "Proxy Authentication Required", 408: "Request Timeout", 410: "Gone",
    415: "Unsupported Media Type", 416: "Unsupported URI Scheme", 420: "Bad Extension", 423: "Interval Too Brief",
    430: "Flow Failed", 480: "Temporarily Unavailable", 481: "Call/Transaction Does Not Exist", 482: "Loop Detected",
    483: "Too Many Hops", 486: "Busy Here", 488: "Not Acceptable Here", 489: "Bad Event", 500: "Server Internal Error",
    501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Server Time-out",
    505: "Version Not Supported", 513: "Message Too Large", 600: "Busy Everywhere", 603: "Decline",
    604: "Does Not Exist Anywhere", 606: "Not Acceptable",
}  # fmt: skip
"""Reason phrases of the IANA registry for the codes that a NOTIFY meets."""


def reply(request: Request, status: int, *, source: Address, headers: HeaderFields = ()) -> Response:
    """Make the response to a request by RFC 3261 8.2.6: Via, From, To, Call-ID and CSeq copied, a tag added to To.

    The top Via gets `received` and `rport` (RFC 3261 18.2.1, RFC 3581 4). The tag is a digest of the request's own fields, so
    that a retransmission gets the same answer without any state. Raises SipParseError when there is no usable Via.
    """
    vias = [value for line in request.all("Via") for value in split_values(line)]
    if not vias:
        raise SipParseError("no Via header")
    lines: list[tuple[str, str]] = [("Via", str(_stamp(Via.parse(vias[0]), source)))]
    lines += [("Via", via) for via in vias[1:]]
    for name in ("From", "To", "Call-ID", "CSeq"):
        value = request.get(name)
        if value is None:
            continue
        tag = f";tag={_tag(request)}" if name == "To" and status > 100 and _wants_tag(value) else ""
        lines.append((name, value + tag))
    lines += [header(name, value) for name, value in headers]
    lines.append(("Content-Length", "0"))
    return Response(tuple(lines), status=status, reason=REASONS.get(status, "Unknown"))


def answer(request: Request, *, source: Address) -> bytes | None:
    """Answer a request that a resync controller has no use for: OPTIONS 200, anything else 405, malformed 400, ACK never."""
    if request.method == "ACK":
        return None
    status, headers = _verdict(request)
    try:
        return bytes(reply(request, status, source=source, headers=headers))
    except SipParseError:
        return None  # nowhere to send an answer to


def reply_address(message: Message, *, source: Address) -> Address:
    """Return where the response to a UDP request goes, by the top Via of either; raise SipParseError without one.

    With `rport` to where the request came from (RFC 3581 4), else to the Via's own port there (RFC 3261 18.2.2). A `maddr`
    is not followed: it would let a stranger choose who gets our answer.
    """
    via = message.top_via
    return source if parameter(via.parameters, "rport") is not None else (source[0], via.port or 5060)


def _verdict(request: Request) -> tuple[int, HeaderFields]:
    """Inspect a request in the order of RFC 3261 8.2: is it well formed, its method, its URI, what it requires."""
    try:
        check_request(request)
        required = [option for line in request.all("Require") for option in split_values(line)]
    except SipParseError:
        return 400, ()
    if request.method != "OPTIONS":
        return 405, (("Allow", "OPTIONS"),)
    if not request.uri.lower().startswith(("sip:", "sips:")):
        return 416, ()
    if not all(is_token(option) for option in required):
        return 400, ()
    if required:
        return 420, (("Unsupported", ", ".join(required)),)
    return 200, (("Allow", "OPTIONS"),)


def _stamp(via: Via, source: Address) -> Via:
    """Write where the request came from into its top Via; what the sender wrote there about itself does not count."""
    wants_port = parameter(via.parameters, "rport") is not None
    parameters: Parameters = tuple(
        (name, str(source[1]) if name.lower() == "rport" else value)
        for name, value in via.parameters
        if name.lower() != "received"
    )
    if wants_port or via.host.strip("[]") != source[0]:
        parameters += (("received", source[0]),)
    return Via(via.transport, via.host, via.port, parameters)


def _wants_tag(to: str) -> bool:
    try:
        return not NameAddr.parse(to).tag
    except SipParseError:
        return False  # a To that cannot be read goes back as it came


def _tag(request: Request) -> str:
    text = "\0".join(request.get(name) or "" for name in ("Via", "From", "To", "Call-ID", "CSeq"))
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
