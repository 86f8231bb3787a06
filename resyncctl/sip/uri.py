"""SIP and SIPS URIs (RFC 3261 19.1): parsed strictly, kept as written."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

from resyncctl.errors import SipParseError
from resyncctl.sip.grammar import ALPHANUM, HEX, MAX_PARAMETERS, Parameters, format_parameters, parameter

MAX_URI: Final = 2048
"""Characters of one URI."""

_MARK: Final = frozenset("-_.!~*'()")
_USER: Final = ALPHANUM | _MARK | frozenset("&=+$,;?/")
_PASSWORD: Final = ALPHANUM | _MARK | frozenset("&=+$,")
_PARAMETER: Final = ALPHANUM | _MARK | frozenset("[]/:&+$")
_HEADER: Final = ALPHANUM | _MARK | frozenset("[]/?:+$")
_HOST: Final = ALPHANUM | frozenset("-._")
"""Letters, digits, hyphen and dot; the underscore is no host name character, but Windows domains are full of it."""


@dataclass(frozen=True, slots=True)
class Uri:
    """A `sip:` or `sips:` URI; every part is the text as written, escapes included, so that str() gives it back.

    `host` keeps the brackets of an IPv6 reference. `port` is None when the URI names none.
    """

    scheme: str
    user: str | None
    password: str | None
    host: str
    port: int | None
    parameters: Parameters = ()
    headers: Parameters = ()

    @classmethod
    def parse(cls, text: str) -> Uri:
        """Read one SIP URI without angle brackets; raise SipParseError for anything else."""
        if len(text) > MAX_URI:
            raise SipParseError(f"a URI of more than {MAX_URI} characters")
        scheme, colon, rest = text.partition(":")
        if not colon or scheme.lower() not in {"sip", "sips"}:
            raise SipParseError(f"not a sip: or sips: URI: {text[:60]!r}")
        user = password = None
        at = rest.find("@")  # unescaped it stands nowhere else (RFC 3261 25.1)
        if at >= 0:
            userinfo, rest = rest[:at], rest[at + 1 :]
            user, secret, password_text = userinfo.partition(":")
            password = password_text if secret else None
            if not user:
                raise SipParseError(f"an empty user part before '@': {text[:60]!r}")
            _check(user, _USER, "user part")
            _check(password or "", _PASSWORD, "password")
        rest, question, header_text = rest.partition("?")
        hostport, semicolon, parameter_text = rest.partition(";")
        host, port = parse_hostport(hostport)
        return cls(
            scheme=scheme,
            user=user,
            password=password,
            host=host,
            port=port,
            parameters=_pairs(parameter_text, ";", _PARAMETER, "parameter") if semicolon else (),
            headers=_pairs(header_text, "&", _HEADER, "header") if question else (),
        )

    def __str__(self) -> str:
        userinfo = "" if self.user is None else self.user
        if self.password is not None:
            userinfo += f":{self.password}"
        if self.user is not None:
            userinfo += "@"
        port = "" if self.port is None else f":{self.port}"
        headers = "&".join(f"{name}={value}" for name, value in self.headers)
        question = f"?{headers}" if headers else ""
        return f"{self.scheme}:{userinfo}{self.host}{port}{format_parameters(self.parameters)}{question}"

    @property
    def secure(self) -> bool:
        """True for `sips:`."""
        return self.scheme.lower() == "sips"

    @property
    def transport(self) -> str:
        """The transport parameter in lower case; '' when the URI has none."""
        return (parameter(self.parameters, "transport") or "").lower()

    @property
    def address(self) -> str:
        """The host without the brackets of an IPv6 reference."""
        return self.host[1:-1] if self.host.startswith("[") else self.host

    @property
    def aor(self) -> str:
        """`user@host` for comparing addresses of record: user as written, host in lower case (RFC 3261 19.1.4)."""
        host = self.host.lower()
        return host if self.user is None else f"{self.user}@{host}"


def parse_hostport(text: str) -> tuple[str, int | None]:
    """Read `host`, `host:port`, `[v6]` or `[v6]:port`; raise SipParseError. The port is 1 to 65535."""
    port_text: str | None
    if text.startswith("["):
        end = text.find("]")
        if end < 0:
            raise SipParseError(f"an IPv6 reference without ']': {text[:60]!r}")
        host, tail = text[: end + 1], text[end + 1 :]
        if tail and not tail.startswith(":"):
            raise SipParseError(f"unexpected text after an IPv6 reference: {text[:60]!r}")
        port_text = tail[1:] if tail else None
        try:
            zone = ipaddress.IPv6Address(host[1:-1]).scope_id
        except ValueError as error:
            raise SipParseError(f"not an IPv6 address: {host[:60]!r}") from error
        if zone is not None:  # Python takes any text as a zone, CR and LF too; RFC 3261 25.1 has none
            raise SipParseError(f"an IPv6 reference with a zone: {host[:60]!r}")
    else:
        host, colon, port_digits = text.partition(":")
        port_text = port_digits if colon else None
        if not host or not _HOST.issuperset(host):
            raise SipParseError(f"not a host name or an address: {text[:60]!r}")
    if port_text is None:
        return host, None
    if not port_text.isascii() or not port_text.isdigit() or len(port_text) > 5 or not 0 < int(port_text) < 65_536:
        raise SipParseError(f"not a port from 1 to 65535: {port_text[:20]!r}")
    return host, int(port_text)


def _check(text: str, allowed: frozenset[str], what: str) -> None:
    if allowed.issuperset(text):
        return
    position = 0
    while position < len(text):
        char = text[position]
        if char == "%":
            if position + 2 >= len(text) or not HEX.issuperset(text[position + 1 : position + 3]):
                raise SipParseError(f"a bad %-escape in the {what} of a URI: {text[:60]!r}")
            position += 3
        elif char in allowed:
            position += 1
        else:
            raise SipParseError(f"the character {char!r} in the {what} of a URI needs a %-escape: {text[:60]!r}")


def _pairs(text: str, separator: str, allowed: frozenset[str], what: str) -> Parameters:
    pieces = text.split(separator, MAX_PARAMETERS)
    if len(pieces) > MAX_PARAMETERS:
        raise SipParseError(f"more than {MAX_PARAMETERS} {what}s in a URI")
    pairs: list[tuple[str, str | None]] = []
    for piece in pieces:
        name, equals, value = piece.partition("=")
        if not name:
            raise SipParseError(f"an empty {what} in a URI: {text[:60]!r}")
        if what == "header" and not equals:
            raise SipParseError(f"a header without '=' in a URI: {piece[:60]!r}")
        if what == "parameter" and equals and not value:
            raise SipParseError(f"a parameter with '=' but no value in a URI: {piece[:60]!r}")
        _check(name, allowed, what)
        _check(value, allowed, what)
        pairs.append((name, value if equals else None))
    return tuple(pairs)
