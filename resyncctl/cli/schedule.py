"""`resyncctl schedule …`: rollouts at fixed times, fired by whichever `resyncctl serve` has the scheduler's lease."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resyncctl.cli.options import PhonesFile, SourceName, order_of, with_run_options
from resyncctl.cli.state import Common, console, duration, emit, local_actor, run_async, say

if TYPE_CHECKING:
    from resyncctl.engine.launch import Launched
    from resyncctl.engine.planning import Plan
    from resyncctl.engine.schedules import Schedules
    from resyncctl.store.schedules import ScheduleRecord

app = typer.Typer(help="Rollouts at fixed times; `resyncctl serve` fires them.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule.")]
_WHEN = "When"


class MisfireWord(StrEnum):
    """Values of --misfire; `--help` has no time to import the store's."""

    RUN_ONCE = "run-once"
    SKIP = "skip"


class OverlapWord(StrEnum):
    """Values of --overlap."""

    SKIP = "skip"
    QUEUE = "queue"


@app.command()
@with_run_options
def add(
    context: typer.Context,
    name: Name,
    *,
    cron: Annotated[
        str, typer.Option(metavar="LINE", help='Five fields like "0 3 * * sun".', rich_help_panel=_WHEN)
    ] = "",
    every: Annotated[
        str, typer.Option(metavar="DUR", help="Again and again, from now on.", rich_help_panel=_WHEN)
    ] = "",
    at: Annotated[str, typer.Option(metavar="TIME", help="Once, like 2026-12-24T03:00.", rich_help_panel=_WHEN)] = "",
    tz: Annotated[
        str,
        typer.Option(
            "--tz",
            metavar="ZONE",
            help=r"Time zone like Europe/Berlin. \[default: this machine's]",
            rich_help_panel=_WHEN,
        ),
    ] = "",
    misfire: Annotated[
        MisfireWord, typer.Option(help="A fire time at which no service ran.", rich_help_panel=_WHEN)
    ] = MisfireWord.RUN_ONCE,
    grace: Annotated[
        float,
        typer.Option(
            parser=duration,
            metavar="DUR",
            show_default="1h",
            help="How late it may be fired.",
            rich_help_panel=_WHEN,
        ),
    ] = 3600.0,
    overlap: Annotated[
        OverlapWord, typer.Option(help="While the rollout before is not over.", rich_help_panel=_WHEN)
    ] = OverlapWord.SKIP,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the schedule of that name.")] = False,
    phones: PhonesFile = None,
    source: SourceName = "",
    options: dict[str, object],
) -> None:
    """Add a schedule. Its rollout is planned once, to see that it can be; nothing is sent before its time.

    A local time that occurs twice fires once, one that does not occur fires when clocks are put forward; with `*` as hour it
    runs in real time. A phone file is read again at each fire time.
    """
    common: Common = context.obj
    from resyncctl.clock import from_us, now_us
    from resyncctl.engine.calendar import When, local_zone
    from resyncctl.engine.schedules import Policy
    from resyncctl.store.schedules import Misfire, Overlap

    now = now_us()
    when = When.parse(now=from_us(now), cron=cron, every=every, at=at, tz=tz or local_zone())
    policy = Policy(misfire=Misfire(misfire.value), grace=grace, overlap=Overlap(overlap.value))
    order = order_of(options, phones=phones, source=source)

    async def main() -> tuple[ScheduleRecord, Plan]:
        async with _schedules(common) as schedules:
            return await schedules.add(
                name, when=when, order=order, policy=policy, actor=local_actor(), now_us=now, replacing=replace
            )

    record, plan = run_async(main)
    for notice in plan.notices:
        say(f"note: {notice}")
    _tell(common, record, extra={"targets": plan.targets, "sends": len(plan.dues), "plan_hash": plan.hash})
    one = "1 phone" if len(plan.dues) == 1 else f"{len(plan.dues)} phones"
    say(f"schedule {name}: {when}; as things are now it sends to {one}. {_outlook(record, now)}")


@app.command("list")
def list_(context: typer.Context) -> None:
    """List the schedules."""
    common: Common = context.obj
    from resyncctl.clock import now_us
    from resyncctl.engine.schedules import schedule_report

    async def main() -> list[ScheduleRecord]:
        async with _schedules(common) as schedules:
            return await schedules.store.list()

    reports = [schedule_report(record, now_us()) for record in run_async(main)]
    if common.as_json:
        emit(reports)
        return
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("schedule", "when", "next", "phones", "last rollout", "remark"):
        table.add_column(title, overflow="fold")
    for report in reports:
        following = "paused" if report["paused"] else str(report["next_at"] or "never")
        table.add_row(
            str(report["name"]),
            str(report["when"]),
            following,
            _which_phones(report),
            str(report["last_rollout"] or ""),
            str(report["last_error"] or report["note"] or ""),
        )
    console(stderr=False).print(table if reports else "no schedules yet; `resyncctl schedule add` makes one")


@app.command()
def show(context: typer.Context, name: Name) -> None:
    """Show a schedule: what it does, when, and what became of its last fire time."""
    common: Common = context.obj
    _tell(common, run_async(lambda: _get(common, name)))


@app.command("next")
def next_(
    context: typer.Context, name: Name, count: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 5
) -> None:
    """Show the next fire times of a schedule, in UTC and in its time zone."""
    common: Common = context.obj
    from resyncctl.clock import now_us
    from resyncctl.engine.schedules import next_fires

    record = run_async(lambda: _get(common, name))
    fires = next_fires(record, now_us(), count)
    if common.as_json:
        emit(fires)
    else:
        for fire in fires:
            print(f"{fire['utc']}  {fire['local']}")
    if record.paused:
        say(f"schedule {name} is paused; `resyncctl schedule resume {name}` lets it fire")
    elif not fires:
        say(f"schedule {name} fires no more")


@app.command()
def pause(context: typer.Context, name: Name) -> None:
    """Let a schedule fire no more until it is resumed. A rollout that runs goes on."""
    common: Common = context.obj

    async def main() -> ScheduleRecord:
        async with _schedules(common) as schedules:
            return await schedules.pause(name, local_actor())

    record = run_async(main)
    if common.as_json:
        _tell(common, record)
    say(f"schedule {name} is paused; `resyncctl schedule resume {name}` lets it fire again")


@app.command()
def resume(context: typer.Context, name: Name) -> None:
    """Let a paused schedule fire again, from its next fire time on."""
    common: Common = context.obj
    from resyncctl.clock import now_us

    now = now_us()

    async def main() -> ScheduleRecord:
        async with _schedules(common) as schedules:
            return await schedules.resume(name, local_actor(), now_us=now)

    record = run_async(main)
    if common.as_json:
        _tell(common, record)
    say(f"schedule {name} goes on. {_outlook(record, now)}")


@app.command()
def remove(context: typer.Context, name: Name) -> None:
    """Remove a schedule. A rollout that runs goes on."""
    common: Common = context.obj

    async def main() -> None:
        async with _schedules(common) as schedules:
            await schedules.remove(name, local_actor())

    run_async(main)
    if common.as_json:
        emit({"name": name, "removed": True})
    say(f"schedule {name} is removed")


@app.command()
def run(context: typer.Context, name: Name) -> None:
    """Make a schedule's rollout now, for the service to execute. Its fire times stay as they are."""
    common: Common = context.obj
    from resyncctl.clock import now_us

    async def main() -> Launched:
        async with _schedules(common) as schedules:
            return await schedules.run(name, local_actor(), now_us=now_us())

    launched = run_async(main)
    rollout = launched.record.id
    if common.as_json:
        emit({"name": name, "rollout": rollout, "targets": launched.record.targets})
    say(f"rollout {rollout} is for the service to execute; `resyncctl rollout watch {rollout}` follows it")


@contextlib.asynccontextmanager
async def _schedules(common: Common) -> AsyncIterator[Schedules]:
    from resyncctl.engine.app import open_store
    from resyncctl.engine.launch import Launcher
    from resyncctl.engine.schedules import Schedules

    settings = common.settings()
    async with open_store(settings) as store:
        yield Schedules(store, Launcher(store, settings.sources))


async def _get(common: Common, name: str) -> ScheduleRecord:
    async with _schedules(common) as schedules:
        return await schedules.store.get(name)


def _tell(common: Common, record: ScheduleRecord, extra: dict[str, object] | None = None) -> None:
    """Print a schedule's report: as JSON, or a line for each of its values."""
    from resyncctl.clock import now_us
    from resyncctl.engine.schedules import schedule_report

    report = {**schedule_report(record, now_us()), **(extra or {})}
    if common.as_json:
        emit(report)
    elif extra is None:
        for key, value in report.items():
            if value not in (None, "", [], {}):
                print(f"{key}: {_shown(value)}")


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {one}" for key, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _which_phones(report: dict[str, object]) -> str:
    if "source" in report:
        return f"source {report['source']}"
    return Path(str(report["phones_file"])).name if "phones_file" in report else f"{report.get('phones', '')}"


def _outlook(record: ScheduleRecord, now: int) -> str:
    from resyncctl.engine.schedules import next_fires

    fires = next_fires(record, now, 1)
    if record.paused:
        return f"It is paused; `resyncctl schedule resume {record.name}` lets it fire"
    return f"Next: {fires[0]['local']}" if fires else "It fires no more"
