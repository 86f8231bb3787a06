"""What a response means for a target, and whether another attempt follows (design 3.3 and 3.6)."""

from __future__ import annotations

from typing import Final

from resyncctl.rollout.model import Reason, TargetState

_UNREACHABLE: Final = frozenset({408, 430, 480})
_OVERLOADED: Final = frozenset({500, 503, 504})
_RETRYABLE: Final = frozenset({TargetState.UNREACHABLE, TargetState.OVERLOADED})
MAX_BACKOFF: Final = 600.0
"""Seconds; a longer Retry-After is still honoured."""
MAX_RETRY_AFTER: Final = 3600
"""Seconds; a phone that wants to be left alone for longer is not asked again: every state has a deadline (design 3.3)."""
BUDGET_SHARE: Final = 0.1
BUDGET_LEAST: Final = 100
"""Retries that a rollout may make: this share of its targets, at least so many. A fleet that is down is not hammered."""


def judge(reason: Reason, status: int) -> TargetState:
    """Return the state that the end of an attempt leads to when no other attempt follows."""
    if status in {401, 407}:
        return TargetState.UNAUTHORIZED
    if reason is not Reason.RESPONSE or status in _UNREACHABLE:
        return TargetState.UNREACHABLE
    if status < 300:
        return TargetState.ACCEPTED
    return TargetState.OVERLOADED if status in _OVERLOADED else TargetState.REJECTED


def may_have_arrived(reason: Reason, seconds: float, timer_t1: float) -> bool:
    """Say whether a request that has failed may have reached the phone all the same.

    `seconds` after it was sent, 0 when it never left. A refusal before anything was sent again is one of the request itself;
    later it may come from a phone that has begun to reboot.
    """
    if not seconds or reason is Reason.RESPONSE:
        return False
    return reason not in {Reason.REFUSED, Reason.NO_ROUTE} or seconds >= timer_t1


def budget(targets: int) -> int:
    """Return how many retries a rollout of that many targets may make."""
    return max(BUDGET_LEAST, int(targets * BUDGET_SHARE))


def retry_in(
    state: TargetState, *, attempt: int, attempts: int, retry_delay: float, retry_after: int, share: float
) -> float | None:
    """Return the seconds until the next attempt, or None when there is none.

    `attempt` is the one that has just ended, from 1. Exponential from `retry_delay`, up to half of it added at random
    (`share` in [0, 1)), and never before `retry_after` seconds (-1 = the phone asked for nothing; RFC 3261 20.33).
    """
    if state not in _RETRYABLE or attempt >= attempts or retry_after > MAX_RETRY_AFTER:
        return None
    backoff: float = min(MAX_BACKOFF, retry_delay * 2.0 ** min(attempt - 1, 30)) * (1 + share / 2)
    return max(backoff, float(retry_after))
