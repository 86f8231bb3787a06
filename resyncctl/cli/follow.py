"""Follow a rollout that the service executes, as `run` shows one that is executed here; hand one over to it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from resyncctl.cli.state import INTERRUPTED, Common, console, emit, say
from resyncctl.errors import StateError
from resyncctl.rollout.states import Command, RolloutState

if TYPE_CHECKING:
    from resyncctl.engine.backend import Backend, Planned, Report

_LOOK: Final = 0.2
"""Seconds between two looks whether what is on the wire has been answered."""


async def hand_over(common: Common, backend: Backend, planned: Planned, *, name: str, detach: bool) -> int:
    """Have the service execute a plan, and follow it unless `detach`; return the exit status."""
    report = await backend.launch(planned, name=name)
    if report["state"] == RolloutState.PAUSED:  # a rollout of that name and plan: whoever runs it wants it to go on
        report = await backend.steer(name, Command.RESUME)
    return await (detached(common, backend, report) if detach else follow(common, backend, report))


async def detached(common: Common, backend: Backend, report: Report) -> int:
    """Tell which rollout the service executes now: its ID alone on standard output."""
    name = report["rollout"]
    if common.as_json:
        emit(report)
    else:
        print(name)
    if not await backend.workers():
        say(f"no service works with {backend.where} now; `resyncctl serve` begins with it")
    say(f"rollout {name} is for the service to execute; `resyncctl rollout watch {name}` follows it")
    return 0


async def follow(common: Common, backend: Backend, report: Report) -> int:
    """Follow a rollout to its end; Ctrl-C pauses it. Returns the exit status."""
    from resyncctl.cli.render import Progress

    name = str(report["rollout"])
    leaving = asyncio.Event()
    progress = Progress(console(), report)
    try:
        with Interrupts(leaving.set, progress.tell), progress:
            report = await _outcome(backend, name, progress.update, leaving)
    except asyncio.CancelledError:
        say(f"left at once; `resyncctl rollout resume {name}` continues it")
        return INTERRUPTED
    return ended(common, report, paused=not report["finished_at"])


def ended(common: Common, report: Report, *, paused: bool) -> int:
    """Show how a rollout has ended, or that it is paused; return the exit status."""
    from resyncctl.cli.render import show_report

    if common.as_json:
        emit(report)
    show_report(console(), report)
    if paused:
        say(f"paused; `resyncctl rollout resume {report['rollout']}` continues it")
        return INTERRUPTED
    return exit_status(report)


def exit_status(report: Report) -> int:
    """Return the exit status that a rollout's report stands for."""
    from resyncctl.engine.tally import failures

    if report["state"] == RolloutState.ABORTED:
        return 3
    return 1 if failures(report) else 0


async def _outcome(backend: Backend, name: str, update: Callable[[Report], None], leaving: asyncio.Event) -> Report:
    """Return the report of the end, or of the pause that `leaving` asks for."""
    tasks = [asyncio.create_task(_last(backend, name, update)), asyncio.create_task(_left(backend, name, leaving))]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _last(backend: Backend, name: str, update: Callable[[Report], None]) -> Report:
    async for news in backend.follow(name):
        update(news.report)
        if news.last:
            return news.report
    return await backend.rollout(name)


async def _left(backend: Backend, name: str, leaving: asyncio.Event) -> Report:
    """Pause when it is asked for, and wait until nothing is on the wire any more."""
    await leaving.wait()
    while True:
        report = await backend.rollout(name)
        counts = report["counts"]
        sending = isinstance(counts, dict) and counts.get("sending")
        if report["finished_at"] or (report["state"] == RolloutState.PAUSED and not sending):
            return report
        if report["state"] in {RolloutState.RUNNING, RolloutState.DRAINING}:
            with contextlib.suppress(StateError):  # it has just ended, or somebody else has paused it
                await backend.steer(name, Command.PAUSE)
        await asyncio.sleep(_LOOK)


class Interrupts:
    """Ctrl-C, SIGTERM and a terminal that goes away: the first pauses, the second leaves at once."""

    def __init__(self, leave: Callable[[], None], tell: Callable[[str], None]) -> None:
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
