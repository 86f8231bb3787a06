"""Lead one rollout from its start to its end: offer its batches when their time comes, and take note when all are done.

One process at a time dispatches a rollout, by its lease. It sends nothing itself: batches go to a queue as references, and
whichever worker takes one claims it in the store. What the dispatcher knows it reads there, so any other can go on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from resyncctl.clock import monotonic, now_us
from resyncctl.engine.journal import SENDING
from resyncctl.engine.timeline import Timeline
from resyncctl.errors import StoreError
from resyncctl.rollout.states import ENDED, Command, PauseReason, RolloutState, move
from resyncctl.store.queue import BatchRef

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from resyncctl.store.queue import Queue
    from resyncctl.store.records import Course, RolloutRecord
    from resyncctl.store.redis_store import RedisStore

TICK: Final = 0.25
"""Seconds between two looks at a rollout."""
AHEAD: Final = 10.0
"""Seconds before its first target is due that a batch is offered: time enough for a worker to take it, and no more than a
pause or an abort has to call back."""
START_LEAD: Final = 0.02
"""Seconds from the start to offset zero of the plan."""
OFFERED: Final = 64
"""Batches of one rollout that wait in the queue at a time, so that those of other rollouts come to their turn."""
OFFER_AGAIN: Final = 5.0
"""Seconds between two looks for batches that were offered and lie nowhere: a Redis that was killed has forgotten them."""
NOT_BEGUN: Final = frozenset({RolloutState.PLANNED, RolloutState.SCHEDULED})
"""States before the first send."""


class Left(Enum):
    """How a rollout was left."""

    ENDED = auto()
    """It is finished or aborted."""
    PAUSED = auto()
    """It was asked to pause; nothing is on the wire."""
    HANDED_OVER = auto()
    """It goes on, dispatched by another process."""


class Dispatcher:
    """Dispatches one rollout whose lease `owner` holds. One use."""

    def __init__(
        self,
        record: RolloutRecord,
        owner: str,
        store: RedisStore,
        queue: Queue,
        log: FilteringBoundLogger,
        *,
        clock: Callable[[], float] = monotonic,
        wall: Callable[[], int] = now_us,
    ) -> None:
        self._record = record
        self._name = record.id
        self._owner = owner
        self._store = store
        self._queue = queue
        self._log = log.bind(rollout=record.id)
        self._clock = clock
        self._state = record.state
        self._time = Timeline(clock=clock, wall=wall, started_us=record.started_us)
        index = record.index
        due = (number for number in range(len(index.sizes)) if index.first_dues[number] >= 0)
        self._in_order = sorted(due, key=index.first_dues.__getitem__)
        self._to_offer: deque[int] = deque()
        self._offered: dict[int, float] = {}
        """When each batch was offered last."""
        self._taken = 0
        """Batches that were done or in hands when the list was made."""
        self._looked_at = clock()
        self._wake = asyncio.Event()
        self._leaving: Left | None = None

    def leave(self, how: Left) -> None:
        """Come back: PAUSED once the rollout is paused and nothing is on the wire, HANDED_OVER at once."""
        self._leaving = how
        self._wake.set()

    def wake(self) -> None:
        """Look at the rollout now."""
        self._wake.set()

    async def run(self) -> Left:
        """Dispatch until the rollout ends or `leave` was asked for. Raises LeaseLostError; waits for a Redis that is away."""
        course = await self._begin()
        while True:
            try:
                left = await self._step(course)
                if left is not None:
                    return left
                await self._sleep()
                course = await self._store.steer(self._name, self._owner, base_us=self._time.base_us())
            except StoreError as error:
                if self._leaving is not None:
                    raise
                course = await self._wait_for_store(error)

    async def _begin(self) -> Course:
        """Take over what there is. Time that was lost because nobody executed it shifts the plan by its own length."""
        record = self._record
        course = await self._store.steer(self._name, self._owner)
        await self._list()
        if record.state in NOT_BEGUN:
            now = self._time.now()
            self._time.started_us = self._time.wall(now)
            self._time.base = now + START_LEAD
            return course
        self._time.base = self._time.at(course.base_us)
        if not course.held or record.state is RolloutState.PAUSED:
            lost = max(0, self._time.wall(self._time.now()) - max(record.seen_us, record.started_us)) / 1_000_000
            self._time.base += lost
            self._log.info("rollout_taken_over", lost_seconds=round(lost, 3), done=course.done)
        return course

    async def _step(self, course: Course) -> Left | None:
        if self._note_state(course):
            await self._list()
        if self._leaving is Left.HANDED_OVER:
            return Left.HANDED_OVER
        if self._state in NOT_BEGUN:  # also when Redis was killed and has forgotten that it began
            await self._start()
        if self._leaving and self._state in SENDING:
            await self._move(Command.PAUSE, {"pause_reason": PauseReason.OPERATOR.value})
        await self._offer(course)
        return await self._conclude(course)

    async def _list(self) -> None:
        """List what is to be offered: what is neither done nor in the hands of a worker."""
        taken = await self._store.taken(self._name)
        self._to_offer = deque(number for number in self._in_order if number not in taken)
        self._taken = len(taken)
        self._offered.clear()

    def _note_state(self, course: Course) -> bool:
        """Take note of the state; True when a pause has ended, in which workers may have given batches back."""
        resumed = False
        was, self._state = self._state, course.state
        base = self._time.at(course.base_us)
        if self._time.paused_at is None and base > self._time.base:
            self._time.base = base
        if course.state is RolloutState.PAUSED:
            if self._time.pause():
                self._log.info("rollout_paused", reason=course.pause_reason)
        elif self._time.paused_at is not None:
            self._time.base += self._time.resume()
            self._log.info("rollout_resumed", state=course.state.value)
            resumed = course.state in SENDING
        if was is not course.state and course.state is RolloutState.ABORTED:
            self._log.info("rollout_aborted")
        return resumed

    async def _start(self) -> None:
        if self._state is RolloutState.PLANNED:
            await self._move(Command.SCHEDULE, {})
        if self._state is RolloutState.SCHEDULED:
            started_us = self._time.started_us
            times = {"started_us": started_us, "seen_us": started_us, "base_us": self._time.base_us()}
            await self._move(Command.START, times)

    async def _offer(self, course: Course) -> None:
        """Offer the batches whose time comes, and those whose worker has died."""
        if self._state is RolloutState.ABORTED:
            await self._put(number for number in course.orphans if number not in self._offered)
        if self._state not in SENDING or self._leaving:
            return
        now = self._clock()
        until_us = (now + AHEAD - self._time.base) * 1_000_000
        first_dues = self._record.index.first_dues
        due: list[int] = []
        waiting = len(self._offered) - (course.done + course.held + len(course.orphans) - self._taken)
        while self._to_offer and first_dues[self._to_offer[0]] <= until_us and len(due) + waiting < OFFERED:
            due.append(self._to_offer.popleft())
        await self._put(due)
        again = [number for number in course.orphans if now - self._offered.get(number, 0.0) > TICK * 4]
        if not again and now - self._looked_at >= OFFER_AGAIN:
            again = await self._lost(course)
        if again:
            self._log.info("batches_offered_again", batches=len(again))
            await self._put(again)

    async def _lost(self, course: Course) -> list[int]:
        """Return the batches that were offered, and are neither in the queue, nor with a worker, nor done."""
        self._looked_at = now = self._clock()
        if len(self._offered) <= course.done + course.held or await self._waiting() > course.held:
            return []
        taken = await self._store.taken(self._name)
        return [number for number, at in self._offered.items() if number not in taken and now - at >= OFFER_AGAIN]

    async def _waiting(self) -> int:
        """Return how many batches of any rollout wait in our queues, or are being worked on."""
        return sum([await self._queue.backlog(pool) for pool in self._record.index.pools])

    async def _put(self, numbers: Iterable[int]) -> None:
        index = self._record.index
        for number in numbers:
            await self._queue.put(BatchRef(self._name, number, index.pool(number)))
            self._offered[number] = self._clock()

    async def _conclude(self, course: Course) -> Left | None:
        """Move to the state that follows when nothing is left to send, or to wait for."""
        if self._leaving is Left.PAUSED and self._state is RolloutState.PAUSED and not course.held:
            return Left.PAUSED
        if self._state is RolloutState.ABORTED:
            if course.held or course.orphans:
                return None
            return await self._end(Command.ABORT)
        if self._state not in SENDING:
            return None
        done = course.done >= len(self._in_order)
        counts = course.report.get("counts")
        if self._state is RolloutState.RUNNING and (done or (isinstance(counts, dict) and _all_sent(counts))):
            await self._move(Command.DRAIN, {})
        if done and self._state is RolloutState.DRAINING:
            return await self._end(Command.FINISH)
        return None

    async def _end(self, command: Command) -> Left | None:
        await self._store.expire(self._name, len(self._record.index.sizes))
        finished = {"finished_us": self._time.wall(self._clock())}
        if command is Command.ABORT:
            await self._store.annotate(self._name, finished)
        else:
            await self._move(command, finished)
        return Left.ENDED if self._state in ENDED else None

    async def _move(self, command: Command, fields: dict[str, int] | dict[str, str]) -> None:
        """Change the rollout's state unless somebody was faster."""
        new = move(self._state, command)
        was = await self._store.transition(self._name, self._state, new, {"pause_reason": "", **fields})
        self._state = new if was is self._state else was
        if self._state is RolloutState.PAUSED:
            self._time.pause()

    async def _wait_for_store(self, error: StoreError) -> Course:
        """Wait until Redis is back; the plan shifts by as much."""
        began = self._clock()
        self._log.warning("redis_lost", error=str(error))
        while True:
            if self._leaving is not None:
                raise error
            try:
                await self._store.revive()
                course = await self._store.steer(self._name, self._owner)
            except StoreError:
                await asyncio.sleep(TICK)
                continue
            lost = self._clock() - began
            if self._time.paused_at is None:  # else the pause counts it
                self._time.base += lost
            self._log.info("redis_back", seconds=round(lost, 3))
            return course

    async def _sleep(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TICK):
                await self._wake.wait()
        self._wake.clear()


def _all_sent(counts: dict[str, int]) -> bool:
    """Say whether every target has been sent to, so that only answers are awaited."""
    return not counts.get("planned") and not counts.get("deferred")
