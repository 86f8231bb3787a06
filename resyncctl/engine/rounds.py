"""What a process of the service does again and again until it is told to stop, through outages of Redis."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from resyncctl.errors import StoreError

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from resyncctl.store.redis_store import RedisStore


class Rounds:
    """Rounds of some work. `away` are the seconds between two looks whether Redis is back."""

    def __init__(self, store: RedisStore, log: FilteringBoundLogger, *, away: float) -> None:
        self._store = store
        self._log = log
        self._away = away
        self._wake = asyncio.Event()
        self.stopping = False

    def wake(self) -> None:
        """Begin the next round at once."""
        self._wake.set()

    def stop(self) -> None:
        """Let `run` come back after the round that is under way."""
        self.stopping = True
        self._wake.set()

    async def run(self, turn: Callable[[], Awaitable[float]], *, on_lost: Callable[[], None] = lambda: None) -> None:
        """Call `turn`, which returns the seconds until it wants to be called again, until `stop`.

        A Redis that is away is told once and waited for; `on_lost` is called each time a turn has failed by it.
        """
        lost = False
        while not self.stopping:
            try:
                wait = await turn()
                lost = False
            except StoreError as error:
                on_lost()
                if not lost:
                    self._log.warning("redis_lost", error=str(error))
                lost, wait = True, self._away
                with contextlib.suppress(StoreError):
                    await self._store.revive()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            self._wake.clear()
