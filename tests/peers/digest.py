"""Digest authentication computed with hashlib: the tests' own opinion, independent of the product.

RFC 2617 and RFC 7616, MD5 and SHA-256, without qop or with qop=auth.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

_PARAMETER = re.compile(r'([a-z]+)=(?:"([^"]*)"|([^\s,"]+))', re.IGNORECASE)


def digest_parameters(field: str) -> dict[str, str]:
    """Return the parameters of a challenge or of credentials, names in lower case, values unquoted."""
    return {name.lower(): quoted or token for name, quoted, token in _PARAMETER.findall(field)}


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and a password."""

    username: str
    password: str


@dataclass(frozen=True, slots=True)
class DigestInput:
    """What is hashed beside the credentials; `qop` is None or "auth"."""

    realm: str
    nonce: str
    uri: str
    method: str = "NOTIFY"
    algorithm: str = "MD5"
    qop: str | None = None
    cnonce: str = "0a4f113b"
    nonce_count: str = "00000001"


def digest_response(credentials: Credentials, given: DigestInput) -> str:
    """Return the `response` parameter as lower-case hex (RFC 2617 3.2.2.1, RFC 7616 3.4.1)."""
    hasher = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}[given.algorithm]

    def hashed(*parts: str) -> str:
        return hasher(":".join(parts).encode()).hexdigest()

    secret = hashed(credentials.username, given.realm, credentials.password)
    request = hashed(given.method, given.uri)
    if given.qop is None:
        return hashed(secret, given.nonce, request)
    return hashed(secret, given.nonce, given.nonce_count, given.cnonce, given.qop, request)


def answer_challenge(challenge: str, credentials: Credentials, *, method: str, uri: str) -> str:
    """Return the value of the (Proxy-)Authorization header field that answers one Digest challenge."""
    asked = digest_parameters(challenge)
    given = DigestInput(
        realm=asked["realm"],
        nonce=asked["nonce"],
        uri=uri,
        method=method,
        algorithm=asked.get("algorithm", "MD5"),
        qop="auth" if "auth" in asked.get("qop", "").split(",") else None,
    )
    fields = [
        f'username="{credentials.username}"',
        f'realm="{given.realm}"',
        f'nonce="{given.nonce}"',
        f'uri="{uri}"',
        f'response="{digest_response(credentials, given)}"',
        f"algorithm={given.algorithm}",
    ]
    if given.qop is not None:
        fields += [f"qop={given.qop}", f"nc={given.nonce_count}", f'cnonce="{given.cnonce}"']
    if "opaque" in asked:
        fields.append(f'opaque="{asked["opaque"]}"')
    return "Digest " + ", ".join(fields)


def is_right(credentials_field: str, credentials: Credentials, *, method: str = "NOTIFY") -> bool:
    """Judge an (Proxy-)Authorization value: whether its `response` fits these credentials."""
    sent = digest_parameters(credentials_field)
    given = DigestInput(
        realm=sent["realm"],
        nonce=sent["nonce"],
        uri=sent["uri"],
        method=method,
        algorithm=sent.get("algorithm", "MD5"),
        qop=sent.get("qop"),
        cnonce=sent.get("cnonce", ""),
        nonce_count=sent.get("nc", ""),
    )
    return sent.get("username") == credentials.username and sent.get("response") == digest_response(credentials, given)
