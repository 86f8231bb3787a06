"""Turn host names into addresses: numeric ones at once, names through the system's resolver, remembered for a while."""

from __future__ import annotations

import asyncio
import socket
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
    """A cache in front of the system's resolver."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, str | None]] = {}

    async def resolve(self, host: str, port: int) -> Address | None:
        """Return an address for the host (without brackets), or None when it has none."""
        if numeric(host):
            return host, port
        name = host.lower().rstrip(".")
        known = self._known.get(name)
        if known is None or known[0] < monotonic():
            address = await _look_up(name)
            known = (monotonic() + (_FORGET_FAILURE if address is None else _REMEMBER), address)
            self._known[name] = known
        return None if known[1] is None else (known[1], port)


async def _look_up(name: str) -> str | None:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_PATIENCE):
            found = await loop.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError, TimeoutError):
        return None
    return str(found[0][4][0]) if found else None
