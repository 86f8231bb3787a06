"""What a worker has not sent yet, in order of time: targets of its batches, retries, phones that wait for a call to end."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from resyncctl.engine.live import Live

AHEAD: Final = 1024
"""Targets that are due soon, from which on no further batch is taken."""
_SOON: Final = 1.0
"""Seconds."""
_NEVER: Final = float("inf")


class Backlog:
    """Targets by time. Planned ones by their offset (microseconds), all others by when they want to be sent to (seconds)."""

    def __init__(self) -> None:
        self._planned: deque[Live] = deque()  # in order of due_us
        self._waiting: list[tuple[float, int, Live]] = []
        self._serial = 0

    def full(self, base: float, *, now: float) -> bool:
        """Say whether so much is due soon that another batch can wait."""
        planned = self._planned
        return len(planned) > AHEAD and base + planned[AHEAD].due_us / 1_000_000 < now + _SOON

    def clear(self) -> None:
        """Forget everything."""
        self._planned.clear()
        self._waiting.clear()

    def put_back(self, lives: Iterable[Live]) -> None:
        """Take back targets that were taken and not sent."""
        planned = []
        for live in lives:
            if live.wanted_at < 0:
                planned.append(live)
            else:
                self.wait(live, live.wanted_at)
        self.add(planned)

    def add(self, lives: list[Live]) -> None:
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

    def next_at(self, base: float) -> float | None:
        """Return when the next target wants to be sent to, with the plan's offset zero at `base`."""
        self._drop_stale()
        times = []
        if self._planned:
            times.append(base + self._planned[0].due_us / 1_000_000)
        if self._waiting:
            times.append(self._waiting[0][0])
        return min(times, default=None)

    def take(self, base: float, *, until: float, limit: int) -> Iterator[Live]:
        """Yield and remove the targets that want to be sent to by `until`, in order of time, at most `limit`."""
        planned, waiting = self._planned, self._waiting
        for _ in range(limit):
            if waiting:
                self._drop_stale()
            planned_at = base + planned[0].due_us / 1_000_000 if planned else _NEVER
            waiting_at = waiting[0][0] if waiting else _NEVER
            if planned_at > until and waiting_at > until:
                return
            if waiting_at <= planned_at:
                live = heapq.heappop(waiting)[2]
                live.ticket = 0
            else:
                live = planned.popleft()
            yield live

    def _drop_stale(self) -> None:
        while self._waiting and self._waiting[0][1] != self._waiting[0][2].ticket:
            heapq.heappop(self._waiting)


def _due_us(live: Live) -> int:
    return live.due_us
