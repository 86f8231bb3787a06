"""The forced resync delay: what happens at its time to a phone that may be in a call (design 3.2)."""

from __future__ import annotations

from enum import Enum, auto

from resyncctl.rollout.model import Busy, OnBusy


class Decision(Enum):
    """What to do with a phone now."""

    SEND = auto()
    WAIT = auto()
    """Defer it until its call ends or the forced delay is over."""
    GIVE_UP = auto()
    """Skip it: the forced delay is over and the policy, or an emergency call, forbids to send."""


def decide(busy: Busy, *, deferred: bool, forced: bool, on_busy: OnBusy) -> Decision:
    """Decide about a phone whose due time has come.

    `deferred`: it was seen in a call at or after its due time. `forced`: due time plus forced delay has come. A deferred
    phone whose state is not known any more is not taken for idle. An emergency call is never interrupted.
    """
    if busy is Busy.EMERGENCY:
        return Decision.GIVE_UP if forced else Decision.WAIT
    if busy is Busy.BUSY or (deferred and busy is Busy.UNKNOWN):
        if not forced:
            return Decision.WAIT
        return Decision.SEND if on_busy is OnBusy.FORCE else Decision.GIVE_UP
    return Decision.SEND
