"""Who may ask the service for what: tokens are made, listed, revoked, and told from what is none.

A token is 256 random bits, shown once. Its SHA-256 is all that is stored: nobody can guess or enumerate such a secret, so
that a slow, salted hash, which protects passwords that people think up, would only make every request slow.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final

from resyncctl import clock
from resyncctl.errors import AccessError, InputError, NotFoundError, StoreError
from resyncctl.store.audit import Actor, AuditLog
from resyncctl.store.tokens import MARK, Scope, StoredToken, TokenRecord, TokenStore, token_name

if TYPE_CHECKING:
    from resyncctl.store.redis_store import RedisStore

__all__ = ["Access", "Caller", "Scope", "TokenRecord", "token_report"]

CACHED: Final = 1.0
"""Seconds that what Redis holds is believed; so long does a revoked token work at most."""
COARSE_US: Final = 60_000_000
"""Microseconds between two notes of a token's use."""
_PREFIX: Final = 16
"""Bytes of a hash by which a token is looked for; the whole of it is compared in constant time."""
_NOBODY: Final = StoredToken(TokenRecord("", Scope.READ, 0, 0, ()), bytes(32))
"""Stands for a token that is not known, so that it is checked like one that is."""
_ITSELF: Final = Actor("resyncctl")
_HOW: Final = "send `Authorization: Bearer TOKEN`; `resyncctl token create` makes a token"

_Tokens = list[TokenRecord]
_Address = IPv4Address | IPv6Address
_Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose token a request carries, what it may do, and the address that it comes from."""

    name: str
    scope: Scope
    source: str

    @property
    def actor(self) -> Actor:
        """Who acts, for the audit log."""
        return Actor(f"token:{self.name}", self.source)

    def require(self, scope: Scope) -> None:
        """Raise AccessError (known) when the token's scope does not include that one."""
        if self.scope < scope:
            raise AccessError(
                f"this needs a token with the scope {scope.label}; the token {self.name} has {self.scope.label}."
                f" `resyncctl token create NAME --scope {scope.label}` makes one",
                known=True,
            )


@dataclass(frozen=True, slots=True)
class _Known:
    """A token with its networks ready to be compared."""

    stored: StoredToken
    networks: tuple[_Network, ...]

    def admits(self, digest: bytes, address: _Address | None, now_us: int) -> bool:
        """Say whether that hash, from there, now, is let in. Every check is made whatever the others say."""
        record = self.stored.record
        same = hmac.compare_digest(self.stored.digest, digest)
        lasts = not record.is_expired(now_us)
        there = not self.networks or (address is not None and any(address in network for network in self.networks))
        return same & lasts & there


class Access:
    """Tokens and what they let in. Methods raise StoreError when Redis fails; one instance serves one event loop."""

    def __init__(
        self,
        store: RedisStore,
        *,
        now_us: Callable[[], int] = clock.now_us,
        monotonic: Callable[[], float] = clock.monotonic,
    ) -> None:
        self._tokens = TokenStore(store)
        self._audit = AuditLog(store, now_us=now_us)
        self._now_us = now_us
        self._monotonic = monotonic
        self._lock = asyncio.Lock()
        self._known: dict[bytes, _Known] = {}
        self._nobody = _Known(_NOBODY, ())
        self._read_at = self._failed_at = float("-inf")
        self._failure = ""

    async def authenticate(self, authorization: str | None, source: str) -> Caller:
        """Return whose token the value of an Authorization header is; `source` is the address that it came from.

        Raises AccessError (not known) that does not tell an unknown token from one that has expired, has been revoked or
        came from where it may not be used. Costs about 15 microseconds when Redis was asked within the last second.
        """
        digest = _digest(_bearer(authorization))
        address = _address(source)
        known = await self._find(digest)
        now_us = self._now_us()
        if not known.admits(digest, address, now_us):
            raise AccessError(
                f"this token is not accepted from {source or 'there'}: it is unknown, has expired or was revoked, or may"
                " only be used from other networks; `resyncctl token list` shows which tokens there are"
            )
        record = known.stored.record
        if now_us - record.used_us >= COARSE_US:
            await self._note_use(known, now_us)
        return Caller(record.name, record.scope, source if address is None else str(address))

    async def any_token(self) -> bool:
        """Say whether there is a token that has not expired."""
        now_us = self._now_us()
        return any(not token.record.is_expired(now_us) for token in await self._tokens.all())

    async def create(
        self, name: str, scope: Scope, *, expires_us: int | None, networks: Sequence[str], actor: Actor = _ITSELF
    ) -> str:
        """Make a token and return it: it is not stored, and cannot be shown again.

        `expires_us` is in microseconds since the Unix epoch, None = never; `networks` are addresses or CIDR blocks, none
        = from anywhere. Raises InputError for a name that cannot be one or is taken, a wrong network, a time that is over.
        """
        now_us = self._now_us()
        if expires_us is not None and expires_us <= now_us:
            raise InputError(f"the token {token_name(name)} would have expired already; let it end in the future")
        allowed = tuple(dict.fromkeys(str(_network(text)) for text in networks))
        record = TokenRecord(token_name(name), scope, now_us, expires_us, allowed)
        token = MARK + secrets.token_urlsafe(32)
        if not await self._tokens.add(StoredToken(record, _digest(token))):
            raise InputError(
                f"there is a token {name} already; choose another name, or `resyncctl token revoke {name}` first"
            )
        self._forget()
        details = {"scope": scope.label, "expires": _time(expires_us) or "never", "networks": ", ".join(allowed)}
        await self._audit.record(actor, "token.create", name, details)
        return token

    async def revoke(self, name: str, *, actor: Actor = _ITSELF) -> None:
        """Revoke a token: here at once, in every other process within a second. Raises NotFoundError."""
        if not await self._tokens.remove(token_name(name)):
            raise _unknown(name)
        self._forget()
        await self._audit.record(actor, "token.revoke", name)

    async def get(self, name: str) -> TokenRecord:
        """Return what may be told of a token; raises NotFoundError."""
        wanted = token_name(name)
        found = next((token.record for token in await self._tokens.all() if token.record.name == wanted), None)
        if found is None:
            raise _unknown(name)
        return found

    async def list(self) -> _Tokens:
        """Return all tokens by name, also those that have expired."""
        return [token.record for token in await self._tokens.all()]

    async def _find(self, digest: bytes) -> _Known:
        """Return the token with that hash or what stands for none. Whoever is not found in the cache is looked up again:
        a token works everywhere as soon as it is made, and a flood of wrong ones makes one read at a time.
        """
        asked_at = self._monotonic()
        if not self._must_read(digest, asked_at):
            return self._look(digest)
        async with self._lock:
            if self._failed_at > asked_at:  # nobody queues behind a Redis that does not answer
                raise StoreError(self._failure)
            if self._must_read(digest, asked_at):
                await self._read()
        return self._look(digest)

    def _look(self, digest: bytes) -> _Known:
        return self._known.get(digest[:_PREFIX], self._nobody)

    def _must_read(self, digest: bytes, asked_at: float) -> bool:
        if self._monotonic() - self._read_at >= CACHED:
            return True
        return self._look(digest) is self._nobody and self._read_at <= asked_at

    async def _read(self) -> None:
        began_at = self._monotonic()
        try:
            tokens = await self._tokens.all()
        except StoreError as error:
            self._failed_at, self._failure = self._monotonic(), str(error)
            raise
        self._known = {
            token.digest[:_PREFIX]: _Known(token, tuple(ip_network(text) for text in token.record.networks))
            for token in tokens
        }
        self._read_at = began_at

    def _forget(self) -> None:
        self._read_at = float("-inf")

    async def _note_use(self, known: _Known, now_us: int) -> None:
        """Keep when a token was used; a Redis that cannot write just now does not lock anybody out."""
        token = known.stored
        used = replace(token.record, used_us=now_us)
        # At once, so that whoever comes meanwhile need not write as well.
        self._known[token.digest[:_PREFIX]] = replace(known, stored=replace(token, record=used))
        with contextlib.suppress(StoreError):
            await self._tokens.replace(token, used)


def token_report(record: TokenRecord, now_us: int) -> dict[str, object]:
    """Return what may be told of a token as plain values; times are RFC 3339, None = never."""
    return {
        "name": record.name,
        "scope": record.scope.label,
        "created_at": _time(record.created_us),
        "expires_at": _time(record.expires_us),
        "expired": record.is_expired(now_us),
        "last_used_at": _time(record.used_us or None),
        "networks": [*record.networks],
    }


def _unknown(name: str) -> NotFoundError:
    return NotFoundError(f"there is no token {name}; `resyncctl token list` shows which there are")


def _time(us: int | None) -> str | None:
    return None if us is None else clock.rfc3339(us)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _bearer(authorization: str | None) -> str:
    """Return the token of an Authorization header (RFC 6750 2.1; RFC 9110 11.1: any case). Raises AccessError.

    What was sent is not repeated: without a scheme it may well be the token.
    """
    if not authorization:
        raise AccessError(f"this needs a token: {_HOW}")
    scheme, _, token = authorization.strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise AccessError(f"the Authorization header does not carry a bearer token: {_HOW}")
    return token


def _address(source: str) -> _Address | None:
    """Return the address of a source, an IPv4 one that came through an IPv6 socket as IPv4; None when it is none."""
    try:
        address = ip_address(source)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _network(text: str) -> _Network:
    """Read an address or a CIDR block; raise InputError. IPv4-mapped IPv6 becomes IPv4, as the sources do."""
    try:
        network = ip_network(text.strip())
    except ValueError as error:
        raise InputError(
            f"{text[:80]!r} is not a network ({error}); write for example 192.0.2.0/24 or 2001:db8::/32"
        ) from error
    if isinstance(network, IPv6Network) and network.prefixlen >= 96 and network.network_address.ipv4_mapped:
        return IPv4Network((network.network_address.ipv4_mapped, network.prefixlen - 96))
    return network
