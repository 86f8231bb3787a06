"""Where a rollout is in time: the engine's clock, the wall clock, the offsets of its plan, and what pauses have cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resyncctl.engine.live import Live


class Timeline:
    """Turns times into each other. `…_at` are seconds on the engine's clock, `…_us` microseconds since the Unix epoch.

    The wall clock is read once: a clock that is set meanwhile moves no due time and no result.
    """

    __slots__ = ("_clock", "_mono0", "_wall0", "base", "paused_at", "started_us")

    def __init__(self, *, clock: Callable[[], float], wall: Callable[[], int], started_us: int) -> None:
        self._clock = clock
        self._mono0, self._wall0 = clock(), wall()
        self.started_us = started_us
        """When the rollout started; outcomes hold offsets from it."""
        self.base = 0.0
        """When the plan's offset zero is, lost time added."""
        self.paused_at: float | None = None

    def now(self) -> float:
        """Return the time on the engine's clock."""
        return self._clock()

    def wall(self, at: float) -> int:
        """Turn a time of the engine's clock into the time of day."""
        return self._wall0 + round((at - self._mono0) * 1_000_000)

    def at(self, wall_us: int) -> float:
        """Turn a time of day into one of the engine's clock."""
        return self._mono0 + (wall_us - self._wall0) / 1_000_000

    def offset_us(self, at: float) -> int:
        """Return the microseconds from the start of the rollout to a time of the engine's clock."""
        return self._wall0 - self.started_us + round((at - self._mono0) * 1_000_000)

    def due_at(self, live: Live) -> float:
        """Return when a target wants to be sent to: by its own wish, else by the plan."""
        return live.wanted_at if live.wanted_at >= 0 else self.base + live.due_us / 1_000_000

    def base_us(self) -> int:
        """Return when offset zero of the plan is, a pause that lasts already added."""
        paused = 0.0 if self.paused_at is None else self._clock() - self.paused_at
        return self.wall(self.base + paused)

    def pause(self) -> bool:
        """Begin a pause; False when there is one already."""
        if self.paused_at is not None:
            return False
        self.paused_at = self._clock()
        return True

    def resume(self) -> float:
        """End the pause, if there is one, and return its length in seconds; the caller shifts what waits."""
        if self.paused_at is None:
            return 0.0
        lost = self._clock() - self.paused_at
        self.paused_at = None
        return lost
