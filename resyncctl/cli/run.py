"""`resyncctl run` and `resyncctl plan`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from resyncctl.cli.options import HereWords, IdOption, Phones, RunWords, with_run_options
from resyncctl.cli.state import INTERRUPTED, Common, console, emit, run_async, say
from resyncctl.errors import InputError, NotFoundError

if TYPE_CHECKING:
    from resyncctl.engine.backend import Backend, Planned, Report
    from resyncctl.engine.planning import Plan

Detach = Annotated[
    bool,
    typer.Option("--detach", help="Have the service execute it, print its ID and return at once."),
]
RUN_HELP: Final = """Plan a rollout for the phones of a CSV file and execute it here: progress, then a report.

With --server the service executes it, and it is followed just the same.

Exit status: 0 all succeeded or were skipped by rule, 1 some failed, 2 bad input and nothing sent, 3 aborted,
4 Redis or a socket failed, 130 interrupted (the rollout is paused; `resyncctl rollout resume` continues it)."""
PLAN_HELP: Final = """Show what `run` with the same options would do: batches, times, skips with reasons, load curve.

Sends nothing and makes no rollout."""


@with_run_options
def run(
    context: typer.Context,
    phones: Phones,
    *,
    options: Mapping[str, object],
    here: HereWords,
    rollout: IdOption = "",
    detach: Detach = False,
) -> None:
    """See RUN_HELP."""
    common: Common = context.obj
    if common.server or detach:
        here.refuse("by the service")
    wanted = _Wanted.read(phones, options, rollout, here)
    planned = _plan(common, wanted, detach=detach)
    if not (rollout and common.ask(lambda backend: _exists(backend, rollout))):
        confirm(planned.report, yes=wanted.words.yes)  # one that is continued was confirmed when it began
    raise typer.Exit(_execute(common, wanted, planned, detach=detach))


@with_run_options
def plan(
    context: typer.Context,
    phones: Phones,
    *,
    options: Mapping[str, object],
    here: HereWords,
    rollout: IdOption = "",
) -> None:
    """See PLAN_HELP."""
    common: Common = context.obj
    from resyncctl.cli.render import show_plan

    planned = _plan(common, _Wanted.read(phones, options, rollout, here), detach=False)
    if common.as_json:
        emit(planned.report)
    else:
        show_plan(console(stderr=False), planned.report)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the command line asks for; `options` are those that were given."""

    phones: Path
    options: Mapping[str, object]
    words: RunWords
    here: HereWords
    name: str

    @classmethod
    def read(cls, phones: Path, options: Mapping[str, object], name: str, here: HereWords) -> _Wanted:
        """Check what does not depend on the phones; raises InputError."""
        from resyncctl.engine.app import check_id

        words = RunWords.of(options)
        words.options()
        outbound = here.outbound(local_address=words.local_address, engine=words.engine)
        outbound.resolver()
        outbound.agents()
        return cls(phones, options, words, here, check_id(name) if name else "")

    def order(self) -> dict[str, object]:
        """Return where and options of an order. Whoever is asked at the terminal has agreed by the time it is launched."""
        from resyncctl.rollout.pacing import seed_of

        rest = {name: value for name, value in self.options.items() if name != "where"}
        if self.name and self.words.seed is None:
            rest["seed"] = seed_of("id", self.name)  # so that a name has the same plan everywhere
        where = {"where": self.words.where} if self.words.where else {}
        return {**where, "options": {**rest, "yes": True}}


def _plan(common: Common, wanted: _Wanted, *, detach: bool) -> Planned:
    """Make the plan, with a sign of life on a terminal; Ctrl-C leaves nothing behind."""
    people = console()
    sign = people.status(f"planning for {wanted.phones.name} …") if people.is_terminal else contextlib.nullcontext()
    try:
        with sign:
            if common.server:
                return run_async(lambda: _plan_there(common, wanted))
            return _plan_here(common, wanted, detach=detach)
    except KeyboardInterrupt:
        say("interrupted while planning; nothing was sent and nothing is stored")
        raise typer.Exit(INTERRUPTED) from None


async def _plan_there(common: Common, wanted: _Wanted) -> Planned:
    async with common.service() as service:
        return await service.plan(wanted.phones, wanted.order())


def _plan_here(common: Common, wanted: _Wanted, *, detach: bool) -> Planned:
    from resyncctl.engine.app import plan_csv
    from resyncctl.engine.backend import Planned
    from resyncctl.engine.planning import plan_report
    from resyncctl.engine.pools import Pools

    settings, words, phones = common.settings(), wanted.words, wanted.phones
    pools = Pools(settings.pools) if detach else None  # what is executed here goes to no pool
    made = plan_csv(phones, words.options(), where=words.where or [], seed=words.seed, name=wanted.name, pools=pools)
    if not detach:
        return Planned(report=plan_report(made), plan=made)
    from resyncctl.engine.order import read_order

    order = read_order({**wanted.order(), "phones_file": str(phones.absolute())})
    return Planned(report=plan_report(made), plan=made, order=order)


def _execute(common: Common, wanted: _Wanted, planned: Planned, *, detach: bool) -> int:
    from resyncctl.engine.app import check_id, new_id

    name = check_id(wanted.name) if wanted.name else new_id(str(planned.report["plan_hash"]))
    if detach or planned.plan is None:
        from resyncctl.cli.follow import hand_over

        return common.ask(lambda backend: hand_over(common, backend, planned, name=name, detach=detach))
    from resyncctl.cli.execute import Around, run_here

    made: Plan = planned.plan
    words = wanted.words
    outbound = wanted.here.outbound(local_address=words.local_address, engine=words.engine)
    around = Around(outbound=outbound, busy_file=str(words.busy_file or ""), trace=tuple(wanted.here.trace or ()))
    return run_async(lambda: run_here(common, common.settings(), made, name, around))


async def _exists(backend: Backend, name: str) -> bool:
    try:
        await backend.rollout(name)
    except NotFoundError:
        return False
    return True


def confirm(plan: Report, *, yes: bool) -> None:
    """Ask before phones reboot, when there is a person to ask; raise InputError when only --yes will do."""
    from rich.markup import escape

    from resyncctl.cli.render import phones, whole

    reboots = plan["action"] == "reboot"
    surprising = bool(plan["will_reboot"] or plan["dangerous"])
    people = console()
    for notice in plan["notices"] if isinstance(plan["notices"], list) else ():
        people.print(f"[yellow]note:[/] {escape(str(notice))}")
    sends = whole(plan["targets"]) - whole(plan["skipped"])
    if yes or not sends or not (reboots or surprising):
        return
    if sys.stdin.isatty() and sys.stderr.isatty():
        if not _agreed(f"Reboot {phones(sends)}?" if reboots else f"Send to {phones(sends)} nevertheless?"):
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
