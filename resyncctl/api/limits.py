"""How often a client may ask: a token bucket for each."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

_MOST: Final = 10_000
"""Clients that are remembered; the one that has asked longest ago is forgotten first."""
BURST: Final = 2.0
"""Seconds worth of requests that may come at once."""


class Buckets:
    """Token buckets by client. `rate` is requests per second, 0 = unlimited."""

    def __init__(self, rate: Callable[[], float], clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> float:
        """Count a request: 0 = it may be answered, else the seconds until the next one may."""
        rate = self._rate()
        if not rate:
            return 0.0
        now, most = self._clock(), max(1.0, rate * BURST)
        level, at = self._levels.pop(client, (most, now))
        level = min(most, level + (now - at) * rate)
        allowed = level >= 1.0
        self._levels[client] = (level - 1.0 if allowed else level, now)
        if len(self._levels) > _MOST:
            self._levels.popitem(last=False)
        return 0.0 if allowed else (1.0 - level) / rate
