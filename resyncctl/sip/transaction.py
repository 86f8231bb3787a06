"""The non-INVITE client transaction (RFC 3261 17.1.2, figure 6) as a table: Timers E, F and K, of which a reliable transport
needs F alone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final


@dataclass(frozen=True, slots=True)
class Timers:
    """Timer values in seconds; the defaults are those of RFC 3261 table 4."""

    t1: float = 0.5
    t2: float = 4.0
    t4: float = 5.0
    timeout: float = 32.0
    """Timer F; the RFC's value is 64 times T1."""


class State(Enum):
    """The states of figure 6."""

    TRYING = auto()
    PROCEEDING = auto()
    COMPLETED = auto()
    TERMINATED = auto()


class Event(Enum):
    """What can happen to a transaction."""

    TIMER_E = auto()
    TIMER_F = auto()
    TIMER_K = auto()
    PROVISIONAL = auto()
    FINAL = auto()
    TRANSPORT_ERROR = auto()


class Effect(Enum):
    """What the owner of the transaction has to do after a transition."""

    NONE = auto()
    RETRANSMIT = auto()
    """Send the request again and restart Timer E."""
    ANSWER = auto()
    """Hand the final response to the user; start Timer K."""
    TIMEOUT = auto()
    """Tell the user that nobody answered."""
    FAILURE = auto()
    """Tell the user that the request could not be delivered."""


TABLE: Final[dict[tuple[State, Event], tuple[State, Effect]]] = {
    (State.TRYING, Event.TIMER_E): (State.TRYING, Effect.RETRANSMIT),
    (State.TRYING, Event.TIMER_F): (State.TERMINATED, Effect.TIMEOUT),
    (State.TRYING, Event.PROVISIONAL): (State.PROCEEDING, Effect.NONE),
    (State.TRYING, Event.FINAL): (State.COMPLETED, Effect.ANSWER),
    (State.TRYING, Event.TRANSPORT_ERROR): (State.TERMINATED, Effect.FAILURE),
    (State.PROCEEDING, Event.TIMER_E): (State.PROCEEDING, Effect.RETRANSMIT),
    (State.PROCEEDING, Event.TIMER_F): (State.TERMINATED, Effect.TIMEOUT),
    (State.PROCEEDING, Event.PROVISIONAL): (State.PROCEEDING, Effect.NONE),
    (State.PROCEEDING, Event.FINAL): (State.COMPLETED, Effect.ANSWER),
    (State.PROCEEDING, Event.TRANSPORT_ERROR): (State.TERMINATED, Effect.FAILURE),
    (State.COMPLETED, Event.PROVISIONAL): (State.COMPLETED, Effect.NONE),
    (State.COMPLETED, Event.FINAL): (State.COMPLETED, Effect.NONE),
    (State.COMPLETED, Event.TRANSPORT_ERROR): (State.COMPLETED, Effect.NONE),
    (State.COMPLETED, Event.TIMER_K): (State.TERMINATED, Effect.NONE),
}
"""One row for each arrow of figure 6. A pair that is not here cannot happen: the timers are stopped by then."""


class ClientTransaction:
    """One request on the wire. Mutable and slotted: one exists for every NOTIFY in flight (the hot path).

    `due_at` is when `advance` wants to be called, on the clock that `now` comes from; infinity when nothing is pending.
    `reliable`: the transport repeats what is lost, so that nothing is sent again and Timer K is zero (RFC 3261 17.1.2.2).
    """

    __slots__ = ("_f_at", "_interval", "_timers", "due_at", "reliable", "state")

    def __init__(self, timers: Timers, *, now: float, reliable: bool = False) -> None:
        self._timers = timers
        self.state = State.TRYING
        self.reliable = reliable
        self._interval = timers.t1
        self._f_at = now + timers.timeout
        self.due_at = now + (timers.t1 if timers.t1 < timers.timeout and not reliable else timers.timeout)

    @property
    def waiting(self) -> bool:
        """True as long as no final response, time-out or failure has come."""
        return self.state is State.TRYING or self.state is State.PROCEEDING

    def advance(self, *, now: float) -> Effect:
        """Let the timer that is due expire; Effect.NONE when none is."""
        if now < self.due_at:
            return Effect.NONE
        if self.state is State.COMPLETED:
            return self._enter(Event.TIMER_K)
        if now >= self._f_at:
            return self._enter(Event.TIMER_F)
        effect = self._enter(Event.TIMER_E)
        # RFC 3261 17.1.2.2: doubled up to T2; in Proceeding always T2. Counted from now, so that a late timer does not
        # make two requests follow each other closely.
        timers = self._timers
        self._interval = timers.t2 if self.state is State.PROCEEDING else min(2 * self._interval, timers.t2)
        self.due_at = min(now + self._interval, self._f_at)
        return effect

    def receive(self, status: int, *, now: float) -> Effect:
        """Take a response with that status code."""
        self.state, effect = TABLE[self.state, Event.PROVISIONAL if status < 200 else Event.FINAL]
        if effect is Effect.ANSWER:
            self.due_at = now if self.reliable else now + self._timers.t4
        return effect

    def fail(self) -> Effect:
        """Take a transport error (RFC 3261 17.1.4)."""
        return self._enter(Event.TRANSPORT_ERROR)

    def _enter(self, event: Event) -> Effect:
        self.state, effect = TABLE[self.state, event]
        if self.state is State.TERMINATED:
            self.due_at = float("inf")
        return effect
