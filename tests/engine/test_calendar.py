"""When schedules fire: cron lines as crontab(5) reads them, and what becomes of local times when clocks change."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resyncctl.engine.calendar import When
from resyncctl.errors import InputError

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


def utc(text: str) -> datetime:
    """Read `2026-03-29T01:00` as UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def fires(when: When, after: str, count: int) -> list[str]:
    """Return the next fire times as text."""
    found = []
    moment = utc(after)
    for _ in range(count):
        following = when.next(moment)
        if following is None:
            break
        moment = following
        found.append(f"{moment:%Y-%m-%dT%H:%M}")
    return found


def cron(line: str, tz: str = "UTC") -> When:
    return When.parse(cron=line, tz=tz, now=NOW)


# Days are numbered as crontab(5) does


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("0", "29"),  # 29 November 2026 is a Sunday
        ("7", "29"),
        ("sun", "29"),
        ("SUN", "29"),
        ("1", "23 30"),
        ("mon", "23 30"),
        ("6", "28"),
        ("1-5", "23 24 25 26 27 30"),
        ("mon-fri", "23 24 25 26 27 30"),
        ("0-2", "23 24 29 30"),
        ("5-7", "27 28 29"),
        ("fri-sun", "27 28 29"),
        ("sun,3", "25 29"),
        ("0,6", "28 29"),
        ("1-5/2", "23 25 27 30"),
        ("*/2", "24 26 28 29"),
        ("4/2", "26 28"),
        ("*", "23 24 25 26 27 28 29 30"),
    ],
)
def test_days_of_the_week_are_numbered_from_sunday(field: str, expected: str) -> None:
    days = [text for text in fires(cron(f"0 3 * * {field}"), "2026-11-22T12:00", 8) if text < "2026-12"]
    assert [text[8:10] for text in days] == expected.split()


def test_either_of_two_restricted_days_is_enough() -> None:
    line = cron("0 3 1 * mon")
    assert fires(line, "2026-11-23T12:00", 3) == ["2026-11-30T03:00", "2026-12-01T03:00", "2026-12-07T03:00"]


def test_a_day_field_that_begins_with_a_star_restricts_the_other_one() -> None:
    assert fires(cron("0 3 */2 * mon"), "2026-11-22T12:00", 3) == [
        "2026-11-23T03:00",
        "2026-12-07T03:00",
        "2026-12-21T03:00",
    ]


def test_a_day_that_no_month_has_leaves_the_day_of_the_week() -> None:
    assert fires(cron("0 3 31 feb mon"), "2026-11-22T12:00", 2) == ["2027-02-01T03:00", "2027-02-08T03:00"]


def test_a_leap_day_is_waited_for() -> None:
    assert fires(cron("30 4 29 2 *"), "2097-01-01T00:00", 2) == ["2104-02-29T04:30", "2108-02-29T04:30"]


def test_the_next_fire_is_strictly_after() -> None:
    line = cron("0 3 * * *")
    assert line.next(utc("2026-11-23T03:00:00")) == utc("2026-11-24T03:00:00")
    assert line.next(utc("2026-11-23T02:59:59.999999")) == utc("2026-11-23T03:00:00")
    assert line.next(utc("2026-11-23T03:00:00.000001")) == utc("2026-11-24T03:00:00")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("0 3 * *", "has 4 fields instead of 5"),
        ("0 0 3 * * sun", "has 6 fields instead of 5"),
        ("@daily", "has 1 fields instead of 5"),
        ("60 3 * * *", "minute '60': '60' is not 0 to 59"),
        ("0 24 * * *", "hour '24': '24' is not 0 to 23"),
        ("0 3 0 * *", "day of month '0': '0' is not 1 to 31"),
        ("0 3 32 * *", "day of month '32'"),
        ("0 3 last * *", "day of month 'last'"),
        ("0 3 * 13 *", "month '13'"),
        ("0 3 * foo *", "month 'foo': 'foo' is not 1 to 12"),
        ("0 3 * jan-febx *", "month 'jan-febx'"),
        ("0 3 * * 8", "day of week '8': '8' is not 0 to 7"),
        ("0 3 * * mon-sunday", "day of week 'mon-sunday'"),
        ("0 3 * * 5-1", "day of week '5-1': '5-1' ends before it begins"),
        ("*/0 3 * * *", "minute '*/0': '*/0' has a step of 0"),
        ("1,,2 3 * * *", "minute '1,,2'"),
        ("-5 3 * * *", "minute '-5'"),
        ("0 3 30 2 *", "never fires"),
        ("0 3 31 4,6,9,11 *", "never fires"),
    ],
)
def test_a_wrong_cron_line_is_refused_by_field(line: str, complaint: str) -> None:
    with pytest.raises(InputError) as refused:
        cron(line)
    assert complaint in str(refused.value)
    assert "--cron" in str(refused.value)


# Clocks that change


DAILY = [
    # Europe/Berlin: at 01:00Z, one hour; 30 2 does not occur in March and occurs twice in October
    ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["2026-03-29T01:00", "2026-03-30T00:30"]),
    ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", ["2026-10-25T00:30", "2026-10-26T01:30"]),
    ("30 2 * * *", "Europe/Berlin", "2027-03-27T12:00", ["2027-03-28T01:00", "2027-03-29T00:30"]),
    ("30 2 * * *", "Europe/Berlin", "2027-10-30T12:00", ["2027-10-31T00:30", "2027-11-01T01:30"]),
    # America/New_York: at 07:00Z in March, at 06:00Z in November
    ("30 2 * * *", "America/New_York", "2026-03-07T12:00", ["2026-03-08T07:00", "2026-03-09T06:30"]),
    ("30 1 * * *", "America/New_York", "2026-10-31T12:00", ["2026-11-01T05:30", "2026-11-02T06:30"]),
    ("30 2 * * *", "America/New_York", "2027-03-13T12:00", ["2027-03-14T07:00", "2027-03-15T06:30"]),
    ("30 1 * * *", "America/New_York", "2027-11-06T12:00", ["2027-11-07T05:30", "2027-11-08T06:30"]),
    # Australia/Lord_Howe: half an hour, at 02:00 local, from +11 to +10:30 in April, back in October
    ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00", ["2026-04-04T14:45", "2026-04-05T15:15"]),
    ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00", ["2026-10-03T15:30", "2026-10-04T15:15"]),
    ("45 1 * * *", "Australia/Lord_Howe", "2027-04-03T12:00", ["2027-04-03T14:45", "2027-04-04T15:15"]),
    ("15 2 * * *", "Australia/Lord_Howe", "2027-10-02T12:00", ["2027-10-02T15:30", "2027-10-03T15:15"]),
    # Several times in the gap fire together once, and once is enough for the one at its end
    ("*/10 2 * * *", "Europe/Berlin", "2026-03-29T00:00", ["2026-03-29T01:00", "2026-03-30T00:00"]),
    ("0 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00", ["2026-03-29T01:00", "2026-03-30T00:00"]),
    ("*/20 2 * * *", "Europe/Berlin", "2026-10-25T00:15", ["2026-10-25T00:20", "2026-10-25T00:40", "2026-10-26T01:00"]),
    # The edges: 02:00 is left out in March; 03:00 comes once in October, 02:00 twice
    ("0 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["2026-03-29T01:00", "2026-03-30T00:00"]),
    ("0 3 * * *", "Europe/Berlin", "2026-03-28T12:00", ["2026-03-29T01:00", "2026-03-30T01:00"]),
    ("59 1 * * *", "Europe/Berlin", "2026-03-28T12:00", ["2026-03-29T00:59", "2026-03-29T23:59"]),
    ("0 2 * * *", "Europe/Berlin", "2026-10-24T12:00", ["2026-10-25T00:00", "2026-10-26T01:00"]),
    ("0 3 * * *", "Europe/Berlin", "2026-10-24T12:00", ["2026-10-25T02:00", "2026-10-26T02:00"]),
    # Every six hours is a list of local times
    ("0 */6 * * *", "Europe/Berlin", "2026-10-24T21:00", ["2026-10-24T22:00", "2026-10-25T05:00", "2026-10-25T11:00"]),
]


@pytest.mark.parametrize(("line", "tz", "after", "expected"), DAILY)
def test_a_local_time_fires_once_whatever_the_clocks_do(line: str, tz: str, after: str, expected: list[str]) -> None:
    assert fires(cron(line, tz), after, len(expected)) == expected


@pytest.mark.parametrize("after", ["2026-10-25T00:30", "2026-10-25T01:00", "2026-10-25T01:15", "2026-10-25T01:30"])
def test_the_second_pass_of_a_repeated_hour_fires_nothing_again(after: str) -> None:
    assert fires(cron("30 2 * * *", "Europe/Berlin"), after, 1) == ["2026-10-26T01:30"]


@pytest.mark.parametrize(
    ("tz", "after"),
    [
        ("Europe/Berlin", "2026-03-28T23:55"),
        ("Europe/Berlin", "2026-10-24T23:55"),
        ("America/New_York", "2027-03-14T05:55"),
        ("America/New_York", "2027-11-07T04:55"),
        ("Australia/Lord_Howe", "2026-04-04T13:55"),
        ("Australia/Lord_Howe", "2026-10-03T14:25"),
    ],
)
def test_every_ten_minutes_stay_every_ten_minutes_over_a_change(tz: str, after: str) -> None:
    times = [datetime.fromisoformat(text) for text in fires(cron("*/10 * * * *", tz), after, 20)]
    assert times[0] - datetime.fromisoformat(after) == timedelta(minutes=5)
    assert {later - sooner for sooner, later in itertools.pairwise(times)} == {timedelta(minutes=10)}


def test_half_past_every_hour_comes_in_both_passes_and_not_in_the_gap() -> None:
    line = cron("30 * * * *", "Europe/Berlin")
    assert fires(line, "2026-03-29T00:00", 3) == ["2026-03-29T00:30", "2026-03-29T01:30", "2026-03-29T02:30"]
    assert fires(line, "2026-10-25T00:00", 3) == ["2026-10-25T00:30", "2026-10-25T01:30", "2026-10-25T02:30"]


def test_half_an_hour_put_back_shows_half_past_one_twice() -> None:
    line = cron("45 * * * *", "Australia/Lord_Howe")  # at 15:00Z clocks go from 02:00 to 01:30
    assert fires(line, "2026-04-04T14:00", 3) == ["2026-04-04T14:45", "2026-04-04T15:15", "2026-04-04T16:15"]


def _matches(moment: datetime, *, minutes: set[int], hours: set[int]) -> bool:
    return moment.minute in minutes and moment.hour in hours


def _by_looking_at_the_clock(
    zone: ZoneInfo, start: datetime, end: datetime, *, minutes: set[int], hours: set[int]
) -> list[datetime]:
    """Walk through every minute with an eye on the wall's clock, and fire as the rules say."""
    fired = []
    moment = start
    while moment < end:
        shown, before = moment.astimezone(zone), (moment - timedelta(minutes=1)).astimezone(zone)
        left_out = int((shown.replace(tzinfo=None) - before.replace(tzinfo=None)) / timedelta(minutes=1)) - 1
        if len(hours) == 24:
            due = _matches(shown, minutes=minutes, hours=hours)
        else:
            skipped = (before.replace(tzinfo=None) + timedelta(minutes=n + 1) for n in range(max(0, left_out)))
            due = shown.fold == 0 and _matches(shown, minutes=minutes, hours=hours)
            due = due or any(_matches(one, minutes=minutes, hours=hours) for one in skipped)
        if due:
            fired.append(moment)
        moment += timedelta(minutes=1)
    return fired


CHANGES = [
    ("Europe/Berlin", "2026-03-29T01:00"),
    ("Europe/Berlin", "2027-10-31T01:00"),
    ("America/New_York", "2027-03-14T07:00"),
    ("America/New_York", "2026-11-01T06:00"),
    ("Australia/Lord_Howe", "2026-04-04T15:00"),
    ("Australia/Lord_Howe", "2027-10-02T15:30"),
]
SOME_HOURS = st.one_of(st.sets(st.integers(0, 4), min_size=1), st.just(set(range(24))))


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(0, 59), min_size=1, max_size=6), SOME_HOURS, st.sampled_from(CHANGES))
def test_fire_times_around_a_change_are_those_that_a_look_at_the_clock_gives(
    minutes: set[int], hours: set[int], change: tuple[str, str]
) -> None:
    tz, at = change
    start, end = utc(at) - timedelta(hours=5), utc(at) + timedelta(hours=5)
    expected = _by_looking_at_the_clock(ZoneInfo(tz), start, end, minutes=minutes, hours=hours)
    hour_field = "*" if len(hours) == 24 else ",".join(map(str, sorted(hours)))
    when = cron(f"{','.join(map(str, sorted(minutes)))} {hour_field} * * *", tz)
    found = []
    moment = start - timedelta(seconds=1)
    while (following := when.next(moment)) is not None and following < end:
        moment = following
        found.append(moment)
    assert found == expected


# Periods and moments


def test_a_period_is_counted_from_when_it_was_made() -> None:
    when = When.parse(every="6h", now=utc("2026-11-22T12:34:56.789"))
    assert when.next(utc("2026-11-22T12:34:56.789")) == utc("2026-11-22T18:34:56")
    assert when.next(utc("2026-11-22T18:34:56")) == utc("2026-11-23T00:34:56")
    assert when.next(utc("2026-11-22T18:34:55.5")) == utc("2026-11-22T18:34:56")
    assert when.next(utc("2020-01-01T00:00")) == utc("2026-11-22T18:34:56")


def test_a_period_is_real_time_over_a_change() -> None:
    when = When.parse(every="30m", tz="Europe/Berlin", now=utc("2026-03-29T00:15"))
    assert fires(when, "2026-03-29T00:15", 3) == ["2026-03-29T00:45", "2026-03-29T01:15", "2026-03-29T01:45"]


@pytest.mark.parametrize(
    ("text", "tz", "moment"),
    [
        ("2026-12-24T03:00", "Europe/Berlin", "2026-12-24T02:00"),
        ("2026-12-24 03:00:30", "Europe/Berlin", "2026-12-24T02:00:30"),
        ("2026-12-24T03:00+05:30", "Europe/Berlin", "2026-12-23T21:30"),
        ("2026-12-24T03:00Z", "Europe/Berlin", "2026-12-24T03:00"),
        ("2027-03-28T02:30", "Europe/Berlin", "2027-03-28T01:00"),
        ("2027-10-31T02:30", "Europe/Berlin", "2027-10-31T00:30"),
    ],
)
def test_a_moment_is_local_unless_it_has_an_offset(text: str, tz: str, moment: str) -> None:
    when = When.parse(at=text, tz=tz, now=NOW)
    assert when.next(NOW) == utc(moment)
    assert when.next(utc(moment)) is None


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ({}, "give exactly one of --cron"),
        ({"cron": "0 3 * * *", "every": "6h"}, "give exactly one of --cron"),
        ({"every": "soon"}, "--every: 'soon' is not a duration"),
        ({"every": "500ms"}, "--every 500ms: whole seconds, at least 1s"),
        ({"every": "1.5s"}, "--every 1.5s: whole seconds"),
        ({"every": "31d"}, "longer than 30 days"),
        ({"at": "tomorrow"}, "--at 'tomorrow' is not a time"),
        ({"at": "2026-12-24"}, "--at 2026-12-24 has no time of day"),
        ({"at": "2026-11-22T11:00"}, "--at 2026-11-22T11:00 is over"),
        ({"cron": "0 3 * * *", "tz": "Europe/Atlantis"}, "--tz 'Europe/Atlantis' is not a time zone"),
        ({"cron": "0 3 * * *", "tz": "../../etc/passwd"}, "is not a time zone"),
        ({"cron": "0 3 * * *", "tz": "Europe"}, "is not a time zone"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(words: dict[str, str], complaint: str) -> None:
    with pytest.raises(InputError) as refused:
        When.parse(**words, now=NOW)
    assert complaint in str(refused.value)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({"cron": "0  3 * * Sun", "tz": "Europe/Berlin"}, "cron 0 3 * * Sun (Europe/Berlin)"),
        ({"every": "1h30m"}, "every 1 h 30 min"),
        ({"at": "2026-12-24T03:00", "tz": "Europe/Berlin"}, "at 2026-12-24 03:00:00 (Europe/Berlin)"),
    ],
)
def test_what_was_read_is_stored_and_read_again_and_shown(words: dict[str, str], text: str) -> None:
    when = When.parse(**words, now=NOW)
    assert When.from_dict(when.to_dict()) == when
    assert str(when) == text


def test_what_is_stored_can_be_read_by_people() -> None:
    assert When.parse(cron="0 3 * * sun", tz="Europe/Berlin", now=NOW).to_dict() == {
        "cron": "0 3 * * sun",
        "tz": "Europe/Berlin",
    }
    assert When.parse(every="6h", now=NOW).to_dict() == {"every": 21600, "since": "2026-11-22T12:00:00Z", "tz": "UTC"}
    assert When.parse(at="2026-12-24T03:00Z", now=NOW).to_dict() == {"at": "2026-12-24T03:00:00Z", "tz": "UTC"}


# The last fire before now


@pytest.mark.parametrize(
    ("line", "after", "until", "expected"),
    [
        ("*/5 * * * *", "2026-11-01T00:00", "2026-11-22T12:04", "2026-11-22T12:00"),
        ("*/5 * * * *", "2026-11-01T00:00", "2026-11-22T12:05", "2026-11-22T12:05"),
        ("* 3 * * *", "2026-11-01T00:00", "2026-11-22T12:00", "2026-11-22T03:59"),
        ("0 3 1 1 *", "2001-06-01T00:00", "2026-11-22T12:00", "2026-01-01T03:00"),
        ("0 3 * * *", "2026-11-22T02:59", "2026-11-22T12:00", "2026-11-22T03:00"),
    ],
)
def test_the_latest_fire_before_a_moment_is_found(line: str, after: str, until: str, expected: str) -> None:
    assert cron(line).latest(utc(after), utc(until)) == utc(expected)


def test_there_is_no_latest_fire_where_none_has_been() -> None:
    assert cron("0 3 * * *").latest(utc("2026-11-22T03:00"), utc("2026-11-23T02:59")) is None
