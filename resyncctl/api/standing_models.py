"""The bodies of standing orders, as the OpenAPI description shows them: schedules and hooks."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from resyncctl.api.models import Count, Cursor, Given, Time
from resyncctl.engine.order import Duration, Order
from resyncctl.engine.schedules import GRACE
from resyncctl.store.hooks import HookAuth
from resyncctl.store.schedules import Misfire, Overlap


class ScheduleWish(Order):
    """A schedule: when, and the order that is launched then."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    cron: Annotated[str, Field(description="Minute, hour, day of month, month, day of week.", max_length=200)] = ""
    every: Annotated[int | str, Field(description="Whole seconds, or text like `6h`.")] = ""
    at: Annotated[str, Field(description="A time of the zone, or one with an offset: once.", max_length=64)] = ""
    tz: Annotated[str, Field(description="Of the IANA database; UTC unless it is given.", max_length=64)] = ""
    misfire: Annotated[Misfire, Field(description="What becomes of fire times during a downtime.")] = Misfire.RUN_ONCE
    grace: Annotated[Duration, Field(description="How late a missed fire time may be.")] = GRACE
    overlap: Annotated[Overlap, Field(description="What happens while the rollout before is not over.")] = Overlap.SKIP
    replace: Annotated[bool, Field(description="Replace the schedule that has the name.")] = False


class ScheduleReport(Given):
    """A schedule; its order is shown beside, with phones only counted."""

    model_config = ConfigDict(extra="allow")

    name: str
    when: Annotated[str, Field(examples=["cron 0 3 * * sun (Europe/Berlin)"])]
    misfire: Misfire
    grace: float
    overlap: Overlap
    paused: bool
    created_at: Time | None
    next_at: Time | None
    waiting_since: Time | None
    last_fire_at: Time | None
    last_rollout: str | None
    last_error: str | None
    note: str | None


class ScheduleReports(Given):
    """A page of schedules, by name."""

    schedules: list[ScheduleReport]
    next: Cursor


class Fire(Given):
    """A fire time."""

    utc: Time
    local: Annotated[str, Field(description="In the zone of the schedule.")]


class Fires(Given):
    """The next fire times."""

    fires: list[Fire]


class HookWish(Order):
    """A hook, and the order that its calls launch."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$")]
    quiet: Annotated[Duration, Field(description="Without a call, until the rollout is launched.")] = 5.0
    max_wait: Annotated[Duration, Field(description="From the first call until it is launched at the latest.")] = 60.0
    cool_down: Annotated[Duration, Field(description="In which a phone is not sent to again.")] = 0.0
    auth: Annotated[HookAuth, Field(description="How calls prove that they may.")] = HookAuth.HMAC
    secret: Annotated[str, Field(description="For signatures, at least 16 characters; empty: one is made.")] = ""


class HookReport(Given):
    """A hook."""

    model_config = ConfigDict(extra="allow")

    name: str
    order: dict[str, object]
    quiet: float
    max_wait: float
    cool_down: float
    auth: HookAuth
    secret: Annotated[str | None, Field(description="`***`: it has one.")]
    created_at: Time
    pending: Annotated[str | None, Field(description="The rollout that waits.")]
    fires_at: Time | None
    phones: Annotated[int | None, Field(description="Phones that it names; null = all.")]
    calls: Count
    launching: Annotated[str | None, Field(description="The rollout that is being launched.")]
    last_rollout: str | None
    last_at: Time | None
    last_note: str
    rollouts: Count


class HookReports(Given):
    """All hooks, by name."""

    hooks: list[HookReport]


class HookCreated(HookReport):
    """A new hook."""

    secret: Annotated[str | None, Field(description="Shown once; null when calls come with a token.")]


class HookAnswer(Given):
    """What a call became part of."""

    rollout: str
    fires_at: Annotated[str, Field(description="When it is launched at the latest.")]
    joined: Annotated[bool, Field(description="Whether it was pending already.")]
