"""A worker's writes to Redis: outcomes first, then intents, in one atomic commit; nothing lost when Redis goes away."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from resyncctl.errors import StoreError
from resyncctl.rollout.states import RolloutState
from resyncctl.store.codec import record as entry
from resyncctl.store.records import Commit, Control, Verdict

if TYPE_CHECKING:
    from resyncctl.rollout.model import RolloutId
    from resyncctl.store.redis_store import RedisStore

SENDING: Final = frozenset({RolloutState.RUNNING, RolloutState.DRAINING})
"""States in which intents are written and targets are sent to; while draining that is retries."""
_TAIL: Final = 5.0
"""Seconds of commits that are written again after Redis was away: `appendfsync everysec` may hold its file back for two
seconds after it has answered, so that a killed server may have forgotten what it acknowledged."""
_RETRY: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.0)
"""Seconds between attempts to reach Redis again; the last one repeats."""


class Journal:
    """Collects outcomes and commits them with intents. Used by one task at a time."""

    def __init__(
        self, store: RedisStore, rollout: RolloutId, worker: str, *, spacing_us: int, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._rollout = rollout
        self._worker = worker
        self._spacing_us = spacing_us
        self._clock = clock
        self._outcomes: dict[int, bytearray] = {}
        self._verdicts: dict[int, Verdict] = {}
        self._tail: deque[tuple[float, Commit]] = deque()
        self.pending = 0
        """Outcomes that are not in Redis yet."""

    def note(self, batch: int, place: int, packed: bytes) -> None:
        """Add an outcome to the next commit."""
        blob = self._outcomes.get(batch)
        if blob is None:
            self._outcomes[batch] = bytearray(entry(place, packed))
        else:
            blob += entry(place, packed)
        self.pending += 1

    def close(self, batch: int, verdict: Verdict) -> None:
        """Add to the next commit that a batch is done, or given back."""
        self._verdicts[batch] = verdict

    @property
    def closing(self) -> bool:
        """True while a verdict is not in Redis yet."""
        return bool(self._verdicts)

    async def commit(
        self, intents: dict[int, bytearray], *, report: str, base_us: int = 0, wanted: str = "", now_us: int = 0
    ) -> tuple[Control, dict[int, Verdict]]:
        """Write all that was noted, and the intents if the rollout is running; return the verdicts that are written now.

        Raises LeaseLostError, and StoreError with everything kept for `recover`.
        """
        commit = Commit(self._outcomes, intents, self._verdicts, report, base_us, wanted)
        pending, self._outcomes, self._verdicts, self.pending = self.pending, {}, {}, 0
        try:
            control = await self._store.commit(
                self._rollout, self._worker, commit, now_us=now_us, spacing_us=self._spacing_us
            )
        except StoreError:
            for batch, later in self._outcomes.items():
                commit.outcomes.setdefault(batch, bytearray()).extend(later)
            self._outcomes = commit.outcomes
            self._verdicts = {**commit.verdicts, **self._verdicts}
            self.pending += pending
            raise
        self._remember(commit, intended=control.state in SENDING)
        return control, commit.verdicts

    async def recover(self) -> None:
        """Wait until Redis is back, then write again what it may have forgotten. Raises LeaseLostError."""
        attempt = 0
        while True:
            obey_cancellation()
            try:
                await self._store.revive()
                for _, commit in list(self._tail):
                    await self._store.commit(self._rollout, self._worker, commit)
            except StoreError:
                await asyncio.sleep(_RETRY[min(attempt, len(_RETRY) - 1)])
                attempt += 1
            else:
                return

    def _remember(self, commit: Commit, *, intended: bool) -> None:
        """Keep a commit for `recover`. Intents that were written count as facts: by then they are perhaps on the wire.

        What was given back is somebody else's by then.
        """
        if intended:
            for batch, intents in commit.intents.items():
                commit.outcomes.setdefault(batch, bytearray()).extend(intents)
        now = self._clock()
        self._tail.append((now, Commit(commit.outcomes, {}, dict(commit.verdicts), commit.report)))
        while self._tail[0][0] < now - _TAIL:
            self._tail.popleft()
        for batch in [batch for batch, verdict in commit.verdicts.items() if verdict is Verdict.FREE]:
            for _, kept in self._tail:
                kept.outcomes.pop(batch, None)
                kept.verdicts.pop(batch, None)


def obey_cancellation() -> None:
    """Raise CancelledError if somebody has cancelled this task and the cancellation was swallowed.

    `asyncio.wait_for`, in which redis-py sends, does that up to Python 3.11 when the cancellation comes just after the
    event that it waits for. Measured: one Ctrl-C in sixty.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
