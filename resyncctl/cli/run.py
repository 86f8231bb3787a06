"""`resyncctl run` and `resyncctl plan`."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from resyncctl.cli.state import INTERRUPTED, Common, console, duration, emit, errors_told, run_async, say
from resyncctl.errors import InputError
from resyncctl.rollout.model import Action, OnBusy, Options

if TYPE_CHECKING:
    from resyncctl.config import Settings
    from resyncctl.engine.planning import Plan
    from resyncctl.rollout.model import RolloutId
    from resyncctl.store.records import RolloutRecord
    from resyncctl.store.redis_store import RedisStore

_D = Options()
_PACING = "Pacing"
_SELECTION = "Phones"
_SIP = "SIP"
_BUSY = "Phones in a call"

Phones = Annotated[
    Path, typer.Argument(metavar="PHONES.csv", help="Registered phones; columns aor, contact, user_agent, …")
]
ActionOption = Annotated[Action, typer.Option(help="What the phones shall do.")]
BatchSize = Annotated[int, typer.Option(min=1, max=100_000, help="Phones of one batch.", rich_help_panel=_PACING)]
BatchInterval = Annotated[
    float, typer.Option(parser=duration, metavar="DUR", help="From one batch to the next.", rich_help_panel=_PACING)
]
RandomDelay = Annotated[
    float,
    typer.Option(
        parser=duration, metavar="DUR", help="Jitter of each phone, DBID_RANDOM_DELAY.", rich_help_panel=_PACING
    ),
]
Rate = Annotated[
    float, typer.Option(min=0, max=1_000_000, help="Sends a second at most; 0 = unlimited.", rich_help_panel=_PACING)
]
MaxInFlight = Annotated[
    int, typer.Option(min=1, max=50_000, help="Unanswered requests at most.", rich_help_panel=_PACING)
]
Now = Annotated[bool, typer.Option("--now", help="No batch interval and no random delay.", rich_help_panel=_PACING)]
Attempts = Annotated[
    int | None,
    typer.Option(
        min=1, max=10, help="Tries at a phone. [default: 3 for resync, 1 for reboot]", rich_help_panel=_PACING
    ),
]
RetryDelay = Annotated[
    float,
    typer.Option(parser=duration, metavar="DUR", help="Before the first retry; doubles.", rich_help_panel=_PACING),
]
Where = Annotated[
    list[str] | None,
    typer.Option(metavar="FIELD=GLOB", help="Only matching phones; repeatable.", rich_help_panel=_SELECTION),
]
AllContacts = Annotated[
    bool, typer.Option("--all-contacts", help="Every binding is a target, not every phone.", rich_help_panel=_SELECTION)
]
BusyFileOption = Annotated[
    Path | None, typer.Option(help="File with the AORs that are in a call, one a line.", rich_help_panel=_BUSY)
]
ForcedDelay = Annotated[
    float,
    typer.Option(
        parser=duration, metavar="DUR", help="Longest wait for a call to end, DBID_RESYNC_DELAY.", rich_help_panel=_BUSY
    ),
]
IdleFor = Annotated[
    float, typer.Option(parser=duration, metavar="DUR", help="Wait this long after a call.", rich_help_panel=_BUSY)
]
OnBusyOption = Annotated[
    OnBusy | None,
    typer.Option(help="At the forced delay. [default: force for resync, skip for reboot]", rich_help_panel=_BUSY),
]
EventOption = Annotated[
    str, typer.Option(metavar="VALUE", help="Event value instead of the vendor's.", rich_help_panel=_SIP)
]
LocalAddress = Annotated[str, typer.Option(metavar="IP[:PORT]", help="Send from here.", rich_help_panel=_SIP)]
OutboundProxy = Annotated[str, typer.Option(metavar="URI", help="Send through this proxy.", rich_help_panel=_SIP)]
From = Annotated[str, typer.Option("--from", metavar="URI", help="From URI of the NOTIFYs.", rich_help_panel=_SIP)]
TimerT1 = Annotated[
    float, typer.Option(parser=duration, metavar="DUR", help="First retransmission.", rich_help_panel=_SIP)
]
Timeout = Annotated[
    float, typer.Option(parser=duration, metavar="DUR", help="Timer F: give up waiting.", rich_help_panel=_SIP)
]
IdOption = Annotated[str, typer.Option("--id", metavar="ID", help="Name of the rollout; the same plan resumes it.")]
Seed = Annotated[int | None, typer.Option(help="Seed of the jitter.", rich_help_panel=_PACING)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def run(  # `run` and `plan` take the same options; which of them it is, the context tells
    context: typer.Context,
    phones: Phones,
    action: ActionOption = _D.action,
    batch_size: BatchSize = _D.batch_size,
    batch_interval: BatchInterval = _D.batch_interval,
    random_delay: RandomDelay = _D.random_delay,
    rate: Rate = _D.rate,
    max_in_flight: MaxInFlight = _D.max_in_flight,
    now: Now = False,
    attempts: Attempts = None,
    retry_delay: RetryDelay = _D.retry_delay,
    where: Where = None,
    all_contacts: AllContacts = False,
    busy_file: BusyFileOption = None,
    forced_delay: ForcedDelay = _D.forced_delay,
    idle_for: IdleFor = _D.idle_for,
    on_busy: OnBusyOption = None,
    event: EventOption = "",
    local_address: LocalAddress = "",
    outbound_proxy: OutboundProxy = "",
    from_uri: From = "",
    timer_t1: TimerT1 = _D.timer_t1,
    timeout: Timeout = _D.timeout,
    rollout: IdOption = "",
    seed: Seed = None,
    yes: Yes = False,
) -> None:
    """Plan for the phones of a CSV file; as `run` execute the plan, as `plan` show it."""
    common: Common = context.obj
    with errors_told(as_json=common.as_json):
        from resyncctl.engine.app import check_id, new_id, parse_local, plan_csv

        settings = common.settings()
        options = _options(**_given(locals()))
        name = check_id(rollout) if rollout else None
        parse_local(local_address)
        made = plan_csv(phones, options, where=where or [], seed=seed, name=rollout)
        if context.info_name == "plan":
            _show(common, made)
            return
        confirm(made, yes=yes)
        surroundings = {"local_address": local_address, "busy_file": str(busy_file.absolute()) if busy_file else ""}
        status = run_async(lambda: _run(common, settings, made, name or new_id(made), surroundings))
    raise typer.Exit(status)


RUN_HELP: Final = """Plan a rollout for the phones of a CSV file and execute it here: progress, then a report.

Exit status: 0 all succeeded or were skipped by rule, 1 some failed, 2 bad input and nothing sent, 3 aborted,
4 Redis or a socket failed, 130 interrupted (the rollout is paused; `resyncctl rollout resume` continues it)."""
PLAN_HELP: Final = """Show what `run` with the same options would do: batches, times, skips with reasons, load curve.

Sends nothing and stores nothing."""


def _show(common: Common, plan: Plan) -> None:
    from resyncctl.cli.render import plan_json, show_plan

    if common.as_json:
        emit(plan_json(plan))
    else:
        show_plan(console(stderr=False), plan)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    names = (
        "action batch_size batch_interval random_delay forced_delay rate max_in_flight now attempts retry_delay on_busy idle_for"
        " event all_contacts outbound_proxy from_uri timer_t1 timeout"
    )
    return {name: values[name] for name in names.split()}


def _options(*, now: bool, attempts: int | None, on_busy: OnBusy | None, action: Action, **rest: object) -> Options:
    """Put the options together, with the defaults that depend on the action."""
    reboot = action is Action.REBOOT
    rest["attempts"] = attempts or (1 if reboot else 3)
    rest["on_busy"] = on_busy or (OnBusy.SKIP if reboot else OnBusy.FORCE)
    if now:
        rest |= {"batch_interval": 0.0, "random_delay": 0.0}
    options = Options(action=action, **rest)  # type: ignore[arg-type]
    if options.timer_t1 < 0.01 or options.timeout < options.timer_t1:
        raise InputError("--timer-t1 is at least 10ms, and --timeout not shorter than it")
    return options


def confirm(plan: Plan, *, yes: bool) -> None:
    """Ask before phones reboot, when there is a person to ask; raise InputError when only --yes will do."""
    reboots = plan.options.action is Action.REBOOT
    surprising = bool(plan.will_reboot or plan.dangerous)
    for notice in plan.notices:
        say(f"note: {notice}")
    if yes or not (reboots or surprising):
        return
    if sys.stdin.isatty() and sys.stderr.isatty():
        count = plan.targets - sum(plan.skipped.values())
        what = f"Reboot {count} phones?" if reboots else "Go on?"
        if not typer.confirm(what, err=True):
            raise InputError("not confirmed; nothing was sent")
    elif surprising:
        raise InputError("this needs --yes (see the notes above); nothing was sent")


async def _run(common: Common, settings: Settings, plan: Plan, name: RolloutId, surroundings: dict[str, str]) -> int:
    from resyncctl.engine.app import open_store, store_plan

    async with open_store(settings) as store:
        await store_plan(store, name, plan, surroundings=surroundings)
        plan.blocks.clear()
        return await execute(common, settings, store, name)


async def execute(
    common: Common,
    settings: Settings,
    store: RedisStore,
    name: RolloutId,
    *,
    busy_file: str = "",
    local_address: str = "",
) -> int:
    """Execute a rollout here with a progress display; return the exit status."""
    from resyncctl.cli.render import Progress, show_report
    from resyncctl.engine.app import Execution
    from resyncctl.engine.sender import Left
    from resyncctl.engine.tally import report_of

    record = await store.get(name)
    progress = Progress(console(), record)
    execution = Execution(store, settings, name, on_progress=progress.update)
    with progress, _Interrupts(execution.leave):
        left, record = await execution.run(busy_file=busy_file, local_address=local_address)
    report = report_of(record)
    if common.as_json:
        emit(report)
    show_report(console(), report)
    if left is Left.PAUSED:
        say(f"paused; `resyncctl rollout resume {name}` continues it")
        return INTERRUPTED
    return exit_status(record)


def exit_status(record: RolloutRecord) -> int:
    """Return the exit status that a rollout's report stands for."""
    from resyncctl.engine.tally import failures, report_of
    from resyncctl.rollout.states import RolloutState

    if record.state is RolloutState.ABORTED:
        return 3
    return 1 if failures(report_of(record)) else 0


class _Interrupts:
    """Ctrl-C and SIGTERM: the first pauses, the second leaves at once."""

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave = leave
        self._count = 0
        self._task = asyncio.current_task()

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupted)

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    def _interrupted(self) -> None:
        self._count += 1
        if self._count == 1:
            say("pausing: what is on the wire is followed to its end; Ctrl-C again leaves at once")
            self._leave()
        elif self._task is not None:
            self._task.cancel()
