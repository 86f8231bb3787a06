"""Connections to Redis by URL: one server, over TLS or a Unix socket too, or the primary that Sentinels name."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

from resyncctl.errors import InputError

TIMEOUT: Final = 5.0
"""Seconds to wait for Redis before it counts as unreachable."""
_SENTINEL: Final = ("redis+sentinel", "rediss+sentinel")
_SENTINEL_PORT: Final = 26_379
_ASK: Final = 1.0
"""Seconds to wait for a Sentinel before the next one is asked."""


class _SentinelPool(SentinelConnectionPool):
    """A pool that lets go of its Sentinels too."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Close all connections."""
        await super().disconnect(inuse_connections)
        for sentinel in self.sentinel_manager.sentinels:
            await sentinel.aclose()


def open_pool(url: str) -> ConnectionPool:
    """Return a pool for a URL; nothing is connected yet. ValueError or InputError when it is no such URL.

    `redis://`, `rediss://` and `unix://` as redis-py reads them;
    `redis+sentinel://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…]/SERVICE[/DB][?sentinel_password=…]`, `rediss+sentinel` for TLS.
    Nothing is repeated by the connections themselves: who uses them knows what may be repeated.
    """
    if url.partition("://")[0] in _SENTINEL:
        return _sentinel_pool(url)
    pool: ConnectionPool = ConnectionPool.from_url(url, **_options())
    return pool


def _options() -> dict[str, Any]:
    return {
        "protocol": 2,
        "socket_timeout": TIMEOUT,
        "socket_connect_timeout": TIMEOUT,
        "retry": Retry(NoBackoff(), 0),
        "decode_responses": False,
    }


def _sentinel_pool(url: str) -> SentinelConnectionPool:
    parts = urlsplit(url)
    userinfo, _, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    if not service or not hosts or not (database or "0").isdigit():
        raise InputError("write redis+sentinel://HOST:26379,HOST:26379/SERVICE/DB")
    username, _, password = userinfo.partition(":")
    credentials = {"username": unquote(username) or None, "password": unquote(password) or None}
    query = parse_qs(parts.query)
    for_sentinels = {
        name.removeprefix("sentinel_"): values[-1] for name, values in query.items() if name.startswith("sentinel_")
    }
    secure = {"ssl": True} if parts.scheme.startswith("rediss") else {}
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        [_address(host) for host in hosts.split(",")],
        sentinel_kwargs={
            "protocol": 2,
            "socket_timeout": _ASK,
            "socket_connect_timeout": _ASK,
            **for_sentinels,
            **secure,
        },
    )
    return _SentinelPool(  # type: ignore[no-untyped-call]
        service, sentinel, **_options(), **credentials, **secure, db=int(database or "0"), check_connection=False
    )


def _address(text: str) -> tuple[str, int]:
    """Read HOST[:PORT] or [IPv6][:PORT]."""
    host, _, port = text.rpartition(":") if not text.endswith("]") and ":" in text else (text, "", "")
    if not port.isdigit() and port:
        raise InputError(f"{text!r} is not HOST:PORT of a Sentinel")
    return host.strip("[]"), int(port or _SENTINEL_PORT)
