"""The five fields of a cron line, as crontab(5) numbers them, in the numbers of APScheduler's CronTrigger (Monday is 0)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from resyncctl.errors import InputError

_MONTHS: Final = dict(
    zip(("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), range(1, 13), strict=True)
)
_DAYS: Final = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}
_ITEM: Final = re.compile(r"(?:\*|([0-9]{1,2}|[a-z]{3})(?:-([0-9]{1,2}|[a-z]{3}))?)(?:/([0-9]{1,2}))?\Z")
_LONGEST_MONTHS: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
LONGEST: Final = 400
"""Characters of a cron line."""


@dataclass(frozen=True, slots=True)
class _Field:
    title: str
    low: int
    high: int
    names: Mapping[str, int]


_MINUTE: Final = _Field("minute", 0, 59, {})
_HOUR: Final = _Field("hour", 0, 23, {})
_DAY: Final = _Field("day of month", 1, 31, {})
_MONTH: Final = _Field("month", 1, 12, _MONTHS)
_WEEKDAY: Final = _Field("day of week", 0, 7, _DAYS)


@dataclass(frozen=True, slots=True)
class CronLine:
    """A cron line that fires at some time. `alternatives` are keyword arguments for CronTrigger; one of them is enough.

    `hourly`: every hour matches.
    """

    alternatives: tuple[Mapping[str, str], ...]
    hourly: bool


def read_cron(text: str) -> CronLine:
    """Read the five fields; raise InputError that names the one that is wrong."""
    words = text.lower().split()
    if len(words) != 5 or len(text) > LONGEST:
        raise InputError(
            f"--cron {text[:80]!r} has {len(words)} fields instead of 5: minute, hour, day of month, month, day of week;"
            ' write for example "0 3 * * sun"'
        )
    minutes, hours, days, months, weekdays = (
        _numbers(word, kind) for word, kind in zip(words, (_MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY), strict=True)
    )
    common = {"minute": _written(minutes, 60), "hour": _written(hours, 24), "month": _written(months, 12)}
    by_day = {"day": _written(days, 31), "day_of_week": "*"}
    by_weekday = {"day": "*", "day_of_week": _written({(number + 6) % 7 for number in weekdays}, 7)}
    possible = min(days) <= max(_LONGEST_MONTHS[month - 1] for month in months)
    if not words[2].startswith("*") and not words[4].startswith("*"):
        alternatives = [by_day, by_weekday] if possible else [by_weekday]
    elif possible:
        alternatives = [{**by_weekday, "day": by_day["day"]}]
    else:
        raise InputError(f"--cron {text!r} never fires: no such day of month ({words[2]}) in month {words[3]}")
    return CronLine(tuple({**common, **one} for one in alternatives), hourly=len(hours) == 24)


def _numbers(word: str, kind: _Field) -> set[int]:
    """Return the numbers that a field stands for."""
    found: set[int] = set()
    for item in word.split(","):
        read = _ITEM.match(item)
        if read is None:
            raise _wrong(word, kind, f"{item!r} is no number, range or step")
        first, last, step = read.groups()
        low = kind.low if first is None else _number(first, word, kind)
        high = kind.high if first is None or step else low
        if last:
            high = _number(last, word, kind)
            high = 7 if kind is _WEEKDAY and high == 0 else high  # `fri-sun`
        if high < low:
            raise _wrong(word, kind, f"{item!r} ends before it begins")
        if step is not None and int(step) == 0:
            raise _wrong(word, kind, f"{item!r} has a step of 0")
        found.update(range(low, high + 1, int(step or 1)))
    return found


def _number(text: str, word: str, kind: _Field) -> int:
    number = int(text) if text.isdecimal() else kind.names.get(text, -1)
    if not kind.low <= number <= kind.high:
        raise _wrong(word, kind, f"{text!r} is not {kind.low} to {kind.high}")
    return number


def _wrong(word: str, kind: _Field, why: str) -> InputError:
    names = f" or {', '.join(kind.names)}" if kind.names else ""
    return InputError(
        f"--cron: {kind.title} {word[:80]!r}: {why}; write {kind.low} to {kind.high}{names}, or *, */5, 1-5"
    )


def _written(numbers: set[int], all_of_them: int) -> str:
    """Write numbers as CronTrigger reads them fastest: ranges."""
    if len(numbers) == all_of_them:
        return "*"
    ordered = sorted(numbers)
    starts = [ordered[0], *(after for before, after in pairwise(ordered) if after != before + 1)]
    ends = [*(before for before, after in pairwise(ordered) if after != before + 1), ordered[-1]]
    return ",".join(f"{start}-{end}" if end > start else str(start) for start, end in zip(starts, ends, strict=True))
