"""Execute a rollout: send by the plan, write intents and outcomes, wait for busy phones, obey the operator.

One task talks to Redis (`_keep_books`): outcomes first, then the intents of the next slice, in one commit. Only what has its
intent in Redis is sent (`_pump`), at its own time, from timers and results: no task per phone. Phones in a call are the
business of `deferrals`, times that of `timeline`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from resyncctl.clock import monotonic, now_us
from resyncctl.engine.backlog import Backlog
from resyncctl.engine.deferrals import Deferrals
from resyncctl.engine.journal import SENDING, Journal, obey_cancellation
from resyncctl.engine.live import DEFAULT_PORT, NOWHERE, Live, Templates
from resyncctl.engine.tally import Tally
from resyncctl.engine.timeline import Timeline
from resyncctl.errors import StoreError, TransportError
from resyncctl.rollout import attempts
from resyncctl.rollout.model import TERMINAL, Action, Outcome, Reason, Target, TargetState
from resyncctl.rollout.pacing import Jitter, Limiter
from resyncctl.rollout.states import Command, PauseReason, RolloutState, move
from resyncctl.sip.transaction import Timers
from resyncctl.sip.uac import Ending, Result
from resyncctl.sip.uas import Address
from resyncctl.store.codec import decode_block, pack_fields
from resyncctl.store.codec import record as entry
from resyncctl.store.keys import LEASE
from resyncctl.transport.endpoint import Endpoint

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from resyncctl.inventory.busy import BusySource
    from resyncctl.store.records import Control, RolloutRecord
    from resyncctl.store.redis_store import RedisStore
    from resyncctl.transport.link import Network
    from resyncctl.transport.resolver import Resolver

SLICE: Final = 500
"""Targets whose intents are written at once, at most (design 3.4)."""
SLICE_SECONDS: Final = 0.1
"""Due times that one slice spans, at most."""
LEAD: Final = 0.05
"""Seconds before the first due time of a slice that its intents are written."""
FLUSH: Final = 0.1
"""Seconds that an outcome may wait for others before it is written."""
HEARTBEAT: Final = 0.25
"""Seconds between commits when there is nothing to write: renews the lease, learns what the operator wants."""
START_LEAD: Final = 0.1
"""Seconds from the start to offset zero of the plan."""
FENCE: Final = 0.8 * LEASE
"""Seconds after the last commit began that nothing more is sent: somebody else may have the rollout by the time the lease ends,
and a process that was stopped for so long does not know it yet."""

_REASONS: Final = {
    Ending.ANSWERED: Reason.RESPONSE,
    Ending.TIMEOUT: Reason.TIMEOUT,
    Ending.REFUSED: Reason.REFUSED,
    Ending.NO_ROUTE: Reason.NO_ROUTE,
    Ending.NOT_SENT: Reason.NOT_SENT,
    Ending.NO_CREDENTIALS: Reason.NO_CREDENTIALS,
    Ending.CREDENTIALS_REFUSED: Reason.CREDENTIALS_REFUSED,
    Ending.UNANSWERABLE: Reason.UNANSWERABLE,
}


_NOT_BEGUN: Final = frozenset({RolloutState.PLANNED, RolloutState.SCHEDULED})


class Left(Enum):
    """How `execute` came back."""

    ENDED = auto()
    """The rollout is finished or aborted."""
    PAUSED = auto()
    """It was asked to leave; the rollout is paused and everything is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the engine works with; made by the composition root."""

    store: RedisStore
    network: Network
    resolver: Resolver
    log: FilteringBoundLogger
    local: Address
    user_agent: str
    busy: BusySource | None = None
    clock: Callable[[], float] = monotonic
    wall: Callable[[], int] = now_us
    on_progress: Callable[[RolloutState, dict[str, object]], None] | None = None


class Sender:
    """Executes one rollout whose lease `owner` holds. One use."""

    def __init__(self, record: RolloutRecord, owner: str, around: Surroundings) -> None:
        self._record = record
        self._options = record.options
        self._owner = owner
        self._around = around
        self._clock = around.clock
        self._log = around.log.bind(rollout=record.id)
        self._state = record.state
        self._journal = Journal(around.store, record.id, owner, clock=around.clock)
        self._backlog = Backlog(around.store, record, self._admit)
        self._tally = Tally(record.targets, record.skipped)
        self._time = Timeline(clock=around.clock, wall=around.wall, started_us=record.started_us)
        self._wake = asyncio.Event()
        self._deferrals = Deferrals(
            around.busy,
            record.options,
            tally=self._tally,
            backlog=self._backlog,
            time=self._time,
            note=lambda live, state, reason: self._note(live, state, reason, 0, planned_at=live.planned_at),
            on_change=self._wake.set,
        )
        self._limiter = Limiter(record.options.rate)
        self._jitter = Jitter(record.seed)
        self._templates = Templates(record.options, around.user_agent)
        self._endpoint = Endpoint(
            around.network,
            local=around.local,
            timers=Timers(t1=record.options.timer_t1, timeout=record.options.timeout),
            on_result=self._finished,
            clock=around.clock,
        )
        self._ready: deque[Live] = deque()
        self._in_flight = 0
        self._last_end_at = 0.0
        self._pump_timer: asyncio.TimerHandle | None = None
        self._blocked = True  # nothing is sent before the first commit has succeeded
        self._leaving = False
        self._committed_at = float("-inf")
        self._fence_at = float("-inf")
        self._reported: dict[str, object] = {}
        most = record.options.max_in_flight
        self._low_water = most - min(SLICE, max(1, most // 2))  # then there is room for another slice
        rate = record.options.rate
        self._slice = SLICE if not rate else max(1, min(SLICE, int(rate * SLICE_SECONDS)))

    def leave(self) -> None:
        """Pause the rollout and come back once what is on the wire has been answered."""
        self._leaving = True
        self._wake.set()

    @property
    def in_flight(self) -> int:
        """Requests that wait for an answer."""
        return self._in_flight

    async def execute(self) -> Left:
        """Send until the rollout ends or `leave` was asked for. Raises LeaseLostError, StoreError, TransportError."""
        try:
            await self._begin()
            async with contextlib.AsyncExitStack() as stack:
                if self._around.busy is not None:
                    follower = asyncio.create_task(self._around.busy.follow())
                    stack.push_async_callback(_cancel, follower)
                return await self._keep_books()
        finally:
            self._blocked = True
            if self._pump_timer is not None:
                self._pump_timer.cancel()
            self._deferrals.close()
            self._endpoint.close()

    # Start and take-over

    async def _begin(self) -> None:
        if self._around.local[0]:  # a socket that cannot be opened ends this before anything is sent
            self._endpoint.link_for((self._around.local[0], DEFAULT_PORT))
        if self._state in _NOT_BEGUN:
            now = self._time.now()
            self._time.started_us = self._time.wall(now)
            self._time.base = now + START_LEAD
            await self._start()
            return
        await self._take_over()
        # Lost time shifts what remains by its own length, however it was lost.
        record = self._record
        lost = max(0, self._time.wall(self._time.now()) - max(record.seen_us, record.started_us)) / 1_000_000
        self._time.base = self._time.at(record.base_us) + lost
        self._log.info("rollout_taken_over", lost_seconds=round(lost, 3), terminal=self._tally.terminal)

    async def _start(self) -> None:
        if self._state is RolloutState.PLANNED:
            await self._move(Command.SCHEDULE, {})
        if self._state is RolloutState.SCHEDULED:
            started_us = self._time.started_us
            times: dict[str, str | int] = {
                "started_us": started_us,
                "seen_us": started_us,
                "base_us": self._time.base_us(),
            }
            await self._move(Command.START, times)

    async def _take_over(self) -> None:
        """Count what is written, and settle what a crash left open (design 3.4)."""
        finished: set[int] = set()
        self._tally.continue_from(self._record.report)
        async for number, outcomes in self._backlog.scan():
            ended = 0
            never_again = await self._never_again(number, outcomes)
            for place, outcome in outcomes.items():
                self._count_times(outcome)
                if outcome.state in TERMINAL:
                    self._tally.end(outcome)
                    ended += 1
                elif place in never_again:
                    # Perhaps it left, perhaps not: a reboot is never sent on suspicion.
                    self._journal.note(number, place, self._packed(outcome, TargetState.UNKNOWN, Reason.CRASH))
                    self._tally.ended(TargetState.UNKNOWN, Reason.CRASH, 0)
                    ended += 1
            if ended == self._record.index.sizes[number]:
                finished.add(number)
        self._backlog.leave_out(finished)

    async def _never_again(self, batch: int, outcomes: dict[int, Outcome]) -> Collection[int]:
        """Return the places of a batch that were perhaps sent to and are not sent to again: where the phone reboots by it."""
        ambiguous = [place for place, outcome in outcomes.items() if outcome.state is TargetState.SENDING]
        if not ambiguous or self._options.action is Action.REBOOT or self._state is RolloutState.ABORTED:
            return ambiguous
        [block] = await self._around.store.blocks(self._record.id, [batch])
        targets = decode_block(block)
        return [place for place in ambiguous if targets[place].reboots == "yes"]

    def _count_times(self, outcome: Outcome) -> None:
        if outcome.sent_us:
            sent = self._time.started_us + outcome.sent_us
            self._tally.first_sent_us = min(self._tally.first_sent_us or sent, sent)
            self._tally.last_outcome_us = max(self._tally.last_outcome_us, sent + outcome.rtt_us)

    def _packed(self, outcome: Outcome, state: TargetState, reason: Reason) -> bytes:
        return pack_fields(state, reason, 0, outcome.attempts, outcome.planned_us, outcome.sent_us, outcome.rtt_us)

    def _admit(self, target: Target, batch: int, place: int, known: Outcome | None) -> Live | None:
        """Make a target of an opened batch live; None when nothing is left to do for it by the plan."""
        if known is not None:
            if known.state in TERMINAL:
                return None
            if known.state is TargetState.SENDING and (
                self._options.action is Action.REBOOT or target.reboots == "yes"
            ):
                return None  # settled by _take_over
        live = Live(
            target,
            batch,
            place,
            trigger=self._record.triggers[target.trigger],
            proxy=self._options.outbound_proxy,
            forced_delay=self._options.forced_delay,
        )
        if known is None or (known.attempts == 0 and known.state is TargetState.PLANNED):
            return live
        live.planned_at = self._time.at(self._time.started_us + known.planned_us)
        # What a crash interrupted is sent again, as the same attempt.
        live.attempts = known.attempts - (known.state is TargetState.SENDING)
        if known.state is TargetState.DEFERRED:
            self._deferrals.take_over(live)
        else:
            self._backlog.wait(live, self._time.now() if known.state is TargetState.SENDING else live.planned_at)
        return None

    # Books

    async def _keep_books(self) -> Left:
        while True:
            obey_cancellation()
            try:
                claimed = await self._claim()
                if claimed or self._commit_is_due():
                    await self._commit(claimed)
                self._pump()
                left = await self._conclude()
                if left is not None:
                    return left
            except StoreError as error:
                await self._wait_for_store(error)
            await self._sleep()

    async def _claim(self) -> list[Live]:
        """Take the next slice whose time comes: those that may be sent to, with their addresses resolved."""
        room = self._room()
        if room <= 0:
            return []
        now = self._clock()
        first = self._backlog.next_at(self._time.base)
        if first is None or first > now + LEAD:
            return []
        until = max(first, now) + SLICE_SECONDS
        await self._backlog.fill(self._time.base, until=until)
        claimed = [
            live
            for live in self._backlog.take(self._time.base, until=until, limit=room)
            if self._deferrals.may_send(live, intended=False)
        ]
        if any(not live.destination[0] for live in claimed):
            await self._resolve_names(claimed)
        return claimed

    def _room(self) -> int:
        """Return how many intents may be written now: no more than can be sent soon, for a crash makes them ambiguous."""
        if self._state not in SENDING or self._leaving or len(self._ready) >= self._slice:
            return 0
        return min(self._slice, self._options.max_in_flight - self._in_flight - len(self._ready))

    async def _resolve_names(self, claimed: list[Live]) -> None:
        """Give targets with a host name their address; a slow resolver holds up neither the lease nor the operator."""
        resolving = asyncio.gather(*(self._resolve(live) for live in claimed if not live.destination[0]))
        try:
            while not resolving.done():
                await asyncio.wait({resolving}, timeout=HEARTBEAT)
                if not resolving.done():
                    await self._commit([])
        except StoreError:
            resolving.cancel()
            self._backlog.put_back(claimed)
            raise

    async def _resolve(self, live: Live) -> None:
        live.destination = await self._around.resolver.resolve(live.host, live.port) or NOWHERE

    def _commit_is_due(self) -> bool:
        age = self._clock() - self._committed_at
        return self._journal.pending >= SLICE or age >= HEARTBEAT or (self._journal.pending > 0 and age >= FLUSH)

    async def _commit(self, claimed: list[Live]) -> None:
        intents: dict[int, bytearray] = {}
        base_us = self._time.offset_us(self._time.base)
        for live in claimed:
            wanted = live.wanted_at
            planned_us = base_us + live.due_us if wanted < 0 else self._time.offset_us(wanted)
            packed = pack_fields(TargetState.SENDING, Reason.NONE, 0, live.attempts + 1, planned_us, 0, 0)
            blob = intents.get(live.batch)
            if blob is None:
                intents[live.batch] = bytearray(entry(live.place, packed))
            else:
                blob += entry(live.place, packed)
        began = self._clock()
        try:
            control = await self._journal.commit(intents, report=self._report(), base_us=self._time.base_us())
        except StoreError:
            self._backlog.put_back(claimed)
            raise
        self._committed_at, self._fence_at = self._clock(), began + FENCE
        if control.state in SENDING:
            self._ready.extend(claimed)
        else:  # the script has written no intents
            self._backlog.put_back(claimed)
        self._obey(control)

    def _report(self) -> str:
        tally = self._tally
        if (
            self._around.busy is not None
            and (trouble := self._around.busy.trouble)
            and trouble not in tally.busy_trouble
        ):
            tally.busy_trouble.append(trouble)
            self._log.warning("busy_state_unknown", reason=trouble)
        if self._last_end_at:
            tally.last_outcome_us = self._time.wall(self._last_end_at)
        report = tally.snapshot(in_flight=self._in_flight, waiting=len(self._deferrals))
        if report == self._reported:
            return ""
        self._reported = report
        if self._around.on_progress is not None:
            self._around.on_progress(self._state, report)
        return json.dumps(report)

    def _obey(self, control: Control) -> None:
        """Follow what the operator has made of the rollout's state."""
        was, self._state = self._state, control.state
        self._blocked = control.state not in SENDING or self._leaving
        if control.state is RolloutState.PAUSED and self._time.pause():
            self._log.info("rollout_paused", reason=control.pause_reason, in_flight=self._in_flight)
        elif control.state in SENDING and self._time.paused_at is not None:
            self._shift(self._time.resume())
            self._log.info("rollout_resumed")
        if self._blocked:
            self._take_back()
        if was is not control.state and self._around.on_progress is not None:
            self._around.on_progress(control.state, self._reported)

    def _shift(self, seconds: float) -> None:
        """Move what remains by lost time. The forced delay of a phone in a call goes on."""
        self._time.base += seconds
        self._backlog.shift_waiting(seconds, lambda live: not live.deferred)

    def _take_back(self) -> None:
        """Take back the intents of targets that are not sent to now."""
        lives, self._ready = self._ready, deque()
        for live in lives:
            state = TargetState.DEFERRED if live.deferred else TargetState.PLANNED
            planned_at = live.planned_at if live.deferred else self._time.due_at(live)
            self._note(live, state, Reason.NONE, 0, planned_at=planned_at)
        self._backlog.put_back(lives)

    async def _wait_for_store(self, error: StoreError) -> None:
        """Send nothing while Redis is away; then write again what it may have forgotten, and shift the plan."""
        began = self._clock()
        self._blocked = True
        self._log.warning("redis_lost", error=str(error))
        waiting = asyncio.create_task(self._journal.recover(base_us=self._time.base_us()))
        while not waiting.done():
            await asyncio.wait({waiting}, timeout=HEARTBEAT)
            if self._leaving and not waiting.done():
                await _cancel(waiting)
                raise error
        control = waiting.result()
        lost = self._clock() - began
        self._log.info("redis_back", seconds=round(lost, 3))
        if self._time.paused_at is None:  # else the pause counts it
            self._shift(lost)
        self._committed_at = float("-inf")  # so that the next commit comes at once, and moves the fence
        self._obey(control)

    async def _conclude(self) -> Left | None:
        """Move to the state that follows when nothing is left to send or to wait for."""
        if self._state in _NOT_BEGUN:  # Redis was killed and has forgotten that it began
            await self._start()
        if self._leaving and self._state in SENDING:
            await self._move(Command.PAUSE, {"pause_reason": PauseReason.OPERATOR.value})
            self._take_back()
        if self._state is RolloutState.RUNNING and not self._leaving and self._nothing_to_send():
            await self._move(Command.DRAIN, {})
        if self._in_flight or self._ready:
            return None
        if self._state is RolloutState.PAUSED and self._leaving:
            return Left.PAUSED if await self._flush() is RolloutState.PAUSED else None
        if self._state is RolloutState.ABORTED:
            self._cancel_rest()
        elif self._state is not RolloutState.DRAINING or not self._nothing_to_send():
            return None
        await self._flush()
        await self._around.store.expire(self._record.id, len(self._record.index.sizes))
        finished: dict[str, str | int] = {"finished_us": self._time.wall(self._clock())}
        if self._state is RolloutState.ABORTED:
            await self._around.store.annotate(self._record.id, finished)
            return Left.ENDED
        return Left.ENDED if await self._move(Command.FINISH, finished) is RolloutState.FINISHED else None

    def _nothing_to_send(self) -> bool:
        return self._backlog.empty and not self._ready and not self._deferrals.giving_up

    async def _move(self, command: Command, fields: dict[str, str | int]) -> RolloutState:
        """Change the rollout's state unless somebody was faster; return the state it has now."""
        new = move(self._state, command)
        was = await self._around.store.transition(self._record.id, self._state, new, {"pause_reason": "", **fields})
        self._state = new if was is self._state else was
        self._blocked = self._blocked or self._state not in SENDING
        if self._state is RolloutState.PAUSED:
            self._time.pause()
        return self._state

    async def _flush(self) -> RolloutState:
        """Write everything; return the state that the rollout is in then."""
        await self._commit([])
        while self._journal.pending:
            await self._commit([])
        return self._state

    def _cancel_rest(self) -> None:
        self._deferrals.close()
        self._tally.states[TargetState.CANCELLED] += self._tally.targets - self._tally.terminal

    async def _sleep(self) -> None:
        """Wait until there is something to do: the next slice, outcomes to write, the heartbeat, or a change."""
        now = self._clock()
        until = self._committed_at + (FLUSH if self._journal.pending else HEARTBEAT)
        if self._room() > 0:
            first = self._backlog.next_at(self._time.base)
            if first is not None:
                until = min(until, first - LEAD)
        if until > now:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(until - now):
                    await self._wake.wait()
        else:
            await asyncio.sleep(0)
        self._wake.clear()
        self._deferrals.look_again()

    # Sending

    def _pump(self) -> None:
        """Send what is ready and due; arm a timer for the next. Called after commits, by timers, and after results."""
        if self._pump_timer is not None:
            self._pump_timer.cancel()
            self._pump_timer = None
        ready, limit = self._ready, self._options.max_in_flight
        full = len(ready) >= self._slice
        if self._clock() >= self._fence_at:
            self._wake.set()  # a commit will tell whether the rollout is still ours
            return
        while ready and self._in_flight < limit and not self._blocked:
            live = ready[0]
            now = self._clock()
            planned = live.wanted_at < 0
            slot = self._limiter.slot(
                self._time.base + live.due_us / 1_000_000 if planned else max(live.wanted_at, now)
            )
            if slot > now:
                self._arm(slot - now)
                return
            ready.popleft()
            if self._around.busy is not None and not self._deferrals.may_send(live, intended=True):
                continue
            late = self._limiter.take(slot, now=now)
            if late and planned:
                self._time.base += late  # lost time is not caught up by a burst
            live.planned_at = slot
            self._send(live)
        if full and len(ready) < self._slice:
            self._wake.set()  # room for another slice

    def _arm(self, delay: float) -> None:
        self._pump_timer = asyncio.get_running_loop().call_later(delay, self._pump)

    def _send(self, live: Live) -> None:
        live.attempts += 1
        self._deferrals.sent(live)
        if not live.destination[0]:
            self._end(live, Reason.NO_ADDRESS, 0, sent_at=0.0, ended_at=self._clock())
            return
        try:
            link = self._endpoint.link_for(live.destination)
        except TransportError as error:
            self._log.warning("no_route", destination=live.destination[0], error=str(error))
            self._end(live, Reason.NO_ROUTE, 0, sent_at=0.0, ended_at=self._clock())
            return
        self._templates.dress(live, link)
        self._in_flight += 1
        live.sent_at = self._endpoint.send(live, live)
        if not self._tally.first_sent_us:
            self._tally.first_sent_us = self._time.wall(live.sent_at)

    def _finished(self, result: Result) -> None:
        """Take the result of a request from the endpoint."""
        live = result.key
        assert isinstance(live, Live)  # noqa: S101  (the key that _send gave)
        self._in_flight -= 1
        if result.detail and result.ending is not Ending.ANSWERED:
            self._log.info(
                "request_failed", contact=live.request_uri, ending=result.ending.name.lower(), detail=result.detail
            )
        self._end(
            live,
            _REASONS[result.ending],
            result.status,
            sent_at=0.0 if result.ending is Ending.NOT_SENT else result.sent_at,
            ended_at=result.ended_at,
            retry_after=result.retry_after,
        )
        if self._ready:
            if self._pump_timer is None:
                # Once for all answers of this wake-up: sends in bursts cost half of what single ones between answers do.
                self._pump_timer = asyncio.get_running_loop().call_later(0, self._pump)
        elif self._journal.pending >= SLICE or self._in_flight <= self._low_water:
            self._wake.set()

    def _end(
        self, live: Live, reason: Reason, status: int, *, sent_at: float, ended_at: float, retry_after: int = -1
    ) -> None:
        """Judge the end of an attempt: an outcome, or another attempt later."""
        state = attempts.judge(reason, status)
        live.sent_at = sent_at
        if state is not TargetState.ACCEPTED:
            wait = self._retry_in(live, state, retry_after)
            if wait is not None:
                self._tally.retries += 1
                self._note(live, TargetState.PLANNED, reason, status, planned_at=ended_at + wait, ended_at=ended_at)
                live.deferred = False
                self._backlog.wait(live, ended_at + wait)
                self._wake.set()
                return
        self._tally.ended(state, reason, status)
        self._last_end_at = ended_at
        self._note(live, state, reason, status, planned_at=live.planned_at, ended_at=ended_at)

    def _retry_in(self, live: Live, state: TargetState, retry_after: int) -> float | None:
        if self._tally.retries >= attempts.budget(self._tally.targets):
            return None
        return attempts.retry_in(
            state,
            attempt=live.attempts,
            attempts=1 if live.reboots else self._options.attempts,
            retry_delay=self._options.retry_delay,
            retry_after=retry_after,
            share=self._jitter.share(live.batch << 20 | live.place << 8 | live.attempts),
        )

    def _note(
        self, live: Live, state: TargetState, reason: Reason, status: int, *, planned_at: float, ended_at: float = 0.0
    ) -> None:
        offset_us, sent = self._time.offset_us, live.sent_at
        self._journal.note(
            live.batch,
            live.place,
            pack_fields(
                state,
                reason,
                status,
                live.attempts,
                offset_us(planned_at),
                offset_us(sent) if sent else 0,
                round((ended_at - sent) * 1_000_000) if ended_at and sent else 0,
            ),
        )


async def _cancel(task: asyncio.Task[None] | asyncio.Task[Control]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
