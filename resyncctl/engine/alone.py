"""Execute a rollout in one process alone: dispatcher, queue and worker side by side, the same that many machines share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from resyncctl.clock import monotonic
from resyncctl.engine.dispatcher import Dispatcher, Left
from resyncctl.engine.worker import MOST, Worker
from resyncctl.store.queue import MemoryQueue

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from resyncctl.engine.worker import MakeSender
    from resyncctl.store.records import RolloutRecord
    from resyncctl.store.redis_store import RedisStore


async def execute_alone(
    record: RolloutRecord,
    owner: str,
    store: RedisStore,
    make_sender: MakeSender,
    log: FilteringBoundLogger,
    *,
    leaving: asyncio.Event,
    clock: Callable[[], float] = monotonic,
) -> Left:
    """Execute a rollout whose lease `owner` holds, until it ends or `leaving` is set, which pauses it.

    Raises LeaseLostError, StoreError when Redis is away while it leaves, TransportError.
    """
    queue = MemoryQueue(log)
    worker = Worker(store, make_sender, log, name=owner)
    dispatcher = Dispatcher(record, owner, store, queue, log, clock=clock)
    stop = asyncio.Event()

    async def leave() -> None:
        await leaving.wait()
        dispatcher.leave(Left.PAUSED)
        await worker.drain(patience=None)

    dispatching = asyncio.create_task(dispatcher.run())
    others = [
        asyncio.create_task(queue.work(worker.handle, concurrency=MOST, stop=stop)),
        asyncio.create_task(leave()),
    ]
    try:
        ends: list[asyncio.Future[Any]] = [dispatching, worker.failed]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not dispatching.done():
            worker.failed.result()
        return dispatching.result()
    finally:
        stop.set()
        for task in (dispatching, *others):
            task.cancel()
        await worker.drain(patience=0.0)
        await asyncio.gather(dispatching, *others, return_exceptions=True)
