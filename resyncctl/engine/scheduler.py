"""Fire schedules: one process among any number does, by a lease; each fire time makes one rollout, whoever fires it.

A fire time is first claimed in its record by compare-and-set, then its rollout is launched under a name made of schedule and
time, then the record says so. Whoever finds a claim without a launch, after a crash, launches it; twice makes no second one.
Of APScheduler only the triggers are used (engine/calendar): its scheduler sleeps until the next job by a clock of its own, so
that it would neither notice that the wall's clock has been set nor could be moved by hand, and still needs all that is here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from resyncctl.clock import from_us, now_us
from resyncctl.duration import format_duration
from resyncctl.engine.calendar import iso
from resyncctl.engine.order import read_order
from resyncctl.engine.rounds import Rounds
from resyncctl.engine.schedules import fire_id
from resyncctl.engine.timetable import PUNCTUAL, Known, Timetable, decide, whole_us
from resyncctl.errors import NotFoundError, StoreError
from resyncctl.store.audit import Actor
from resyncctl.store.schedules import LEASE, ScheduleRecord, ScheduleStore

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from resyncctl.engine.launch import Launched
    from resyncctl.engine.order import Order
    from resyncctl.store.redis_store import RedisStore

LOOK: Final = 0.5
"""Seconds between two looks at the wall's clock and at what others have changed; never longer asleep."""
RENEW: Final = 2.5
"""Seconds between two renewals of the lease."""
AGAIN: Final = 1.0
"""Seconds until a launch that Redis has refused, or that waits for the rollout before, is tried again."""
_AT_ONCE: Final = 8
"""Launches at a time."""
_PAGE: Final = 100
"""Fire times that are claimed in one round trip."""
_KEPT_LAGS: Final = 10_000
_DRAIN: Final = 2.0
"""Seconds that launches may go on after a stop; what they leave undone another process does."""


class Launches(Protocol):
    """Makes rollouts: `engine/launch.Launcher`."""

    async def launch(self, order: Order, actor: Actor, *, name: str = "") -> Launched:
        """Make the rollout of that name, if there is none."""


_Launch = Callable[["ScheduleRecord", "FilteringBoundLogger"], Awaitable[None]]


class Scheduler:
    """Fires schedules until it is told to stop, whenever this process has the lease. One use.

    `lags` are the seconds from the latest fire times to their launches, `on_fire` is told each; `clock` is the wall's, in
    microseconds since the Unix epoch. `token` names this process and is like no other.
    """

    def __init__(
        self,
        store: RedisStore,
        launcher: Launches,
        log: FilteringBoundLogger,
        *,
        token: str,
        clock: Callable[[], int] = now_us,
        on_fire: Callable[[float], None] | None = None,
    ) -> None:
        self.lags: deque[float] = deque(maxlen=_KEPT_LAGS)
        self.on_fire = on_fire
        self._store = store
        self._schedules = ScheduleStore(store)
        self._launcher = launcher
        self._log = log
        self._token = token
        self._clock = clock
        self._timetable = Timetable(self._schedules, log, clock)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._held_until = float("-inf")
        self._renew_at = float("-inf")
        self._look_at = float("-inf")
        self._rounds = Rounds(store, log, away=LOOK)

    @property
    def active(self) -> bool:
        """Whether this process has the lease."""
        return asyncio.get_running_loop().time() < self._held_until

    def wake(self) -> None:
        """Look at the schedules at once."""
        self._look_at = float("-inf")
        self._rounds.wake()

    def stop(self) -> None:
        """Give the lease to another process, and let `run` come back."""
        self._rounds.stop()

    async def run(self) -> None:
        """Schedule until `stop`. A Redis that is away is waited for."""
        try:
            # What was written when Redis went away may or may not be there.
            await self._rounds.run(self._turn, on_lost=self._timetable.forget)
        finally:
            await self._leave()

    async def _turn(self) -> float:
        """Do what is due; return the seconds until something may be."""
        left = await self._hold()
        if left:
            return min(LOOK, left + 0.005)
        loop_now = asyncio.get_running_loop().time()
        if loop_now >= self._look_at:
            self._look_at = loop_now + LOOK
            await self._timetable.read()
        now = self._clock()
        soonest = now + int(LOOK * 1_000_000)
        due: list[tuple[Known, int]] = []
        for known in self._timetable:
            if known.record.name in self._tasks or loop_now < known.again_at:
                continue
            if known.due_us is not None and known.due_us <= now:
                due.append((known, known.due_us))
                continue
            if known.due_us is not None:
                soonest = min(soonest, known.due_us)
            if known.record.waiting_us:
                self._begin(known.record, self._launch_waiting)
        for start in range(0, len(due), _PAGE):
            await self._claim(due[start : start + _PAGE], now)
        return 0.0 if due else (soonest - now) / 1_000_000

    async def _leave(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=_DRAIN)
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._held_until = float("-inf")
        with contextlib.suppress(StoreError):
            await self._schedules.release(self._token)

    # The lease

    async def _hold(self) -> float:
        """Keep the lease; return 0.0 while it is ours, else the seconds that its holder has left."""
        now = asyncio.get_running_loop().time()
        if now < self._renew_at:
            return 0.0
        left = await self._schedules.hold(self._token)
        if left:
            if self._held_until > now:
                self._log.warning("scheduler_superseded")
            self._renew_at = self._held_until = float("-inf")
            self._timetable.forget()
            return left
        if self._held_until <= now:
            self._log.info("scheduler_active")
            self._timetable.forget()
            self._look_at = float("-inf")
        self._renew_at, self._held_until = now + RENEW, now + LEASE
        return 0.0

    # What is due

    def _put_off(self, name: str) -> None:
        self._timetable.put_off(name, asyncio.get_running_loop().time() + AGAIN)

    async def _claim(self, due: Sequence[tuple[Known, int]], now: int) -> None:
        """Claim the latest fire time of each that is due and begin to launch it, or note why not."""
        ends = await self._schedules.ends([known.record.last_rollout for known, _ in due])
        wanted: list[tuple[Known, ScheduleRecord]] = []
        waits = set()
        for (known, due_us), end in zip(due, ends, strict=True):
            latest = known.when.latest(from_us(due_us - 1), from_us(now))
            before = known.record.last_rollout if end == 0 else ""
            decided = decide(known.record, due_us if latest is None else whole_us(latest), now_us=now, busy=before)
            if decided is None:
                self._put_off(known.record.name)
                continue
            wanted.append((known, decided))
            if before:
                waits.add(decided.name)
        for (_, decided), record in zip(wanted, await self._timetable.swap(wanted), strict=True):
            if record is None:  # somebody else has been at it; it is read again
                self._put_off(decided.name)
            elif record.waiting_us != record.decided_us:
                self._log.warning("schedule_skipped", schedule=record.name, note=record.note)
            elif record.name in waits:
                self._log.info("schedule_queued", schedule=record.name, note=record.note)
                self._put_off(record.name)
            else:
                self._begin(record, self._launch_claimed)

    def _begin(self, record: ScheduleRecord, launch: _Launch) -> None:
        self._tasks[record.name] = asyncio.create_task(self._handle(record, launch))

    async def _handle(self, record: ScheduleRecord, launch: _Launch) -> None:
        log = self._log.bind(schedule=record.name)
        try:
            await launch(record, log)
        except NotFoundError:
            self._timetable.forget()  # it has been removed
        except StoreError as error:
            log.warning("schedule_delayed", note=str(error))
            self._put_off(record.name)
        finally:
            del self._tasks[record.name]
            self._rounds.wake()

    async def _launch_claimed(self, record: ScheduleRecord, log: FilteringBoundLogger) -> None:
        """Launch what was claimed just now."""
        async with self._room:
            late = (self._clock() - record.waiting_us) / 1_000_000
            if late <= PUNCTUAL:
                self.lags.append(late)
                if self.on_fire is not None:
                    self.on_fire(late)
            await self._launch(record, log, note=record.note)

    async def _launch_waiting(self, record: ScheduleRecord, log: FilteringBoundLogger) -> None:
        """Launch what was claimed before: it waits for a rollout's end or for Redis, or whoever claimed it has died."""
        (end,) = await self._schedules.ends([record.last_rollout])
        if end == 0:
            self._put_off(record.name)
            return
        async with self._room:
            now, fire_us = self._clock(), record.waiting_us
            late = (now - max(fire_us, end or 0)) / 1_000_000
            fire = iso(from_us(fire_us))
            if late > max(record.grace, PUNCTUAL):
                error = f"{fire}: given up, it was late by {format_duration(late)}"
                await self._settle(record.name, fire_us, error=error, note=record.note)
                log.warning("schedule_failed", error=error)
                return
            waited = format_duration((now - fire_us) / 1_000_000)
            await self._launch(record, log, note=f"{fire} was fired {waited} later")

    async def _launch(self, record: ScheduleRecord, log: FilteringBoundLogger, *, note: str) -> None:
        """Launch what a record has claimed, and write down what became of it. Raises StoreError: it is to be tried again."""
        fire_us = record.waiting_us
        fire = from_us(fire_us)
        actor = Actor(f"schedule:{record.name}")
        try:
            launched = await self._launcher.launch(read_order(record.order), actor, name=fire_id(record.name, fire))
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001  (whatever one schedule runs into, the others go on)
            text = f"{iso(fire)}: {str(error) or type(error).__name__}"
            await self._settle(record.name, fire_us, error=text, note=note)
            log.warning("schedule_failed", error=text, kind=type(error).__name__)
            return
        await self._settle(record.name, fire_us, rollout=launched.record.id, note=note)
        late = (self._clock() - fire_us) / 1_000_000
        log.info("schedule_fired", rollout=launched.record.id, new=launched.new, late_seconds=round(late, 3))

    async def _settle(self, name: str, fire_us: int, *, rollout: str = "", error: str = "", note: str = "") -> None:
        """Write what became of a claimed fire time, unless another process has."""

        def change(record: ScheduleRecord) -> ScheduleRecord | None:
            if record.waiting_us != fire_us and not (rollout and record.last_fire_us < fire_us):
                return None
            waiting_us = 0 if record.waiting_us == fire_us else record.waiting_us
            settled = replace(record, waiting_us=waiting_us, last_error=error, note=note)
            return replace(settled, last_rollout=rollout, last_fire_us=fire_us) if rollout else settled

        await self._timetable.change(name, change)
