"""Phones in a call (design 3.2): asked at their time, deferred, looked at again when something changes, forced or given up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from resyncctl.rollout.deferral import Decision, decide
from resyncctl.rollout.model import Busy, Options, Reason, TargetState

if TYPE_CHECKING:
    from resyncctl.engine.backlog import Backlog
    from resyncctl.engine.live import Live
    from resyncctl.engine.tally import Tally
    from resyncctl.engine.timeline import Timeline
    from resyncctl.inventory.busy import BusySource

Note = Callable[["Live", TargetState, Reason], None]
"""Writes down a target's state, with its `planned_at`."""


class Deferrals:
    """The deferred targets of one rollout. They wait in the backlog, until their call has ended or the forced delay is over."""

    def __init__(
        self,
        source: BusySource | None,
        options: Options,
        *,
        tally: Tally,
        backlog: Backlog,
        time: Timeline,
        note: Note,
        on_change: Callable[[], None],
    ) -> None:
        """Without a source every phone may be sent to. `on_change` is called when a target was given up."""
        self._source = source
        self._on_busy, self._idle_for = options.on_busy, options.idle_for
        self._tally = tally
        self._backlog = backlog
        self._time = time
        self._note = note
        self._on_change = on_change
        self._waiting: set[Live] = set()
        self._giving_up: set[asyncio.TimerHandle] = set()
        self._version = -1

    def __len__(self) -> int:
        """Return how many targets are deferred."""
        return len(self._waiting)

    def close(self) -> None:
        """Give up nobody any more, and count nobody as deferred."""
        for timer in self._giving_up:
            timer.cancel()
        self._giving_up.clear()
        self._waiting.clear()

    def may_send(self, live: Live, *, intended: bool) -> bool:
        """Say whether a phone may be sent to at its time; if not, it is deferred or given up.

        Asked when it is claimed, a little before its time, and (`intended`: its intent is written) right before it is sent to.
        """
        source = self._source
        if source is None:
            return True
        at = max(self._time.now(), self._time.due_at(live))
        busy = source.state(live.lines, now=at)
        if busy is Busy.IDLE and at < live.idle_from:
            busy = Busy.BUSY
        forced = live.deferred and at >= live.forced_at
        match decide(busy, deferred=live.deferred, forced=forced, on_busy=self._on_busy):
            case Decision.SEND:
                if not live.busy_counted:
                    self._tally.busy_unknown += busy is Busy.UNKNOWN
                    self._tally.forced += forced and busy is not Busy.IDLE
                    live.busy_counted = True
                return True
            case Decision.WAIT:
                self._defer(live, intended=intended)
            case Decision.GIVE_UP:
                self._give_up(live, Reason.EMERGENCY if busy is Busy.EMERGENCY else Reason.BUSY)
        return False

    def sent(self, live: Live) -> None:
        """Take note that a target has been sent to."""
        self._waiting.discard(live)

    def take_over(self, live: Live) -> None:
        """Take a target that another process has deferred; its `planned_at` is when it was due.

        Its call may have ended just now, and our busy source does not remember it: it is idle `idle_for` from now at best.
        """
        live.deferred = True
        live.idle_from = self._time.now() + self._idle_for
        live.forced_at = live.planned_at + live.forced_delay
        self._waiting.add(live)
        self._backlog.wait(live, min(live.forced_at, self._time.now()))

    def look_again(self) -> None:
        """Let the deferred phones wait for something else when the source has changed."""
        source = self._source
        if source is None or source.version == self._version:
            return
        self._version = source.version
        for live in self._waiting:
            if live.ticket:
                self._backlog.wait(live, self._next_look_at(live))

    def _defer(self, live: Live, *, intended: bool) -> None:
        live.busy_counted = False
        if not live.deferred:
            live.deferred = True
            live.planned_at = self._time.due_at(live)
            live.forced_at = live.planned_at + live.forced_delay
            self._waiting.add(live)
            self._tally.deferred += 1
            intended = True  # it is news in any case
        if intended:
            self._note(live, TargetState.DEFERRED, Reason.NONE)
        self._backlog.wait(live, self._next_look_at(live))

    def _next_look_at(self, live: Live) -> float:
        source = self._source
        idle_at = None if source is None else source.idle_at(live.lines, now=self._time.now())
        # An emergency call outlasts the forced delay: it is asked again, and given up, at that time.
        return live.forced_at if idle_at is None else min(max(idle_at, live.idle_from), live.forced_at)

    def _give_up(self, live: Live, reason: Reason) -> None:
        """Skip a phone at its forced delay, exactly then: targets are claimed a little earlier."""

        def give_up() -> None:
            self._giving_up.discard(timer)
            self._waiting.discard(live)
            self._tally.ended(TargetState.SKIPPED, reason, 0)
            self._note(live, TargetState.SKIPPED, reason)
            self._on_change()

        timer = asyncio.get_running_loop().call_later(max(0.0, live.forced_at - self._time.now()), give_up)
        self._giving_up.add(timer)
