"""A process of the service that executes rollouts: it works on batches of its pool, and dispatches what nobody dispatches."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from functools import partial
from typing import TYPE_CHECKING, Final

from resyncctl.clock import monotonic, now_us
from resyncctl.engine.app import make_senders, new_owner, spare_the_collector
from resyncctl.engine.dispatcher import NOT_BEGUN, Dispatcher, Left
from resyncctl.engine.outbound import Outbound
from resyncctl.engine.rounds import Rounds
from resyncctl.engine.tally import is_over
from resyncctl.engine.worker import MOST, Worker
from resyncctl.errors import LeaseLostError, NotFoundError, ResyncError, StoreError, TransportError
from resyncctl.store.queue_broker import BatchBroker
from resyncctl.store.queue_redis import BatchQueue
from resyncctl.store.service import ServiceStore, WorkerRecord
from resyncctl.transport.trace import open_trace

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from resyncctl.config import Settings
    from resyncctl.rollout.model import RolloutId
    from resyncctl.store.redis_store import RedisStore
    from resyncctl.transport.trace import Tracer

LOOK: Final = 0.5
"""Seconds between two looks at the list; whoever puts a rollout on it in this process wakes us at once."""
ANNOUNCE: Final = 3.0
"""Seconds between two signs of life."""
PATIENCE: Final = 3.5
"""Seconds that what is on the wire may take to be answered when the process ends; then it is handed over unanswered."""
LEASE: Final = 6.0
"""Seconds after which the deliveries of a dead worker are taken by another."""


class Runner:
    """Executes served rollouts in this process until it is told to stop. One use."""

    def __init__(self, store: RedisStore, settings: Settings, log: FilteringBoundLogger) -> None:
        """Raise InputError or TransportError when nothing could be sent as the configuration says."""
        self.name = new_owner()
        self.pool = settings.pool
        self._store = store
        self._service = ServiceStore(store)
        self._log = log
        self._started_us = now_us()
        self._dispatching: dict[RolloutId, asyncio.Task[None]] = {}
        self._dispatchers: dict[RolloutId, Dispatcher] = {}
        self._rounds = Rounds(store, log, away=LOOK)
        self._stop = asyncio.Event()
        self._announced_at = float("-inf")
        self._ahead_us = 0
        self._tracer = _trace(settings, log)
        Outbound.configured(settings).check(self._tracer)
        senders = make_senders(store, settings, log, tracer=self._tracer, wall=self._wall)
        self._worker = Worker(store, senders, log, name=self.name)
        broker = BatchBroker(store.pool(), pools=[self.pool], consumer=self.name, log=log, lease=LEASE)
        self._queue = BatchQueue(broker)

    def _wall(self) -> int:
        """Return the time of day by Redis's clock: all machines pace by one."""
        return now_us() + self._ahead_us

    @property
    def rollouts(self) -> tuple[RolloutId, ...]:
        """The rollouts that are worked on or dispatched here now."""
        return tuple(sorted({*self._worker.rollouts, *self._dispatching}))

    def wake(self) -> None:
        """Look at the list, and at what is dispatched here, at once."""
        self._rounds.wake()
        for dispatcher in self._dispatchers.values():
            dispatcher.wake()

    def stop(self) -> None:
        """Hand over what is executed here, and let `run` come back within PATIENCE seconds or little more."""
        self._stop.set()
        self._rounds.stop()

    async def run(self) -> None:
        """Execute until `stop`. A Redis that is away is waited for. Raises StoreError when it is away at the start."""
        self._ahead_us = await self._store.ahead_us()
        await self._queue.start()
        spare_the_collector()
        working = asyncio.create_task(self._queue.work(self._worker.handle, concurrency=MOST, stop=self._stop))
        working.add_done_callback(lambda _: self._rounds.stop())  # nothing is executed without it
        try:
            await self._rounds.run(self._look)
            if working.done():
                working.result()
        finally:
            await self._leave(working)
            if self._tracer is not None:
                self._tracer.close()

    async def _look(self) -> float:
        """Dispatch what nobody dispatches, and give a sign of life; return the seconds until the next look."""
        for name in await self._service.served():
            if name not in self._dispatching and await self._is_ours(name):
                task = self._dispatching[name] = asyncio.create_task(self._dispatch(name))
                task.add_done_callback(partial(self._forget, name))
        now = monotonic()
        if now - self._announced_at >= ANNOUNCE:
            self._announced_at = now
            self._ahead_us = await self._store.ahead_us()
            host, pid = socket.gethostname(), os.getpid()
            record = WorkerRecord(self.name, host, pid, self.pool, self._started_us, now_us(), self.rollouts)
            await self._service.announce(record)
        return LOOK

    async def _is_ours(self, name: RolloutId) -> bool:
        """Try to get the lease; another process may have it, or the rollout may not be stored yet."""
        try:
            return await self._store.acquire(name, self.name) is None
        except NotFoundError:
            return False

    def _forget(self, name: RolloutId, _: asyncio.Task[None]) -> None:
        self._dispatching.pop(name, None)
        self._dispatchers.pop(name, None)

    async def _dispatch(self, name: RolloutId) -> None:
        try:
            record = await self._store.get(name)
            left = Left.ENDED
            if record.state in NOT_BEGUN and await self._service.frozen() is not None:
                return  # it begins when the freeze is lifted
            if not (is_over(record.state) and record.finished_us):
                dispatcher = self._dispatchers[name] = Dispatcher(
                    record, self.name, self._store, self._queue, self._log, wall=self._wall
                )
                if self._stop.is_set():
                    dispatcher.leave(Left.HANDED_OVER)
                left = await dispatcher.run()
            if left is Left.ENDED:
                await self._service.serve_no_more(name)
        except LeaseLostError as error:
            self._log.warning("lease_lost", rollout=name, error=str(error))
        except ResyncError as error:
            self._log.error("dispatcher_failed", rollout=name, error=str(error))
        finally:
            with contextlib.suppress(StoreError):
                await self._store.release(name, self.name)

    async def _leave(self, working: asyncio.Task[None]) -> None:
        self._stop.set()
        for dispatcher in self._dispatchers.values():
            dispatcher.leave(Left.HANDED_OVER)
        await self._worker.drain(patience=PATIENCE)
        await asyncio.wait([working, *self._dispatching.values()], timeout=1.0)
        for task in (working, *self._dispatching.values()):
            task.cancel()
        await asyncio.gather(working, *self._dispatching.values(), return_exceptions=True)
        with contextlib.suppress(StoreError):
            await self._service.leave(self.name)
            await self._queue.stop()


def _trace(settings: Settings, log: FilteringBoundLogger) -> Tracer | None:
    """Open the trace of the configuration; a collector that is not to be found keeps no service from starting."""
    try:
        return open_trace(settings.trace, tell=lambda text: log.warning("trace_incomplete", reason=text))
    except TransportError as error:
        log.warning("trace_not_opened", reason=str(error))
        return None
