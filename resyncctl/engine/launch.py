"""From an order to a rollout that the service executes: plan, keep the plan, make the rollout, each of them once."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Collection, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from resyncctl.engine.app import check_id, new_id, place_plan, plan_csv, store_plan
from resyncctl.engine.freeze import refuse_while_frozen
from resyncctl.engine.order import Order, read_order
from resyncctl.engine.outbound import check_engine
from resyncctl.engine.planning import Plan, Planner, plan_report
from resyncctl.engine.pools import Pools
from resyncctl.engine.retry import prepare_retry
from resyncctl.errors import InputError, NotFoundError, PhoneListError, StateError
from resyncctl.inventory.extensions import select
from resyncctl.inventory.phone import FIELDS, parse_phone
from resyncctl.rollout.device import PARAMETERS
from resyncctl.store.audit import AuditLog
from resyncctl.store.service import ServiceStore
from resyncctl.vendors import Catalogue

if TYPE_CHECKING:
    from resyncctl.config import Source
    from resyncctl.rollout.model import Options, TargetState
    from resyncctl.store.audit import Actor
    from resyncctl.store.records import RolloutRecord
    from resyncctl.store.redis_store import RedisStore

_HERE: Final = 500
"""Phones that are planned at once in the event loop: 10 ms. A thread would cost more than it saves."""
_LARGE: Final = 1_000_000
"""Bytes of a phone file from which on it is planned in a process of its own: a thread would take the interpreter away
from what is being sent."""
_REJECTED: Final = 20
"""Phones of a request that are spelled out as wrong; of more only the number is told."""
_FIELDS: Final = frozenset({*FIELDS, *PARAMETERS})


@dataclass(frozen=True, slots=True)
class Launched:
    """A rollout, and whether this call has made it."""

    record: RolloutRecord
    new: bool


class Launcher:
    """Plans orders and makes rollouts of them. `sources` are phone lists by name."""

    def __init__(
        self,
        store: RedisStore,
        sources: Mapping[str, Source],
        catalogue: Catalogue | None = None,
        *,
        pools: Pools | None = None,
    ) -> None:
        self._store = store
        self.pools = pools or Pools()
        self._service = ServiceStore(store)
        self._audit = AuditLog(store)
        self.sources = sources
        self.catalogue = catalogue or Catalogue.load()

    async def plan(self, order: Order, *, name: str = "") -> Plan:
        """Plan an order; the seed is the order's, else it comes from `name`, else from phones and options.

        Raises InputError with all that is wrong, NotFoundError for an unknown source.
        """
        check_engine(order.options.engine)
        options, where, seed = self._options(order), list(order.where), order.options.seed
        if order.phones:
            if len(order.phones) <= _HERE:
                return _plan_inline(order, self.catalogue, name=name, pools=self.pools)
            return await asyncio.to_thread(_plan_inline, order, self.catalogue, name=name, pools=self.pools)
        path = self._file(order)
        if path.exists() and path.stat().st_size >= _LARGE:
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                loop = asyncio.get_running_loop()
                job = partial(_plan_file, path, options, where, seed=seed, name=name)
                return await loop.run_in_executor(pool, partial(job, extensions=order.extensions, pools=self.pools))
        return await asyncio.to_thread(
            plan_csv,
            path,
            options,
            where=where,
            seed=seed,
            name=name,
            catalogue=self.catalogue,
            extensions=order.extensions,
            pools=self.pools,
        )

    def _options(self, order: Order) -> Options:
        """Return the options of an order; a From that it leaves open is that of its source."""
        options = order.options.options()
        domain = find_source(self.sources, order.source).from_domain if order.source else ""
        return replace(options, from_uri=f"sip:resyncctl@{domain}") if domain and not options.from_uri else options

    def _file(self, order: Order) -> Path:
        if order.phones_file:
            return Path(order.phones_file)
        return self.source(order.source)

    def source(self, name: str) -> Path:
        """Return the phone file of a source; raises NotFoundError."""
        return source_file(self.sources, name)

    async def keep(self, order: Order) -> dict[str, object]:
        """Plan an order and keep both for `launch_kept`; return the plan's report."""
        plan = await self.plan(order)
        report = plan_report(plan)
        kept = {"order": order.model_dump(mode="json", by_alias=True, exclude_unset=True), "report": report}
        await self._service.keep_plan(plan.hash, kept)
        return report

    async def report(self, plan_hash: str) -> dict[str, object]:
        """Return the report of a kept plan; raises NotFoundError."""
        return _mapping((await self._service.kept_plan(plan_hash))["report"])

    async def launch(self, order: Order, actor: Actor, *, name: str = "", parent: str = "") -> Launched:
        """Make a rollout of an order, for the service to execute. The same `name` makes one, whoever asks and however often.

        Raises InputError, NotFoundError, StateError while there is a freeze.
        """
        if name:
            known = await self._store.find(check_id(name))
            if known is not None:
                await self._serve_again(known)
                return Launched(known, new=False)
        return await self.launch_plan(
            await self.plan(order, name=name), order, actor, name=name, parent=parent, once=True
        )

    async def launch_plan(
        self, plan: Plan, order: Order, actor: Actor, *, name: str = "", parent: str = "", once: bool = False
    ) -> Launched:
        """Make a rollout of a plan, for the service to execute; see `launch`.

        Raises StateError when the name has another plan, unless it has only to be there `once`.
        """
        await self._agree(plan, yes=order.options.yes)
        rollout = check_id(name) if name else new_id(plan.hash)
        # On the list first: a crash between the two leaves a name on a list, not a rollout that nobody executes.
        await self._service.serve(rollout)
        record, new = await place_plan(
            self._store, rollout, plan, parent=parent, surroundings=order.options.surroundings()
        )
        if record.plan_hash != plan.hash and not once:
            raise StateError(f"{rollout} names a rollout with another plan already; take another id")
        if new:
            details = {"plan_hash": plan.hash, "targets": str(plan.targets)}
            await self._audit.record(actor, "rollout.launch", rollout, details)
        return Launched(record, new=new)

    async def retry(
        self,
        rollout: str,
        actor: Actor,
        *,
        states: Collection[TargetState] = (),
        now: bool = False,
        yes: bool = False,
        name: str = "",
    ) -> Launched:
        """Make a rollout of the targets of another one that failed, for the service to execute; see `launch`.

        Raises NotFoundError, StateError while the other one is not over, InputError when it has no such target.
        """
        parent = await self._store.get(check_id(rollout))
        if name and (known := await self._store.find(check_id(name))) is not None:
            if known.parent != parent.id:
                raise StateError(f"{name} names another rollout already; take another id")
            await self._serve_again(known)
            return Launched(known, new=False)
        prepared = await prepare_retry(self._store, parent, states, now=now, name=name, pools=self.pools)
        plan = prepared.plan
        await self._agree(plan, yes=yes)
        await self._service.serve(prepared.name)
        record = await store_plan(self._store, prepared.name, plan, parent=parent.id, surroundings=parent.surroundings)
        details = {"rollout": prepared.name, "plan_hash": plan.hash, "targets": str(plan.targets)}
        await self._audit.record(actor, "rollout.retry", parent.id, details)
        return Launched(record, new=True)

    async def _serve_again(self, record: RolloutRecord) -> None:
        """Put a rollout that has not ended on the list; its launch may have been cut short."""
        if not record.finished_us:
            await self._service.serve(record.id)

    async def _agree(self, plan: Plan, *, yes: bool) -> None:
        await refuse_while_frozen(self._service)
        _check_yes(plan, yes=yes)

    async def launch_kept(self, plan_hash: str, actor: Actor, *, name: str = "") -> Launched:
        """Make a rollout of a kept plan. Raises NotFoundError, and StateError when its phones have changed since."""
        order = read_order(_mapping((await self._service.kept_plan(plan_hash))["order"]))
        if name:
            known = await self._store.find(check_id(name))
            if known is not None and known.plan_hash != plan_hash:
                raise StateError(f"{name} names a rollout with another plan ({known.plan_hash[:12]}); take another id")
            if known is not None:
                await self._serve_again(known)
                return Launched(known, new=False)
        plan = await self.plan(order)
        if plan.hash != plan_hash:
            raise StateError(
                f"the phones, or what the configuration says of their source, have changed since the plan {plan_hash[:12]}"
                f" was made (now {plan.hash[:12]}); plan again"
            )
        return await self.launch_plan(plan, order, actor, name=name)


def source_file(sources: Mapping[str, Source], name: str) -> Path:
    """Return the phone file of a source; raises NotFoundError."""
    return find_source(sources, name).file


def find_source(sources: Mapping[str, Source], name: str) -> Source:
    """Return the source of a name; raises NotFoundError."""
    try:
        return sources[name]
    except KeyError:
        known = ", ".join(sorted(sources)) or "none"
        raise NotFoundError(f"there is no source {name[:80]!r}; the configuration names {known}") from None


def check_agreed(plan: Plan, order: Order) -> None:
    """Raise InputError when a plan does what its order has to agree to."""
    _check_yes(plan, yes=order.options.yes)


def _check_yes(plan: Plan, *, yes: bool) -> None:
    if (plan.will_reboot or plan.dangerous) and plan.dues and not yes:
        raise InputError(f"this needs the option yes; nothing was sent. {'; '.join(plan.notices)}")


def _mapping(value: object) -> dict[str, object]:
    assert isinstance(value, dict)  # noqa: S101  (what `keep` wrote)
    return value


def _plan_file(
    path: Path,
    options: Options,
    where: list[str],
    *,
    seed: int | None,
    name: str,
    extensions: tuple[str, ...],
    pools: Pools,
) -> Plan:
    """Plan a file in a process of its own."""
    return plan_csv(path, options, where=where, seed=seed, name=name, extensions=extensions, pools=pools)


def _plan_inline(order: Order, catalogue: Catalogue, *, name: str, pools: Pools) -> Plan:
    """Plan phones that came with their order; every one that cannot be used is reported."""
    problems: list[str] = []
    count = 0
    selection = select(list(order.where), order.extensions)
    with Planner(order.options.options(), catalogue, selection, pools=pools) as planner:
        for index, values in enumerate(order.phones):
            try:
                planner.add(parse_phone(_known(values)), values)
            except InputError as error:
                count += 1
                if count <= _REJECTED:
                    problems.append(f"phones.{index}: {error}")
        if count:
            raise PhoneListError("the request", problems, count)
        return planner.make(seed=order.options.seed, name=name)


def _known(values: dict[str, str]) -> dict[str, str]:
    unknown = values.keys() - _FIELDS
    if unknown:
        raise InputError(f"there is no field {min(unknown)!r}")
    return values
