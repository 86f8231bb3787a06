"""What has not been sent yet, in order of time: targets of opened batches, retries, and phones that wait for a call to end."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from resyncctl.rollout.model import Outcome, Target
from resyncctl.store.codec import decode_block, unpack_batch

if TYPE_CHECKING:
    from resyncctl.engine.live import Live
    from resyncctl.store.records import RolloutRecord
    from resyncctl.store.redis_store import RedisStore

_AHEAD: Final = 1024
"""Targets of batches opened ahead of their time; batches that overlap, as those with a long random delay do, are all open."""
_EARLY_US: Final = 1_000_000
"""Microseconds before its first target is due that a batch is opened, while there is room for it."""
_BATCHES: Final = 64
"""Batches fetched at once, at most."""


class Backlog:
    """Targets by time. Planned ones by their offset (microseconds), all others by when they want to be sent to (seconds)."""

    def __init__(
        self,
        store: RedisStore,
        record: RolloutRecord,
        admit: Callable[[Target, int, int, Outcome | None], Live | None],
    ) -> None:
        """`admit` makes a target live, or keeps it out (None) because it has its outcome; it may call `wait` itself."""
        self._store = store
        self._record = record
        self._admit = admit
        self._planned: deque[Live] = deque()  # in order of due_us
        self._waiting: list[tuple[float, int, Live]] = []
        index = record.index
        self._closed = [number for number in range(len(index.sizes) - 1, -1, -1) if index.first_dues[number] >= 0]
        self._serial = 0
        self._with_outcomes = False

    async def scan(self) -> AsyncIterator[tuple[int, dict[int, Outcome]]]:
        """Yield what is written of every batch, for a rollout that somebody has begun; finished ones are left out then."""
        self._with_outcomes = True
        for start in range(0, len(self._closed), _BATCHES):
            page = self._closed[start : start + _BATCHES]
            for number, fields in zip(page, await self._store.outcomes(self._record.id, page), strict=True):
                yield number, unpack_batch(fields)

    def leave_out(self, finished: set[int]) -> None:
        """Do not open these batches: every target of theirs has its outcome."""
        self._closed = [number for number in self._closed if number not in finished]

    @property
    def empty(self) -> bool:
        """True when nothing is left to send."""
        return not (self._planned or self._waiting or self._closed)

    def put_back(self, lives: Iterable[Live]) -> None:
        """Take back targets that were taken and not sent."""
        planned = []
        for live in lives:
            if live.wanted_at < 0:
                planned.append(live)
            else:
                self.wait(live, live.wanted_at)
        self._merge(planned)

    def _merge(self, lives: list[Live]) -> None:
        """Add planned targets; nearly always all of them are due behind those that are there."""
        lives.sort(key=_due_us)
        if lives and self._planned and lives[0].due_us < self._planned[-1].due_us:
            self._planned = deque(heapq.merge(self._planned, lives, key=_due_us))
        else:
            self._planned.extend(lives)

    def wait(self, live: Live, until: float) -> None:
        """Let a target wait for a time (seconds on the engine's clock); replaces an earlier wish."""
        live.wanted_at = until
        self._serial += 1
        live.ticket = self._serial
        heapq.heappush(self._waiting, (until, self._serial, live))

    def shift_waiting(self, seconds: float, movable: Callable[[Live], bool]) -> None:
        """Move what waits by lost time, where `movable` allows it."""
        lives = [live for _, ticket, live in self._waiting if ticket == live.ticket]
        self._waiting.clear()
        for live in lives:
            self.wait(live, live.wanted_at + seconds if movable(live) else live.wanted_at)

    async def fill(self, base: float, *, until: float) -> None:
        """Open the batches that may hold the next targets due by `until`, and some more, so that memory stays flat.

        A failing store leaves everything as it was.
        """
        index = self._record.index
        until_us = (until - base) * 1_000_000
        while self._closed:
            first = index.first_dues[self._closed[-1]]
            full = len(self._planned) >= _AHEAD
            if first > until_us + (0 if full else _EARLY_US) or (full and self._planned[0].due_us <= first):
                return
            page: list[int] = []
            size = len(self._planned)
            for number in reversed(self._closed):
                if len(page) == _BATCHES or (size >= _AHEAD and page) or index.first_dues[number] > first + _FAR_US:
                    break
                page.append(number)
                size += index.sizes[number]
            blocks = await self._store.blocks(self._record.id, page)
            outcomes: list[dict[bytes, bytes]] = [{}] * len(page)
            if self._with_outcomes:
                outcomes = await self._store.outcomes(self._record.id, page)
            del self._closed[-len(page) :]
            opened = []
            for number, block, fields in zip(page, blocks, outcomes, strict=True):
                known = unpack_batch(fields)
                for place, target in enumerate(decode_block(block)):
                    live = self._admit(target, number, place, known.get(place))
                    if live is not None:
                        opened.append(live)
            self._merge(opened)

    def next_at(self, base: float) -> float | None:
        """Return when the next target wants to be sent to, with the plan's offset zero at `base`."""
        self._drop_stale()
        times = []
        if self._planned:
            times.append(base + self._planned[0].due_us / 1_000_000)
        if self._closed:
            times.append(base + self._record.index.first_dues[self._closed[-1]] / 1_000_000)
        if self._waiting:
            times.append(self._waiting[0][0])
        return min(times, default=None)

    def take(self, base: float, *, until: float, limit: int) -> Iterator[Live]:
        """Yield and remove the targets that want to be sent to by `until`, in order of time, at most `limit`."""
        planned = self._planned
        # What is due behind the first target of a closed batch has to wait until that batch is open.
        limit_us = self._record.index.first_dues[self._closed[-1]] if self._closed else float("inf")
        for _ in range(limit):
            self._drop_stale()
            planned_at = base + planned[0].due_us / 1_000_000 if planned and planned[0].due_us <= limit_us else _NEVER
            waiting_at = self._waiting[0][0] if self._waiting else _NEVER
            if min(planned_at, waiting_at) > until:
                return
            if waiting_at <= planned_at:
                live = heapq.heappop(self._waiting)[2]
                live.ticket = 0
            else:
                live = planned.popleft()
            yield live

    def _drop_stale(self) -> None:
        while self._waiting and self._waiting[0][1] != self._waiting[0][2].ticket:
            heapq.heappop(self._waiting)


_FAR_US: Final = 300_000_000
"""Microseconds of due time that one page of batches spans at most, so that slow rollouts keep little in memory."""
_NEVER: Final = float("inf")


def _due_us(live: Live) -> int:
    return live.due_us
