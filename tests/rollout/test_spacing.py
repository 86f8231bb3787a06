"""The spacing of sends: a little slack lets each be late by a little, and the rate still holds in every second."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from resyncctl.rollout.pacing import SLACK, spacing_us

ONE_SECOND = 1 - 1e-6
"""A second less a microsecond, for the rounding of floats."""


def most_in_one_second(sent: list[float]) -> int:
    most = first = 0
    for last, at in enumerate(sent):
        while at - sent[first] >= ONE_SECOND:
            first += 1
        most = max(most, last - first + 1)
    return most


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
