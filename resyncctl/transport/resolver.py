"""Turn host names into addresses: numeric ones at once, names through the system's resolver, remembered for a while."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from resyncctl.clock import monotonic
from resyncctl.sip.uas import Address

_REMEMBER: Final = 60.0
"""Seconds that an answer is used again."""
_PATIENCE: Final = 3.0
"""Seconds to wait for an answer; other phones wait meanwhile."""
_FORGET_FAILURE: Final = 5.0
"""Seconds that a failed look-up is not repeated, so that a dead name server does not see a query for every phone."""


def numeric(host: str) -> bool:
    """Say whether the host (without brackets) is an IPv4 or IPv6 address."""
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    except (OSError, ValueError):
        return False
    return True


class Resolver:
    """A cache in front of `look_up`, the system's resolver: one question for a name, however many wait for its answer."""

    def __init__(
        self,
        *,
        look_up: Callable[[str], Awaitable[str | None]] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._look_up = _look_up if look_up is None else look_up
        self._clock = clock
        self._known: dict[str, tuple[float, str | None]] = {}
        self._asked: dict[str, asyncio.Task[str | None]] = {}

    async def resolve(self, host: str, port: int) -> Address | None:
        """Return an address for the host (without brackets), or None when it has none."""
        if numeric(host):
            return host, port
        name = host.lower().rstrip(".")
        until, address = self._known.get(name, (float("-inf"), None))
        if until <= self._clock():
            asked = self._asked.get(name)
            if asked is None:
                asked = self._asked[name] = asyncio.create_task(self._ask(name))
            address = await asyncio.shield(asked)  # others wait for it too
        return None if address is None else (address, port)

    async def _ask(self, name: str) -> str | None:
        try:
            address = await self._look_up(name)
            self._known[name] = (self._clock() + (_FORGET_FAILURE if address is None else _REMEMBER), address)
            return address
        finally:
            del self._asked[name]


async def _look_up(name: str) -> str | None:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_PATIENCE):
            found = await loop.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError, TimeoutError):
        return None
    return str(found[0][4][0]) if found else None
