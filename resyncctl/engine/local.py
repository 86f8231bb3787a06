"""The commands of `engine/backend.Backend` on our own Redis, which a `resyncctl serve` may share.

The store is opened by the first command that needs it: the embedded server is not started for a question to the configuration.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, Final

from resyncctl.clock import from_us, now_us
from resyncctl.engine.app import check_id, command, open_store, store_plan
from resyncctl.engine.backend import News, Page, Planned, Report, WantedHook, WantedSchedule
from resyncctl.engine.calendar import When
from resyncctl.engine.freeze import Freezer
from resyncctl.engine.hooks import HookAuth, Hooks, new_hook, parse_event
from resyncctl.engine.launch import Launcher, source_file
from resyncctl.engine.listing import freeze_report, source_reports, worker_report
from resyncctl.engine.order import read_order
from resyncctl.engine.pages import phones_page
from resyncctl.engine.planning import plan_report
from resyncctl.engine.pools import Pools
from resyncctl.engine.results import Row, results
from resyncctl.engine.retry import prepare_retry
from resyncctl.engine.schedules import Policy, Schedules, added_report, next_fires, schedule_report
from resyncctl.engine.tally import is_over, report_of
from resyncctl.rollout.states import Command, RolloutState
from resyncctl.store.audit import Actor, AuditLog
from resyncctl.store.hooks import HookStore, listed
from resyncctl.store.schedules import Misfire, Overlap
from resyncctl.store.service import ServiceStore
from resyncctl.vendors import Catalogue

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from resyncctl.config import Settings
    from resyncctl.rollout.model import TargetState
    from resyncctl.store.redis_store import RedisStore

LOOK_BACK: Final = 100
"""Rollouts among which those in certain states are looked for."""
_EVENTS_WAIT: Final = 1.0


@contextlib.asynccontextmanager
async def open_local(settings: Settings, actor: Actor, log: FilteringBoundLogger) -> AsyncIterator[LocalBackend]:
    """Work with the Redis that the settings name, as `actor`."""
    async with contextlib.AsyncExitStack() as stack:
        yield LocalBackend(settings, actor, log, lambda: stack.enter_async_context(open_store(settings)))


class LocalBackend:
    """See `Backend`. Only `launch`, `retry`, schedules and hooks need a service; the others work without one."""

    def __init__(
        self, settings: Settings, actor: Actor, log: FilteringBoundLogger, opener: Callable[[], Awaitable[RedisStore]]
    ) -> None:
        self._settings = settings
        self._actor = actor
        self._log = log
        self._open = opener
        self._opened: RedisStore | None = None

    @property
    def where(self) -> str:
        """The store, once it is open."""
        return self._opened.where if self._opened else "the configuration"

    async def _store(self) -> RedisStore:
        if self._opened is None:
            self._opened = await self._open()
        return self._opened

    async def _launcher(self) -> Launcher:
        return Launcher(await self._store(), self._settings.sources, pools=Pools(self._settings.pools))

    # Rollouts

    async def launch(self, planned: Planned, *, name: str) -> Report:
        """See Backend; the plan comes along."""
        assert planned.plan is not None  # noqa: S101  (whoever plans here keeps it)
        assert planned.order is not None  # noqa: S101
        store, launcher = await self._store(), await self._launcher()
        if await store.find(check_id(name)) is not None:
            await store_plan(store, check_id(name), planned.plan)  # refused here when it is another plan
        launched = await launcher.launch_plan(planned.plan, planned.order, self._actor, name=name)
        return report_of(launched.record)

    async def rollouts(self, count: int, states: Collection[RolloutState] = ()) -> list[Report]:
        """See Backend; those in certain states are looked for among the newest LOOK_BACK."""
        store = await self._store()
        records = await store.newest(LOOK_BACK if states else count)
        return [report_of(record) for record in records if not states or record.state in states][:count]

    async def rollout(self, name: str) -> Report:
        """See Backend."""
        return report_of(await (await self._store()).get(check_id(name)))

    async def follow(self, name: str) -> AsyncIterator[News]:
        """See Backend."""
        store, after = await self._store(), "0"
        record = await store.get(check_id(name))
        while not (is_over(record.state) and record.finished_us):
            events = await store.events(record.id, after, wait=_EVENTS_WAIT)
            for event in events:
                after = event.id
                yield News({"rollout": record.id, "state": event.state.value, **event.report}, last=False)
            if not events or is_over(events[-1].state):
                record = await store.get(record.id)
        yield News(report_of(record), last=True)

    async def results(self, name: str, states: Collection[TargetState]) -> AsyncIterator[Row]:
        """See Backend."""
        store = await self._store()
        async for _, _, row in results(store, await store.get(check_id(name)), states):
            yield row

    async def steer(self, name: str, wanted: Command) -> Report:
        """See Backend. Whoever executes the rollout does it; when nobody does, it is for the caller to see to it."""
        store = await self._store()
        record = await store.get(check_id(name))
        if wanted is Command.ABORT and record.state is RolloutState.ABORTED and not record.finished_us:
            return report_of(record)  # an abort that was interrupted: it is brought to its end
        await command(store, record.id, wanted)
        await self.record(f"rollout.{wanted.name.lower()}", record.id, plan_hash=record.plan_hash)
        return report_of(await store.get(record.id))

    async def plan_retry(self, name: str, states: Collection[TargetState], *, now: bool, child: str) -> Report:
        """See Backend."""
        store = await self._store()
        parent, pools = await store.get(check_id(name)), Pools(self._settings.pools)
        prepared = await prepare_retry(store, parent, states, now=now, name=child, pools=pools)
        return {"rollout": prepared.name, **plan_report(prepared.plan)}

    async def retry(self, name: str, states: Collection[TargetState], *, now: bool, child: str) -> Report:
        """See Backend."""
        launcher = await self._launcher()
        launched = await launcher.retry(name, self._actor, states=states, now=now, yes=True, name=child)
        return report_of(launched.record)

    async def record(self, action: str, subject: str, **details: str) -> None:
        """Write what was done into the audit log."""
        await AuditLog(await self._store()).record(self._actor, action, subject, details)

    # Schedules

    async def _schedules(self) -> Schedules:

        return Schedules(await self._store(), await self._launcher())

    async def add_schedule(self, wanted: WantedSchedule) -> Report:
        """See Backend."""
        now = now_us()
        when = When.parse(now=from_us(now), **wanted.times)
        policy = Policy(misfire=Misfire(wanted.misfire), grace=wanted.grace, overlap=Overlap(wanted.overlap))
        record, plan = await (await self._schedules()).add(
            wanted.name,
            when=when,
            order=read_order(wanted.order),
            policy=policy,
            actor=self._actor,
            now_us=now,
            replacing=wanted.replace,
        )
        return added_report(record, plan, now)

    async def schedules(self) -> list[Report]:
        """See Backend."""
        return [schedule_report(record, now_us()) for record in await (await self._schedules()).store.list()]

    async def schedule(self, name: str) -> Report:
        """See Backend."""
        return schedule_report(await (await self._schedules()).store.get(name), now_us())

    async def fires(self, name: str, count: int) -> list[Report]:
        """See Backend."""
        return [{**fire} for fire in next_fires(await (await self._schedules()).store.get(name), now_us(), count)]

    async def pause_schedule(self, name: str) -> Report:
        """See Backend."""
        await (await self._schedules()).pause(name, self._actor)
        return await self.schedule(name)

    async def resume_schedule(self, name: str) -> Report:
        """See Backend."""
        await (await self._schedules()).resume(name, self._actor, now_us=now_us())
        return await self.schedule(name)

    async def remove_schedule(self, name: str) -> None:
        """See Backend."""
        await (await self._schedules()).remove(name, self._actor)

    async def run_schedule(self, name: str) -> Report:
        """See Backend."""
        return report_of((await (await self._schedules()).run(name, self._actor, now_us=now_us())).record)

    # Hooks

    async def _hooks(self) -> Hooks:

        return Hooks(await self._store(), await self._launcher(), self._log)

    async def add_hook(self, wanted: WantedHook) -> Report:
        """See Backend."""
        record = new_hook(
            wanted.name,
            wanted.order,
            now_us=now_us(),
            secret=secrets.token_urlsafe(32),
            auth=HookAuth(wanted.auth),
            quiet=wanted.quiet,
            max_wait=wanted.max_wait,
            cool_down=wanted.cool_down,
        )
        await (await self._hooks()).add(record, self._actor)
        return {"name": record.name, "auth": record.auth.value, "secret": record.secret or None}

    async def hooks(self) -> list[Report]:
        """See Backend."""
        kept = HookStore(await self._store())
        return [listed(record, await kept.status(record.name)) for record in await kept.list()]

    async def remove_hook(self, name: str) -> None:
        """See Backend."""
        await (await self._hooks()).remove(name, self._actor)

    async def call_hook(self, name: str, extensions: Sequence[str], reason: str) -> Report:
        """See Backend."""
        event = parse_event("", b"", [*(("extension", one) for one in extensions), ("reason", reason)])
        return await (await self._hooks()).call(name, event=event, source="local")

    # The service

    async def audit(self, count: int, before: str) -> Page:
        """See Backend."""
        page = await AuditLog(await self._store()).page(count, before=before)
        return Page([dataclasses.asdict(entry) for entry in page.entries], page.more)

    async def sources(self) -> list[Report]:
        """See Backend."""
        return source_reports(self._settings.sources)

    async def phones(self, source: str, where: Sequence[str], *, count: int) -> Page:
        """See Backend."""
        path = source_file(self._settings.sources, source)
        page = await phones_page(path, list(where), Catalogue.load(), limit=count)
        return Page([dict(phone) for phone in page.phones], page.more)

    async def workers(self) -> list[Report]:
        """See Backend."""
        return [worker_report(worker) for worker in await ServiceStore(await self._store()).workers()]

    async def _freezer(self) -> Freezer:

        return Freezer(await self._store())

    async def freeze(self, reason: str) -> Report:
        """See Backend."""
        return freeze_report(await (await self._freezer()).freeze(self._actor, reason))

    async def thaw(self) -> Report:
        """See Backend."""
        await (await self._freezer()).thaw(self._actor)
        return freeze_report(None)

    async def frozen(self) -> Report:
        """See Backend."""
        return freeze_report(await (await self._freezer()).frozen())
