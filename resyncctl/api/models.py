"""The bodies that the API takes and gives, as its OpenAPI description shows them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from resyncctl.rollout.states import RolloutState

Count = Annotated[int, Field(ge=0)]
Cursor = Annotated[str | None, Field(description="Give it as `cursor` for what follows; null = nothing does.")]
Time = Annotated[str, Field(description="RFC 3339, UTC.", examples=["2026-01-01T03:00:00.000000Z"])]


class Asked(BaseModel):
    """A body of a request: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Given(BaseModel):
    """A body of an answer; later versions may add fields."""

    model_config = ConfigDict(frozen=True)


class FieldError(Given):
    """A field or parameter that is wrong."""

    field: Annotated[str, Field(examples=["options.rate"])]
    message: str


class Problem(Given):
    """RFC 9457 problem details; the media type is application/problem+json."""

    type: Annotated[str, Field(examples=["urn:resyncctl:problem:not-found"])]
    title: Annotated[str, Field(examples=["Not Found"])]
    status: Annotated[int, Field(examples=[404])]
    detail: Annotated[str, Field(description="What is wrong, and what to do.")]
    instance: Annotated[str, Field(description="The path that was asked for.")]
    errors: Annotated[list[FieldError], Field(description="What is wrong with which field.")] = []
    more_errors: Annotated[Count, Field(description="Wrong fields beyond those in `errors`.")] = 0


class LoadCurve(Given):
    """How many sends begin in each span of time."""

    bucket_seconds: float
    sends: list[Count]


class ShownBatch(Given):
    """A batch as it is paced; offsets are seconds."""

    number: Annotated[int, Field(ge=1)]
    phones: Count
    first_due: float
    last_due: float


class PlanReport(Given):
    """A plan. Offsets are seconds from the start of its rollout."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "plan_hash": "5f1d…",
                    "action": "resync",
                    "seed": 17,
                    "targets": 2,
                    "skipped": 0,
                    "skipped_reasons": {},
                    "batches": 1,
                    "first_due": 0.0,
                    "last_due": 0.02,
                    "load_curve": {"bucket_seconds": 1.0, "sends": [2]},
                    "will_reboot": 0,
                    "dangerous": 0,
                    "events": ["check-sync"],
                    "notices": [],
                    "options": {"rate": 50.0},
                }
            ]
        }
    )

    plan_hash: str
    action: str
    seed: int
    targets: Count
    skipped: Count
    skipped_reasons: dict[str, Count]
    batches: Count
    first_due: float | None
    last_due: float | None
    load_curve: LoadCurve
    will_reboot: Annotated[Count, Field(description="Phones that reboot although a resync was asked for.")]
    dangerous: Annotated[Count, Field(description="Phones that the event can reset to factory settings.")]
    events: list[str]
    notices: list[str]
    options: dict[str, str | int | float | bool]
    shown_batches: Annotated[list[ShownBatch], Field(description="All batches, or the first ten and the last.")] = []
    skipped_examples: Annotated[dict[str, list[str]], Field(description="Some of the skipped phones, by reason.")] = {}
    events_with_body: Annotated[list[str], Field(description="Those of the events that come with a body.")] = []


class RetryPlan(PlanReport):
    """The plan of another try."""

    rollout: Annotated[str, Field(description="What its rollout is called: the `id` to retry with.")]


class Launch(Asked):
    """Make a rollout of a plan."""

    plan_hash: Annotated[str, Field(description="The plan; plans are kept for 24 hours.")]
    id: Annotated[
        str,
        Field(
            pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$",
            description="What to call the rollout: up to 64 letters, digits, dots, hyphens and underscores. Empty: it"
            " gets a name. The same id and plan make one rollout, however often they are sent.",
        ),
    ] = ""


class Retry(Asked):
    """Try again what failed."""

    states: Annotated[
        tuple[str, ...],
        Field(
            description="Targets in these states; none: rejected, unreachable, overloaded, unauthorized, unconfirmed, and"
            " for a resync also unknown."
        ),
    ] = ()
    now: Annotated[bool, Field(description="Without batch interval and random delay.")] = False
    yes: Annotated[bool, Field(description="Agree to phones that reboot although a resync was asked for.")] = False
    id: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$", description="As when launching.")] = ""


class Accepted(Given):
    """A rollout that the service executes now."""

    rollout: Annotated[str, Field(examples=["20260101-030000-5f1d2c"])]


class Report(Given):
    """A rollout."""

    model_config = ConfigDict(extra="allow")

    rollout: str
    action: str
    state: RolloutState
    plan_hash: str
    targets: Count
    counts: Annotated[dict[str, Count], Field(description="Targets by state.", examples=[{"accepted": 990}])]
    responses: Annotated[dict[str, Count], Field(description="Targets by SIP status.", examples=[{"200": 990}])]
    skipped_reasons: dict[str, Count]
    started_at: Time | None
    finished_at: Time | None
    sending_seconds: Annotated[float, Field(description="From the first datagram to the last outcome.")]
    pause_reason: str
    notices: list[str]
    parent: Annotated[str, Field(description="The rollout whose failures this one tries again.")]


class Reports(Given):
    """A page of rollouts, newest first."""

    rollouts: list[Report]
    next: Cursor


class TargetRow(Given):
    """A target. Times are '' as long as it has not come to that."""

    aor: str
    contact: str
    vendor: str
    state: str
    reason: str
    status: Annotated[int, Field(description="Of the SIP response; 0 = none.")]
    attempts: Count
    planned_at: str
    sent_at: str
    answered_at: str
    rtt_ms: float


class Targets(Given):
    """A page of targets."""

    targets: list[TargetRow]
    next: Cursor


class Phones(Given):
    """A page of a source's phones, by the columns of the list that are not empty; credentials are left out."""

    phones: list[dict[str, str]]
    next: Cursor


class Source(Given):
    """A source of phones in the configuration."""

    name: str
    file: str
    exists: bool
    from_domain: Annotated[str, Field(description="Host of the From URI; empty: the address that is sent from.")]


class Sources(Given):
    """All sources."""

    sources: list[Source]


class Worker(Given):
    """A process that executes rollouts."""

    name: str
    host: str
    pid: int
    pool: str
    started_at: Time
    seen_at: Time
    rollouts: list[str]


class Workers(Given):
    """The processes that are alive."""

    workers: list[Worker]


class AuditEntry(Given):
    """Who did what."""

    id: str
    time: Time
    actor: Annotated[str, Field(examples=["token:ops"])]
    source: Annotated[str, Field(description="The address that it came from.")]
    action: Annotated[str, Field(examples=["rollout.launch"])]
    subject: str
    details: dict[str, str]


class Audit(Given):
    """A page of the audit log, newest first."""

    entries: list[AuditEntry]
    next: Cursor


class FreezeWish(Asked):
    """Why everything shall stand still."""

    reason: Annotated[str, Field(max_length=200, description="For those who wonder.")] = ""


class FreezeState(Given):
    """Whether all rollouts stand still."""

    frozen: bool
    actor: str = ""
    since: Time | None = None
    reason: str = ""


class Health(Given):
    """The process answers."""

    status: str
    version: str
