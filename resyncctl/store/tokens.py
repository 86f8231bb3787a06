"""Access tokens in Redis: only the SHA-256 of each. Nothing here can give a token back."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from resyncctl.errors import InputError, StoreError
from resyncctl.store import keys
from resyncctl.store.redis_store import store_errors

if TYPE_CHECKING:
    from resyncctl.store.redis_store import RedisStore

MARK: Final = "rsy_"
"""How every token begins, so that people and secret scanners know one when they see it."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_REPLACE: Final = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
"""
"""Change a record only if it is still what was read: a revoked token must not come back by a note of its use."""


class Scope(IntEnum):
    """What a token may do. Each scope includes the lower ones."""

    READ = 1
    TRIGGER = 2
    """Also plan, launch and retry rollouts, run schedules and call hooks."""
    OPERATE = 3
    """Also pause, resume, abort, freeze, and change schedules and hooks."""
    ADMIN = 4
    """Also read the audit log, and name files on the machine of the service."""

    @property
    def label(self) -> str:
        """Its name as people write it: `read`, `trigger`, `operate`, `admin`."""
        return self.name.lower()

    @classmethod
    def named(cls, text: str) -> Scope:
        """Return the scope of that label; raise InputError for any other text."""
        for scope in cls:
            if scope.label == text:
                return scope
        raise InputError(f"scope: {text[:80]!r} is none; write one of {', '.join(scope.label for scope in cls)}")


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """What may be told of a token. Times are microseconds since the Unix epoch."""

    name: str
    scope: Scope
    created_us: int
    expires_us: int | None
    """None = never."""
    networks: tuple[str, ...]
    """Where it may be used from, in CIDR notation; empty = from anywhere."""
    used_us: int = 0
    """When it was last used, to the minute; 0 = not yet."""

    def is_expired(self, now_us: int) -> bool:
        """Say whether its time is over."""
        return self.expires_us is not None and now_us >= self.expires_us


@dataclass(frozen=True, slots=True)
class StoredToken:
    """A token as it is stored."""

    record: TokenRecord
    digest: bytes = field(repr=False)
    """SHA-256 of the token."""
    text: bytes = field(repr=False, default=b"")
    """What Redis holds of it, byte by byte."""


def token_name(text: str) -> str:
    """Check a token's name; raise InputError. What looks like a token itself is refused without repeating it."""
    if text.startswith(MARK):
        raise InputError(
            f"a token's name does not begin with {MARK}: that is how tokens themselves begin, which belong into"
            " no command line. `resyncctl token list` shows the names"
        )
    if not _NAME.match(text):
        raise InputError(
            f"{text[:80]!r} cannot name a token: use up to 64 letters, digits, dots, hyphens and underscores,"
            " beginning with a letter or digit"
        )
    return text


class TokenStore:
    """The tokens by name. Every method raises StoreError when Redis fails."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._redis = store.client

    async def add(self, token: StoredToken) -> bool:
        """Store a token unless there is one of its name; of two at once exactly one gets True."""
        with store_errors(self._store.where):
            return bool(await self._redis.hsetnx(keys.TOKENS, token.record.name, _write(token)))

    async def all(self) -> list[StoredToken]:
        """Return all tokens, by name."""
        with store_errors(self._store.where):
            found: dict[bytes, bytes] = await self._redis.hgetall(keys.TOKENS)
        return [_read(name.decode(), text) for name, text in sorted(found.items())]

    async def remove(self, name: str) -> bool:
        """Forget a token; False when there was none of that name."""
        with store_errors(self._store.where):
            return bool(await self._redis.hdel(keys.TOKENS, name))

    async def replace(self, known: StoredToken, record: TokenRecord) -> bool:
        """Replace what was read of a token, unless it has changed since; say whether that was done."""
        new = _write(replace(known, record=record))
        with store_errors(self._store.where):
            done: int = await self._redis.eval(_REPLACE, 1, keys.TOKENS, record.name, known.text, new)
        return bool(done)


def _write(token: StoredToken) -> bytes:
    record = token.record
    values = {
        "scope": record.scope.label,
        "sha256": token.digest.hex(),
        "created_us": record.created_us,
        "expires_us": record.expires_us,
        "networks": list(record.networks),
        "used_us": record.used_us,
    }
    return json.dumps(values).encode()


def _read(name: str, text: bytes) -> StoredToken:
    try:
        values = json.loads(text)
        record = TokenRecord(
            name=name,
            scope=Scope.named(values["scope"]),
            created_us=int(values["created_us"]),
            expires_us=None if values["expires_us"] is None else int(values["expires_us"]),
            networks=tuple(str(network) for network in values["networks"]),
            used_us=int(values["used_us"]),
        )
        return StoredToken(record, bytes.fromhex(values["sha256"]), text)
    except (InputError, KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"what Redis holds of the token {name!r} cannot be read; was it written by a newer version? `resyncctl token"
            f" revoke {name}` removes it"
        ) from error
