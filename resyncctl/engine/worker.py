"""Take batches from the queue and hand them to the senders of their rollouts, one sender for each rollout in a process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from resyncctl.engine.sender import Sender
from resyncctl.errors import ResyncError, StoreError
from resyncctl.rollout.model import RolloutId
from resyncctl.rollout.states import PauseReason, RolloutState

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from resyncctl.store.queue import BatchRef
    from resyncctl.store.records import RolloutRecord
    from resyncctl.store.redis_store import RedisStore

MOST: Final = 10_000
"""Batches of one process at a time; most of them wait for a phone that does not answer, or for a call to end."""
LINGER: Final = 2.0
"""Seconds that a sender without a batch is kept: the next one has its socket and its names already."""

HOLD: Final = 1.0
"""Seconds that a batch waits here for room; then another worker may have it. Those of other rollouts do not wait for it."""

MakeSender = Callable[["RolloutRecord", str], Sender]
"""Makes a sender of a rollout for a worker's token."""


class Worker:
    """The batches of this process. `name` begins the token of each sender; it is like no other."""

    def __init__(self, store: RedisStore, make_sender: MakeSender, log: FilteringBoundLogger, *, name: str) -> None:
        self._store = store
        self._make_sender = make_sender
        self._log = log
        self._name = name
        self._serial = 0
        self._senders: dict[RolloutId, _Running] = {}
        self._opening = asyncio.Lock()
        self._leaving = False
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """The first error that ended a sender."""

    @property
    def rollouts(self) -> tuple[RolloutId, ...]:
        """The rollouts that are worked on."""
        return tuple(self._senders)

    async def handle(self, ref: BatchRef) -> bool:
        """Work on a batch until it is done; False when it has to be offered again."""
        name = RolloutId(ref.rollout)
        async with self._opening:
            running = await self._running(name)
        if running is None:
            return True
        return await running.sender.room(within=HOLD) and await running.sender.adopt(ref.batch)

    async def _running(self, name: RolloutId) -> _Running | None:
        running = self._senders.get(name)
        if running is not None and not running.task.done() and not running.leaving:
            return running
        record = await self._store.find(name)
        if record is None or not record.started_us or self._leaving:
            return None
        self._serial += 1
        token = f"{self._name}:{self._serial}"
        try:
            sender = self._make_sender(record, token)
        except (
            ResyncError
        ) as error:  # the engine is not installed here, a certificate is gone: no batch of it can be sent
            self._log.error("rollout_paused", rollout=name, reason=str(error))
            await self._store.transition(
                name, record.state, RolloutState.PAUSED, {"pause_reason": PauseReason.MACHINE.value}
            )
            return None
        running = self._senders[name] = _Running(sender, token)
        running.task = asyncio.create_task(self._work(name, running))
        return running

    async def _work(self, name: RolloutId, running: _Running) -> None:
        """Run a sender until it has had nothing to do for a while."""
        sending = asyncio.create_task(running.sender.run())
        try:
            while not sending.done():
                idle = running.sender.idle
                await asyncio.wait({sending}, timeout=LINGER)
                if idle and running.sender.idle:
                    running.leaving = True
                    running.sender.leave()
            sending.result()
        except ResyncError as error:
            self._log.warning("sender_ended", rollout=name, error=str(error))
            if not self.failed.done():
                self.failed.set_exception(error)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            if self._senders.get(name) is running:
                del self._senders[name]
            with contextlib.suppress(StoreError):
                await self._store.retire(name, running.token)

    async def drain(self, *, patience: float | None) -> None:
        """Give back every batch; wait up to `patience` seconds (None = as long as it takes) for what is on the wire."""
        self._leaving = True
        for running in self._senders.values():
            running.leaving = True
            running.sender.leave()
        tasks = [running.task for running in self._senders.values()]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=patience)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


class _Running:
    """A sender, and the task that runs it."""

    __slots__ = ("leaving", "sender", "task", "token")

    def __init__(self, sender: Sender, token: str) -> None:
        self.sender = sender
        self.token = token
        self.leaving = False
        self.task: asyncio.Task[None]
