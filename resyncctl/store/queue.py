"""The queue of batches: what the engine asks of it, and the queue of a process that works alone.

A message refers to a batch and never holds a phone. **At least once**: what was put is handled until its handler says that
it is done, so a handler may meet a batch that it, or somebody else, has finished before.

    BatchRef, Queue      here; `MemoryQueue` keeps the contract inside one process
    BatchQueue           queue_redis: the same over taskiq and Redis Streams, for workers on many machines
    BatchBroker          queue_broker: taskiq-redis with leases
    LeaseReceiver        queue_receiver: taskiq's receiver that gives back what was not finished
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from resyncctl.errors import ResyncError

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

MOST_DELIVERIES: Final = 10
"""A batch that has ended its handler, or its whole worker, so many times is not run again."""
RETRY: Final = 0.5
"""Seconds before a batch that was handed back is handled again."""


@dataclass(frozen=True, slots=True)
class BatchRef:
    """A batch of a rollout, for the workers of a pool ("" is the pool of those that name none)."""

    rollout: str
    batch: int
    pool: str = ""


Handle: TypeAlias = Callable[[BatchRef], Awaitable[bool]]
OnPoison: TypeAlias = Callable[[BatchRef], Awaitable[None]]


class Queue(Protocol):
    """Batches on their way to a worker. Methods raise StoreError when Redis stays away."""

    async def start(self) -> None:
        """Make the queue ready; before anything else."""

    async def stop(self) -> None:
        """Leave the queue; after `work` has come back."""

    async def put(self, ref: BatchRef) -> None:
        """Give a batch to whichever worker of its pool is free first."""

    async def work(self, handle: Handle, *, concurrency: int, stop: asyncio.Event) -> None:
        """Call `handle` for each batch, up to `concurrency` at a time, until `stop` is set and all of them have ended.

        A handler may take hours, and nobody else gets its batch meanwhile. It returns True when the batch is done, or
        False to hand it back: another worker takes it at its next look, this one after RETRY. An exception hands it back
        too and is counted, as is the death of a worker: after MOST_DELIVERIES of them the batch is poison, is given to
        the queue's `on_poison` instead, and is gone. False is not counted, nor is a cancelled handler.
        With `stop` set nothing is begun any more; whoever sets it tells the handlers that run. One call at a time.
        """

    async def backlog(self, pool: str) -> int:
        """Return how many batches of a pool wait or are being handled."""


class Verdict(Enum):
    """What became of a delivery."""

    DONE = auto()
    AGAIN = auto()
    FAILED = auto()


async def judge(handle: Handle, ref: BatchRef, log: FilteringBoundLogger) -> Verdict:
    """Handle a batch; an exception is logged and counted, a cancellation hands the batch back."""
    try:
        return Verdict.DONE if await handle(ref) else Verdict.AGAIN
    except asyncio.CancelledError:
        return Verdict.AGAIN
    except ResyncError as error:
        log.warning("batch_failed", rollout=ref.rollout, batch=ref.batch, pool=ref.pool, error=str(error))
    except (
        Exception
    ):  # a fault of ours in one batch must not end the worker: it is logged, counted, and in the end given up
        log.exception("batch_failed", rollout=ref.rollout, batch=ref.batch, pool=ref.pool)
    return Verdict.FAILED


async def bury(on_poison: OnPoison | None, ref: BatchRef, log: FilteringBoundLogger) -> Verdict:
    """Give a poisonous batch to whoever wants to know of it; when that fails, it is tried again later."""

    async def tell(ref: BatchRef) -> bool:
        if on_poison is not None:
            await on_poison(ref)
        return True

    verdict = await judge(tell, ref, log)
    if verdict is Verdict.DONE:
        log.error("batch_poisonous", rollout=ref.rollout, batch=ref.batch, pool=ref.pool, failures=MOST_DELIVERIES)
    return verdict


@dataclass(slots=True)
class _Waiting:
    ref: BatchRef
    failures: int = 0


class MemoryQueue:
    """A `Queue` inside one process, for all pools. What it holds ends with the process."""

    def __init__(self, log: FilteringBoundLogger, *, on_poison: OnPoison | None = None) -> None:
        self._log = log
        self._on_poison = on_poison
        self._waiting: deque[_Waiting] = deque()
        self._running: dict[asyncio.Task[Verdict], _Waiting] = {}
        self._open: Counter[str] = Counter()
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Do nothing."""

    async def stop(self) -> None:
        """Do nothing."""

    async def put(self, ref: BatchRef) -> None:
        """See Queue."""
        self._open[ref.pool] += 1
        self._append(_Waiting(ref))

    async def backlog(self, pool: str) -> int:
        """See Queue."""
        return self._open[pool]

    async def work(self, handle: Handle, *, concurrency: int, stop: asyncio.Event) -> None:
        """See Queue."""
        waking = asyncio.create_task(self._wake_at(stop))
        try:
            while not stop.is_set():
                if not self._waiting or len(self._running) >= concurrency:
                    self._changed.clear()
                    await self._changed.wait()
                    continue
                waiting = self._waiting.popleft()
                task = asyncio.create_task(self._deliver(waiting, handle))
                self._running[task] = waiting
                task.add_done_callback(self._settle)
        except asyncio.CancelledError:
            for task in self._running:
                task.cancel()
            raise
        finally:
            waking.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._changed.set()

    async def _deliver(self, waiting: _Waiting, handle: Handle) -> Verdict:
        if waiting.failures >= MOST_DELIVERIES:
            return await bury(self._on_poison, waiting.ref, self._log)
        return await judge(handle, waiting.ref, self._log)

    def _settle(self, task: asyncio.Task[Verdict]) -> None:
        """Forget a batch that is done, and have another one handled again; a task may be cancelled before it begins."""
        waiting = self._running.pop(task)
        verdict = Verdict.AGAIN if task.cancelled() else task.result()
        if verdict is Verdict.DONE:
            self._open[waiting.ref.pool] -= 1
        else:
            waiting.failures += verdict is Verdict.FAILED
            task.get_loop().call_later(RETRY, self._append, waiting)
        self._changed.set()

    def _append(self, waiting: _Waiting) -> None:
        self._waiting.append(waiting)
        self._changed.set()
