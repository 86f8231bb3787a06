"""The limiter at run time: lost time shifts, it is never caught up by a burst."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resyncctl.rollout.pacing import SLACK, Limiter, spacing_us

ONE_SECOND = 1 - 1e-6
"""A second less a microsecond, for the rounding of floats."""


def most_in_one_second(sent: list[float]) -> int:
    most = first = 0
    for last, at in enumerate(sent):
        while at - sent[first] >= ONE_SECOND:
            first += 1
        most = max(most, last - first + 1)
    return most


def execute(dues: list[float], rate: float, *, delays: list[float]) -> list[float]:
    """Send as the engine does: each at its slot or later by a delay; what is late shifts the rest of the plan."""
    limiter = Limiter(rate)
    base = now = 0.0
    sent = []
    for due, delay in zip(dues, delays, strict=True):
        slot = limiter.slot(base + due)
        now = max(now, slot) + delay
        base += limiter.take(slot, now=now)
        sent.append(now)
    return sent


def test_the_first_send_starts_when_it_is_wanted() -> None:
    assert Limiter(50).slot(12.5) == 12.5


def test_sends_that_want_the_same_time_are_a_spacing_apart() -> None:
    limiter = Limiter(50)
    slots = []
    for _ in range(4):
        slot = limiter.slot(10.0)
        limiter.take(slot, now=slot)
        slots.append(round(slot, 6))
    assert slots == [10.0, 10.0201, 10.0402, 10.0603]


def test_a_send_wanted_later_than_the_spacing_starts_when_it_is_wanted() -> None:
    limiter = Limiter(50)
    limiter.take(10.0, now=10.0)
    assert limiter.slot(11.0) == 11.0


def test_a_slot_that_is_asked_for_and_not_taken_stays_free() -> None:
    limiter = Limiter(1)
    assert [limiter.slot(5.0), limiter.slot(5.0)] == [5.0, 5.0]


def test_without_a_rate_everything_may_start_at_once() -> None:
    limiter = Limiter(0)
    for _ in range(3):
        assert limiter.slot(10.0) == 10.0
        assert limiter.take(10.0, now=10.0) == 0.0


def test_a_send_at_most_five_milliseconds_late_shifts_nothing() -> None:
    limiter = Limiter(50)
    assert limiter.take(10.0, now=10.004_9) == 0.0
    assert limiter.slot(10.0) == pytest.approx(10.020_1)


def test_a_later_send_shifts_everything_behind_it_by_its_whole_lateness() -> None:
    limiter = Limiter(50)
    assert limiter.take(10.0, now=12.5) == 2.5
    assert limiter.slot(10.0201) == pytest.approx(12.520_1)


def test_a_stall_of_three_seconds_delays_the_rest_and_causes_no_burst() -> None:
    dues = [number * 0.0201 for number in range(500)]
    delays = [0.0] * 500
    delays[200] = 3.0
    sent = execute(dues, 50, delays=delays)
    assert sent[199] == pytest.approx(199 * 0.0201)
    assert sent[200] == pytest.approx(200 * 0.0201 + 3)
    assert sent[499] == pytest.approx(499 * 0.0201 + 3)
    assert most_in_one_second(sent) == 50


LATENESS = st.one_of(st.just(0.0), st.floats(0, SLACK), st.floats(0, 0.05), st.floats(0, 4))


@given(
    st.sampled_from([1.0, 3.0, 7.0, 50.0, 200.0]),
    st.lists(st.tuples(st.floats(0, 0.1), LATENESS), max_size=300),
)
def test_however_late_sends_are_no_second_holds_more_than_the_rate(
    rate: float, sends: list[tuple[float, float]]
) -> None:
    due = 0.0
    dues = []
    for gap, _ in sends:
        due += gap
        dues.append(due)
    sent = execute(dues, rate, delays=[delay for _, delay in sends])
    assert most_in_one_second(sent) <= rate


@given(st.lists(st.floats(0, 1000), max_size=100))
def test_slots_are_never_closer_than_the_spacing_in_whatever_order_they_are_wanted(wanted: list[float]) -> None:
    limiter = Limiter(50)
    previous = float("-inf")
    for at in wanted:
        slot = limiter.slot(at)
        limiter.take(slot, now=slot)
        assert slot - previous >= 0.0201 - 1e-9
        previous = slot


@given(st.sampled_from([1, 7, 50, 300]), st.data())
def test_sends_at_most_five_milliseconds_late_are_never_more_than_the_rate_in_any_second(
    rate: int, data: st.DataObject
) -> None:
    late = data.draw(st.lists(st.floats(0, SLACK), min_size=2 * rate, max_size=2 * rate))
    spacing = spacing_us(rate) / 1_000_000
    assert most_in_one_second([number * spacing + lateness for number, lateness in enumerate(late)]) <= rate


def test_without_the_slack_one_late_send_would_break_the_rate() -> None:
    exact = [number / 50 for number in range(51)]
    exact[0] += SLACK
    assert most_in_one_second(exact) == 51
    slack = [number * 0.0201 for number in range(51)]
    slack[0] += SLACK
    assert most_in_one_second(slack) == 50
