"""Execute a rollout here, in the foreground."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
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
    parse_local,
    store_plan,
)
from resyncctl.engine.dispatcher import Left
from resyncctl.engine.retry import prepare_retry
from resyncctl.engine.tally import report_of
from resyncctl.rollout.states import Command, RolloutState
from resyncctl.sip.transaction import Timers
from resyncctl.transport.endpoint import Endpoint
from resyncctl.transport.udp import UdpNetwork

if TYPE_CHECKING:
    from resyncctl.config import Settings
    from resyncctl.engine.backend import Report
    from resyncctl.engine.planning import Plan
    from resyncctl.rollout.model import RolloutId, TargetState
    from resyncctl.store.redis_store import RedisStore


async def run_here(
    common: Common, settings: Settings, plan: Plan, name: RolloutId, surroundings: Mapping[str, str]
) -> int:
    """Make a rollout of a plan, or go on with the one that has the name, and execute it; return the exit status."""
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
    progress = Progress(console(), report_of(await store.get(name)))

    def update(state: RolloutState, report: Mapping[str, object]) -> None:
        progress.update({**report, "state": state.value})

    execution = Execution(store, settings, name, on_progress=update)
    try:
        with Interrupts(execution.leave, progress.tell), progress:
            left, record = await execution.run(busy_file=busy_file, local_address=local_address)
    except asyncio.CancelledError:
        say(f"left at once; `resyncctl rollout resume {name}` continues it")
        return INTERRUPTED
    return ended(common, report_of(record), paused=left is Left.PAUSED)


async def resume_here(common: Common, rollout: str, *, busy_file: str, local_address: str) -> Report | int:
    """Let a rollout go on: in the process that executes it (then its report is returned), else here (the exit status)."""
    settings, name = common.settings(), check_id(rollout)
    async with open_store(settings) as store:
        record = await store.get(name)
        alive = await owner_is_alive(store, name)
        if not alive:
            check_socket(local_address or record.surroundings.get("local_address", ""))
        if record.state is RolloutState.PAUSED:
            await command(store, name, Command.RESUME)
        await audit.record(store, "rollout.resume", name, plan_hash=record.plan_hash)
        if alive:
            return report_of(await store.get(name))
        return await execute(common, settings, store, name, busy_file=busy_file, local_address=local_address)


async def settle_here(settings: Settings, rollout: str) -> Report:
    """Let an aborted rollout that nobody executes end here; one that is executed elsewhere ends there."""
    name = check_id(rollout)
    async with open_store(settings) as store:
        if not await owner_is_alive(store, name):
            await Execution(store, settings, name).run()
        return report_of(await store.get(name))


async def retry_here(common: Common, parent: str, states: frozenset[TargetState], *, now: bool, child: str) -> int:
    """Try what failed again in a new rollout that is executed here; return the exit status."""
    settings = common.settings()
    async with open_store(settings) as store:
        prepared = await prepare_retry(store, await store.get(check_id(parent)), states, now=now, name=child)
        record, plan = prepared.parent, prepared.plan
        check_socket(record.surroundings.get("local_address", ""))
        await store_plan(store, prepared.name, plan, parent=record.id, surroundings=record.surroundings)
        told = {"rollout": child, "plan_hash": plan.hash, "targets": str(plan.targets)}
        await audit.record(store, "rollout.retry", record.id, **told)
        return await execute(common, settings, store, prepared.name)


def check_socket(text: str) -> None:
    """Raise TransportError when `--local-address` cannot be sent from, before a rollout is stored or resumed."""
    local = parse_local(text)
    if not local[0]:
        return
    endpoint = Endpoint(UdpNetwork(), local=local, timers=Timers(), on_result=lambda _: None)
    try:
        endpoint.link_for(local)
    finally:
        endpoint.close()
