"""When a schedule fires: a cron line, a period, or one moment. Values only; nothing here knows what time it is.

A cron line has the five fields of crontab(5): minute, hour, day of month, month, day of week; numbers, names of months and
days, lists, ranges, steps. Sunday is 0 and 7. If both days are restricted (neither begins with `*`), one of them is enough.
APScheduler's CronTrigger finds the matching local times; what they are in UTC when clocks change is decided here:

* The hour field is `*` (`*/10 * * * *`): the schedule runs in real time. It fires whenever a clock on the wall shows a matching
  time, in both passes of an hour that comes twice and in none that is left out: every ten minutes stay every ten minutes.
* Any other hour field (`30 2 * * *`, `0 */6 * * *`): each matching local time fires once. One that comes twice fires the first
  time; all that are left out together fire once, at the moment when the clocks are put forward.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Final, Self
from zoneinfo import ZoneInfo

from apscheduler.triggers.combining import OrTrigger  # type: ignore[import-untyped]
from apscheduler.triggers.cron import CronTrigger  # type: ignore[import-untyped]
from tzlocal import get_localzone_name

from resyncctl.duration import format_duration, parse_duration
from resyncctl.engine.crontab import CronLine, read_cron
from resyncctl.errors import InputError

if TYPE_CHECKING:
    from apscheduler.triggers.base import BaseTrigger  # type: ignore[import-untyped]

_DAY: Final = timedelta(days=1)
_TICK: Final = timedelta(microseconds=1)
_LOOK_BACK: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """When to fire: exactly one of `cron`, `every` (whole seconds, counted from `since`) and `at` (UTC) is given.

    `tz` names the time zone of the cron line, and that in which people are shown the times.
    """

    cron: str = ""
    every: int = 0
    since: datetime | None = None
    at: datetime | None = None
    tz: str = "UTC"
    _zone: tzinfo = field(init=False, repr=False, compare=False)
    _line: CronLine | None = field(init=False, repr=False, compare=False)
    _trigger: BaseTrigger = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        line = read_cron(self.cron) if self.cron else None
        object.__setattr__(self, "_zone", read_zone(self.tz))
        object.__setattr__(self, "_line", line)
        object.__setattr__(self, "_trigger", None if line is None else _trigger(line))

    @classmethod
    def parse(cls, *, now: datetime, cron: str = "", every: str = "", at: str = "", tz: str = "") -> Self:
        """Read what a person wrote; `now` anchors `every` and is what `at` must not lie before.

        Raises InputError that names what is wrong.
        """
        if sum(map(bool, (cron.strip(), every.strip(), at.strip()))) != 1:
            raise InputError('give exactly one of --cron "0 3 * * sun", --every 6h and --at 2026-12-24T03:00')
        zone = tz.strip() or "UTC"
        if cron.strip():
            return cls(cron=" ".join(cron.split()), tz=zone)
        if every.strip():
            return cls(every=_period(every), since=now.astimezone(UTC).replace(microsecond=0), tz=zone)
        moment = _moment(at.strip(), read_zone(zone)).replace(microsecond=0)
        if moment <= now:
            raise InputError(f"--at {at} is over; it would never fire")
        return cls(at=moment, tz=zone)

    def to_dict(self) -> dict[str, str | int]:
        """Return plain values: `cron`, `every` and `since`, or `at`; and `tz`."""
        values: dict[str, str | int] = {"cron": self.cron} if self.cron else {}
        if self.every:
            values["every"] = self.every
        if self.since is not None:
            values["since"] = iso(self.since)
        if self.at is not None:
            values["at"] = iso(self.at)
        return {**values, "tz": self.tz}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Self:
        """Read what `to_dict` wrote; raises InputError."""
        moments = {name: datetime.fromisoformat(str(values[name])) for name in ("since", "at") if name in values}
        return cls(
            cron=str(values.get("cron", "")),
            every=int(str(values.get("every", 0))),
            since=moments.get("since"),
            at=moments.get("at"),
            tz=str(values.get("tz", "UTC")),
        )

    def __str__(self) -> str:
        if self.cron:
            return f"cron {self.cron} ({self.tz})"
        if self.every:
            return f"every {format_duration(self.every)}"
        return f"at {self.local(self.at):%Y-%m-%d %H:%M:%S} ({self.tz})" if self.at else "never"

    def local(self, moment: datetime) -> datetime:
        """Return a moment in the schedule's time zone."""
        return moment.astimezone(self._zone)

    def next(self, after: datetime) -> datetime | None:
        """Return the first fire time strictly after `after`, in UTC; None when there is none any more."""
        after = after.astimezone(UTC)
        if self.every and self.since is not None:
            passed = (after - self.since) // timedelta(seconds=self.every)
            return self.since + timedelta(seconds=self.every * max(1, passed + 1))
        if self._line is None:
            return self.at if self.at is not None and self.at > after else None
        return self._next_of_cron(after, hourly=self._line.hourly)

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """Return the last fire time that is after `after` and not after `until`, in UTC."""
        span = _LOOK_BACK
        while True:  # twice as far each time: what is found is near the end of the span
            start = max(after, until - span)
            found = self.next(start)
            if found is not None and found <= until:
                break
            if start == after:
                return None
            span *= 2
        while (later := self.next(found)) is not None and later <= until:
            found = later
        return found

    def _next_of_cron(self, after: datetime, *, hourly: bool) -> datetime:
        wall = after.astimezone(self._zone).replace(tzinfo=None)
        best: datetime | None = None
        for local in self._locals(wall - self._repeated_soon(after) if hourly else wall):
            found = [moment for moment in self._moments(local, hourly=hourly) if moment > after]
            best = min([*found, *([best] if best else [])], default=None)
            if best is not None and local > wall:
                return best
        raise AssertionError("a cron line that never fires is refused when it is read")

    def _locals(self, wall: datetime) -> Iterator[datetime]:
        """Yield the matching times of the wall's clock after `wall`."""
        while True:
            # The wall's time as if it were UTC: CronTrigger then knows nothing of changing clocks.
            found = self._trigger.get_next_fire_time(None, wall.replace(tzinfo=UTC) + _TICK)
            wall = found.replace(tzinfo=None)
            yield wall

    def _repeated_soon(self, after: datetime) -> timedelta:
        """Return by how much clocks are put back within a day: as much of the wall's time comes again."""
        change = _offset(after, self._zone) - _offset(after + _DAY, self._zone)
        return max(change, timedelta(0))

    def _moments(self, local: datetime, *, hourly: bool) -> list[datetime]:
        """Return when a local time fires."""
        if not hourly:
            return [_once(local, self._zone)]
        passes = (local.replace(tzinfo=self._zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        return [moment for moment in passes if _shows(moment, local, self._zone)]


def read_zone(name: str) -> tzinfo:
    """Return a time zone of the IANA database; raises InputError."""
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # a missing one, one outside the database, a directory of it
        raise InputError(f"--tz {name[:64]!r} is not a time zone; write for example Europe/Berlin or UTC") from None


def local_zone() -> str:
    """Return the name of this machine's time zone, `UTC` when it has none that others would know."""
    try:
        name: str = get_localzone_name() or "UTC"
        read_zone(name)
    except (LookupError, ValueError, InputError):
        return "UTC"
    return name


def iso(moment: datetime) -> str:
    """Write a moment as RFC 3339, whole seconds, `Z` for UTC."""
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _period(text: str) -> int:
    try:
        seconds = parse_duration(text)
    except InputError as error:
        raise InputError(f"--every: {error}") from error
    if seconds < 1 or seconds != int(seconds):
        raise InputError(f"--every {text}: whole seconds, at least 1s")
    return int(seconds)


def _moment(text: str, zone: tzinfo) -> datetime:
    """Read a local time, or one with an offset. One that comes twice is the first, one that is left out the change."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"--at {text!r} is not a time; write for example 2026-12-24T03:00") from error
    if len(text) <= len("2026-12-24"):
        raise InputError(f"--at {text} has no time of day; write for example {text}T03:00")
    if read.tzinfo is not None:
        return read.astimezone(UTC)
    return _once(read, zone)


def _trigger(line: CronLine) -> BaseTrigger:
    found = [CronTrigger(timezone=UTC, second="0", **fields) for fields in line.alternatives]
    return found[0] if len(found) == 1 else OrTrigger(found)


def _once(local: datetime, zone: tzinfo) -> datetime:
    """Return the moment of a local time: the first of two; the change, if it is left out."""
    first, second = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    return first if _shows(first, local, zone) else _change(second, first, zone)


def _shows(moment: datetime, local: datetime, zone: tzinfo) -> bool:
    return moment.astimezone(zone).replace(tzinfo=None) == local


def _offset(moment: datetime, zone: tzinfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta(0)


def _change(before: datetime, after: datetime, zone: tzinfo) -> datetime:
    """Return the second between two moments at which the clocks change."""
    old = _offset(before, zone)
    low, high = int(before.timestamp()), int(after.timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(datetime.fromtimestamp(middle, UTC), zone) == old:
            low = middle
        else:
            high = middle
    return datetime.fromtimestamp(high, UTC)
