"""Stateless answers to requests that reach us (RFC 3261 8.2.7), and the reply writer that simulated phones share."""

from __future__ import annotations

import hashlib
from typing import Final

from resyncctl.errors import SipParseError
from resyncctl.sip.headers import Via, split_values
from resyncctl.sip.message import Request, Response, check_request, header
from resyncctl.sip.uri import parse_hostport

Address = tuple[str, int]
"""Where a datagram came from or goes to: address without brackets, port."""

REASONS: Final = {
    100: "Trying", 180: "Ringing", 200: "OK", 202: "Accepted", 301: "Moved Permanently", 302: "Moved Temporarily",
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    406: "Not Acceptable", 407: "Proxy Authentication Required", 408: "Request Timeout", 410: "Gone",
    415: "Unsupported Media Type", 420: "Bad Extension", 423: "Interval Too Brief", 430: "Flow Failed",
    480: "Temporarily Unavailable", 481: "Call/Transaction Does Not Exist", 482: "Loop Detected", 483: "Too Many Hops",
    486: "Busy Here", 488: "Not Acceptable Here", 489: "Bad Event", 500: "Server Internal Error", 501: "Not Implemented",
    502: "Bad Gateway", 503: "Service Unavailable", 504: "Server Time-out", 505: "Version Not Supported",
    513: "Message Too Large", 600: "Busy Everywhere", 603: "Decline", 604: "Does Not Exist Anywhere", 606: "Not Acceptable",
}  # fmt: skip
"""Reason phrases of the IANA registry for the codes that a NOTIFY meets."""


def reply(request: Request, status: int, *, source: Address, headers: tuple[tuple[str, str], ...] = ()) -> Response:
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
        if name == "To" and status > 100 and ";tag=" not in value.lower().replace(" ", ""):
            value += f";tag={_tag(request)}"
        lines.append((name, value))
    lines += [header(name, value) for name, value in headers]
    lines.append(("Content-Length", "0"))
    return Response(tuple(lines), status=status, reason=REASONS.get(status, "Unknown"))


def answer(request: Request, *, source: Address) -> bytes | None:
    """Answer a request that a resync controller has no use for: OPTIONS 200, anything else 405, malformed 400, ACK never."""
    if request.method == "ACK":
        return None
    status, headers = 405, (("Allow", "OPTIONS"),)
    try:
        check_request(request)
    except SipParseError:
        status, headers = 400, ()
    else:
        if request.method == "OPTIONS":
            status = 200
    try:
        return bytes(reply(request, status, source=source, headers=headers))
    except SipParseError:
        return None  # nowhere to send an answer to


def reply_address(response: Response, *, source: Address) -> Address:
    """Return where a UDP response goes (RFC 3261 18.2.2, RFC 3581 4): rport, else the Via's own port, at the source."""
    via = response.top_via
    for name, value in via.parameters:
        if name.lower() == "rport" and value:
            return source[0], parse_hostport(f"x:{value}")[1] or source[1]
    return source[0], via.port or 5060


def _stamp(via: Via, source: Address) -> Via:
    parameters = []
    wants_port = False
    for name, value in via.parameters:
        if name.lower() == "rport" and value is None:
            wants_port = True
            parameters.append((name, str(source[1])))
        elif name.lower() != "received":
            parameters.append((name, value))
    if wants_port or via.host.strip("[]") != source[0]:
        parameters.append(("received", source[0]))
    return Via(via.transport, via.host, via.port, tuple(parameters))


def _tag(request: Request) -> str:
    text = "\0".join(request.get(name) or "" for name in ("Via", "From", "To", "Call-ID", "CSeq"))
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
