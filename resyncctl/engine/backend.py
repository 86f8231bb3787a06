"""What the command line works with: the same commands on our own Redis (`engine/local`) or on a service elsewhere (its API).

Values are plain, as JSON has them: the reports of `tally.report_of`, `planning.plan_report`, `schedules.schedule_report` and
`store/hooks.listed`, whoever makes them. Methods raise what `errors` names, the same for the same mistake; those of a service
elsewhere also ServerError, AccessError.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from resyncctl.engine.order import Order
    from resyncctl.engine.planning import Plan
    from resyncctl.engine.results import Row
    from resyncctl.rollout.model import TargetState
    from resyncctl.rollout.states import Command, RolloutState

Report = dict[str, object]
"""A JSON object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan that a person has seen and agreed to: its report, and what whoever launches it needs besides."""

    report: Report
    order: Order | None = None
    """None: the service has kept the order under the hash of the plan."""
    plan: Plan | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedSchedule:
    """A schedule to be added. `times` are cron, every, at and tz; `order` is one of `engine/order`; `grace` is seconds."""

    name: str
    times: Mapping[str, str]
    order: Mapping[str, object]
    misfire: str
    grace: float
    overlap: str
    replace: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedHook:
    """A hook to be added; durations are seconds."""

    name: str
    order: Mapping[str, object]
    auth: str
    quiet: float
    max_wait: float
    cool_down: float


class News(NamedTuple):
    """How a rollout stands; `last` = it has ended, and this is its whole report."""

    report: Report
    last: bool


class Page(NamedTuple):
    """Some entries, and the cursor of what follows ('' = nothing does)."""

    entries: list[Report]
    more: str


class Backend(Protocol):
    """Where commands are carried out. Rollouts, schedules and hooks go by their names; NotFoundError when there is none."""

    @property
    def where(self) -> str:
        """What messages call it."""

    # Rollouts

    async def launch(self, planned: Planned, *, name: str) -> Report:
        """Have the service execute a plan as a rollout of that name; the same name and plan make one. Returns its report."""

    async def rollouts(self, count: int, states: Collection[RolloutState] = ()) -> list[Report]:
        """Return the newest rollouts, newest first, in one of the states (none given = any)."""

    async def rollout(self, name: str) -> Report:
        """Return a rollout."""

    def follow(self, name: str) -> AsyncIterator[News]:
        """Yield how a rollout stands whenever that has changed, from its beginning to its end."""

    def results(self, name: str, states: Collection[TargetState]) -> AsyncIterator[Row]:
        """Yield its targets in one of the states (none given = any)."""

    async def steer(self, name: str, wanted: Command) -> Report:
        """Pause, resume or abort a rollout."""

    async def plan_retry(self, name: str, states: Collection[TargetState], *, now: bool, child: str) -> Report:
        """Return the plan for what failed, and beside it as `rollout` what the new rollout is called ('' = choose)."""

    async def retry(self, name: str, states: Collection[TargetState], *, now: bool, child: str) -> Report:
        """Have the service execute what `plan_retry` has shown; return the new rollout."""

    # Schedules

    async def add_schedule(self, wanted: WantedSchedule) -> Report:
        """Add a schedule; return it, with targets, sends, plan_hash and notices of what it would do now."""

    async def schedules(self) -> list[Report]:
        """Return all schedules by name."""

    async def schedule(self, name: str) -> Report:
        """Return a schedule."""

    async def fires(self, name: str, count: int) -> list[Report]:
        """Return its next fire times."""

    async def pause_schedule(self, name: str) -> Report:
        """Let it fire no more."""

    async def resume_schedule(self, name: str) -> Report:
        """Let it fire again."""

    async def remove_schedule(self, name: str) -> None:
        """Remove it."""

    async def run_schedule(self, name: str) -> Report:
        """Launch its rollout now; return that."""

    # Hooks

    async def add_hook(self, wanted: WantedHook) -> Report:
        """Add a hook; return it with its secret (None without one), which is never shown again."""

    async def hooks(self) -> list[Report]:
        """Return all hooks by name."""

    async def remove_hook(self, name: str) -> None:
        """Remove a hook."""

    async def call_hook(self, name: str, extensions: Sequence[str], reason: str) -> Report:
        """Do what a call of the hook does; return what it became part of."""

    # The service

    async def audit(self, count: int, before: str) -> Page:
        """Return what was done, newest first."""

    async def sources(self) -> list[Report]:
        """Return the sources of phones that the configuration names."""

    async def phones(self, source: str, where: Sequence[str], *, count: int) -> Page:
        """Return the first phones of a source, without credentials."""

    async def workers(self) -> list[Report]:
        """Return the processes that execute rollouts."""

    async def freeze(self, reason: str) -> Report:
        """Stop everything that the service sends; return the freeze that is in force."""

    async def thaw(self) -> Report:
        """Lift the freeze."""

    async def frozen(self) -> Report:
        """Return the freeze that is in force, if there is one."""
