"""The queue of batches over taskiq and Redis Streams, for any number of workers on any number of machines."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

from taskiq.message import TaskiqMessage

from resyncctl.store import keys
from resyncctl.store.queue import BatchRef, Handle, OnPoison, Verdict, bury, judge
from resyncctl.store.queue_receiver import LeaseReceiver
from resyncctl.store.redis_store import store_errors

if TYPE_CHECKING:
    from resyncctl.store.queue_broker import BatchBroker

TASK: Final = "batch"
"""The task's name in messages."""


class BatchQueue:
    """A `Queue` that its workers share. One `work` at a time."""

    def __init__(self, broker: BatchBroker, *, on_poison: OnPoison | None = None) -> None:
        self._broker = broker
        self._log = broker.log
        self._on_poison = on_poison

    async def start(self) -> None:
        """See Queue. taskiq's own log records below WARNING are switched off, unless somebody has set its level."""
        logger = logging.getLogger("taskiq")
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)
        with store_errors(self._broker.where):
            await self._broker.startup()

    async def stop(self) -> None:
        """See Queue."""
        with store_errors(self._broker.where):
            await self._broker.shutdown()

    async def put(self, ref: BatchRef) -> None:
        """See Queue. While Redis is away it is tried again for half a minute."""
        message = TaskiqMessage(
            task_id=self._broker.id_generator(),
            task_name=TASK,
            labels={"queue_name": keys.queue(ref.pool)},
            args=[],
            kwargs={"rollout": ref.rollout, "batch": ref.batch, "pool": ref.pool},
        )
        with store_errors(self._broker.where):
            await self._broker.kick(self._broker.formatter.dumps(message))

    async def backlog(self, pool: str) -> int:
        """See Queue."""
        with store_errors(self._broker.where):
            return await self._broker.length(keys.queue(pool))

    async def work(self, handle: Handle, *, concurrency: int, stop: asyncio.Event) -> None:
        """See Queue. Redis may be away meanwhile."""

        async def run(rollout: str, batch: int, pool: str) -> Verdict:
            return await judge(handle, BatchRef(rollout, batch, pool), self._log)

        self._broker.register_task(run, TASK)
        leases = self._broker.leases
        leases.hurry = stop
        receiver = LeaseReceiver(self._broker, concurrency=concurrency, stop=stop, bury=self._bury)
        renewal = asyncio.create_task(leases.keep())
        try:
            await receiver.listen(stop)
        finally:
            await receiver.finish()
            renewal.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await renewal
            await leases.release_all()

    async def _bury(self, data: bytes) -> Verdict:
        try:
            ref = BatchRef(**self._broker.formatter.loads(data).kwargs)
        except (TypeError, ValueError) as error:
            self._log.error("message_unreadable", message=data[:200].decode(errors="replace"), error=str(error))
            return Verdict.DONE
        return await bury(self._on_poison, ref, self._log)
