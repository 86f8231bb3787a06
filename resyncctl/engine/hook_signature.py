"""Signed calls of hooks: HMAC-SHA256 with the hook's secret.

A call that can set headers sends `X-Resyncctl-Timestamp: SECONDS` and `X-Resyncctl-Signature: sha256=HEX` and signs
`SECONDS.BODY`. One that can only name a URL has the parameters `timestamp` and `signature` in it and signs `SECONDS.QUERY`,
where QUERY are all parameters but `signature`, in order of their names and then values, each percent-encoded as in
RFC 3986 (letters, digits and `-._~` stay), joined by `=` and `&`.

A signature is good once: calls that may come twice in one second add a field that nobody reads, with a random value.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote

from resyncctl.engine.hook_event import Query, pairs_of
from resyncctl.errors import AccessError

TIMESTAMP: Final = "X-Resyncctl-Timestamp"
SIGNATURE: Final = "X-Resyncctl-Signature"
SKEW: Final = 300
"""Seconds that a timestamp may differ from our clock, either way."""
_SECONDS: Final = re.compile(r"[0-9]{1,12}\Z", re.ASCII)
_DIGEST: Final = re.compile(r"sha256=([0-9a-fA-F]{64})\Z")


def canonical_query(pairs: Iterable[tuple[str, str]]) -> str:
    """Return the text of a query that is signed."""
    kept = sorted(pair for pair in pairs if pair[0] != "signature")
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in kept)


def sign(secret: str, timestamp: str, content: bytes) -> str:
    """Return a signature as calls carry it."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + content, hashlib.sha256).hexdigest()


def check_signature(secret: str, *, headers: Mapping[str, str], query: Query, body: bytes, now_us: int) -> str:
    """Return the signature of a call, in lower case, when it is right and of now; else raise AccessError.

    What a signature does not cover is refused: parameters beside a signed body, a body beside a signed query.
    """
    fields = {name.lower(): value for name, value in headers.items()}
    pairs = pairs_of(query)
    timestamp, given = fields.get(TIMESTAMP.lower(), ""), fields.get(SIGNATURE.lower(), "")
    content = body
    if given or timestamp:
        if pairs:
            raise AccessError(
                "the signature is in a header and covers the body, not what is in the URL; move it into the body"
            )
    else:
        timestamp, given = (_only(pairs, name) for name in ("timestamp", "signature"))
        content = canonical_query(pairs).encode()
        if body and given:
            raise AccessError(f"the signature is in the URL and does not cover the body; send {SIGNATURE} as a header")
    if not timestamp or not given:
        raise AccessError(
            f"the call is not signed; send {TIMESTAMP} and {SIGNATURE}, or timestamp and signature in the URL"
        )
    if not _SECONDS.match(timestamp):
        raise AccessError(f"the timestamp {timestamp[:40]!r} is not in seconds since 1970")
    if abs(int(timestamp) * 1_000_000 - now_us) > SKEW * 1_000_000:
        raise AccessError(
            f"the timestamp {timestamp} is more than {SKEW} s off; set the clock of the PBX, and sign anew"
        )
    digest = _DIGEST.match(given)
    if digest is None:
        raise AccessError("the signature is not sha256= and 64 hexadecimal digits")
    if not hmac.compare_digest(sign(secret, timestamp, content), given.lower()):
        raise AccessError("the signature is wrong; is it the secret of this hook, and is exactly what is sent signed?")
    return digest[1].lower()


def _only(pairs: Iterable[tuple[str, str]], name: str) -> str:
    values = [value for found, value in pairs if found == name]
    if len(values) > 1:
        raise AccessError(f"{name} stands twice in the URL")
    return values[0] if values else ""
