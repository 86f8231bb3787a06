"""taskiq's receiver for a BatchBroker: what a handler has not finished is given back at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

from taskiq.acks import AcknowledgeType
from taskiq.receiver import Receiver

from resyncctl.store.queue import MOST_DELIVERIES, RETRY, Verdict
from resyncctl.store.queue_leases import Delivery

if TYPE_CHECKING:
    from taskiq import AckableMessage
    from taskiq.acks import AckController
    from taskiq.message import TaskiqMessage
    from taskiq.result import TaskiqResult

    from resyncctl.store.queue_broker import BatchBroker

Bury: TypeAlias = "Callable[[bytes], Awaitable[Verdict]]"


class LeaseReceiver(Receiver):
    """Runs tasks that return a Verdict. One use: `listen(stop)`, then `finish()` however that ended."""

    def __init__(self, broker: BatchBroker, *, concurrency: int, stop: asyncio.Event, bury: Bury) -> None:
        """Run up to `concurrency` tasks at a time; with `stop` set, begin none. Poison goes to `bury` instead."""
        super().__init__(
            broker,
            max_async_tasks=concurrency,
            max_prefetch=0,
            run_startup=False,
            ack_type=AcknowledgeType.MANUAL,
        )
        self._leases = broker
        self._stop = stop
        self._bury = bury
        self._verdicts: dict[asyncio.Task[object], Verdict] = {}
        """Of each delivery that is being handled; until its handler says otherwise it has failed."""
        self._open: set[asyncio.Task[object]] = set()
        self._finished = False

    async def callback(self, message: bytes | AckableMessage, raise_err: bool = False) -> None:
        """Handle a delivery and settle it."""
        task = asyncio.current_task()
        if task is None or not isinstance(message, Delivery):
            raise TypeError("a LeaseReceiver runs what a BatchBroker has delivered, each in a task of its own")
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        verdict = Verdict.AGAIN
        if not (self._stop.is_set() or self._finished):
            verdict = await self._handle(message, task, raise_err)
        if verdict is Verdict.DONE:
            await self._leases.leases.remove(message.stream, message.entry)
        else:
            after = 0.0 if self._stop.is_set() else RETRY
            await self._leases.release(message, counted=verdict is Verdict.FAILED, after=after)

    async def _handle(self, delivery: Delivery, task: asyncio.Task[object], raise_err: bool) -> Verdict:
        self._verdicts[task] = Verdict.FAILED
        try:
            if delivery.times > MOST_DELIVERIES:
                return await self._bury(delivery.data)
            await super().callback(delivery, raise_err)
            return self._verdicts[task]
        except asyncio.CancelledError:  # by `finish`: what is left to do is short
            return Verdict.AGAIN
        finally:
            del self._verdicts[task]

    async def run_task(
        self, target: Callable[..., object], message: TaskiqMessage, ack_controller: AckController | None = None
    ) -> TaskiqResult[object]:
        """Run the task and remember its verdict."""
        result = await super().run_task(target, message, ack_controller)
        task = asyncio.current_task()
        if task in self._verdicts and isinstance(result.return_value, Verdict):
            self._verdicts[task] = result.return_value
        return result

    async def finish(self) -> None:
        """Cancel the handlers that still run, because `listen` was cancelled, and wait until all is settled."""
        self._finished = True  # for a task that has not begun yet
        for task in tuple(self._verdicts):
            task.cancel()
        while self._open:
            await asyncio.wait(self._open)
