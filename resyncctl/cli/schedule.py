"""`resyncctl schedule …`: rollouts at fixed times, fired by whichever `resyncctl serve` has the scheduler's lease."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resyncctl.cli.options import PhonesFile, SourceName, order_words, with_run_options
from resyncctl.cli.state import Common, console, duration, emit, say

if TYPE_CHECKING:
    from resyncctl.engine.backend import Backend, Report

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
    from resyncctl.cli.render import phones as count_phones
    from resyncctl.cli.render import whole
    from resyncctl.engine.backend import WantedSchedule
    from resyncctl.engine.calendar import local_zone

    times = {"cron": cron, "every": every, "at": at, "tz": tz or local_zone()}
    wanted = WantedSchedule(
        name=name,
        times={word: text for word, text in times.items() if text},
        order=order_words(common, options, phones=phones, source=source),
        misfire=misfire.value,
        grace=grace,
        overlap=overlap.value,
        replace=replace,
    )

    async def main(backend: Backend) -> tuple[Report, str]:
        report = await backend.add_schedule(wanted)
        return report, await _outlook(backend, report)

    report, outlook = common.ask(main)
    notices = report.pop("notices")
    for notice in notices if isinstance(notices, list) else ():
        say(f"note: {notice}")
    if common.as_json:
        emit(report)
    sends = count_phones(whole(report["sends"]))
    say(f"schedule {name}: {report['when']}; as things are now it sends to {sends}. {outlook}")


@app.command("list")
def list_(context: typer.Context) -> None:
    """List the schedules."""
    common: Common = context.obj
    reports = common.ask(lambda backend: backend.schedules())
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
    report = common.ask(lambda backend: backend.schedule(name))
    if common.as_json:
        emit(report)
        return
    for key, value in report.items():
        if value not in (None, "", [], {}):
            print(f"{key}: {_shown(value)}")


@app.command("next")
def next_(
    context: typer.Context, name: Name, count: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 5
) -> None:
    """Show the next fire times of a schedule, in UTC and in its time zone."""
    common: Common = context.obj

    async def main(backend: Backend) -> tuple[Report, list[Report]]:
        return await backend.schedule(name), await backend.fires(name, count)

    report, fires = common.ask(main)
    if common.as_json:
        emit(fires)
    else:
        for fire in fires:
            print(f"{fire['utc']}  {fire['local']}")
    if report["paused"]:
        say(f"schedule {name} is paused; `resyncctl schedule resume {name}` lets it fire")
    elif not fires:
        say(f"schedule {name} fires no more")


@app.command()
def pause(context: typer.Context, name: Name) -> None:
    """Let a schedule fire no more until it is resumed. A rollout that runs goes on."""
    common: Common = context.obj
    report = common.ask(lambda backend: backend.pause_schedule(name))
    if common.as_json:
        emit(report)
    say(f"schedule {name} is paused; `resyncctl schedule resume {name}` lets it fire again")


@app.command()
def resume(context: typer.Context, name: Name) -> None:
    """Let a paused schedule fire again, from its next fire time on."""
    common: Common = context.obj

    async def main(backend: Backend) -> tuple[Report, str]:
        report = await backend.resume_schedule(name)
        return report, await _outlook(backend, report)

    report, outlook = common.ask(main)
    if common.as_json:
        emit(report)
    say(f"schedule {name} goes on. {outlook}")


@app.command()
def remove(context: typer.Context, name: Name) -> None:
    """Remove a schedule. A rollout that runs goes on."""
    common: Common = context.obj
    common.ask(lambda backend: backend.remove_schedule(name))
    if common.as_json:
        emit({"name": name, "removed": True})
    say(f"schedule {name} is removed")


@app.command()
def run(context: typer.Context, name: Name) -> None:
    """Make a schedule's rollout now, for the service to execute. Its fire times stay as they are."""
    common: Common = context.obj
    report = common.ask(lambda backend: backend.run_schedule(name))
    rollout = report["rollout"]
    if common.as_json:
        emit({"name": name, "rollout": rollout, "targets": report["targets"]})
    say(f"rollout {rollout} is for the service to execute; `resyncctl rollout watch {rollout}` follows it")


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {one}" for key, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _which_phones(report: dict[str, object]) -> str:
    if "source" in report:
        return f"source {report['source']}"
    return Path(str(report["phones_file"])).name if "phones_file" in report else f"{report.get('phones', '')}"


async def _outlook(backend: Backend, report: Report) -> str:
    if report["paused"]:
        return f"It is paused; `resyncctl schedule resume {report['name']}` lets it fire"
    fires = await backend.fires(str(report["name"]), 1)
    return f"Next: {fires[0]['local']}" if fires else "It fires no more"
