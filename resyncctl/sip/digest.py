"""SIP digest authentication from both sides: RFC 3261 22, RFC 8760, RFC 7616, and RFC 2617 without qop.

The UAC reads every WWW-Authenticate and Proxy-Authenticate value with `parse_challenge`, keeps one challenge
for each protection space with `strongest`, and answers each with `authorize`. A simulated phone challenges
with `challenge_header`, reads the answer with `parse_authorization` and judges it with `verify`.

Randomness is an argument: the caller draws nonces and cnonces, and counts how often it used a nonce.
Text is an unfolded header field value decoded as UTF-8 with `surrogateescape`, so that the octets that are
hashed are the octets of the wire. Escapes are undone before hashing (RFC 7230 3.2.6). Challenges joined with
commas are refused, as RFC 3261 7.3.1 forbids joining them.
Not spoken: `userhash` and `username*` (RFC 7616 3.4.4), which the grammar of RFC 8760 does not have.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import KW_ONLY, dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from resyncctl.errors import SipError, SipParseError

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_VALUE_OCTETS = 8192  # one header field value; real challenges are below 500
MAX_PARAMETERS = 32  # RFC 3261 25.1 names 7 in a challenge and 10 in credentials
MAX_NONCE_COUNT = 0xFFFF_FFFF  # RFC 3261 25.1: nc-value = 8LHEX

_TOKEN = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+")  # RFC 3261 25.1
_BARE_VALUE = re.compile(r"[!#-+\--\[\]-~]+")  # wider than a token: peers forget quotes around `=`, `/` and `:`
_QUOTED_TEXT = re.compile(r"[\t !#-\[\]-~\x80-\U0010ffff]+")  # between quotes, up to an escape or a quote
_BLANKS = re.compile(r"[ \t]*")
_SEPARATORS = re.compile(r"[ \t,]*")  # empty list elements carry nothing (RFC 2616 2.1)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NONCE_COUNT = re.compile(r"[0-9a-f]{8}")


class Algorithm(StrEnum):
    """A digest algorithm of RFC 8760 2.1; the value is its spelling on the wire, compared without case."""

    MD5 = "MD5"
    MD5_SESS = "MD5-sess"
    SHA_256 = "SHA-256"
    SHA_256_SESS = "SHA-256-sess"
    SHA_512_256 = "SHA-512-256"
    SHA_512_256_SESS = "SHA-512-256-sess"

    @property
    def session(self) -> bool:
        """Whether A1 also covers the nonce and the cnonce (RFC 7616 3.4.2)."""
        return self.value.endswith("-sess")

    @property
    def strength(self) -> int:
        """Rank for `strongest`: SHA-512-256 above SHA-256 above MD5; a session variant ranks as its hash."""
        return ("md5", "sha256", "sha512_256").index(self._hash_name)

    @property
    def available(self) -> bool:
        """Whether this Python offers the hash: its OpenSSL may lack SHA-512/256."""
        try:
            hashlib.new(self._hash_name, usedforsecurity=False)
        except ValueError:
            return False
        return True

    @property
    def _hash_name(self) -> str:
        return {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}[self.value.removesuffix("-sess")]

    def hexdigest(self, octets: bytes) -> str:
        """Return the hash as lower-case hexadecimal; SipError when the hash is not available."""
        try:
            return hashlib.new(self._hash_name, octets, usedforsecurity=False).hexdigest()
        except ValueError as error:
            raise SipError(f"this Python has no {self._hash_name}, which digest {self} needs") from error


class Qop(StrEnum):
    """Quality of protection: the response covers the request line, or also the body (RFC 7616 3.4.3)."""

    AUTH = "auth"
    AUTH_INT = "auth-int"


@dataclass(frozen=True, slots=True)
class Challenge:
    """One digest challenge; its text is the value of a header field and parses to an equal challenge.

    `qop` is empty for a peer of RFC 2069, `domain` holds URIs, and `proxy` tells a 407 from a 401. `stale`
    says that the password was right and only the nonce too old: answer again, with the new nonce and the
    same credentials (RFC 2617 3.2.1).
    """

    realm: str
    nonce: str
    _: KW_ONLY
    algorithm: Algorithm = Algorithm.MD5
    qop: tuple[Qop, ...] = ()
    opaque: str | None = None
    stale: bool = False
    domain: tuple[str, ...] = ()
    proxy: bool = False

    def __str__(self) -> str:
        parts = [f"realm={_quote(self.realm)}", f"nonce={_quote(self.nonce)}", f"algorithm={self.algorithm}"]
        if self.qop:
            parts.append(f"qop={_quote(','.join(self.qop))}")
        if self.opaque is not None:
            parts.append(f"opaque={_quote(self.opaque)}")
        if self.stale:
            parts.append("stale=true")
        if self.domain:
            parts.append(f"domain={_quote(' '.join(self.domain))}")
        return "Digest " + ", ".join(parts)


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """A user name and a password; SipError for control characters, which would end a header field early."""

    username: str
    password: str

    def __post_init__(self) -> None:
        for name, text in (("user name", self.username), ("password", self.password)):
            if _CONTROL.search(text):
                raise SipError(f"the {name} of digest credentials contains a control character; remove it")
            _octets(text)

    def __repr__(self) -> str:
        return f"Credentials(username={self.username!r}, password='***')"


@dataclass(frozen=True, slots=True)
class Authorization:
    """The answer to a challenge; its text is the value of a header field and parses to an equal answer.

    `qop`, `cnonce` and `nonce_count` are None towards a peer of RFC 2069.
    """

    username: str
    realm: str
    _: KW_ONLY
    nonce: str
    uri: str
    response: str
    algorithm: Algorithm = Algorithm.MD5
    qop: Qop | None = None
    cnonce: str | None = None
    nonce_count: int | None = None
    opaque: str | None = None

    def __str__(self) -> str:
        parts = [
            f"{name}={_quote(text)}"
            for name, text in (
                ("username", self.username),
                ("realm", self.realm),
                ("nonce", self.nonce),
                ("uri", self.uri),
                ("response", self.response),
                ("cnonce", self.cnonce),
                ("opaque", self.opaque),
            )
            if text is not None
        ]
        parts.append(f"algorithm={self.algorithm}")
        if self.qop is not None:
            parts.append(f"qop={self.qop}")
        if self.nonce_count is not None:
            parts.append(f"nc={self.nonce_count:08x}")
        return "Digest " + ", ".join(parts)


def parse_challenge(value: str, *, proxy: bool) -> Challenge | None:
    """Read one WWW-Authenticate value, or a Proxy-Authenticate value when `proxy`.

    None says that the scheme, the algorithm or every offered qop is one that we do not speak: pass it over
    (RFC 8760 2.4). Raises SipParseError when the value is malformed or has no realm or nonce.
    """
    parameters = _digest_parameters(value)
    if parameters is None:
        return None
    algorithm = _algorithm(parameters)
    offered = [option.strip(" \t").lower() for option in parameters.get("qop", "").split(",")]
    qop = tuple(option for option in Qop if option in offered)
    if algorithm is None or (any(offered) and not qop):
        return None
    return Challenge(
        _required(parameters, "realm"),
        _required(parameters, "nonce"),
        algorithm=algorithm,
        qop=qop,
        opaque=parameters.get("opaque"),
        # RFC 2617 3.2.1: anything but TRUE means that the credentials were wrong
        stale=parameters.get("stale", "").lower() == "true",
        domain=tuple(parameters.get("domain", "").split()),
        proxy=proxy,
    )


def strongest(challenges: Iterable[Challenge]) -> list[Challenge]:
    """Keep one challenge for each (realm, proxy): the strongest hash, and among equals the topmost.

    The list is in the order in which the realms appeared; the next request carries an answer to each, as a
    forked request may be challenged by several proxies (RFC 3261 22.3). Realms compare with case.
    Deviation: RFC 8760 2.4 takes the topmost challenge unless local policy says otherwise. Ours is strength,
    because whoever can reorder header fields on the way could make the weakest topmost.
    """
    best: dict[tuple[str, bool], Challenge] = {}
    for challenge in challenges:
        space = challenge.realm, challenge.proxy
        known = best.get(space)
        if challenge.algorithm.available and (known is None or challenge.algorithm.strength > known.algorithm.strength):
            best[space] = challenge
    return list(best.values())


def authorize(
    challenge: Challenge,
    credentials: Credentials,
    *,
    method: str,
    uri: str,
    body: bytes = b"",
    cnonce: str,
    nonce_count: int = 1,
) -> tuple[str, str]:
    """Return the name and the value of the header field that answers the challenge.

    `uri` is the Request-URI as it is sent. `nonce_count` says how many requests, this one included, used the
    nonce. `auth` is taken before `auth-int`, which a proxy that rewrites bodies would break. Without qop no
    cnonce is sent (RFC 2617 3.2.2), save with a -sess algorithm, whose A1 cannot be computed without it.
    Raises SipError for a value that the header field cannot carry.
    """
    if not _TOKEN.fullmatch(method):
        raise SipError(f"{method!r} is no SIP method, digest cannot cover it")
    if not 1 <= nonce_count <= MAX_NONCE_COUNT:
        raise SipError(f"nonce count {nonce_count} does not fit nc, which holds 1 to {MAX_NONCE_COUNT}")
    qop = min(challenge.qop, key=list(Qop).index, default=None)
    answer = Authorization(
        credentials.username,
        challenge.realm,
        nonce=challenge.nonce,
        uri=uri,
        response="",
        algorithm=challenge.algorithm,
        qop=qop,
        cnonce=cnonce if qop or challenge.algorithm.session else None,
        nonce_count=nonce_count if qop else None,
        opaque=challenge.opaque,
    )
    response = _response(answer, credentials.password, method=method, body=body)
    name = "Proxy-Authorization" if challenge.proxy else "Authorization"
    return name, str(replace(answer, response=response))


def challenge_header(challenge: Challenge) -> tuple[str, str]:
    """Return the name and the value of the header field that carries the challenge in a 401 or 407."""
    return "Proxy-Authenticate" if challenge.proxy else "WWW-Authenticate", str(challenge)


def parse_authorization(value: str) -> Authorization | None:
    """Read one Authorization or Proxy-Authorization value; None and SipParseError as in `parse_challenge`.

    Stricter than the client side, so that a simulated phone is a judge: nc is 8 lower-case hexadecimal
    digits (RFC 3261 25.1), and qop demands nc and cnonce (RFC 2617 3.2.2).
    """
    parameters = _digest_parameters(value)
    if parameters is None:
        return None
    algorithm = _algorithm(parameters)
    qop = next((option for option in Qop if option == parameters.get("qop", "").lower()), None)
    if algorithm is None or (qop is None and "qop" in parameters):
        return None
    count = _required(parameters, "nc") if qop else parameters.get("nc")
    if count is not None and not _NONCE_COUNT.fullmatch(count):
        raise SipParseError(f"digest credentials: nc is {count!r}, expected 8 lower-case hexadecimal digits")
    return Authorization(
        _required(parameters, "username"),
        _required(parameters, "realm"),
        nonce=_required(parameters, "nonce"),
        uri=_required(parameters, "uri"),
        response=_required(parameters, "response"),
        algorithm=algorithm,
        qop=qop,
        cnonce=_required(parameters, "cnonce") if qop or algorithm.session else parameters.get("cnonce"),
        nonce_count=None if count is None else int(count, 16),
        opaque=parameters.get("opaque"),
    )


def verify(authorization: Authorization, password: str, *, method: str, body: bytes = b"") -> bool:
    """Tell whether the response proves the password for this method and body.

    The caller still compares what only it knows: nonce, realm and opaque with its challenge, uri with the
    Request-URI, and that the nonce count grew.
    """
    expected = _response(authorization, password, method=method, body=body)
    return hmac.compare_digest(expected.encode("ascii"), _octets(authorization.response))


def _response(answer: Authorization, password: str, *, method: str, body: bytes) -> str:
    """Compute the digest of RFC 7616 3.4.1; an absent body hashes as an empty one (RFC 8760 2.6)."""

    def hashed(*parts: str) -> str:
        return answer.algorithm.hexdigest(b":".join(_octets(part) for part in parts))

    secret = hashed(answer.username, answer.realm, password)
    if answer.algorithm.session:
        secret = hashed(secret, answer.nonce, answer.cnonce or "")
    if answer.qop == Qop.AUTH_INT:
        request = hashed(method, answer.uri, answer.algorithm.hexdigest(body))
    else:
        request = hashed(method, answer.uri)
    if answer.qop is None:
        return hashed(secret, answer.nonce, request)
    return hashed(secret, answer.nonce, f"{answer.nonce_count or 0:08x}", answer.cnonce or "", answer.qop, request)


def _algorithm(parameters: dict[str, str]) -> Algorithm | None:
    """Return the named algorithm, MD5 when none is named (RFC 2617 3.2.1), None when we cannot compute it."""
    name = parameters.get("algorithm", Algorithm.MD5).lower()
    found = next((algorithm for algorithm in Algorithm if algorithm.lower() == name), None)
    return found if found is not None and found.available else None


def _required(parameters: dict[str, str], name: str) -> str:
    if name not in parameters:
        raise SipParseError(f"digest header field: parameter {name!r} is missing")
    return parameters[name]


def _octets(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise SipError("digest text contains a lone surrogate, which UTF-8 cannot carry") from error


def _quote(text: str) -> str:
    """Write a quoted-string of RFC 3261 25.1; SipError for control characters, which no escape may carry."""
    if _CONTROL.search(text.replace("\t", " ")):
        raise SipError(f"a quoted string cannot carry the control character in {text!r}")
    _octets(text)
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _digest_parameters(value: str) -> dict[str, str] | None:
    """Split `Digest name=value, …` into unescaped values by lower-case name; None for another scheme."""
    try:
        size = len(value.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError as error:
        raise SipParseError("digest header field: a lone surrogate is no UTF-8", 0) from error
    if size > MAX_VALUE_OCTETS:
        raise SipParseError(f"digest header field: {size} octets, more than {MAX_VALUE_OCTETS}", 0)
    scheme, position = _token(value, _skip(_BLANKS, value, 0), "an authentication scheme")
    if scheme.lower() != "digest":
        return None
    if position < len(value) and value[position] not in " \t":
        raise _unexpected(value, position, "a space after the scheme")
    parameters: dict[str, str] = {}
    while (position := _skip(_SEPARATORS, value, position)) < len(value):
        start = position
        name, position = _token(value, start, "a parameter name")
        if name.lower() in parameters or len(parameters) == MAX_PARAMETERS:
            raise _unexpected(value, start, f"a new parameter, at most {MAX_PARAMETERS} of them")
        position = _skip(_BLANKS, value, position)
        if value[position : position + 1] != "=":
            raise _unexpected(value, position, f"'=' after {name!r}")
        parameters[name.lower()], position = _parameter_value(value, _skip(_BLANKS, value, position + 1))
        position = _skip(_BLANKS, value, position)
        if position < len(value) and value[position] != ",":
            raise _unexpected(value, position, f"',' or the end after the value of {name!r}")
    return parameters


def _parameter_value(value: str, position: int) -> tuple[str, int]:
    """Read a quoted-string or a bare value; returns it unescaped, and the position behind it."""
    if value[position : position + 1] != '"':
        found = _BARE_VALUE.match(value, position)
        if found is None:
            raise _unexpected(value, position, "a parameter value")
        return found.group(), found.end()
    pieces: list[str] = []
    position += 1
    while (mark := value[position : position + 1]) != '"':
        if mark == "\\":  # RFC 3261 25.1: quoted-pair; we also refuse escaped control characters
            position += 1
            if not value[position : position + 1] or _CONTROL.match(value, position):
                raise _unexpected(value, position, "a printable character after the backslash")
            pieces.append(value[position])
            position += 1
            continue
        text = _QUOTED_TEXT.match(value, position)
        if text is None:
            raise _unexpected(value, position, "a closing quote or printable text")
        pieces.append(text.group())
        position = text.end()
    return "".join(pieces), position + 1


def _token(value: str, position: int, what: str) -> tuple[str, int]:
    found = _TOKEN.match(value, position)
    if found is None:
        raise _unexpected(value, position, what)
    return found.group(), found.end()


def _skip(pattern: re.Pattern[str], value: str, position: int) -> int:
    found = pattern.match(value, position)
    return position if found is None else found.end()


def _unexpected(value: str, position: int, expected: str) -> SipParseError:
    """Build the error for a position in characters; it reports the position in octets."""
    seen = repr(value[position]) if position < len(value) else "the end"
    return SipParseError(f"digest header field: expected {expected}, found {seen}", len(_octets(value[:position])))
