"""Durations as people write them: `90s`, `5m`, `1h30m`, `250ms`, or plain seconds."""

from __future__ import annotations

import re
from typing import Final

from resyncctl.errors import InputError

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)")
_PLAIN: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,6})?\Z")
LONGEST: Final = 30 * 86_400.0
"""Seconds; longer ones are taken for mistakes."""


def parse_duration(text: str, *, longest: float = LONGEST) -> float:
    """Return seconds; raise InputError for anything that is not a duration of at most `longest` seconds (30 days)."""
    plain = text.strip().lower()
    seconds = 0.0
    if _PLAIN.match(plain):
        seconds = float(plain)
    else:
        position = 0
        while position < len(plain):
            part = _PART.match(plain, position)
            if part is None:
                raise InputError(f"{text!r} is not a duration; write 90s, 5m, 1h30m or plain seconds")
            seconds += float(part[1]) * _UNITS[part[2]]
            position = part.end()
        if not plain:
            raise InputError("an empty duration; write 90s, 5m, 1h30m or plain seconds")
    if seconds > longest:
        raise InputError(f"{text!r} is longer than {longest / 86_400:g} days")
    return seconds


def format_duration(seconds: float) -> str:
    """Write seconds as a person would: `0 s`, `1.5 s`, `2 min 5 s`, `1 h 30 min`."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    days, rest = divmod(whole, 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, left = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (left if not days else 0, "s")]
    return " ".join(f"{value} {unit}" for value, unit in parts if value)
