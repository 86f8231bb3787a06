"""What a response means for a target, and whether another attempt follows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resyncctl.rollout.attempts import budget, judge, retry_in
from resyncctl.rollout.model import FAILED, SUCCESS, TERMINAL, Reason, TargetState

S = TargetState
RETRYABLE = [S.UNREACHABLE, S.OVERLOADED]


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (200, S.ACCEPTED),
        (202, S.ACCEPTED),
        (204, S.ACCEPTED),
        (299, S.ACCEPTED),
        (300, S.REJECTED),
        (301, S.REJECTED),
        (302, S.REJECTED),
        (305, S.REJECTED),
        (380, S.REJECTED),
        (400, S.REJECTED),
        (401, S.UNAUTHORIZED),
        (402, S.REJECTED),
        (403, S.REJECTED),
        (404, S.REJECTED),
        (405, S.REJECTED),
        (406, S.REJECTED),
        (407, S.UNAUTHORIZED),
        (408, S.UNREACHABLE),
        (410, S.REJECTED),
        (415, S.REJECTED),
        (420, S.REJECTED),
        (423, S.REJECTED),
        (430, S.UNREACHABLE),
        (480, S.UNREACHABLE),
        (481, S.REJECTED),
        (482, S.REJECTED),
        (483, S.REJECTED),
        (486, S.REJECTED),
        (488, S.REJECTED),
        (489, S.REJECTED),
        (500, S.OVERLOADED),
        (501, S.REJECTED),
        (502, S.REJECTED),
        (503, S.OVERLOADED),
        (504, S.OVERLOADED),
        (505, S.REJECTED),
        (513, S.REJECTED),
        (600, S.REJECTED),
        (603, S.REJECTED),
        (604, S.REJECTED),
        (606, S.REJECTED),
        (699, S.REJECTED),
    ],
)
def test_a_final_response_is_judged_by_its_code(status: int, state: TargetState) -> None:
    assert judge(Reason.RESPONSE, status) is state


@pytest.mark.parametrize(
    ("reason", "status", "state"),
    [
        (Reason.TIMEOUT, 0, S.UNREACHABLE),
        (Reason.REFUSED, 0, S.UNREACHABLE),
        (Reason.NO_ROUTE, 0, S.UNREACHABLE),
        (Reason.NOT_SENT, 0, S.UNREACHABLE),
        (Reason.NO_ADDRESS, 0, S.UNREACHABLE),
        (Reason.UNANSWERABLE, 401, S.UNAUTHORIZED),
        (Reason.UNANSWERABLE, 407, S.UNAUTHORIZED),
        (Reason.NO_CREDENTIALS, 401, S.UNAUTHORIZED),
        (Reason.CREDENTIALS_REFUSED, 407, S.UNAUTHORIZED),
    ],
)
def test_an_end_without_a_usable_response_is_judged_by_its_reason(
    reason: Reason, status: int, state: TargetState
) -> None:
    assert judge(reason, status) is state


@given(st.integers(200, 699))
def test_every_code_ends_as_success_or_failure(status: int) -> None:
    assert judge(Reason.RESPONSE, status) in SUCCESS | FAILED


def wait(
    state: TargetState,
    attempt: int,
    *,
    attempts: int = 3,
    retry_delay: float = 5.0,
    retry_after: int = -1,
    share: float = 0.0,
) -> float | None:
    return retry_in(
        state, attempt=attempt, attempts=attempts, retry_delay=retry_delay, retry_after=retry_after, share=share
    )


@pytest.mark.parametrize("state", sorted(TERMINAL - {*RETRYABLE}))
def test_only_unreachable_and_overloaded_phones_are_tried_again(state: TargetState) -> None:
    assert wait(state, 1) is None


@pytest.mark.parametrize("state", RETRYABLE)
@pytest.mark.parametrize(("attempt", "attempts"), [(1, 1), (3, 3), (4, 3)])
def test_the_last_attempt_is_the_last(state: TargetState, attempt: int, attempts: int) -> None:
    assert wait(state, attempt, attempts=attempts) is None


@pytest.mark.parametrize(
    ("attempt", "seconds"),
    [(1, 5.0), (2, 10.0), (3, 20.0), (4, 40.0), (7, 320.0), (8, 600.0), (9, 600.0), (254, 600.0), (5000, 600.0)],
)
@pytest.mark.parametrize("state", RETRYABLE)
def test_the_wait_doubles_up_to_ten_minutes(state: TargetState, attempt: int, seconds: float) -> None:
    assert wait(state, attempt, attempts=10_000) == seconds


@pytest.mark.parametrize(("share", "seconds"), [(0.0, 10.0), (0.5, 12.5), (0.8, 14.0)])
def test_up_to_half_of_the_wait_is_added_at_random(share: float, seconds: float) -> None:
    assert wait(S.UNREACHABLE, 2, share=share) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("retry_after", "seconds"), [(-1, 5.0), (0, 5.0), (4, 5.0), (6, 6.0), (1800, 1800.0), (3600, 3600.0)]
)
def test_a_phone_is_not_asked_again_before_its_retry_after(retry_after: int, seconds: float) -> None:
    assert wait(S.OVERLOADED, 1, retry_after=retry_after) == seconds


@pytest.mark.parametrize("retry_after", [3601, 2**31 - 1])
def test_a_phone_that_wants_more_than_an_hour_of_rest_is_given_up(retry_after: int) -> None:
    assert wait(S.OVERLOADED, 1, retry_after=retry_after) is None


@pytest.mark.parametrize(
    ("targets", "retries"), [(0, 100), (1, 100), (1000, 100), (1009, 100), (1010, 101), (1_000_000, 100_000)]
)
def test_a_rollout_may_retry_a_tenth_of_its_targets_and_at_least_a_hundred(targets: int, retries: int) -> None:
    assert budget(targets) == retries
