"""What somebody asks for: which phones, and the options of a rollout. One model for the API, schedules and hooks.

Option names are those of the command line with underscores; durations are written as there, or are seconds. An unknown or
impossible value is an error that names its field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, model_validator

from resyncctl.duration import parse_duration
from resyncctl.engine.outbound import Outbound, parse_local
from resyncctl.errors import InputError
from resyncctl.inventory.phone import Selection
from resyncctl.rollout.model import Action, Engine, OnBusy, Options

_D: Final = Options()
MAX_INLINE: Final = 100_000
"""Phones that one request may carry; longer lists belong into a source."""


def _seconds(value: object) -> object:
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except InputError as error:
            raise ValueError(str(error)) from error
    return value


Duration = Annotated[
    float,
    BeforeValidator(_seconds, json_schema_input_type=float | str),
    Field(ge=0, le=30 * 86_400, allow_inf_nan=False),
    PlainSerializer(float),
]
"""Seconds; read from `90s`, `5m`, `1h30m` or a number."""


def _conditions(value: object) -> object:
    if isinstance(value, Mapping):
        pairs = [
            (field, glob) for field, globs in value.items() for glob in (globs if isinstance(globs, list) else [globs])
        ]
        if not all(isinstance(glob, str) for _, glob in pairs):
            raise ValueError("a field has a glob, or a list of globs")
        return tuple(f"{field}={glob}" for field, glob in pairs)
    return tuple(value) if isinstance(value, list) else value


Conditions = Annotated[
    tuple[str, ...],
    BeforeValidator(_conditions, json_schema_input_type=tuple[str, ...] | dict[str, str | tuple[str, ...]]),
]
"""`FIELD=GLOB` conditions; in JSON also an object of fields to a glob or a list of globs."""


class RunOptions(BaseModel):
    """The options of `resyncctl run`. What is not given has the default of the command line."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=True, validate_by_alias=True)

    action: Action = _D.action
    batch_size: Annotated[int, Field(ge=1, le=100_000)] = _D.batch_size
    batch_interval: Duration = _D.batch_interval
    random_delay: Duration = _D.random_delay
    forced_delay: Duration = _D.forced_delay
    rate: Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)] = _D.rate
    max_in_flight: Annotated[int, Field(ge=1, le=50_000)] = _D.max_in_flight
    now: bool = False
    attempts: Annotated[int, Field(ge=1, le=10)] | None = None
    retry_delay: Duration = _D.retry_delay
    on_busy: OnBusy | None = None
    idle_for: Duration = _D.idle_for
    event: str = ""
    all_contacts: bool = False
    outbound_proxy: str = ""
    from_uri: Annotated[str, Field(alias="from")] = ""
    identity: str = ""
    """URI of a P-Asserted-Identity header."""
    timer_t1: Duration = _D.timer_t1
    timeout: Duration = _D.timeout
    seed: Annotated[int, Field(ge=0, lt=2**64)] | None = None
    local_address: str = ""
    engine: Engine | None = None
    """None: what the configuration of the process that sends says."""
    busy_file: str = ""
    """A file on the machine that sends."""
    yes: bool = False
    """Agree to phones that reboot although a resync was asked for."""

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.timer_t1 < 0.01 or self.timeout < self.timer_t1:
            raise ValueError("timer_t1 is at least 10ms, and timeout not shorter than it")
        try:
            parse_local(self.local_address)
        except InputError as error:
            raise ValueError(str(error).replace("--local-address", "local_address")) from error
        return self

    def options(self) -> Options:
        """Return them as the planner takes them."""
        return Options.asked(self, action=self.action, now=self.now, attempts=self.attempts, on_busy=self.on_busy)

    def surroundings(self) -> dict[str, str]:
        """Return what a rollout keeps beside its plan."""
        kept = Outbound(local_address=self.local_address, engine=self.engine or "").said()
        return kept | ({"busy_file": self.busy_file} if self.busy_file else {})


class Order(BaseModel):
    """Which phones, and how. Exactly one of `phones`, `source` and `phones_file` is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    phones: Annotated[tuple[dict[str, str], ...], Field(max_length=MAX_INLINE)] = ()
    """Phones by the column names of PHONES.csv."""
    source: str = ""
    """A source of the configuration."""
    phones_file: str = ""
    """A CSV file on the machine of the service."""
    where: Conditions = ()
    extensions: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=256)], ...], Field(max_length=MAX_INLINE)
    ] = ()
    """Users or AORs: only phones whose AOR, AOR's user or contact's user is one of them; () = all."""
    options: RunOptions = RunOptions()

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if sum(map(bool, (self.phones, self.source, self.phones_file))) != 1:
            raise ValueError("give either phones or a source, and not both")
        try:
            Selection(list(self.where))
        except InputError as error:
            raise ValueError(str(error).replace("--where", "where")) from error
        return self


def read_order(values: Mapping[str, object]) -> Order:
    """Read an order; raise InputError that names each field that is wrong."""
    try:
        return Order.model_validate(values)
    except ValidationError as error:
        raise InputError(describe(error)) from error


def describe(error: ValidationError) -> str:
    """Say in one paragraph which fields are wrong and why."""
    parts = []
    for one in error.errors(include_url=False, include_input=False):
        field = ".".join(str(part) for part in one["loc"])
        text = one["msg"].removeprefix("Value error, ")
        if one["type"] == "extra_forbidden":
            text = "there is no such field"
        parts.append(f"{field}: {text}" if field else text)
    return "; ".join(parts)
