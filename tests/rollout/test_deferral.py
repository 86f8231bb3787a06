"""The forced resync delay: every combination of what is known of a phone's calls and of the policy."""

from __future__ import annotations

from itertools import product

import pytest

from resyncctl.rollout.deferral import Decision, decide
from resyncctl.rollout.model import Busy, OnBusy

SEND, WAIT, GIVE_UP = Decision.SEND, Decision.WAIT, Decision.GIVE_UP
TABLE = {
    # busy, deferred, forced: on_busy force, on_busy skip
    (Busy.IDLE, False, False): (SEND, SEND),
    (Busy.IDLE, False, True): (SEND, SEND),
    (Busy.IDLE, True, False): (SEND, SEND),
    (Busy.IDLE, True, True): (SEND, SEND),
    (Busy.BUSY, False, False): (WAIT, WAIT),
    (Busy.BUSY, False, True): (SEND, GIVE_UP),
    (Busy.BUSY, True, False): (WAIT, WAIT),
    (Busy.BUSY, True, True): (SEND, GIVE_UP),
    (Busy.EMERGENCY, False, False): (WAIT, WAIT),
    (Busy.EMERGENCY, False, True): (GIVE_UP, GIVE_UP),
    (Busy.EMERGENCY, True, False): (WAIT, WAIT),
    (Busy.EMERGENCY, True, True): (GIVE_UP, GIVE_UP),
    (Busy.UNKNOWN, False, False): (SEND, SEND),
    (Busy.UNKNOWN, False, True): (SEND, SEND),
    (Busy.UNKNOWN, True, False): (WAIT, WAIT),
    (Busy.UNKNOWN, True, True): (SEND, GIVE_UP),
}


def test_the_table_is_complete() -> None:
    assert set(TABLE) == set(product(Busy, [False, True], [False, True]))


@pytest.mark.parametrize(("row", "decisions"), list(TABLE.items()))
def test_the_decision_is_that_of_the_table(row: tuple[Busy, bool, bool], decisions: tuple[Decision, Decision]) -> None:
    busy, deferred, forced = row
    found = [decide(busy, deferred=deferred, forced=forced, on_busy=policy) for policy in (OnBusy.FORCE, OnBusy.SKIP)]
    assert found == [*decisions]


@pytest.mark.parametrize(("deferred", "forced", "policy"), list(product([False, True], [False, True], OnBusy)))
def test_an_emergency_call_is_never_interrupted(*, deferred: bool, forced: bool, policy: OnBusy) -> None:
    assert decide(Busy.EMERGENCY, deferred=deferred, forced=forced, on_busy=policy) is not SEND
