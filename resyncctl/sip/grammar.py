"""Lexical rules shared by the parsers: character sets, limits, and linear scanners that respect quoting.

Text is what `bytes.decode("utf-8", "surrogateescape")` gives, so that any byte survives a round trip.
"""

from __future__ import annotations

from typing import Final

from resyncctl.errors import SipError, SipParseError

MAX_MESSAGE: Final = 65_535
"""Bytes of one message; what a UDP datagram can carry."""
MAX_HEADERS: Final = 256
"""Header fields of one message."""
MAX_LINE: Final = 16_384
"""Bytes of a start line or of one unfolded header field."""
MAX_PARAMETERS: Final = 64
"""Parameters of one URI or one header value, and values of one comma-separated header."""
MAX_INTEGER: Final = 2**31 - 1
"""Largest CSeq number, Content-Length and the like that is accepted (RFC 3261 8.1.1.5)."""

ALPHANUM: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
TOKEN: Final = ALPHANUM | frozenset("-.!%*_+`'~")
"""RFC 3261 25.1 `token`."""
DIGITS: Final = frozenset("0123456789")
HEX: Final = frozenset("0123456789abcdefABCDEF")
CONTROL: Final = frozenset(chr(c) for c in range(0x20)) - {"\t"} | {"\x7f"}

Parameters = tuple[tuple[str, str | None], ...]
"""Parameters in their order, names and values as written; a flag has the value None."""


def is_token(text: str) -> bool:
    """Say whether `text` is a non-empty RFC 3261 token."""
    return bool(text) and TOKEN.issuperset(text)


def require_clean(text: str, what: str) -> str:
    """Return `text` unchanged when a header can carry it; raise SipError for CR, LF, other control characters, or no UTF-8."""
    if not CONTROL.isdisjoint(text):
        raise SipError(f"{what} holds a control character: {text[:60]!r}; remove it")
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise SipError(f"{what} holds a lone surrogate, which UTF-8 cannot carry: {text[:60]!r}; remove it") from error
    return text


def printable(text: str, limit: int = 128) -> str:
    """Return text of a peer as a terminal, a log or JSON can show it: at most `limit` characters, U+FFFD for any other."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text[:limit])


def parse_integer(text: str, what: str, limit: int = MAX_INTEGER) -> int:
    """Read an unsigned decimal number of at most `limit`; raise SipParseError naming `what`."""
    if not text or len(text) > 10 or not DIGITS.issuperset(text):
        raise SipParseError(f"{what} is not a number of at most ten digits: {text[:40]!r}")
    value = int(text)
    if value > limit:
        raise SipParseError(f"{what} is larger than {limit}: {text!r}")
    return value


def split_outside_quotes(text: str, separator: str) -> list[str]:
    """Split at each `separator` that is neither in a quoted string nor in angle brackets.

    Linear. Raises SipParseError for an unbalanced quote or bracket, or more than MAX_PARAMETERS pieces.
    """
    if '"' not in text and "<" not in text:
        pieces = text.split(separator, MAX_PARAMETERS)
        if len(pieces) > MAX_PARAMETERS:
            raise SipParseError(f"more than {MAX_PARAMETERS} values separated by {separator!r}")
        return pieces
    pieces = []
    start = position = 0
    while position < len(text):
        char = text[position]
        if char == '"':
            position = end_of_quoted(text, position)
            continue
        if char == "<":
            position = text.find(">", position)
            if position < 0:
                raise SipParseError(f"unbalanced angle bracket in {text[:60]!r}")
        elif char == separator:
            pieces.append(text[start:position])
            start = position + 1
            if len(pieces) >= MAX_PARAMETERS:
                raise SipParseError(f"more than {MAX_PARAMETERS} values separated by {separator!r}")
        position += 1
    pieces.append(text[start:])
    return pieces


def end_of_quoted(text: str, start: int) -> int:
    """Return the position behind the quoted-string that opens at `start`; raise SipParseError when it is not closed."""
    position = start + 1
    while position < len(text) and text[position] != '"':
        position += 2 if text[position] == "\\" else 1
    if position >= len(text):
        raise SipParseError(f"unbalanced quote in {text[:60]!r}")
    return position + 1


def parse_parameters(text: str) -> Parameters:
    """Read `;name=value;flag` (RFC 3261 25.1 generic-param); empty text gives no parameters.

    White space around `;` and `=` is dropped, quoted values keep their quotes. Raises SipParseError.
    """
    text = text.strip(" \t")
    if not text:
        return ()
    if text[0] != ";":
        raise SipParseError(f"expected ';' before a parameter: {text[:60]!r}")
    parameters: list[tuple[str, str | None]] = []
    for piece in split_outside_quotes(text[1:], ";"):
        name, equals, value = piece.partition("=")
        name, value = name.strip(" \t"), value.strip(" \t")
        if not is_token(name):
            raise SipParseError(f"bad parameter name: {piece[:40]!r}")
        if equals and not value:
            raise SipParseError(f"parameter {name} has '=' but no value")
        parameters.append((name, value if equals else None))
    return tuple(parameters)


def format_parameters(parameters: Parameters) -> str:
    """Write parameters as parse_parameters reads them."""
    return "".join(f";{name}" if value is None else f";{name}={value}" for name, value in parameters)


def parameter(parameters: Parameters, name: str) -> str | None:
    """Return the value of the first parameter with that name (case-insensitive); a flag gives ''; None = absent."""
    for key, value in parameters:
        if key.lower() == name:
            return "" if value is None else value
    return None
