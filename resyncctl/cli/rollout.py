"""`resyncctl rollout …`: look at rollouts, steer them, continue them, retry what failed."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer

from resyncctl.cli.options import BusyFileOption, EngineOption, HereWords, LocalAddress, Now, Yes, with_run_options
from resyncctl.cli.rows import Format, Printer
from resyncctl.cli.run import Detach, confirm
from resyncctl.cli.state import Common, console, emit, say
from resyncctl.errors import InputError, StateError
from resyncctl.rollout.model import TargetState
from resyncctl.rollout.states import ENDED, Command, RolloutState

if TYPE_CHECKING:
    from resyncctl.engine.backend import Backend, Report

app = typer.Typer(help="Look at rollouts and steer them. Without an ID the newest one is meant.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="[ID]", show_default=False, help="The rollout; without it the newest.")]
_LABELS: Final = {state.label: state for state in TargetState}
StateName = StrEnum("StateName", {label: label for label in _LABELS})  # type: ignore[misc]
States = Annotated[list[StateName] | None, typer.Option("--state", help="Only targets in this state; repeatable.")]
_ANY: Final = frozenset[RolloutState]()
_ACTIVE: Final = frozenset(RolloutState) - ENDED
_SENDING: Final = frozenset({RolloutState.RUNNING, RolloutState.DRAINING})


@app.command("list")
def list_(
    context: typer.Context, count: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20
) -> None:
    """List the newest rollouts."""
    common: Common = context.obj
    reports = common.ask(lambda backend: backend.rollouts(count))
    if common.as_json:
        emit(reports)
        return
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("rollout", "action", "state", "targets", "counts"):
        table.add_column(title, overflow="fold")
    for report in reports:
        counts = report["counts"]
        text = ", ".join(f"{name} {number}" for name, number in counts.items()) if isinstance(counts, dict) else ""
        values = (str(report[name]) for name in ("rollout", "action", "state", "targets"))
        table.add_row(*values, text)
    console(stderr=False).print(table if reports else "no rollouts yet; `resyncctl run PHONES.csv` makes one")


@app.command()
def show(context: typer.Context, rollout: Id = "") -> None:
    """Show a rollout's report."""
    common: Common = context.obj
    from resyncctl.cli.render import show_report

    report = common.ask(lambda backend: _find(backend, rollout))
    if common.as_json:
        emit(report)
    else:
        show_report(console(stderr=False), report)


@app.command()
def watch(context: typer.Context, rollout: Id = "") -> None:
    """Follow a rollout until it ends; the exit status is that of its `run`."""
    common: Common = context.obj
    raise typer.Exit(common.ask(lambda backend: _watch(common, backend, rollout)))


async def _watch(common: Common, backend: Backend, rollout: str) -> int:
    from resyncctl.cli.follow import exit_status
    from resyncctl.cli.render import Progress, show_report

    report = await _find(backend, rollout)
    with Progress(console(), report) as progress:
        async for news in backend.follow(str(report["rollout"])):
            report = news.report
            if not news.last:
                progress.update(report)
            if common.as_json:
                emit(report, indent=None)
    if not common.as_json:
        show_report(console(), report)
    return exit_status(report)


@app.command()
def results(
    context: typer.Context,
    rollout: Id = "",
    state: States = None,
    output: Annotated[Format, typer.Option("--format", help="How to print them.")] = Format.TABLE,
) -> None:
    """Print the outcome of every target, streamed."""
    common: Common = context.obj
    from resyncctl.engine.results import COLUMNS

    form = Format.NDJSON if common.as_json else output
    states = _states(state)

    async def main(backend: Backend) -> None:
        name = str((await _find(backend, rollout))["rollout"])
        printer = Printer(form, COLUMNS)
        async for row in backend.results(name, states):
            printer.print(row)
        printer.finish()

    common.ask(main)


@app.command()
def pause(context: typer.Context, rollout: Id = "") -> None:
    """Pause a running rollout: nothing more is sent within a second; what is on the wire is followed to its end."""
    common: Common = context.obj
    report = common.ask(lambda backend: _steer(backend, rollout, Command.PAUSE, among=_SENDING))
    _tell(common, report, f"rollout {report['rollout']} is {report['state']}")


@app.command()
def abort(context: typer.Context, rollout: Id = "") -> None:
    """End a rollout for good: targets that have not been sent to are cancelled."""
    common: Common = context.obj

    async def main(backend: Backend) -> Report:
        report = await _steer(backend, rollout, Command.ABORT, among=_ACTIVE)
        if common.server:
            return report
        from resyncctl.cli.execute import settle_here

        return await settle_here(common.settings(), str(report["rollout"]))

    report = common.ask(main)
    _tell(common, report, f"rollout {report['rollout']} is aborted")


@app.command()
@with_run_options
def resume(
    context: typer.Context,
    rollout: Id = "",
    *,
    busy_file: BusyFileOption = None,
    local_address: LocalAddress = "",
    engine: EngineOption = None,
    here: HereWords,
) -> None:
    """Go on with a paused rollout, or with one whose process died: its process continues, or this one takes over."""
    common: Common = context.obj
    from resyncctl.engine.outbound import parse_local

    parse_local(local_address)
    if common.server:
        if busy_file or local_address or engine:
            raise InputError(
                "--busy-file, --local-address and --engine are for a rollout that is executed here, not with --server"
            )
        here.refuse("with --server")
    busy = str(busy_file.absolute()) if busy_file else ""

    async def main(backend: Backend) -> int:
        report = await _find(backend, rollout, among=_ACTIVE)
        name = str(report["rollout"])
        if report["state"] in ENDED:
            raise StateError(f"rollout {name} is {report['state']}; nothing is left to resume")
        if common.server:
            report = await backend.steer(name, Command.RESUME)
        else:
            from resyncctl.cli.execute import Around, resume_here

            outbound = here.outbound(local_address=local_address, engine=engine)
            around = Around(outbound=outbound, busy_file=busy, trace=tuple(here.trace or ()))
            outcome = await resume_here(common, name, around)
            if isinstance(outcome, int):
                return outcome
            report = outcome
        _tell(common, report, f"rollout {name} goes on in the process that executes it")
        return 0

    raise typer.Exit(common.ask(main))


@app.command()
@with_run_options
def retry(
    context: typer.Context,
    rollout: Id = "",
    *,
    here: HereWords,
    state: States = None,
    now: Now = False,
    yes: Yes = False,
    new_id: Annotated[str, typer.Option("--id", metavar="ID", help="Name of the new rollout.")] = "",
    detach: Detach = False,
) -> None:
    """Make a new rollout of the targets that failed, and execute it here.

    Without --state: rejected, unreachable, overloaded, unauthorized, unconfirmed; for a resync also unknown.
    """
    common: Common = context.obj
    states = _states(state)
    if common.server or detach:
        here.refuse("by the service")

    async def planning(backend: Backend) -> tuple[str, Report]:
        parent = str((await _find(backend, rollout))["rollout"])
        return parent, await backend.plan_retry(parent, states, now=now, child=new_id)

    parent, plan = common.ask(planning)
    child = str(plan["rollout"])
    confirm(plan, yes=yes)
    from resyncctl.cli.follow import detached, follow

    async def retrying(backend: Backend) -> int:
        if common.server or detach:
            made = await backend.retry(parent, states, now=now, child=child)
            return await (detached(common, backend, made) if detach else follow(common, backend, made))
        from resyncctl.cli.execute import Around, retry_here

        around = Around(outbound=here.outbound(), trace=tuple(here.trace or ()))
        return await retry_here(common, parent, states, around, now=now, child=child)

    raise typer.Exit(common.ask(retrying))


async def _steer(backend: Backend, name: str, wanted: Command, *, among: frozenset[RolloutState]) -> Report:
    found = await _find(backend, name, among=among)
    return await backend.steer(str(found["rollout"]), wanted)


async def _find(backend: Backend, name: str, *, among: frozenset[RolloutState] = _ANY) -> Report:
    """Return the named rollout, whatever its state, or the newest that is in one of the states."""
    if name:
        return await backend.rollout(name)
    found = await backend.rollouts(1, among)
    if not found:
        which = {_ANY: "", _ACTIVE: " that is not over", _SENDING: " that is running"}[among]
        raise StateError(
            f"there is no rollout{which} in {backend.where}; `resyncctl rollout list` shows which there are"
        )
    return found[0]


def _tell(common: Common, report: Report, text: str) -> None:
    if common.as_json:
        emit(report)
    say(text)


def _states(names: list[StateName] | None) -> frozenset[TargetState]:
    return frozenset(_LABELS[str(name)] for name in names or ())
