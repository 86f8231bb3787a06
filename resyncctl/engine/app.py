"""The composition root: puts store, network, busy source and engine together, and is what the command line calls."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from resyncctl import __version__
from resyncctl.clock import from_us, now_us
from resyncctl.engine.alone import execute_alone
from resyncctl.engine.dispatcher import Left
from resyncctl.engine.outbound import Outbound
from resyncctl.engine.planning import Plan, Planner
from resyncctl.engine.pools import Pools
from resyncctl.engine.results import results
from resyncctl.engine.sender import Sender, Surroundings
from resyncctl.engine.tally import is_over, planned_part
from resyncctl.errors import InputError, PhoneListError, StateError
from resyncctl.inventory.busy import BusyFile
from resyncctl.inventory.csv_file import CsvPhones
from resyncctl.inventory.extensions import select
from resyncctl.logs import make_logger
from resyncctl.rollout.model import Options, Reason, RolloutId, TargetState
from resyncctl.rollout.states import Command, PauseReason, RolloutState, move
from resyncctl.store.embedded import EmbeddedServer
from resyncctl.store.records import Control, RolloutRecord, new_fields, rollout_id
from resyncctl.store.redis_store import RedisStore
from resyncctl.vendors import Catalogue

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from resyncctl.config import Settings
    from resyncctl.engine.worker import MakeSender
    from resyncctl.transport.trace import Tracer

_UPLOAD: Final = 256
"""Batches of a plan written to Redis at once."""
_GC_THRESHOLD: Final = 50_000
"""Allocations between two runs of the collector of cycles."""
_TAKE_OVER_WAIT: Final = 12.0
"""Seconds to wait for a dead owner's lease to end: it lasts 10."""
ProgressSink = Callable[[RolloutState, Mapping[str, object]], None]


@contextlib.asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[RedisStore]:
    """Open the store that the settings name; without a URL the embedded server, for as long as it is needed."""
    with contextlib.ExitStack() as stack:
        revive = None
        url = settings.redis_url
        if not url:
            server = EmbeddedServer(settings.data_dir)
            url = await asyncio.to_thread(server.acquire)
            stack.callback(server.release)
            revive = server.ensure
        store = RedisStore(url, revive=None if revive is None else lambda: void(revive))
        try:
            yield store
        finally:
            await store.close()


def void(call: Callable[[], object]) -> None:
    """Call and forget the result."""
    call()


def plan_csv(
    path: Path,
    options: Options,
    *,
    where: list[str],
    seed: int | None,
    name: str,
    catalogue: Catalogue | None = None,
    extensions: Sequence[str] = (),
    pools: Pools | None = None,
) -> Plan:
    """Plan for the phones of a CSV file; raises InputError with all that is wrong. Nothing is sent or stored."""
    phones = CsvPhones(path)
    rejected: list[str] = []
    count = 0
    with Planner(options, catalogue or Catalogue.load(), select(where, extensions), pools=pools) as planner:
        for line, values, phone in phones.rows():
            try:
                planner.add(phone, values)
            except InputError as error:
                count += 1
                if count <= _REJECTED:
                    rejected.append(f"line {line}: {error}")
        if count:
            raise PhoneListError(str(path), rejected, count)
        plan = planner.make(seed=seed, name=name)
    if phones.ignored:
        plan = replace(
            plan, notices=(*plan.notices, f"columns without meaning are ignored: {', '.join(phones.ignored)}")
        )
    return plan


_REJECTED: Final = 20


async def plan_retry(
    store: RedisStore,
    record: RolloutRecord,
    states: frozenset[TargetState],
    *,
    now: bool,
    name: str,
    pools: Pools | None = None,
) -> Plan:
    """Plan for the targets of another rollout that are in one of the states; raises InputError when there is none."""
    options = replace(record.options, batch_interval=0.0, random_delay=0.0) if now else record.options
    with Planner(options, Catalogue.load(), pools=pools) as planner:
        planner.use_triggers(record.triggers)
        count = 0
        async for target, _, _ in results(store, record, states):
            if target.skip:
                continue
            delay = float(target.random_delay) if target.random_delay and not now else options.random_delay
            planner.add_target(replace(target, lines=target.lines, due_us=-1, skip=Reason.NONE), delay=delay)
            count += 1
        if not count:
            names = ", ".join(sorted(state.label for state in states))
            raise InputError(f"rollout {record.id} has no targets that are {names}; nothing to retry")
        return planner.make(name=name)


def new_id(plan_hash: str) -> RolloutId:
    """Name a rollout that the operator has not named: the time and the beginning of the plan's hash."""
    return RolloutId(f"{from_us(now_us()):%Y%m%d-%H%M%S}-{plan_hash[:6]}")


async def store_plan(
    store: RedisStore, name: RolloutId, plan: Plan, *, parent: str = "", surroundings: Mapping[str, str] | None = None
) -> RolloutRecord:
    """Make a rollout of a plan, or find the one that has the ID and the same plan; InputError for another plan."""
    known, _ = await place_plan(store, name, plan, parent=parent, surroundings=surroundings)
    if known.plan_hash != plan.hash:
        raise InputError(
            f"--id {name} names a rollout with another plan ({known.plan_hash[:12]}, {known.targets} targets; this one is"
            f" {plan.hash[:12]}, {plan.targets} targets): phones or options have changed. Use another --id, or"
            f" `resyncctl rollout resume {name}` to go on with the old plan"
        )
    return known


async def place_plan(
    store: RedisStore, name: RolloutId, plan: Plan, *, parent: str = "", surroundings: Mapping[str, str] | None = None
) -> tuple[RolloutRecord, bool]:
    """Make a rollout of a plan unless the ID has one; return the one that it has now, and whether it is this one."""
    known = await store.find(name)
    if known is not None:
        return known, False
    upload = secrets.token_hex(8)
    for start in range(0, len(plan.blocks), _UPLOAD):
        await store.put_blocks(name, upload, dict(enumerate(plan.blocks[start : start + _UPLOAD], start)))
    fields = new_fields(
        plan_hash=plan.hash,
        options=plan.options,
        seed=plan.seed,
        targets=plan.targets,
        skipped=plan.skipped,
        notices=plan.notices,
        triggers=plan.triggers,
        index=plan.index,
        created_us=now_us(),
        parent=parent,
        surroundings=surroundings,
    )
    other = await store.create(name, upload, fields, counted=json.dumps(planned_part(plan.skipped)))
    return await store.get(name), other is None


def new_owner() -> str:
    """Return a token that names this process to people and is like no other."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def make_senders(
    store: RedisStore,
    settings: Settings,
    log: FilteringBoundLogger,
    *,
    on_progress: ProgressSink | None = None,
    busy_file: str = "",
    outbound: Outbound | None = None,
    tracer: Tracer | None = None,
    wall: Callable[[], int] = now_us,
) -> MakeSender:
    """Return what makes the senders of a process; `busy_file` and `outbound` go before what a rollout has kept."""

    def make(record: RolloutRecord, worker: str) -> Sender:
        kept = record.surroundings
        busy_path = busy_file or kept.get("busy_file", "")
        way = (outbound or Outbound()).over(Outbound.kept(kept)).over(Outbound.configured(settings))
        around = Surroundings(
            store=store,
            agent=way.agents(tracer),
            resolver=way.resolver(),
            log=log,
            user_agent=f"resyncctl/{__version__}",
            busy=BusyFile(Path(busy_path), idle_for=record.options.idle_for) if busy_path else None,
            wall=wall,
            on_progress=on_progress,
        )
        return Sender(record, worker, around)

    return make


def spare_the_collector() -> None:
    """Let what there is by now stay; what sending makes is freed by reference counts. Measured: 4 microseconds a NOTIFY."""
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 20, 100)


@dataclass(slots=True)
class Execution:
    """One execution of a rollout in this process alone; `leave` pauses it."""

    store: RedisStore
    settings: Settings
    name: RolloutId
    on_progress: ProgressSink | None = None
    leaving: asyncio.Event = field(default_factory=asyncio.Event)

    def leave(self) -> None:
        """Pause the rollout and let `run` come back when what is on the wire has been answered."""
        self.leaving.set()

    async def run(
        self, *, busy_file: str = "", outbound: Outbound | None = None, tracer: Tracer | None = None
    ) -> tuple[Left, RolloutRecord]:
        """Take the lease (waiting for a dead owner's to end) and execute; return how it ended and the last record."""
        owner = new_owner()
        await self._acquire(owner)
        try:
            record = await self.store.get(self.name)
            if is_over(record.state) and record.finished_us:
                return Left.ENDED, record
            if record.state is RolloutState.PAUSED and not self.leaving.is_set():
                # Whoever executes it wants it to go on.
                await command(self.store, self.name, Command.RESUME)
                record = await self.store.get(self.name)
            log = make_logger(self.settings.log_level, log_format=self.settings.log_format)
            senders = make_senders(
                self.store,
                self.settings,
                log,
                on_progress=self.on_progress,
                busy_file=busy_file,
                outbound=outbound,
                tracer=tracer,
            )
            spare_the_collector()
            left = await execute_alone(record, owner, self.store, senders, log, leaving=self.leaving)
        finally:
            with contextlib.suppress(Exception):  # the lease ends by itself; what went wrong is on its way up already
                await self.store.release(self.name, owner)
        return left, await self.store.get(self.name)

    async def _acquire(self, owner: str) -> None:
        deadline = asyncio.get_running_loop().time() + _TAKE_OVER_WAIT
        seen = -1
        while (holder := await self.store.acquire(self.name, owner)) is not None:
            record = await self.store.get(self.name)
            alive = seen >= 0 and record.seen_us > seen
            seen = record.seen_us
            if alive or asyncio.get_running_loop().time() > deadline:
                raise StateError(
                    f"rollout {self.name} is being executed by {holder.token}; `resyncctl rollout watch {self.name}` follows it"
                )
            await asyncio.sleep(min(0.6, holder.seconds + 0.01))


async def command(store: RedisStore, name: RolloutId, wanted: Command) -> Control:
    """Change a rollout's state for an operator; StateError when that does not fit. Returns the state it is in now."""
    for _ in range(10):
        record = await store.get(name)
        new = move(record.state, wanted)
        fields = {"pause_reason": PauseReason.OPERATOR.value if new is RolloutState.PAUSED else ""}
        if await store.transition(name, record.state, new, fields) is record.state:
            return Control(new, fields["pause_reason"])
    raise StateError(f"rollout {name} keeps changing its state; try again")


async def owner_is_alive(store: RedisStore, name: RolloutId) -> bool:
    """Say whether some process executes the rollout: it writes four times a second."""
    before = (await store.get(name)).seen_us
    for _ in range(8):
        await asyncio.sleep(0.1)
        if (await store.get(name)).seen_us > before:
            return True
    return False


def check_id(text: str) -> RolloutId:
    """Check a rollout's name; raises InputError."""
    return rollout_id(text)
