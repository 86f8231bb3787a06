"""`resyncctl run` and `resyncctl plan`."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from resyncctl.cli import audit
from resyncctl.cli.options import IdOption, Phones, RunWords, with_run_options
from resyncctl.cli.state import INTERRUPTED, Common, console, emit, run_async, say
from resyncctl.errors import InputError
from resyncctl.rollout.model import Action, Options
from resyncctl.rollout.states import Command, RolloutState

if TYPE_CHECKING:
    from resyncctl.config import Settings
    from resyncctl.engine.planning import Plan
    from resyncctl.rollout.model import RolloutId
    from resyncctl.store.records import RolloutRecord
    from resyncctl.store.redis_store import RedisStore


@with_run_options
def run(  # `run` and `plan` take the same options; which of them it is, the context tells
    context: typer.Context, phones: Phones, *, options: Mapping[str, object], rollout: IdOption = ""
) -> None:
    """Plan for the phones of a CSV file; as `run` execute the plan, as `plan` show it."""
    common: Common = context.obj
    from resyncctl.engine.app import check_id, new_id, parse_local

    words = RunWords.of(options)
    wanted = words.options()
    settings = common.settings()
    name = check_id(rollout) if rollout else None
    parse_local(words.local_address)
    surroundings = {"local_address": words.local_address, "busy_file": str(words.busy_file or "")}
    plan = _planned(phones, wanted, where=words.where or [], seed=words.seed, name=rollout)
    if context.info_name == "plan":
        _show(common, plan)
        return
    known = name is not None and run_async(lambda: _exists(settings, name))
    if not known:  # a rollout that is continued was confirmed when it began
        confirm(plan, yes=words.yes)
    raise typer.Exit(run_async(lambda: _run(common, settings, plan, name or new_id(plan), surroundings)))


RUN_HELP: Final = """Plan a rollout for the phones of a CSV file and execute it here: progress, then a report.

Exit status: 0 all succeeded or were skipped by rule, 1 some failed, 2 bad input and nothing sent, 3 aborted,
4 Redis or a socket failed, 130 interrupted (the rollout is paused; `resyncctl rollout resume` continues it)."""
PLAN_HELP: Final = """Show what `run` with the same options would do: batches, times, skips with reasons, load curve.

Sends nothing and stores nothing."""


def check_socket(text: str) -> None:
    """Raise TransportError when `--local-address` cannot be sent from, before a rollout is stored or resumed."""
    from resyncctl.engine.app import parse_local
    from resyncctl.sip.transaction import Timers
    from resyncctl.transport.endpoint import Endpoint
    from resyncctl.transport.udp import UdpNetwork

    local = parse_local(text)
    if not local[0]:
        return
    endpoint = Endpoint(UdpNetwork(), local=local, timers=Timers(), on_result=lambda _: None)
    try:
        endpoint.link_for(local)
    finally:
        endpoint.close()


def _planned(phones: Path, options: Options, *, where: list[str], seed: int | None, name: str) -> Plan:
    """Make the plan, with a sign of life on a terminal; Ctrl-C leaves nothing behind."""
    from resyncctl.engine.app import plan_csv

    people = console()
    sign = people.status(f"planning for {phones.name} …") if people.is_terminal else contextlib.nullcontext()
    try:
        with sign:
            return plan_csv(phones, options, where=where, seed=seed, name=name)
    except KeyboardInterrupt:
        say("interrupted while planning; nothing was sent and nothing is stored")
        raise typer.Exit(INTERRUPTED) from None


def _show(common: Common, plan: Plan) -> None:
    from resyncctl.cli.render import show_plan
    from resyncctl.engine.planning import plan_report

    if common.as_json:
        emit(plan_report(plan))
    else:
        show_plan(console(stderr=False), plan)


def confirm(plan: Plan, *, yes: bool) -> None:
    """Ask before phones reboot, when there is a person to ask; raise InputError when only --yes will do."""
    from rich.markup import escape

    reboots = plan.options.action is Action.REBOOT
    surprising = bool(plan.will_reboot or plan.dangerous)
    people = console()
    for notice in plan.notices:
        people.print(f"[yellow]note:[/] {escape(notice)}")
    if yes or not plan.dues or not (reboots or surprising):
        return
    if sys.stdin.isatty() and sys.stderr.isatty():
        count = len(plan.dues)
        phones = "1 phone" if count == 1 else f"{count} phones"
        if not _agreed(f"Reboot {phones}?" if reboots else f"Send to {phones} nevertheless?"):
            raise InputError("not confirmed; nothing was sent")
    elif surprising:
        raise InputError("this needs --yes (see the notes above); nothing was sent")


def _agreed(question: str) -> bool:
    """Ask on standard error; anything but yes is no, Ctrl-C leaves."""
    try:
        print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().lower() in {"y", "yes"}
    except KeyboardInterrupt:
        say("\ninterrupted; nothing was sent")
        raise typer.Exit(INTERRUPTED) from None


async def _exists(settings: Settings, name: RolloutId) -> bool:
    from resyncctl.engine.app import open_store

    async with open_store(settings) as store:
        return await store.find(name) is not None


async def _run(common: Common, settings: Settings, plan: Plan, name: RolloutId, surroundings: dict[str, str]) -> int:
    from resyncctl.engine.app import command, open_store, store_plan

    async with open_store(settings) as store:
        if await store.find(name) is None:
            check_socket(surroundings["local_address"])
        record = await store_plan(store, name, plan, surroundings=surroundings)
        plan.blocks.clear()
        await audit.record(store, "rollout.run", name, plan_hash=record.plan_hash, targets=str(record.targets))
        if record.state is RolloutState.PAUSED:
            await command(store, name, Command.RESUME)
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
    import asyncio

    from resyncctl.cli.render import Progress, show_report
    from resyncctl.engine.app import Execution
    from resyncctl.engine.dispatcher import Left
    from resyncctl.engine.tally import report_of

    record = await store.get(name)
    progress = Progress(console(), record)
    execution = Execution(store, settings, name, on_progress=progress.update)
    try:
        with _Interrupts(execution.leave, progress.tell), progress:
            left, record = await execution.run(busy_file=busy_file, local_address=local_address)
    except asyncio.CancelledError:
        say(f"left at once; `resyncctl rollout resume {name}` continues it")
        return INTERRUPTED
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

    if record.state is RolloutState.ABORTED:
        return 3
    return 1 if failures(report_of(record)) else 0


class _Interrupts:
    """Ctrl-C, SIGTERM and a terminal that goes away: the first pauses, the second leaves at once."""

    def __init__(self, leave: Callable[[], None], tell: Callable[[str], None]) -> None:
        import asyncio

        self._leave = leave
        self._tell = tell
        self._count = 0
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
            self._numbers.append(signal.SIGHUP)

    def __enter__(self) -> None:
        for number in self._numbers:
            self._loop.add_signal_handler(number, self._interrupted)

    def __exit__(self, *_: object) -> None:
        for number in self._numbers:
            self._loop.remove_signal_handler(number)

    def _interrupted(self) -> None:
        self._count += 1
        if self._count == 1:
            self._leave()
            self._tell("pausing: what is on the wire is followed to its end; Ctrl-C again leaves at once")
        elif self._task is not None:
            self._task.cancel()
