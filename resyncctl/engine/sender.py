"""Send to the phones of the batches that this worker has: by the plan, intents first, retries and phones in a call included.

One task talks to Redis (`run`): outcomes first, then the intents of the next slice, in one commit. Only what has its intent
in Redis is sent (`_pump`), at its own time, from timers and results: no task per phone. Phones in a call are the business of
`deferrals`, times that of `timeline`, which batches there are that of the dispatcher.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from resyncctl.clock import monotonic, now_us
from resyncctl.engine.backlog import Backlog
from resyncctl.engine.connecting import Connecting
from resyncctl.engine.deferrals import Deferrals
from resyncctl.engine.journal import SENDING, Journal, obey_cancellation
from resyncctl.engine.live import NOWHERE, Live, Share, Templates
from resyncctl.engine.tally import Tally
from resyncctl.engine.timeline import Timeline
from resyncctl.errors import StoreError, TransportError
from resyncctl.rollout import attempts
from resyncctl.rollout.model import TERMINAL, Action, Outcome, Reason, Target, TargetState
from resyncctl.rollout.pacing import SLACK, Jitter, spacing_us
from resyncctl.rollout.states import RolloutState
from resyncctl.sip.transaction import Timers
from resyncctl.sip.uac import Ending, Result
from resyncctl.store.codec import decode_block, pack_fields, unpack_batch
from resyncctl.store.codec import record as entry
from resyncctl.store.keys import LEASE
from resyncctl.store.records import Claimed, Verdict

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from resyncctl.inventory.busy import BusySource
    from resyncctl.sip.hop import Hop
    from resyncctl.store.records import Claim, Control, RolloutRecord
    from resyncctl.store.redis_store import RedisStore
    from resyncctl.transport.agent import Agent, Prepare
    from resyncctl.transport.link import Refusal
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
FENCE: Final = 0.8 * LEASE
"""Seconds after the last commit began that nothing more is sent: somebody else may have our batches by the time the lease ends,
and a process that was stopped for so long does not know it yet."""
CLAIMING: Final = 4
"""Batches that are being taken at once, at most."""
AVOIDED: Final = 30.0
"""Seconds that a hop which has failed is tried last."""
MOST_DEATHS: Final = 5
"""Workers that may die with a batch before it is given up."""

_REASONS: Final = {
    Ending.ANSWERED: Reason.RESPONSE,
    Ending.TIMEOUT: Reason.TIMEOUT,
    Ending.REFUSED: Reason.REFUSED,
    Ending.NO_ROUTE: Reason.NO_ROUTE,
    Ending.NOT_SENT: Reason.NOT_SENT,
    Ending.NO_CREDENTIALS: Reason.NO_CREDENTIALS,
    Ending.CREDENTIALS_REFUSED: Reason.CREDENTIALS_REFUSED,
    Ending.UNANSWERABLE: Reason.UNANSWERABLE,
    Ending.NO_CONNECTION: Reason.NO_CONNECTION,
    Ending.NO_TLS: Reason.NO_TLS,
    Ending.NOT_TRUSTED: Reason.NOT_TRUSTED,
    Ending.EXPIRED: Reason.EXPIRED,
    Ending.WRONG_NAME: Reason.WRONG_NAME,
    Ending.CONNECTION_LOST: Reason.CONNECTION_LOST,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the engine works with; made by the composition root."""

    store: RedisStore
    agent: Callable[[Timers, Callable[[Result], None], Prepare], Agent]
    """Makes what sends."""
    resolver: Resolver
    log: FilteringBoundLogger
    user_agent: str
    busy: BusySource | None = None
    clock: Callable[[], float] = monotonic
    wall: Callable[[], int] = now_us
    on_progress: Callable[[RolloutState, Mapping[str, object]], None] | None = None
    """Called with the report of all workers together."""


class Sender:
    """Sends for one rollout as `worker`, a name that nobody else has. One use.

    `run` works until `leave`; `adopt` hands it a batch, when `room` says that it can take one.
    """

    def __init__(self, record: RolloutRecord, worker: str, around: Surroundings) -> None:
        options = record.options
        self._record = record
        self._options = options
        self._worker = worker
        self._around = around
        self._clock = around.clock
        self._log = around.log.bind(rollout=record.id)
        self._state = record.state
        self._spacing_us = spacing_us(options.rate)
        self._journal = Journal(around.store, record.id, worker, spacing_us=self._spacing_us, clock=around.clock)
        self._backlog = Backlog()
        self._tally = Tally()
        self._time = Timeline(clock=around.clock, wall=around.wall, started_us=record.started_us)
        self._time.base = self._time.at(record.base_us)
        self._wake = asyncio.Event()
        self._deferrals = Deferrals(
            around.busy,
            options,
            tally=self._tally,
            backlog=self._backlog,
            time=self._time,
            note=lambda live, state, reason: self._note(live, state, reason, 0, planned_at=live.planned_at),
            on_change=self._wake.set,
        )
        self._jitter = Jitter(record.seed)
        self._templates = Templates(options, around.user_agent)
        self._agent = around.agent(
            Timers(t1=options.timer_t1, timeout=options.timeout), self._finished, self._templates.dress
        )
        self._connecting = Connecting(self._agent, on_decided=self._connected)
        self._heard: dict[Hop, float] = {}
        """When a hop that has alternatives was last known to live."""
        self._shares: dict[int, Share] = {}
        self._claiming = 0
        self._roomy = asyncio.Event()
        self._ended = False
        self._ready: deque[Live] = deque()
        self._in_flight = 0
        self._in_flight_told = self._retries_told = 0
        self._limit = options.max_in_flight
        self._common = len(options.from_uri) + len(options.identity) + len(options.event)
        self._alone = True
        self._quiet_until = float("-inf")
        self._retries_left = attempts.budget(record.targets)
        self._last_end_at = 0.0
        self._pump_timer: asyncio.TimerHandle | None = None
        self._blocked = True  # nothing is sent before the first commit has succeeded
        self._leaving = False
        self._committed_at = float("-inf")
        self._fence_at = float("-inf")
        self._reported = ""
        self._slice = SLICE if not options.rate else max(1, min(SLICE, int(options.rate * SLICE_SECONDS)))

    # What the worker asks of it

    def leave(self) -> None:
        """Send nothing more, give back every batch once what is on the wire of it has been answered, and end."""
        self._leaving = True
        self._blocked = True
        self._wake.set()

    @property
    def idle(self) -> bool:
        """True when it has no batch."""
        return not self._shares and not self._claiming

    async def room(self, *, within: float) -> bool:
        """Wait until another batch may be taken; False when there is so much to do that it did not come to that in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self._full:
                    self._roomy.clear()
                    await self._roomy.wait()
        return not self._full

    @property
    def _full(self) -> bool:
        """True when another batch can wait. One that sends nothing now takes none, and holds up nobody by asking for it."""
        return self._claiming >= CLAIMING or (
            self._state in SENDING and self._backlog.full(self._time.base, now=self._clock())
        )

    def _tell_room(self) -> None:
        if not self._full:
            self._roomy.set()

    @property
    def _stopped(self) -> bool:
        """True when batches are given back: we leave, or the rollout is over."""
        return self._leaving or self._state not in _WAITING

    async def run(self) -> None:
        """Work until `leave`. Raises LeaseLostError, StoreError, TransportError; batches that are left then were lost."""
        try:
            self._agent.bind()  # a socket that cannot be opened ends this before anything is sent
            async with contextlib.AsyncExitStack() as stack:
                if self._around.busy is not None:
                    follower = asyncio.create_task(self._around.busy.follow())
                    stack.push_async_callback(_cancel, follower)
                await self._keep_books()
        finally:
            self._blocked = self._leaving = self._ended = True
            if self._pump_timer is not None:
                self._pump_timer.cancel()
            self._deferrals.close()
            self._agent.close()
            for share in self._shares.values():
                if not share.ended.done():
                    share.ended.set_result(False)

    async def adopt(self, number: int) -> bool:
        """Take a batch and work on it; return once it is done or given back, or nothing is to be done for it.

        False: it could not be taken, or was lost; it has to be offered again. Raises StoreError.
        """
        if self._leaving:
            return False
        if number in self._shares:
            return True
        self._claiming += 1
        try:
            claim = await self._around.store.claim(self._record.id, self._worker, number)
            if claim.claimed is not Claimed.OK:
                return True
            if self._ended:  # meanwhile; the batch is free when our lease ends
                return False
            share = self._shares[number] = Share(number, asyncio.get_running_loop().create_future())
            try:
                self._open(share, claim)
            except BaseException:  # whatever it is: the batch is not worked on, and free when we have had nothing to do
                del self._shares[number]
                raise
        finally:
            self._claiming -= 1
            self._tell_room()
        return await share.ended

    def _open(self, share: Share, claim: Claim) -> None:
        """Make the targets of a batch live, and settle what a crash left open (design 3.4)."""
        known = unpack_batch(claim.outcomes)
        over = claim.state is RolloutState.ABORTED or self._state is RolloutState.ABORTED
        try:
            targets = decode_block(claim.block)
        except StoreError as error:
            self._condemn(share, known, str(error))
            return
        if claim.deaths > MOST_DEATHS and not over:
            self._condemn(share, known, f"{claim.deaths} workers have died with it")
            return
        planned = []
        share.left = 1  # not done before all of them have been looked at
        for place, target in enumerate(targets):
            outcome = known.get(place)
            if outcome is not None and outcome.state in TERMINAL:
                continue
            live = self._live(target, share, place)
            share.left += 1
            if outcome is not None:
                live.attempts = outcome.attempts
                live.planned_at = self._time.at(self._time.started_us + outcome.planned_us)
                live.sent_at = self._time.at(self._time.started_us + outcome.sent_us) if outcome.sent_us else 0.0
            if outcome is not None and outcome.state is TargetState.SENDING and (over or self._never_again(live)):
                # Perhaps it left, perhaps not: a reboot is never sent on suspicion.
                self._tally.ended(TargetState.UNKNOWN, Reason.CRASH, 0)
                self._note(live, TargetState.UNKNOWN, Reason.CRASH, 0, planned_at=live.planned_at)
            elif not over and self._resume(live, outcome):
                planned.append(live)
        self._backlog.add(planned)
        share.left -= 1
        if over or self._leaving or not share.left:
            self._close(share)
        self._wake.set()

    def _condemn(self, share: Share, known: Mapping[int, Outcome], why: str) -> None:
        """Give a batch up that cannot be worked on; nobody knows what became of those of its targets that have no outcome."""
        self._log.error("batch_given_up", batch=share.number, reason=why)
        for place in range(self._record.index.sizes[share.number]):
            outcome = known.get(place)
            if outcome is None or outcome.state not in TERMINAL:
                attempts_made = 0 if outcome is None else outcome.attempts
                packed = pack_fields(TargetState.UNKNOWN, Reason.POISON, 0, attempts_made, 0, 0, 0)
                self._tally.ended(TargetState.UNKNOWN, Reason.POISON, 0)
                self._journal.note(share.number, place, packed)
        self._close(share)

    def _live(self, target: Target, share: Share, place: int) -> Live:
        return Live(
            target,
            share,
            place,
            trigger=self._record.triggers[target.trigger],
            proxy=self._options.outbound_proxy,
            forced_delay=self._options.forced_delay,
            common=self._common,
        )

    def _never_again(self, live: Live) -> bool:
        return self._options.action is Action.REBOOT or live.reboots

    def _resume(self, live: Live, outcome: Outcome | None) -> bool:
        """Go on where another worker stopped; True when the target is still to be sent to by the plan."""
        live.sent_at = 0.0
        if outcome is None or (outcome.attempts == 0 and outcome.state is TargetState.PLANNED):
            return True
        # What a crash interrupted is sent again, as the same attempt.
        interrupted = outcome.state is TargetState.SENDING
        live.attempts -= interrupted
        if outcome.state is TargetState.DEFERRED:
            self._deferrals.take_over(live)
        else:
            self._backlog.wait(live, self._time.now() if interrupted else live.planned_at)
        return False

    # Books

    async def _keep_books(self) -> None:
        while not (self._leaving and self.idle and not self._journal.pending):
            obey_cancellation()
            try:
                claimed = await self._claim()
                if claimed or self._commit_is_due():
                    await self._commit(claimed)
                self._pump()
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
        claimed = [
            live
            for live in self._backlog.take(self._time.base, until=max(first, now) + SLICE_SECONDS, limit=room)
            if self._deferrals.may_send(live, intended=False)
        ]
        if any(live.destination is NOWHERE for live in claimed):
            await self._resolve_names(claimed)
        self._connecting.begin(claimed)
        self._tell_room()
        return claimed

    def _room(self) -> int:
        """Return how many intents may be written now: no more than can be sent soon, for a crash makes them ambiguous."""
        if self._state not in SENDING or self._leaving or len(self._ready) >= self._slice:
            return 0
        if self._clock() < self._quiet_until:
            return 0
        room = min(self._slice, self._limit - self._in_flight - len(self._ready) - len(self._connecting))
        # A commit costs as much as twenty NOTIFYs: small slices wait for each other, though not for long.
        return room if room >= self._worthwhile() or self._clock() - self._committed_at >= FLUSH else 0

    def _worthwhile(self) -> int:
        """Return the intents for which a commit of their own is made at once."""
        return min(self._slice, max(1, self._limit * 3 // 4))

    async def _resolve_names(self, claimed: list[Live]) -> None:
        """Give targets with a host name their address; a slow resolver holds up neither the lease nor the operator."""
        resolving = asyncio.gather(*(self._resolve(live) for live in claimed if live.destination is NOWHERE))
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
        first, *others = await self._around.resolver.resolve(live.next_hop) or [NOWHERE]
        live.destination, live.hops = first, others

    def _commit_is_due(self) -> bool:
        age = self._clock() - self._committed_at
        pending = self._journal.pending
        return pending >= SLICE or age >= HEARTBEAT or self._leaving or (age >= FLUSH and (pending > 0))

    async def _commit(self, claimed: list[Live]) -> None:
        began = self._clock()
        if began >= self._fence_at:  # our lease may have ended: is every batch still ours?
            for number, share in self._shares.items():
                if not share.closing:
                    self._journal.close(number, Verdict.GOES_ON)
        intents, wanted = self._intents(claimed, now=began)
        report = self._report()
        try:
            control, verdicts = await self._journal.commit(
                intents,
                report=report,
                base_us=self._time.base_us(),
                wanted=" ".join(map(str, wanted)) if self._spacing_us else "",
                now_us=self._time.offset_us(began),
            )
        except StoreError:
            self._backlog.put_back(claimed)
            raise
        self._reported = report or self._reported
        self._committed_at, self._fence_at = self._clock(), began + FENCE
        for number, verdict in verdicts.items():
            if verdict is not Verdict.GOES_ON:
                # What is given back has to be offered again, unless the rollout is over.
                given = verdict is Verdict.DONE or self._state is RolloutState.ABORTED
                self._shares.pop(number).ended.set_result(given)
        self._follow(control)
        if control.state in SENDING and not self._leaving:
            self._give_slots(claimed, control.slots)
        else:
            self._take_back(claimed, intended=control.state in SENDING)
        self._obey(control)

    def _intents(self, claimed: list[Live], *, now: float) -> tuple[dict[int, bytearray], list[int]]:
        """Return the intents of a slice by batch, and when its sends want to leave (microseconds from the start)."""
        late = max((now - self._time.due_at(live) for live in claimed if live.wanted_at < 0), default=0.0)
        if late > SLACK:  # lost time is not caught up by a burst
            self._time.base += late
        intents: dict[int, bytearray] = {}
        wanted = []
        base_us, now_offset = self._time.offset_us(self._time.base), self._time.offset_us(now)
        for live in claimed:
            at = live.wanted_at
            wanted_us = base_us + live.due_us if at < 0 else max(self._time.offset_us(at), now_offset)
            packed = pack_fields(TargetState.SENDING, Reason.NONE, 0, live.attempts + 1, wanted_us, 0, 0)
            blob = intents.get(live.batch)
            if blob is None:
                intents[live.batch] = bytearray(entry(live.place, packed))
            else:
                blob += entry(live.place, packed)
            wanted.append(wanted_us)
        return intents, wanted

    def _give_slots(self, claimed: list[Live], slots: Sequence[int]) -> None:
        """Make a slice ready to be sent; without a rate its own wishes are its slots."""
        ready = self._ready
        if slots:
            started_at = self._time.at(self._time.started_us)
            for live, slot in zip(claimed, slots, strict=True):
                live.slot_at = started_at + slot / 1_000_000
            if ready and claimed and ready[-1].slot_at > claimed[0].slot_at:
                self._ready = deque(sorted((*ready, *claimed), key=_slot_at))
                return
        ready.extend(claimed)

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
            tally.last_outcome_us = self._time.offset_us(self._last_end_at)
        self._in_flight_told, self._retries_told = self._in_flight, tally.retries
        report = json.dumps(tally.part(in_flight=self._in_flight, waiting=len(self._deferrals)))
        return "" if report == self._reported else report

    def _follow(self, control: Control) -> None:
        """Take over what the others have made of the plan's offset zero, and what all have counted together."""
        ahead = self._time.at(control.base_us) - self._time.base
        if ahead > 0.000_001:
            self._shift(ahead)
        if control.report:
            total = json.loads(control.report)
            # Our part of what is left: together the workers never use more than the budget.
            left = attempts.budget(self._record.targets) - total.get("retries", 0)
            self._retries_left = left // control.workers - (self._tally.retries - self._retries_told)
            self._share_in_flight(control.workers, total["counts"].get("sending", 0))
            if self._around.on_progress is not None:
                self._around.on_progress(control.state, total)

    def _share_in_flight(self, workers: int, everywhere: int) -> None:
        """Take our share of what may be unanswered. `everywhere` counts our requests as of the last commit."""
        most = self._options.max_in_flight
        if workers > 1:
            if self._alone:  # the others learn of us with their next commit
                self._quiet_until = self._clock() + 2 * HEARTBEAT
            self._limit = max(0, min(most // workers or 1, most - everywhere + self._in_flight_told))
        else:
            self._limit = most
        self._alone = workers == 1

    def _obey(self, control: Control) -> None:
        """Follow what the operator has made of the rollout's state."""
        was, self._state = self._state, control.state
        self._tell_room()
        self._blocked = control.state not in SENDING or self._leaving
        if was is not control.state:
            self._log.info("rollout_state_seen", state=control.state.value, in_flight=self._in_flight)
        if self._blocked:
            self._take_back(list(self._ready), intended=True)
            self._ready.clear()
        if self._stopped:
            self._give_back()

    def _give_back(self) -> None:
        """Let go of every batch that has nothing on the wire."""
        self._backlog.clear()
        self._connecting.clear()
        self._tell_room()
        self._deferrals.close()
        for share in self._shares.values():
            if not share.flying:
                self._close(share)
        if self._journal.closing:
            self._wake.set()

    def _close(self, share: Share) -> None:
        if not share.closing:
            share.closing = True
            self._journal.close(share.number, Verdict.FREE if share.left else Verdict.DONE)
            self._wake.set()

    def _shift(self, seconds: float) -> None:
        """Move what remains by lost time. The forced delay of a phone in a call goes on."""
        self._time.base += seconds
        self._backlog.shift_waiting(seconds, lambda live: not live.deferred)

    def _take_back(self, lives: list[Live], *, intended: bool) -> None:
        """Take back targets that are not sent to now; `intended`: their intents are written."""
        for live in lives if intended else ():
            state = TargetState.DEFERRED if live.deferred else TargetState.PLANNED
            planned_at = live.planned_at if live.deferred else self._time.due_at(live)
            self._note(live, state, Reason.NONE, 0, planned_at=planned_at)
        if not self._leaving:
            self._backlog.put_back(lives)

    async def _wait_for_store(self, error: StoreError) -> None:
        """Send nothing while Redis is away; then write again what it may have forgotten, and shift the plan."""
        began = self._clock()
        self._blocked = True
        self._log.warning("redis_lost", error=str(error))
        waiting = asyncio.create_task(self._journal.recover())
        while not waiting.done():
            await asyncio.wait({waiting}, timeout=HEARTBEAT)
            if self._leaving and not waiting.done():
                await _cancel(waiting)
                raise error
        waiting.result()
        lost = self._clock() - began
        self._log.info("redis_back", seconds=round(lost, 3))
        if self._state in SENDING:  # else the pause counts it
            self._shift(lost)
        self._committed_at = float("-inf")  # so that the next commit comes at once, and moves the fence

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
        ready, limit = self._ready, self._limit
        full = len(ready) >= self._slice
        if self._clock() >= self._fence_at:
            self._wake.set()  # a commit will tell whether our batches are still ours
            return
        while ready and self._in_flight < limit and not self._blocked:
            live = ready[0]
            now = self._clock()
            slot = live.slot_at if self._spacing_us else self._time.due_at(live)
            if slot > now:
                self._arm(slot - now)
                return
            if now - slot > SLACK and self._missed(live, now - slot):
                return
            ready.popleft()
            if self._around.busy is not None and not self._deferrals.may_send(live, intended=True):
                continue
            live.planned_at = slot
            if self._connecting.holds(live):
                self._note(live, TargetState.PLANNED, Reason.NONE, 0, planned_at=slot)
                continue
            self._send(live)
        if full and len(ready) < self._slice:
            self._wake.set()  # room for another slice

    def _missed(self, live: Live, late: float) -> bool:
        """Lose time: what remains is later by as much. True when slots are given away, and new ones have to be asked for."""
        if live.wanted_at < 0:
            self._time.base += late
        if not self._spacing_us:
            return False
        lives = list(self._ready)
        self._ready.clear()
        self._take_back(lives, intended=True)
        self._wake.set()
        return True

    def _arm(self, delay: float) -> None:
        self._pump_timer = asyncio.get_running_loop().call_later(delay, self._pump)

    def _send(self, live: Live) -> None:
        live.attempts += 1
        self._deferrals.sent(live)
        if live.destination is NOWHERE:
            self._end(live, Reason.NO_ADDRESS, 0, sent_at=0.0, ended_at=self._clock())
            return
        try:
            live.sent_at = self._agent.send(live, live)
        except TransportError as error:
            self._log.warning("no_route", destination=live.destination.address[0], error=str(error))
            self._end(live, Reason.NO_ROUTE, 0, sent_at=0.0, ended_at=self._clock())
            return
        self._in_flight += 1
        live.share.flying += 1
        if not self._tally.first_sent_us:
            self._tally.first_sent_us = self._time.offset_us(live.sent_at)

    def _connected(self, live: Live, refusal: Refusal | None) -> None:
        """Take back a target whose connection stands: it asks for a slot. Without one, its attempt has failed."""
        now = self._clock()
        if refusal is None:
            self._backlog.wait(live, now)
            self._wake.set()
            return
        live.attempts += 1
        self._deferrals.sent(live)
        self._log.info(
            "not_connected", contact=live.request_uri, ending=refusal.ending.name.lower(), detail=refusal.detail
        )
        self._end(live, _REASONS[refusal.ending], 0, sent_at=0.0, ended_at=now)

    def _finished(self, result: Result) -> None:
        """Take the result of a request from the endpoint."""
        live = result.key
        assert isinstance(live, Live)  # noqa: S101  (the key that _send gave)
        self._in_flight -= 1
        live.share.flying -= 1
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
        elif self._journal.pending >= SLICE or self._limit - self._in_flight >= self._worthwhile():
            self._wake.set()

    def _end(
        self, live: Live, reason: Reason, status: int, *, sent_at: float, ended_at: float, retry_after: int = -1
    ) -> None:
        """Judge the end of an attempt: an outcome, or another attempt later."""
        state = attempts.judge(reason, status)
        live.sent_at = sent_at
        if status:
            self._tally.answered(ended_at - sent_at)
        if live.hops and self._fails_over(live, reason, status, ended_at=ended_at, retry_after=retry_after):
            live.attempts -= 1  # it is the same attempt (design 3.6), and as paced as any
            self._again(live, reason, status, ended_at=ended_at, wait=0.0)
            return
        if state is not TargetState.ACCEPTED:
            wait = self._retry_in(live, state, retry_after)
            if wait is not None:
                self._tally.retries += 1
                self._retries_left -= 1
                live.find_again()
                self._again(live, reason, status, ended_at=ended_at, wait=wait)
                return
        self._tally.ended(state, reason, status)
        self._last_end_at = ended_at
        self._note(live, state, reason, status, planned_at=live.planned_at, ended_at=ended_at)

    def _again(self, live: Live, reason: Reason, status: int, *, ended_at: float, wait: float) -> None:
        """Send to a target once more, `wait` seconds after its last request has ended."""
        self._note(live, TargetState.PLANNED, reason, status, planned_at=ended_at + wait, ended_at=ended_at)
        live.deferred = False
        if self._stopped:
            self._give_back()
        else:
            self._backlog.wait(live, ended_at + wait)
        self._wake.set()

    def _fails_over(self, live: Live, reason: Reason, status: int, *, ended_at: float, retry_after: int) -> bool:
        """Turn a target to the next address of its host name (RFC 3263 4.3); False when the end of the request stands.

        What may have reached the phone is not sent another way when that could reboot it twice (design 3.4). The next request
        has a Call-ID of its own, where the RFC keeps it: that no phone gets two is seen to here, not left to the phone.
        """
        hop = live.destination
        if reason is Reason.RESPONSE and status != 503:
            self._heard[hop] = ended_at
            return False
        if attempts.may_have_arrived(reason, ended_at - live.sent_at if live.sent_at else 0.0, self._options.timer_t1):
            if self._never_again(live):
                return False
            if reason is Reason.TIMEOUT and self._heard.get(hop, 0.0) > live.sent_at:
                return False  # it answers others: it is the phone behind it that does not
        self._around.resolver.avoid(hop, seconds=float(retry_after) if retry_after > 0 else AVOIDED)
        live.destination, *live.hops = live.hops
        self._log.info("failed_over", contact=live.request_uri, hop=hop.address[0], to=live.destination.address[0])
        return True

    def _retry_in(self, live: Live, state: TargetState, retry_after: int) -> float | None:
        if self._retries_left <= 0:
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
        if state in TERMINAL:
            share = live.share
            share.left -= 1
            if not share.left or (self._stopped and not share.flying):
                self._close(share)


_WAITING: Final = SENDING | {RolloutState.PAUSED}
"""States in which batches are kept."""


def _slot_at(live: Live) -> float:
    return live.slot_at


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
