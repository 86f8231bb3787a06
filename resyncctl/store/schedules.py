"""Schedules in Redis: readable JSON by name in one hash, changed only by compare-and-set, and the lease of the scheduler.

The field `#` of the hash counts the changes, so that a scheduler reads all of it only when somebody else has changed one.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from resyncctl.errors import NotFoundError, StateError, StoreError
from resyncctl.rollout.model import RolloutId
from resyncctl.store import keys
from resyncctl.store.redis_store import store_errors

if TYPE_CHECKING:
    from resyncctl.store.redis_store import RedisStore

LEASE: Final = keys.LEASE - 2.0
"""Seconds: so that within LEASE of a kill another process has not only got the lease, but fires."""
_CHANGES: Final = b"#"


class Misfire(StrEnum):
    """What becomes of a fire time at which no process was there to fire."""

    RUN_ONCE = "run-once"
    """The latest one that was missed is fired, once, if it is within the grace time."""
    SKIP = "skip"


class Overlap(StrEnum):
    """What becomes of a fire time while the rollout before is not over."""

    SKIP = "skip"
    QUEUE = "queue"
    """It is fired when the rollout before is over; one at most waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRecord:
    """A schedule. Times are microseconds since the Unix epoch, 0 = never; `grace` is seconds.

    `when` is what `engine/calendar.When.to_dict` wrote, `order` an `engine/order.Order` as JSON.
    """

    name: str
    when: Mapping[str, object]
    order: Mapping[str, object] = field(repr=False)
    misfire: Misfire = Misfire.RUN_ONCE
    grace: float = 3600.0
    overlap: Overlap = Overlap.SKIP
    paused: bool = False
    created_us: int = 0
    decided_us: int = 0
    """Fire times up to this one have been dealt with: fired, queued or skipped."""
    waiting_us: int = 0
    """The fire time whose rollout is still to be launched."""
    last_fire_us: int = 0
    """The fire time whose rollout was launched last."""
    last_rollout: str = ""
    """The rollout that was launched last, also by hand."""
    last_error: str = ""
    """Why the last launch failed; '' when it did not."""
    note: str = ""
    """What is to be said of the last fire time: why it was skipped, what it waits for."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A record as it was written, which of all changes that was, and its JSON."""

    record: ScheduleRecord
    number: int
    text: bytes = field(repr=False)


Change = Callable[[ScheduleRecord], ScheduleRecord | None]
"""Makes a new record of a record; None = leave it as it is."""


class ScheduleStore:
    """Every method raises StoreError when Redis fails."""

    def __init__(self, store: RedisStore) -> None:
        self._where = store.where
        self._redis = store.client
        self._swap_script = self._script("schedule")
        self._hold = self._script("hold")
        self._release = self._script("release")

    def _script(self, name: str) -> Callable[..., Awaitable[Any]]:
        script: Callable[..., Awaitable[Any]] = self._redis.register_script(
            files(__package__).joinpath(f"{name}.lua").read_text()
        )
        return script

    async def add(self, record: ScheduleRecord) -> None:
        """Keep a new schedule; StateError when there is one of that name."""
        if not await self._swap(record.name, b"", _write(record)):
            raise StateError(
                f"there is a schedule {record.name!r} already; replace it with --replace, or take another name"
            )

    async def get(self, name: str) -> ScheduleRecord:
        """Return a schedule; NotFoundError when there is none of that name."""
        return read_record(await self._text(name))

    async def list(self) -> list[ScheduleRecord]:
        """Return all schedules by name."""
        _, found = await self.snapshot()
        return [read_record(text) for _, text in sorted(found.items())]

    async def update(self, name: str, change: Change) -> Changed | None:
        """Apply a change to what is stored now; None when the change leaves it as it is. NotFoundError for no such schedule.

        `change` is called again when somebody else was faster.
        """
        while True:
            text = await self._text(name)
            new = change(read_record(text))
            if new is None:
                return None
            written = _write(new)
            number = await self._swap(name, text, written)
            if number:
                return Changed(new, number, written)

    async def swap(self, wanted: Sequence[tuple[bytes, ScheduleRecord]]) -> Sequence[Changed | None]:
        """Write records for the JSON that they were made from, in one round trip; None = that is not there any more."""
        texts = [_write(record) for _, record in wanted]
        with store_errors(self._where):
            async with self._redis.pipeline(transaction=False) as pipe:
                for (seen, record), text in zip(wanted, texts, strict=True):
                    await self._swap_script(keys=[keys.SCHEDULES], args=[record.name, seen, text], client=pipe)
                numbers: list[int] = await pipe.execute()
        return [
            Changed(record, number, text) if number else None
            for (_, record), text, number in zip(wanted, texts, numbers, strict=True)
        ]

    async def ends(self, rollouts: Sequence[str]) -> Sequence[int | None]:
        """Return when rollouts ended, in one round trip: 0 = it is not over, None = there is none of that name."""
        with store_errors(self._where):
            async with self._redis.pipeline(transaction=False) as pipe:
                for name in rollouts:
                    pipe.hmget(keys.meta(RolloutId(name)), "state", "finished_us")
                found: list[tuple[bytes | None, bytes | None]] = await pipe.execute()
        return [None if state is None else int(finished or 0) for state, finished in found]

    async def remove(self, name: str) -> None:
        """Remove a schedule; its rollouts stay. NotFoundError when there is none of that name."""
        while not await self._swap(name, await self._text(name), b""):
            pass

    async def changes(self) -> int:
        """Return how many changes there have been."""
        with store_errors(self._where):
            return int(await self._redis.hget(keys.SCHEDULES, _CHANGES) or 0)

    async def snapshot(self) -> tuple[int, dict[str, bytes]]:
        """Return how many changes there have been, and every schedule's JSON by name."""
        with store_errors(self._where):
            found: dict[bytes, bytes] = await self._redis.hgetall(keys.SCHEDULES)
        number = int(found.pop(_CHANGES, b"0"))
        return number, {name.decode(): text for name, text in found.items()}

    async def _text(self, name: str) -> bytes:
        with store_errors(self._where):
            text: bytes | None = None if name == _CHANGES.decode() else await self._redis.hget(keys.SCHEDULES, name)
        if text is None:
            raise NotFoundError(f"there is no schedule {name[:64]!r}; `resyncctl schedule list` shows which there are")
        return text

    async def _swap(self, name: str, seen: bytes, new: bytes) -> int:
        with store_errors(self._where):
            return int(await self._swap_script(keys=[keys.SCHEDULES], args=[name, seen, new]))

    # The lease

    async def hold(self, token: str) -> float:
        """Take or renew the scheduler's lease for LEASE seconds: 0 = it is ours, else the seconds that its holder has left."""
        with store_errors(self._where):
            return int(await self._hold(keys=[keys.SCHEDULER], args=[token, int(LEASE * 1000)])) / 1000

    async def release(self, token: str) -> None:
        """Give the lease back, if it is still ours."""
        with store_errors(self._where):
            await self._release(keys=[keys.SCHEDULER], args=[token])


def read_record(text: bytes) -> ScheduleRecord:
    """Read a schedule's JSON; raise StoreError when it is damaged."""
    try:
        values = json.loads(text)
        known = {item.name: values[item.name] for item in fields(ScheduleRecord) if item.name in values}
        return ScheduleRecord(**{**known, "misfire": Misfire(known["misfire"]), "overlap": Overlap(known["overlap"])})
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(
            f"a schedule in Redis cannot be read ({error}): {text[:80]!r}; remove it from the hash {keys.SCHEDULES}"
        ) from error


def _write(record: ScheduleRecord) -> bytes:
    return json.dumps(asdict(record), ensure_ascii=False).encode()
