"""Execute a rollout here, in the foreground."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from resyncctl.cli import audit
from resyncctl.cli.follow import Interrupts, ended
from resyncctl.cli.render import Progress
from resyncctl.cli.state import INTERRUPTED, Common, console, say
from resyncctl.engine.app import (
    Execution,
    check_id,
    command,
    open_store,
    owner_is_alive,
    store_plan,
)
from resyncctl.engine.dispatcher import Left
from resyncctl.engine.outbound import Outbound
from resyncctl.engine.retry import prepare_retry
from resyncctl.engine.tally import report_of
from resyncctl.rollout.states import Command, RolloutState
from resyncctl.transport.trace import open_trace

if TYPE_CHECKING:
    from resyncctl.config import Settings
    from resyncctl.engine.backend import Report
    from resyncctl.engine.planning import Plan
    from resyncctl.rollout.model import RolloutId, TargetState
    from resyncctl.store.redis_store import RedisStore
    from resyncctl.transport.trace import Tracer


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What the command line says beside the plan; a rollout keeps it, except for the trace."""

    outbound: Outbound = field(default_factory=Outbound)
    busy_file: str = ""
    trace: tuple[str, ...] = ()

    def kept(self) -> dict[str, str]:
        """Return what a rollout keeps."""
        return self.outbound.said() | ({"busy_file": self.busy_file} if self.busy_file else {})

    def way(self, settings: Settings, kept: Mapping[str, str]) -> Outbound:
        """Return how requests leave: as the command line says, else as the rollout has kept, else as is configured."""
        return self.outbound.over(Outbound.kept(kept)).over(Outbound.configured(settings))

    @contextlib.contextmanager
    def tracing(self, settings: Settings) -> Iterator[Tracer | None]:
        """Keep the trace open; raises InputError, TransportError."""
        tracer = open_trace(self.trace or settings.trace, tell=say)
        try:
            yield tracer
        finally:
            if tracer is not None:
                tracer.close()


async def run_here(common: Common, settings: Settings, plan: Plan, name: RolloutId, around: Around) -> int:
    """Make a rollout of a plan, or go on with the one that has the name, and execute it; return the exit status."""
    way = around.way(settings, {})
    way.agents()
    with around.tracing(settings) as tracer:
        async with open_store(settings) as store:
            if await store.find(name) is None:
                way.check(tracer)
            record = await store_plan(store, name, plan, surroundings=around.kept())
            plan.blocks.clear()
            await audit.record(store, "rollout.run", name, plan_hash=record.plan_hash, targets=str(record.targets))
            if record.state is RolloutState.PAUSED:
                await command(store, name, Command.RESUME)
            return await execute(common, settings, store, name, around, tracer)


async def execute(
    common: Common, settings: Settings, store: RedisStore, name: RolloutId, around: Around, tracer: Tracer | None
) -> int:
    """Execute a rollout here with a progress display; return the exit status."""
    progress = Progress(console(), report_of(await store.get(name)))

    def update(state: RolloutState, report: Mapping[str, object]) -> None:
        progress.update({**report, "state": state.value})

    execution = Execution(store, settings, name, on_progress=update)
    try:
        with Interrupts(execution.leave, progress.tell), progress:
            left, record = await execution.run(busy_file=around.busy_file, outbound=around.outbound, tracer=tracer)
    except asyncio.CancelledError:
        say(f"left at once; `resyncctl rollout resume {name}` continues it")
        return INTERRUPTED
    return ended(common, report_of(record), paused=left is Left.PAUSED)


async def resume_here(common: Common, rollout: str, around: Around) -> Report | int:
    """Let a rollout go on: in the process that executes it (then its report is returned), else here (the exit status)."""
    settings, name = common.settings(), check_id(rollout)
    async with open_store(settings) as store:
        record = await store.get(name)
        alive = await owner_is_alive(store, name)
        with contextlib.nullcontext() if alive else around.tracing(settings) as tracer:
            if not alive:
                around.way(settings, record.surroundings).check(tracer)
            if record.state is RolloutState.PAUSED:
                await command(store, name, Command.RESUME)
            await audit.record(store, "rollout.resume", name, plan_hash=record.plan_hash)
            if alive:
                return report_of(await store.get(name))
            return await execute(common, settings, store, name, around, tracer)


async def settle_here(settings: Settings, rollout: str) -> Report:
    """Let an aborted rollout that nobody executes end here; one that is executed elsewhere ends there."""
    name = check_id(rollout)
    async with open_store(settings) as store:
        if not await owner_is_alive(store, name):
            await Execution(store, settings, name).run()
        return report_of(await store.get(name))


async def retry_here(
    common: Common, parent: str, states: frozenset[TargetState], around: Around, *, now: bool, child: str
) -> int:
    """Try what failed again in a new rollout that is executed here; return the exit status."""
    settings = common.settings()
    async with open_store(settings) as store:
        prepared = await prepare_retry(store, await store.get(check_id(parent)), states, now=now, name=child)
        record, plan = prepared.parent, prepared.plan
        with around.tracing(settings) as tracer:
            around.way(settings, record.surroundings).check(tracer)
            await store_plan(store, prepared.name, plan, parent=record.id, surroundings=record.surroundings)
            told = {"rollout": child, "plan_hash": plan.hash, "targets": str(plan.targets)}
            await audit.record(store, "rollout.retry", record.id, **told)
            return await execute(common, settings, store, prepared.name, around, tracer)
