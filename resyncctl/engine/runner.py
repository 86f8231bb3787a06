"""Execute what the service has to execute: every rollout on its list, each in one process at a time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from typing import TYPE_CHECKING, Final

from resyncctl.clock import now_us
from resyncctl.engine.app import Execution
from resyncctl.engine.tally import is_over
from resyncctl.errors import ResyncError, StateError, StoreError
from resyncctl.store.service import ServiceStore, WorkerRecord

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from resyncctl.config import Settings
    from resyncctl.rollout.model import RolloutId
    from resyncctl.store.redis_store import RedisStore

LOOK: Final = 0.5
"""Seconds between two looks at the list; whoever puts a rollout on it in this process wakes us at once."""
ANNOUNCE: Final = 3.0
"""Seconds between two signs of life."""


class Runner:
    """Executes served rollouts in this process until it is told to stop. One use."""

    def __init__(self, store: RedisStore, settings: Settings, log: FilteringBoundLogger, *, pool: str = "") -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
        self._store = store
        self._service = ServiceStore(store)
        self._settings = settings
        self._log = log
        self._pool = pool
        self._started_us = now_us()
        self._running: dict[RolloutId, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._stopping = False

    @property
    def rollouts(self) -> tuple[RolloutId, ...]:
        """The rollouts that are executed here now."""
        return tuple(self._running)

    def wake(self) -> None:
        """Look at the list at once."""
        self._wake.set()

    def stop(self) -> None:
        """Hand back what is executed here, and let `run` come back."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Execute until `stop`. A Redis that is away is waited for."""
        announced_at = float("-inf")
        loop = asyncio.get_running_loop()
        try:
            while not self._stopping:
                try:
                    for name in await self._service.served():
                        if name not in self._running:
                            self._running[name] = asyncio.create_task(self._execute(name))
                    if loop.time() - announced_at >= ANNOUNCE:
                        announced_at = loop.time()
                        await self._service.announce(self._record())
                except StoreError as error:
                    self._log.warning("redis_lost", error=str(error))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK):
                        await self._wake.wait()
                self._wake.clear()
        finally:
            await self._drain()

    async def _execute(self, name: RolloutId) -> None:
        try:
            record = await self._store.find(name)
            if record is not None and not (is_over(record.state) and record.finished_us):
                _, record = await Execution(self._store, self._settings, name).run()
            if record is not None and is_over(record.state):
                await self._service.serve_no_more(name)
        except StateError:
            pass  # another process has it; we look again
        except ResyncError as error:
            self._log.warning("rollout_failed", rollout=name, error=str(error))
        finally:
            del self._running[name]

    async def _drain(self) -> None:
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        with contextlib.suppress(StoreError):
            await self._service.leave(self.name)

    def _record(self) -> WorkerRecord:
        host, pid = socket.gethostname(), os.getpid()
        return WorkerRecord(self.name, host, pid, self._pool, self._started_us, now_us(), self.rollouts)
