"""`resyncctl rollout …`: look at rollouts, steer them, continue them, retry what failed."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer

from resyncctl.cli import audit
from resyncctl.cli.options import BusyFileOption, LocalAddress, Now, Yes
from resyncctl.cli.rows import Format, Printer
from resyncctl.cli.run import (
    check_socket,
    confirm,
    execute,
    exit_status,
)
from resyncctl.cli.state import Common, console, emit, run_async, say
from resyncctl.errors import StateError
from resyncctl.rollout.model import TargetState
from resyncctl.rollout.states import Command, RolloutState

if TYPE_CHECKING:
    from resyncctl.config import Settings
    from resyncctl.engine.retry import Retry
    from resyncctl.rollout.model import RolloutId
    from resyncctl.store.records import RolloutRecord
    from resyncctl.store.redis_store import RedisStore

app = typer.Typer(help="Look at rollouts and steer them. Without an ID the newest one is meant.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="[ID]", show_default=False, help="The rollout; without it the newest.")]
_LABELS: Final = {state.label: state for state in TargetState}
StateName = StrEnum("StateName", {label: label for label in _LABELS})  # type: ignore[misc]
States = Annotated[list[StateName] | None, typer.Option("--state", help="Only targets in this state; repeatable.")]
_EVENTS_WAIT: Final = 1.0
_LOOK_BACK: Final = 100
"""Rollouts among which one without an ID is looked for."""
_ANY: Final = frozenset(RolloutState)
_ACTIVE: Final = _ANY - {RolloutState.FINISHED, RolloutState.ABORTED}
_SENDING: Final = frozenset({RolloutState.RUNNING, RolloutState.DRAINING})


@app.command("list")
def list_(
    context: typer.Context, count: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20
) -> None:
    """List the newest rollouts."""
    common: Common = context.obj
    from resyncctl.engine.app import open_store
    from resyncctl.engine.tally import report_of

    async def main() -> list[RolloutRecord]:
        async with open_store(common.settings()) as store:
            return await store.newest(count)

    reports = [report_of(record) for record in run_async(main)]
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
    from resyncctl.engine.app import open_store
    from resyncctl.engine.tally import report_of

    async def main() -> RolloutRecord:
        async with open_store(common.settings()) as store:
            return await _find(store, rollout)

    report = report_of(run_async(main))
    if common.as_json:
        emit(report)
    else:
        show_report(console(stderr=False), report)


@app.command()
def watch(context: typer.Context, rollout: Id = "") -> None:
    """Follow a rollout until it ends; the exit status is that of its `run`."""
    common: Common = context.obj
    raise typer.Exit(run_async(lambda: _watch(common, rollout)))


async def _watch(common: Common, rollout: str) -> int:
    from resyncctl.cli.render import Progress, show_report
    from resyncctl.engine.app import open_store
    from resyncctl.engine.tally import is_over, report_of

    async with open_store(common.settings()) as store:
        record = await _find(store, rollout)
        after = "0"
        with Progress(console(), record) as progress:
            while not (is_over(record.state) and record.finished_us):
                events = await store.events(record.id, after, wait=_EVENTS_WAIT)
                for event in events:
                    after = event.id
                    progress.update(event.state, event.report)
                    if common.as_json:
                        emit({"rollout": record.id, "state": event.state.value, **event.report}, indent=None)
                if not events or is_over(events[-1].state):
                    record = await store.get(record.id)
        if common.as_json:
            emit(report_of(record), indent=None)
        else:
            show_report(console(), report_of(record))
        return exit_status(record)


@app.command()
def results(
    context: typer.Context,
    rollout: Id = "",
    state: States = None,
    output: Annotated[Format, typer.Option("--format", help="How to print them.")] = Format.TABLE,
) -> None:
    """Print the outcome of every target, streamed."""
    common: Common = context.obj
    from resyncctl.engine.app import open_store
    from resyncctl.engine.results import COLUMNS
    from resyncctl.engine.results import results as rows

    form = Format.NDJSON if common.as_json else output
    states = _states(state)

    async def main() -> None:
        async with open_store(common.settings()) as store:
            record = await _find(store, rollout)
            printer = Printer(form, COLUMNS)
            async for _, _, row in rows(store, record, states):
                printer.print(row)
            printer.finish()

    run_async(main)


@app.command()
def pause(context: typer.Context, rollout: Id = "") -> None:
    """Pause a running rollout: nothing more is sent within a second; what is on the wire is followed to its end."""
    _steer(context.obj, rollout, Command.PAUSE, _SENDING)


@app.command()
def abort(context: typer.Context, rollout: Id = "") -> None:
    """End a rollout for good: targets that have not been sent to are cancelled."""
    common: Common = context.obj
    name = _steer(common, rollout, Command.ABORT, _ACTIVE, quiet=True)
    raise typer.Exit(run_async(lambda: _settle(common, common.settings(), name)))


async def _settle(common: Common, settings: Settings, name: RolloutId) -> int:
    """Let a rollout that nobody executes end here; one that is executed elsewhere ends there."""
    from resyncctl.engine.app import Execution, open_store, owner_is_alive
    from resyncctl.engine.tally import report_of

    async with open_store(settings) as store:
        if not await owner_is_alive(store, name):
            await Execution(store, settings, name).run()
        record = await store.get(name)
        _told(common, report_of(record), f"rollout {name} is aborted")
    return 0


@app.command()
def resume(
    context: typer.Context,
    rollout: Id = "",
    busy_file: BusyFileOption = None,
    local_address: LocalAddress = "",
) -> None:
    """Go on with a paused rollout, or with one whose process died: its process continues, or this one takes over."""
    common: Common = context.obj
    from resyncctl.engine.app import parse_local

    parse_local(local_address)
    busy = str(busy_file.absolute()) if busy_file else ""
    raise typer.Exit(run_async(lambda: _resume(common, rollout, busy, local_address)))


async def _resume(common: Common, rollout: str, busy_file: str, local_address: str) -> int:
    from resyncctl.engine.app import command, open_store, owner_is_alive
    from resyncctl.engine.tally import is_over, report_of

    settings = common.settings()
    async with open_store(settings) as store:
        record = await _find(store, rollout, among=_ACTIVE)
        if is_over(record.state):
            raise StateError(f"rollout {record.id} is {record.state.value}; nothing is left to resume")
        alive = await owner_is_alive(store, record.id)
        if not alive:
            check_socket(local_address or record.surroundings.get("local_address", ""))
        if record.state is RolloutState.PAUSED:
            await command(store, record.id, Command.RESUME)
        await audit.record(store, "rollout.resume", record.id, plan_hash=record.plan_hash)
        if alive:
            report = report_of(await store.get(record.id))
            _told(common, report, f"rollout {record.id} goes on in the process that executes it")
            return 0
        return await execute(common, settings, store, record.id, busy_file=busy_file, local_address=local_address)


@app.command()
def retry(
    context: typer.Context,
    rollout: Id = "",
    state: States = None,
    now: Now = False,
    yes: Yes = False,
    new_id: Annotated[str, typer.Option("--id", metavar="ID", help="Name of the new rollout.")] = "",
) -> None:
    """Make a new rollout of the targets that failed, and execute it here.

    Without --state: rejected, unreachable, overloaded, unauthorized, unconfirmed; for a resync also unknown.
    """
    common: Common = context.obj
    settings = common.settings()
    states = _states(state)
    prepared = run_async(lambda: _prepare_retry(settings, rollout, states, now=now, name=new_id))
    confirm(prepared.plan, yes=yes)
    raise typer.Exit(run_async(lambda: _retry(common, settings, prepared)))


async def _prepare_retry(
    settings: Settings, rollout: str, states: frozenset[TargetState], *, now: bool, name: str
) -> Retry:
    from resyncctl.engine.app import open_store
    from resyncctl.engine.retry import prepare_retry

    async with open_store(settings) as store:
        return await prepare_retry(store, await _find(store, rollout), states, now=now, name=name)


async def _retry(common: Common, settings: Settings, prepared: Retry) -> int:
    from resyncctl.engine.app import open_store, store_plan

    plan, parent, child = prepared.plan, prepared.parent, prepared.name
    async with open_store(settings) as store:
        check_socket(parent.surroundings.get("local_address", ""))
        await store_plan(store, child, plan, parent=parent.id, surroundings=parent.surroundings)
        told = {"rollout": child, "plan_hash": plan.hash, "targets": str(plan.targets)}
        await audit.record(store, "rollout.retry", parent.id, **told)
        return await execute(common, settings, store, child)


def _steer(
    common: Common, rollout: str, wanted: Command, active: frozenset[RolloutState], *, quiet: bool = False
) -> RolloutId:
    from resyncctl.engine.app import command, open_store
    from resyncctl.engine.tally import report_of

    async def main() -> RolloutRecord:
        async with open_store(common.settings()) as store:
            record = await _find(store, rollout, among=active)
            if wanted is Command.ABORT and record.state is RolloutState.ABORTED and not record.finished_us:
                return record  # an abort that was interrupted: it is brought to its end
            await command(store, record.id, wanted)
            await audit.record(store, f"rollout.{wanted.name.lower()}", record.id, plan_hash=record.plan_hash)
            return await store.get(record.id)

    record = run_async(main)
    if not quiet:
        _told(common, report_of(record), f"rollout {record.id} is {record.state.value}")
    return record.id


def _told(common: Common, report: dict[str, object], text: str) -> None:
    if common.as_json:
        emit(report)
    say(text)


async def _find(store: RedisStore, name: str, *, among: frozenset[RolloutState] = _ANY) -> RolloutRecord:
    """Return the named rollout, whatever its state, or the newest that is in one of the states."""
    from resyncctl.engine.app import check_id

    if name:
        return await store.get(check_id(name))
    found = next((one for one in await store.newest(1 if among is _ANY else _LOOK_BACK) if one.state in among), None)
    if found is None:
        which = {_ANY: "", _ACTIVE: " that is not over", _SENDING: " that is running"}[among]
        raise StateError(f"there is no rollout{which} in {store.where}; `resyncctl rollout list` shows which there are")
    return found


def _states(names: list[StateName] | None) -> frozenset[TargetState]:
    return frozenset(_LABELS[str(name)] for name in names or ())
