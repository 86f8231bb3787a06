"""The plan is the rate limiter: who is due when, in which batch, and never more than the rate."""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resyncctl.rollout.model import Options
from resyncctl.rollout.pacing import Jitter, interleave, seed_of, spacing_us
from resyncctl.rollout.planner import Batch, Columns, schedule

SECOND = 1_000_000
DEFAULT = Options()
UNPACED = Options(rate=0, batch_interval=0.0, batch_size=10_000)
RATES = st.sampled_from([0.0, 0.4, 1.0, 2.5, 3.0, 7.0, 50.0, 333.3, 1000.0])
OPTIONS = st.builds(
    Options,
    batch_size=st.integers(1, 700),
    batch_interval=st.floats(0, 100),
    rate=RATES,
)


def fleet(count: int, *, sites: Sequence[int] = (), delay: float = 40.0) -> Columns:
    """Make phones 1000, 1001, …, all with one random delay."""
    return Columns(array("q", range(1000, 1000 + count)), array("l", sites or [0] * count), array("d", [delay] * count))


@st.composite
def fleets(draw: st.DrawFn) -> Columns:
    count = draw(st.integers(0, 400))
    sites = draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))
    return fleet(count, sites=sites, delay=draw(st.sampled_from([0.0, 0.000_001, 0.5, 40.0])))


def dues_of(batches: Iterable[Batch]) -> dict[int, int]:
    return {index: due for batch in batches for index, due in zip(batch.targets, batch.dues, strict=True)}


def sending_order(batches: Iterable[Batch]) -> list[int]:
    dues = dues_of(batches)
    return sorted(dues, key=dues.__getitem__)


def most_within(times: Iterable[int], window: int) -> int:
    """Count the times that the busiest half-open window holds."""
    ordered = sorted(times)
    most = first = 0
    for last, at in enumerate(ordered):
        while at - ordered[first] >= window:
            first += 1
        most = max(most, last - first + 1)
    return most


@given(fleets(), OPTIONS, st.integers(0, 2**64 - 1))
def test_every_target_is_in_exactly_one_batch(columns: Columns, options: Options, seed: int) -> None:
    placed = Counter(index for batch in schedule(columns, options, seed) for index in batch.targets)
    assert placed == Counter(range(len(columns)))


@given(fleets(), OPTIONS)
def test_batches_are_numbered_in_order_and_hold_at_most_512_targets_sorted_by_due(
    columns: Columns, options: Options
) -> None:
    batches = list(schedule(columns, options, 1))
    assert [batch.number for batch in batches] == list(range(len(batches)))
    assert [batch.dues[0] for batch in batches] == sorted(batch.dues[0] for batch in batches)
    for batch in batches:
        assert batch.wave == 0
        assert 1 <= len(batch.targets) <= 512
        assert list(batch.dues) == sorted(batch.dues)
        assert len(batch.dues) == len(batch.targets)


@given(fleets(), OPTIONS)
def test_no_one_second_window_holds_more_sends_than_the_rate(columns: Columns, options: Options) -> None:
    if options.rate:
        dues = dues_of(schedule(columns, options, 1)).values()
        assert most_within(dues, SECOND) <= ceil(options.rate)


@pytest.mark.parametrize(("rate", "seconds", "sends"), [(2.5, 2, 5), (0.4, 5, 2), (0.1, 10, 1), (33.5, 2, 67)])
def test_a_fractional_rate_is_exact_over_the_shortest_time_that_makes_it_whole(
    rate: float, seconds: int, sends: int
) -> None:
    options = Options(rate=rate, batch_interval=0.0)
    dues = dues_of(schedule(fleet(200, delay=0.0), options, 1)).values()
    assert most_within(dues, seconds * SECOND) == sends


@given(fleets(), OPTIONS, st.integers(0, 2**64 - 1))
def test_the_same_seed_gives_the_same_plan(columns: Columns, options: Options, seed: int) -> None:
    assert list(schedule(columns, options, seed)) == list(schedule(columns, options, seed))


def test_a_plan_is_the_same_on_every_machine() -> None:
    assert list(schedule(fleet(5), Options(batch_size=3, rate=0), 7)) == [
        Batch(0, 0, array("l", [2, 0, 1]), array("q", [10_440_746, 33_969_963, 38_225_964]), array("l", [0, 0, 0])),
        Batch(0, 1, array("l", [4, 3]), array("q", [60_018_685, 76_203_325]), array("l", [1, 1])),
    ]


def test_another_seed_gives_another_plan() -> None:
    columns = fleet(50)
    assert list(schedule(columns, DEFAULT, 1)) != list(schedule(columns, DEFAULT, 2))


@given(st.integers(0, 100), st.integers(0, 2**64 - 1))
def test_adding_a_phone_moves_no_other(place: int, seed: int) -> None:
    before = fleet(100)
    after = Columns(array("q", before.devices), array("l", [0] * 101), array("d", [40.0] * 101))
    after.devices.insert(place, 77)
    options = replace(UNPACED, random_delay=40.0)
    old = {before.devices[index]: due for index, due in dues_of(schedule(before, options, seed)).items()}
    new = {after.devices[index]: due for index, due in dues_of(schedule(after, options, seed)).items()}
    del new[77]
    assert new == old


@given(fleets(), OPTIONS, st.integers(0, 2**64 - 1))
def test_without_a_rate_each_due_is_its_batch_times_the_interval_plus_less_than_the_random_delay(
    columns: Columns, options: Options, seed: int
) -> None:
    dues = dues_of(schedule(columns, replace(options, rate=0), seed))
    for position, index in enumerate(interleave(columns.sites)):
        number = position // options.batch_size
        jitter = dues[index] - round(number * options.batch_interval * SECOND)
        assert 0 <= jitter < max(1, columns.random_delays[index] * SECOND)


def test_jitter_spreads_evenly_over_the_random_delay() -> None:
    dues = dues_of(schedule(fleet(10_000, delay=40.0), UNPACED, 1)).values()
    quarters = Counter(due // (10 * SECOND) for due in dues)
    assert sorted(quarters) == [0, 1, 2, 3]
    assert all(2350 < count < 2650 for count in quarters.values())


def test_a_phone_keeps_the_random_delay_of_its_own_profile() -> None:
    columns = Columns(array("q", range(1, 3001)), array("l", [0] * 3000), array("d", [0.0, 5.0, 90.0] * 1000))
    dues = dues_of(schedule(columns, UNPACED, 3))
    latest = [max(dues[index] for index in range(kind, 3000, 3)) for kind in range(3)]
    assert latest[0] == 0
    assert 4 * SECOND < latest[1] < 5 * SECOND
    assert 85 * SECOND < latest[2] < 90 * SECOND


def test_now_sends_at_the_rate_from_the_first_moment() -> None:
    options = Options(batch_interval=0.0, random_delay=0.0, rate=50, batch_size=2)
    dues = dues_of(schedule(fleet(5, delay=0.0), options, 1))
    assert [dues[index] for index in range(5)] == [0, 20_100, 40_200, 60_300, 80_400]


def test_now_interleaves_the_sites_in_time_as_well() -> None:
    columns = fleet(6, sites=[1, 1, 1, 1, 2, 2], delay=0.0)
    options = Options(batch_interval=0.0, random_delay=0.0, rate=50, batch_size=2)
    assert sending_order(schedule(columns, options, 1)) == [0, 4, 1, 2, 5, 3]


def test_phones_of_one_batch_without_jitter_are_interleaved_too() -> None:
    columns = fleet(100, sites=[1] * 50 + [2] * 50, delay=0.0)
    order = sending_order(schedule(columns, Options(rate=50, batch_size=50), 1))
    assert [columns.sites[index] for index in order] == [1, 2] * 50


def test_now_without_a_rate_is_one_moment() -> None:
    dues = dues_of(schedule(fleet(600, delay=0.0), Options(batch_interval=0.0, random_delay=0.0, rate=0), 1))
    assert set(dues.values()) == {0}


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [
        (0, 50, []),
        (1, 50, [1]),
        (50, 50, [50]),
        (51, 50, [50, 1]),
        (512, 512, [512]),
        (513, 513, [512, 1]),
        (1200, 1200, [512, 512, 176]),
        (1200, 600, [512, 88, 512, 88]),
        (3, 10_000, [3]),
    ],
)
def test_a_batch_of_more_than_512_comes_in_parts(count: int, batch_size: int, sizes: list[int]) -> None:
    batches = schedule(fleet(count, delay=0.0), Options(batch_size=batch_size), 1)
    assert [len(batch.targets) for batch in batches] == sizes


def test_a_rate_that_is_slower_than_the_batches_pushes_later_batches_back_and_never_ahead() -> None:
    options = Options(batch_size=10, batch_interval=1.0, rate=5)
    columns = fleet(30, delay=0.0)
    free = dues_of(schedule(columns, replace(options, rate=0), 1))
    paced = dues_of(schedule(columns, options, 1))
    assert all(paced[index] >= free[index] for index in free)
    assert [paced[index] for index in (0, 9, 10, 29)] == [0, 1_809_000, 2_010_000, 5_829_000]


def test_a_hundred_thousand_targets_are_planned_in_a_few_seconds() -> None:
    columns = fleet(100_000, sites=[index % 97 for index in range(100_000)])
    began = time.perf_counter()
    planned = sum(len(batch.targets) for batch in schedule(columns, DEFAULT, 1))
    assert planned == 100_000
    assert time.perf_counter() - began < 5


@given(st.lists(st.integers(0, 5), max_size=200), st.data())
def test_every_stretch_holds_each_site_in_proportion(sites: list[int], data: st.DataObject) -> None:
    order = interleave(sites)
    assert sorted(order) == list(range(len(sites)))
    first = data.draw(st.integers(0, len(sites)))
    last = data.draw(st.integers(first, len(sites)))
    inside = Counter(sites[index] for index in order[first:last])
    totals = Counter(sites)
    for site, total in totals.items():
        share = total / len(sites)
        assert abs(inside[site] - (last - first) * share) <= 1 + len(totals) * share


@given(st.lists(st.integers(0, 5), max_size=100))
def test_within_a_site_the_order_of_the_list_stays(sites: list[int]) -> None:
    order = interleave(sites)
    for site in set(sites):
        own = [index for index in order if sites[index] == site]
        assert own == sorted(own)


def test_seeds_are_stable_and_tell_their_parts_apart() -> None:
    assert seed_of("id", "monday") == 7925699975033281203
    assert seed_of("ab", "c") != seed_of("a", "bc")


@given(st.integers(), st.integers(0, 2**63 - 1))
def test_jitter_is_a_share_of_the_delay_that_never_reaches_it(seed: int, device: int) -> None:
    share = Jitter(seed).share(device)
    assert 0 <= share < 1
    assert share == Jitter(seed).share(device)


@pytest.mark.parametrize(
    ("rate", "spacing"),
    [(0, 0), (-1, 0), (0.5, 2_010_000), (1, 1_005_000), (50, 20_100), (1000, 1005), (7, 143_572), (10_000_000, 1)],
)
def test_sends_are_spaced_half_a_percent_wider_than_the_rate(rate: float, spacing: int) -> None:
    assert spacing_us(rate) == spacing


def test_the_spacing_of_a_plan_is_never_undercut() -> None:
    dues = sorted(dues_of(schedule(fleet(500), DEFAULT, 5)).values())
    assert min(later - earlier for earlier, later in pairwise(dues)) >= 20_100
