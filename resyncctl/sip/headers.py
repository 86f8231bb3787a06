"""Header fields: canonical names, compact forms, and typed values of those that the controller acts on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from resyncctl.errors import SipParseError
from resyncctl.sip.grammar import (
    Parameters,
    end_of_quoted,
    format_parameters,
    is_token,
    parameter,
    parse_integer,
    parse_parameters,
    split_outside_quotes,
)
from resyncctl.sip.uri import parse_hostport

COMPACT: Final = {
    "a": "Accept-Contact", "b": "Referred-By", "c": "Content-Type", "d": "Request-Disposition",
    "e": "Content-Encoding", "f": "From", "i": "Call-ID", "j": "Reject-Contact", "k": "Supported",
    "l": "Content-Length", "m": "Contact", "n": "Identity-Info", "o": "Event", "r": "Refer-To",
    "s": "Subject", "t": "To", "u": "Allow-Events", "v": "Via", "x": "Session-Expires", "y": "Identity",
}  # fmt: skip
"""Compact header names (RFC 3261 7.3.3 and the IANA registry)."""

_KNOWN: Final = {
    name.lower(): name
    for name in (
        *COMPACT.values(), "Accept", "Allow", "Authorization", "CSeq", "Date", "Expires", "Max-Forwards", "MIME-Version",
        "Path", "Proxy-Authenticate", "Proxy-Authorization", "Record-Route", "Require", "Retry-After", "Route", "Server",
        "Subscription-State", "Unsupported", "User-Agent", "Warning", "WWW-Authenticate",
    )
}  # fmt: skip


def canonical(name: str) -> str:
    """Return the usual spelling of a header name, compact forms written out; an unknown name stays as it is."""
    lower = name.lower()
    return COMPACT.get(lower) or _KNOWN.get(lower) or name


@dataclass(frozen=True, slots=True)
class Via:
    """One Via value (RFC 3261 20.42)."""

    transport: str
    host: str
    port: int | None
    parameters: Parameters

    @classmethod
    def parse(cls, text: str) -> Via:
        """Read `SIP/2.0/UDP host:port;params`; raise SipParseError."""
        protocol, _, rest = text.strip(" \t").partition(";")
        pieces = [piece.strip(" \t") for piece in protocol.split("/", 3)]
        if len(pieces) != 3 or pieces[0].upper() != "SIP" or pieces[1] != "2.0":
            raise SipParseError(f"not a SIP/2.0 Via: {text[:60]!r}")
        words = pieces[2].split(None, 1)
        if len(words) != 2 or not is_token(words[0]):
            raise SipParseError(f"a Via without transport and sent-by: {text[:60]!r}")
        # RFC 3261 25.1: COLON may have white space around it, the host may not hold any
        host, port = parse_hostport(":".join(part.strip(" \t") for part in words[1].split(":")))
        return cls(words[0], host, port, parse_parameters(f";{rest}" if rest else ""))

    def __str__(self) -> str:
        port = "" if self.port is None else f":{self.port}"
        return f"SIP/2.0/{self.transport} {self.host}{port}{format_parameters(self.parameters)}"

    @property
    def branch(self) -> str:
        """The branch parameter; '' when absent."""
        return parameter(self.parameters, "branch") or ""


@dataclass(frozen=True, slots=True)
class CSeq:
    """A CSeq value (RFC 3261 20.16)."""

    number: int
    method: str

    @classmethod
    def parse(cls, text: str) -> CSeq:
        """Read `number method`; raise SipParseError."""
        words = text.split()
        if len(words) != 2 or not is_token(words[1]):
            raise SipParseError(f"not a CSeq: {text[:60]!r}")
        return cls(parse_integer(words[0], "the CSeq number"), words[1])

    def __str__(self) -> str:
        return f"{self.number} {self.method}"


@dataclass(frozen=True, slots=True)
class NameAddr:
    """A From, To, Contact, Route or Path value: display name as written, URI text, header parameters.

    Without angle brackets everything behind the first `;` belongs to the header (RFC 3261 20.10).
    """

    display: str
    uri: str
    parameters: Parameters = ()

    @classmethod
    def parse(cls, text: str) -> NameAddr:
        """Read one value; raise SipParseError. The URI itself is not parsed (it may be of any scheme)."""
        text = text.strip(" \t")
        opening = _first_bracket(text)
        if opening < 0:
            uri, _, rest = text.partition(";")
            uri = uri.strip(" \t")
            if not uri or any(c in uri for c in ' \t<>",?'):
                raise SipParseError(f"an address that needs angle brackets: {text[:60]!r}")
            return cls("", uri, parse_parameters(f";{rest}" if rest else ""))
        closing = text.find(">", opening)
        if closing < 0:
            raise SipParseError(f"an angle bracket that is not closed: {text[:60]!r}")
        display = text[:opening].strip(" \t")
        if not display.startswith('"') and not all(is_token(word) for word in display.split()):
            raise SipParseError(f"a display name that needs quotes: {text[:60]!r}")
        uri = text[opening + 1 : closing]
        if not uri or any(c in uri for c in ' \t<"'):
            raise SipParseError(f"white space or nothing in the angle brackets: {text[:60]!r}")
        return cls(display, uri, parse_parameters(text[closing + 1 :]))

    def __str__(self) -> str:
        space = " " if self.display else ""
        return f"{self.display}{space}<{self.uri}>{format_parameters(self.parameters)}"

    @property
    def tag(self) -> str:
        """The tag parameter; '' when absent."""
        return parameter(self.parameters, "tag") or ""


def _first_bracket(text: str) -> int:
    """Find the '<' behind an optional display name; -1 when there is none."""
    opening = text.find("<")
    if not text.startswith('"'):
        return -1 if 0 <= text.find(";") < opening else opening  # behind a ';' it stands in a quoted parameter
    end = end_of_quoted(text, 0)
    opening = text.find("<", end)
    if opening < 0 or text[end:opening].strip(" \t"):
        raise SipParseError(f"no '<' behind the quoted display name: {text[:60]!r}")
    return opening


def split_values(value: str) -> list[str]:
    """Split a comma-separated header value (RFC 3261 7.3.1) outside quotes and angle brackets."""
    return [piece.strip(" \t") for piece in split_outside_quotes(value, ",")]


def parse_retry_after(value: str) -> int:
    """Return the seconds of a Retry-After value (RFC 3261 20.33); raise SipParseError. Comment and parameters are dropped."""
    digits = value.strip(" \t").split(";", 1)[0].split("(", 1)[0].strip(" \t")
    return parse_integer(digits, "Retry-After")
