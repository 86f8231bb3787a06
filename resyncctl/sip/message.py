"""SIP messages: a linear, bounded parser, the writer, and a scanner for the few bytes that a response is matched by.

Any bytes give a Request, a Response, a KeepAlive or SipParseError. `parse(bytes(message)) == message`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from resyncctl.errors import SipError, SipParseError
from resyncctl.sip.grammar import (
    MAX_HEADERS,
    MAX_LINE,
    MAX_MESSAGE,
    is_token,
    parse_integer,
    require_clean,
)
from resyncctl.sip.headers import CSeq, NameAddr, Via, canonical, split_values

HeaderFields = tuple[tuple[str, str], ...]
"""Header fields in their order: canonical name, value without folding and outer white space."""

SINGLE: Final = ("call-id", "cseq", "from", "to", "max-forwards", "content-length")
"""Headers that a request carries at most once and that we act on (RFC 3261 7.3.1)."""


_FOLD: Final = b" \t"


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """A datagram or a stream chunk of nothing but CR and LF (RFC 5626 3.5.1)."""


@dataclass(frozen=True, slots=True)
class Message:
    """What requests and responses share; `raw` is what was received, for traces, and does not count in comparisons."""

    headers: HeaderFields
    body: bytes = b""
    raw: bytes = field(default=b"", compare=False, repr=False, kw_only=True)

    def get(self, name: str) -> str | None:
        """Return the first value of a header by its canonical name, compared without case; None = absent."""
        lower = name.lower()
        for key, value in self.headers:
            if key.lower() == lower:
                return value
        return None

    def all(self, name: str) -> Iterator[str]:
        """Yield every field of a header, in order; comma-separated values stay together."""
        lower = name.lower()
        return (value for key, value in self.headers if key.lower() == lower)

    def require(self, name: str) -> str:
        """Return the header's only value; raise SipParseError when it is missing or there twice."""
        values = list(self.all(name))
        if len(values) != 1:
            raise SipParseError(f"{'no' if not values else 'more than one'} {name} header")
        return values[0]

    @property
    def vias(self) -> list[Via]:
        """All Via values, topmost first; raises SipParseError."""
        return [Via.parse(value) for line in self.all("Via") for value in split_values(line)]

    @property
    def top_via(self) -> Via:
        """The topmost Via; raises SipParseError."""
        line = self.get("Via")
        if line is None:
            raise SipParseError("no Via header")
        return Via.parse(split_values(line)[0])

    @property
    def cseq(self) -> CSeq:
        """The CSeq; raises SipParseError."""
        return CSeq.parse(self.require("CSeq"))

    @property
    def from_(self) -> NameAddr:
        """The From address; raises SipParseError."""
        return NameAddr.parse(self.require("From"))

    @property
    def to(self) -> NameAddr:
        """The To address; raises SipParseError."""
        return NameAddr.parse(self.require("To"))

    @property
    def call_id(self) -> str:
        """The Call-ID; raises SipParseError."""
        return self.require("Call-ID")

    def _write(self, start: str) -> bytes:
        lines = [start, *(f"{name}: {value}" for name, value in self.headers), "", ""]
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + self.body


@dataclass(frozen=True, slots=True)
class Request(Message):
    """A request; `uri` is the Request-URI as written (it may be of a scheme that we do not know)."""

    method: str = field(kw_only=True)
    uri: str = field(kw_only=True)

    def __bytes__(self) -> bytes:
        return self._write(f"{self.method} {self.uri} SIP/2.0")


@dataclass(frozen=True, slots=True)
class Response(Message):
    """A response; `status` is 100 to 699."""

    status: int = field(kw_only=True)
    reason: str = field(kw_only=True)

    def __bytes__(self) -> bytes:
        return self._write(f"SIP/2.0 {self.status:03d} {self.reason}")


def header(name: str, value: str) -> tuple[str, str]:
    """Make a header field for a message of ours; raise SipError when name or value would break the message."""
    if not is_token(name):
        raise SipError(f"not a header name: {name[:60]!r}")
    return name, require_clean(value, f"the header {name}")


def parse(data: bytes) -> Request | Response | KeepAlive:
    """Read one message from one datagram, or one framed message of a stream; raise SipParseError and nothing else.

    Empty lines before the start line are skipped (RFC 3261 7.5). A body shorter than Content-Length is an error, bytes
    behind it are dropped (RFC 3261 18.3); without Content-Length the body goes to the end.
    """
    if len(data) > MAX_MESSAGE:
        raise SipParseError(f"a message of more than {MAX_MESSAGE} bytes", MAX_MESSAGE)
    start = 0
    while data[start : start + 2] == b"\r\n":
        start += 2
    if start == len(data):
        if not data:
            raise SipParseError("an empty datagram", 0)
        return KeepAlive()
    end = data.find(b"\r\n\r\n", start)
    if end < 0:
        raise SipParseError("no empty line behind the headers", len(data))
    first, fields = _split_head(data, start, end)
    headers = tuple(fields)
    body = _body(headers, data[end + 4 :])
    if first[:4].upper() == "SIP/":
        return _response(first, headers, body, data)
    return _request(first, headers, body, data)


def _split_head(data: bytes, start: int, end: int) -> tuple[str, list[tuple[str, str]]]:
    text = data[start:end].decode("utf-8", "surrogateescape")
    lines = text.split("\r\n", MAX_HEADERS * 4)
    if len(lines) > MAX_HEADERS * 4:
        raise SipParseError(f"more than {MAX_HEADERS * 4} lines before the body")
    first = lines[0]
    if len(first) > MAX_LINE:
        raise SipParseError(f"a start line of more than {MAX_LINE} bytes")
    fields: list[tuple[str, str]] = []
    pending: list[str] = []
    for line in lines[1:]:
        if line[:1] in {" ", "\t"} and pending:  # folded: RFC 3261 7.3.1
            pending.append(line.strip(" \t"))
            continue
        _finish_field(pending, fields)
        pending = [line]
    _finish_field(pending, fields)
    return first, fields


def _finish_field(pending: list[str], fields: list[tuple[str, str]]) -> None:
    if not pending:
        return
    line = " ".join(pending) if len(pending) > 1 else pending[0]
    if len(line) > MAX_LINE:
        raise SipParseError(f"a header of more than {MAX_LINE} bytes")
    if len(fields) >= MAX_HEADERS:
        raise SipParseError(f"more than {MAX_HEADERS} headers")
    name, colon, value = line.partition(":")
    name = name.rstrip(" \t")
    if not colon or not is_token(name):
        raise SipParseError(f"not a header: {line[:60]!r}")
    if "\r" in value or "\n" in value:  # NUL may stand escaped in a quoted string (RFC 4475 3.1.1.2)
        raise SipParseError(f"a bare CR or LF in the header {name}")
    fields.append((canonical(name), value.strip(" \t")))


def _body(headers: HeaderFields, rest: bytes) -> bytes:
    lengths = {value for name, value in headers if name == "Content-Length"}
    if not lengths:
        return rest
    if len(lengths) > 1:
        raise SipParseError("two Content-Length headers that differ")
    length = parse_integer(lengths.pop(), "Content-Length")
    if length > len(rest):
        raise SipParseError(f"Content-Length is {length}, but {len(rest)} bytes follow")
    return rest[:length]


def _request(first: str, headers: HeaderFields, body: bytes, raw: bytes) -> Request:
    words = first.split(" ")
    if len(words) != 3:
        raise SipParseError(f"not a request line of method, URI and version: {first[:60]!r}", 0)
    method, uri, version = words
    if version.upper() != "SIP/2.0":
        raise SipParseError(f"version {version[:20]!r} instead of SIP/2.0", 0)
    if not is_token(method):
        raise SipParseError(f"not a method: {method[:40]!r}", 0)
    if not uri or "<" in uri or ">" in uri or '"' in uri or not uri.isprintable():
        raise SipParseError(f"not a Request-URI: {uri[:60]!r}", 0)
    return Request(headers, body, method=method, uri=uri, raw=raw)


def _response(first: str, headers: HeaderFields, body: bytes, raw: bytes) -> Response:
    version, _, rest = first.partition(" ")
    status, _, reason = rest.partition(" ")  # phones that leave out the reason forget its space: accepted
    if version.upper() != "SIP/2.0":
        raise SipParseError(f"version {version[:20]!r} instead of SIP/2.0", 0)
    if len(status) != 3:
        raise SipParseError(f"not a status line: {first[:60]!r}", 0)
    code = parse_integer(status, "the status code")
    if not 100 <= code <= 699:
        raise SipParseError(f"the status code {code} is not 100 to 699", 0)
    if "\r" in reason or "\n" in reason or "\0" in reason:
        raise SipParseError("a bare CR, LF or NUL in the status line", 0)
    return Response(headers, body, status=code, reason=reason, raw=raw)


def check_request(request: Request) -> None:
    """Raise SipParseError unless a request can be answered as RFC 3261 8.1.1 wants it.

    Via, From, To, Call-ID and CSeq once each and well formed, CSeq's method equal to the request's, Max-Forwards a number.
    """
    for name in SINGLE:
        if sum(1 for key, _ in request.headers if key.lower() == name) > 1:
            raise SipParseError(f"more than one {name} header")
    if not request.vias:
        raise SipParseError("no Via header")
    if request.cseq.method != request.method:
        raise SipParseError(f"CSeq is for {request.cseq.method}, the request is {request.method}")
    _ = request.from_, request.to, request.call_id
    hops = request.get("Max-Forwards")
    if hops is not None:
        parse_integer(hops, "Max-Forwards", 255)


_PLAIN_HEAD: Final = re.compile(
    rb'SIP/2\.0 ([1-6]\d\d) [^\r\n]*\r\nVia: SIP/2\.0/(?:UDP|TCP|TLS) [^\s;,"]+;branch=([^\s;,"]+)(?:;[^\s,"]*)?\r\n'
)
"""Status line and top Via of nearly all responses to requests of ours. Linear: no two quantifiers meet on one byte."""


def scan_response(data: bytes) -> tuple[int, bytes, bytes] | None:
    """Find status, top branch and CSeq value of a response without parsing the rest; None = use `parse`.

    The hot path, instead of a whole parse. It answers only for the plain case: the Via comes first and begins with our
    branch, headers in their usual spelling, nothing folded or quoted. What it answers for a well-formed response is what
    `parse` finds.
    """
    head = _PLAIN_HEAD.match(data)
    if head is None:
        return None
    end = head.end()
    cseq = data.find(b"\r\nCSeq: ", end - 2) + 8
    cseq_end = data.find(b"\r\n", cseq)
    if (
        cseq < 8
        or not 0 < cseq_end <= data.find(b"\r\n\r\n", end - 2)
        or data[end] in _FOLD
        or data[cseq_end + 2] in _FOLD
    ):
        return None
    status, branch = head.groups()
    return int(status), branch, data[cseq:cseq_end].strip(b" \t")
