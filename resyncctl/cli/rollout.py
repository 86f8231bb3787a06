"""`resyncctl rollout …`: look at rollouts, steer them, continue them, retry what failed."""

from __future__ import annotations

import csv
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from resyncctl.cli.run import BusyFileOption, LocalAddress, Now, Yes, confirm, execute, exit_status
from resyncctl.cli.state import Common, console, emit, errors_told, run_async, say
from resyncctl.errors import InputError, StateError
from resyncctl.rollout.model import FAILED, TargetState
from resyncctl.rollout.states import Command, RolloutState

if TYPE_CHECKING:
    from resyncctl.config import Settings
    from resyncctl.engine.results import Row
    from resyncctl.rollout.model import RolloutId
    from resyncctl.store.records import RolloutRecord
    from resyncctl.store.redis_store import RedisStore

app = typer.Typer(help="Look at rollouts and steer them. Without an ID the newest one is meant.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="[ID]", show_default=False, help="The rollout; without it the newest.")]
_LABELS: Final = {state.label: state for state in TargetState}
StateName = StrEnum("StateName", {label: label for label in _LABELS})  # type: ignore[misc]
States = Annotated[list[StateName] | None, typer.Option("--state", help="Only targets in this state; repeatable.")]
_EVENTS_WAIT: Final = 1.0


class Format(StrEnum):
    """How results are printed."""

    TABLE = "table"
    CSV = "csv"
    NDJSON = "ndjson"


@app.command("list")
def list_(
    context: typer.Context, count: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20
) -> None:
    """List the newest rollouts."""
    common: Common = context.obj
    with errors_told(as_json=common.as_json):
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
            table.add_column(title)
        for report in reports:
            counts = report["counts"]
            text = ", ".join(f"{name} {number}" for name, number in counts.items()) if isinstance(counts, dict) else ""
            table.add_row(
                str(report["rollout"]), str(report["action"]), str(report["state"]), str(report["targets"]), text
            )
        console(stderr=False).print(table if reports else "no rollouts yet; `resyncctl run PHONES.csv` makes one")


@app.command()
def show(context: typer.Context, rollout: Id = "") -> None:
    """Show a rollout's report."""
    common: Common = context.obj
    with errors_told(as_json=common.as_json):
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
    with errors_told(as_json=common.as_json):
        status = run_async(lambda: _watch(common, rollout))
    raise typer.Exit(status)


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
                        print(
                            json.dumps({"rollout": record.id, "state": event.state.value, **event.report}), flush=True
                        )
                if not events or is_over(events[-1].state):
                    record = await store.get(record.id)
        if not common.as_json:
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
    with errors_told(as_json=common.as_json):
        from resyncctl.engine.app import open_store
        from resyncctl.engine.results import COLUMNS
        from resyncctl.engine.results import results as rows

        form = Format.NDJSON if common.as_json else output
        states = _states(state)

        async def main() -> None:
            async with open_store(common.settings()) as store:
                record = await _find(store, rollout)
                printer = _Printer(form, COLUMNS)
                async for _, _, row in rows(store, record, states):
                    printer.print(row)
                printer.finish()

        run_async(main)


class _Printer:
    """Prints rows as they come. A table takes its column widths from its first page."""

    def __init__(self, form: Format, columns: tuple[str, ...]) -> None:
        self._form = form
        self._columns = columns
        self._page: list[tuple[str, ...]] = []
        self._widths: list[int] = []
        self._writer = csv.writer(sys.stdout, lineterminator="\n")
        if form is Format.CSV:
            self._writer.writerow(columns)

    def print(self, row: Row) -> None:
        """Print one row, soon."""
        match self._form:
            case Format.NDJSON:
                print(json.dumps(row._asdict()))
            case Format.CSV:
                self._writer.writerow(row)
            case Format.TABLE:
                self._page.append(tuple("" if value == 0 else str(value) for value in row))
                if len(self._page) >= 100:
                    self._flush()

    def finish(self) -> None:
        """Print what is left."""
        if self._form is Format.TABLE:
            self._flush()
        sys.stdout.flush()

    def _flush(self) -> None:
        if not self._widths:
            page = [self._columns, *self._page]
            self._widths = [max(len(row[column]) for row in page) for column in range(len(self._columns))]
            print(
                "  ".join(name.ljust(width) for name, width in zip(self._columns, self._widths, strict=True)).rstrip()
            )
        for row in self._page:
            print("  ".join(value.ljust(width) for value, width in zip(row, self._widths, strict=True)).rstrip())
        self._page.clear()


@app.command()
def pause(context: typer.Context, rollout: Id = "") -> None:
    """Pause a running rollout: nothing more is sent within a second; what is on the wire is followed to its end."""
    _steer(context.obj, rollout, Command.PAUSE, {RolloutState.RUNNING, RolloutState.DRAINING})


@app.command()
def abort(context: typer.Context, rollout: Id = "") -> None:
    """End a rollout for good: targets that have not been sent to are cancelled."""
    common: Common = context.obj
    ended = {RolloutState.FINISHED, RolloutState.ABORTED}
    name = _steer(common, rollout, Command.ABORT, set(RolloutState) - ended, quiet=True)
    with errors_told(as_json=common.as_json):
        status = run_async(lambda: _settle(common, common.settings(), name))
    raise typer.Exit(status)


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
    with errors_told(as_json=common.as_json):
        status = run_async(lambda: _resume(common, rollout, busy_file, local_address))
    raise typer.Exit(status)


async def _resume(common: Common, rollout: str, busy_file: Path | None, local_address: str) -> int:
    from resyncctl.engine.app import command, open_store, owner_is_alive
    from resyncctl.engine.tally import is_over, report_of

    settings = common.settings()
    async with open_store(settings) as store:
        record = await _find(store, rollout, active=True)
        if is_over(record.state):
            raise StateError(f"rollout {record.id} is {record.state.value}; nothing is left to resume")
        if record.state is RolloutState.PAUSED:
            await command(store, record.id, Command.RESUME)
        if await owner_is_alive(store, record.id):
            _told(
                common,
                report_of(await store.get(record.id)),
                f"rollout {record.id} goes on in the process that executes it",
            )
            return 0
        return await execute(
            common,
            settings,
            store,
            record.id,
            busy_file=str(busy_file.absolute()) if busy_file else "",
            local_address=local_address,
        )


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
    with errors_told(as_json=common.as_json):
        status = run_async(lambda: _retry(common, rollout, _states(state), now=now, yes=yes, name=new_id))
    raise typer.Exit(status)


async def _retry(
    common: Common, rollout: str, states: frozenset[TargetState], *, now: bool, yes: bool, name: str
) -> int:
    from resyncctl.engine.app import check_id, open_store, plan_retry, store_plan
    from resyncctl.engine.tally import is_over
    from resyncctl.rollout.model import Action

    settings = common.settings()
    async with open_store(settings) as store:
        record = await _find(store, rollout)
        if not is_over(record.state):
            raise StateError(
                f"rollout {record.id} is {record.state.value}; let it end, or abort it, before its failures are retried"
            )
        if not states:
            states = FAILED if record.action is Action.RESYNC else FAILED - {TargetState.UNKNOWN}
        child = check_id(name or await _free_name(store, record.id))
        plan = await plan_retry(store, record, frozenset(states), now=now, name=child)
        confirm(plan, yes=yes)
        await store_plan(store, child, plan, parent=record.id, surroundings=record.surroundings)
        return await execute(common, settings, store, child)


async def _free_name(store: RedisStore, parent: RolloutId) -> str:
    from resyncctl.engine.app import check_id

    for number in range(1, 1000):
        name = f"{parent[:58]}-r{number}"
        if await store.find(check_id(name)) is None:
            return name
    raise InputError("a thousand retries of one rollout; name the new one with --id")


def _steer(
    common: Common, rollout: str, wanted: Command, active: set[RolloutState], *, quiet: bool = False
) -> RolloutId:
    with errors_told(as_json=common.as_json):
        from resyncctl.engine.app import command, open_store
        from resyncctl.engine.tally import report_of

        async def main() -> RolloutRecord:
            async with open_store(common.settings()) as store:
                record = await _find(store, rollout, active=not rollout, among=active)
                await command(store, record.id, wanted)
                return await store.get(record.id)

        record = run_async(main)
        if not quiet:
            _told(common, report_of(record), f"rollout {record.id} is {record.state.value}")
        return record.id


def _told(common: Common, report: dict[str, object], text: str) -> None:
    if common.as_json:
        emit(report)
    say(text)


async def _find(
    store: RedisStore, name: str, *, active: bool = False, among: set[RolloutState] | None = None
) -> RolloutRecord:
    """Return the named rollout, or the newest; `active`: the newest that is in one of the states, or has not ended."""
    from resyncctl.engine.app import check_id
    from resyncctl.engine.tally import is_over

    if name:
        return await store.get(check_id(name))
    records = await store.newest(100 if active else 1)
    if active:
        records = [one for one in records if (one.state in among if among else not is_over(one.state))]
    if not records:
        raise StateError("there is no such rollout; `resyncctl rollout list` shows which there are")
    return records[0]


def _states(names: list[StateName] | None) -> frozenset[TargetState]:
    return frozenset(_LABELS[str(name)] for name in names or ())
