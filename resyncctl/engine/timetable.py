"""What a scheduler knows: every schedule and its next fire time; and what becomes of a fire time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from resyncctl.clock import from_us
from resyncctl.duration import format_duration
from resyncctl.engine.calendar import When, iso
from resyncctl.errors import ResyncError
from resyncctl.store.schedules import Misfire, Overlap, ScheduleRecord, read_record

if TYPE_CHECKING:
    from datetime import datetime

    from structlog.typing import FilteringBoundLogger

    from resyncctl.store.schedules import Change, Changed, ScheduleStore

PUNCTUAL: Final = 30.0
"""Seconds that a fire time may be late without being missed: another process may have had to take over."""
_DAY_US: Final = 86_400_000_000
_PUT_BACK_US: Final = 60_000_000
"""Microseconds; less is what synchronising does."""


@dataclass(slots=True)
class Known:
    """A schedule as it was read or written, and how many changes of schedules there had been by then.

    `due_us` is its next fire time, None = none; nothing is done about it before `again_at` on the loop's clock.
    """

    record: ScheduleRecord
    text: bytes
    number: int
    when: When
    due_us: int | None
    again_at: float = 0.0


class Timetable:
    """The schedules as they are in Redis, read again only when somebody else has changed one."""

    def __init__(self, store: ScheduleStore, log: FilteringBoundLogger, clock: Callable[[], int]) -> None:
        self._store = store
        self._log = log
        self._clock = clock
        self._known: dict[str, Known] = {}
        self._changes = -1
        self._own_changes: set[int] = set()
        self._looked_us = 0

    def __iter__(self) -> Iterator[Known]:
        return iter(self._known.values())

    def forget(self) -> None:
        """Read everything when it is asked for next."""
        self._changes = -1

    def put_off(self, name: str, until: float) -> None:
        """Let nothing be done about a schedule before `until` on the loop's clock."""
        if name in self._known:
            self._known[name].again_at = until

    async def read(self) -> None:
        """Read the schedules if somebody else has changed one, or the wall's clock has been put back."""
        now, before = self._clock(), self._looked_us
        self._looked_us = now
        if now < before - _PUT_BACK_US:
            self._log.warning("clock_put_back", seconds=(before - now) / 1_000_000)
            self._known.clear()
            self.forget()
        if await self._store.changes() == self._changes:
            return
        number, found = await self._store.snapshot()
        self._changes = number
        self._own_changes.clear()
        for name in self._known.keys() - found.keys():
            del self._known[name]
        for name, text in found.items():
            known = self._known.get(name)
            if known is None or (known.text != text and known.number < number):
                try:
                    self._know(read_record(text), text, number)
                except ResyncError as error:
                    self._log.error("schedule_unreadable", schedule=name, error=str(error))
                    self._known.pop(name, None)
                await asyncio.sleep(0)  # a thousand take a tenth of a second

    def _know(self, record: ScheduleRecord, text: bytes, number: int) -> None:
        when = When.from_dict(record.when)
        due = None
        if not record.paused:
            now = self._clock()
            # A clock that was more than a day ahead and has been put right must not silence a schedule.
            due = when.next(from_us(record.decided_us if record.decided_us <= now + _DAY_US else now))
        self._known[record.name] = Known(record, text, number, when, None if due is None else whole_us(due))

    async def change(self, name: str, change: Change) -> ScheduleRecord | None:
        """Change a record, and know it; None when it was left as it is: then everything is read again."""
        changed = await self._store.update(name, change)
        return self._changed(changed)

    async def swap(self, wanted: Sequence[tuple[Known, ScheduleRecord]]) -> Sequence[ScheduleRecord | None]:
        """Change records if they are still what is known of them; None for one that is not: it is read again."""
        swapped = await self._store.swap([(known.text, record) for known, record in wanted])
        return [self._changed(changed) for changed in swapped]

    def _changed(self, changed: Changed | None) -> ScheduleRecord | None:
        if changed is None:
            self.forget()
            return None
        self._know(changed.record, changed.text, changed.number)
        self._own_changes.add(changed.number)
        while self._changes + 1 in self._own_changes:
            self._changes += 1
            self._own_changes.remove(self._changes)
        return changed.record


def decide(record: ScheduleRecord, fire_us: int, *, now_us: int, busy: str) -> ScheduleRecord | None:
    """Return the record after it was decided what becomes of a fire time: claimed (`waiting_us`), or skipped with a note.

    `busy` is the schedule's rollout that is not over. None: it has been decided already, or the schedule is paused.
    """
    if record.paused or fire_us <= record.decided_us <= now_us + _DAY_US:
        return None
    fire, late = iso(from_us(fire_us)), (now_us - fire_us) / 1_000_000
    skipped = replace(record, decided_us=fire_us)
    missed = late > PUNCTUAL
    if missed and record.misfire is Misfire.SKIP:
        return replace(skipped, note=f"{fire} was missed by {format_duration(late)}")
    if missed and late > record.grace:
        allowed = format_duration(record.grace)
        return replace(skipped, note=f"{fire} was missed by {format_duration(late)}; the grace time is {allowed}")
    if record.waiting_us:
        return replace(skipped, note=f"{fire} was skipped: {iso(from_us(record.waiting_us))} still waits")
    if busy and record.overlap is Overlap.SKIP:
        return replace(skipped, note=f"{fire} was skipped: rollout {busy} was not over")
    note = f"{fire} waits for the end of rollout {busy}" if busy else ""
    note = f"{fire} was missed, and fired {format_duration(late)} later" if missed and not busy else note
    return replace(skipped, waiting_us=fire_us, note=note)


def whole_us(moment: datetime) -> int:
    """Return a fire time, which is a whole second, as microseconds since the Unix epoch."""
    return int(moment.timestamp()) * 1_000_000
