"""What people do with schedules, whether at a terminal or through the API: add, pause, resume, remove, run, look ahead."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from resyncctl.clock import from_us
from resyncctl.engine.calendar import When, iso
from resyncctl.engine.launch import check_agreed
from resyncctl.engine.order import read_order
from resyncctl.errors import InputError, NotFoundError, StateError
from resyncctl.rollout.model import RolloutId
from resyncctl.store.audit import Actor, AuditLog
from resyncctl.store.records import rollout_id
from resyncctl.store.schedules import Misfire, Overlap, ScheduleRecord, ScheduleStore

if TYPE_CHECKING:
    from resyncctl.engine.launch import Launched, Launcher
    from resyncctl.engine.order import Order
    from resyncctl.engine.planning import Plan
    from resyncctl.store.redis_store import RedisStore

GRACE: Final = 3600.0
"""Seconds that a missed fire time may be late, unless a schedule says otherwise."""
MOST_FIRES: Final = 1000
"""Fire times that are looked ahead."""
_RUN: Final = "-run"
_LONGEST_ID: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What becomes of fire times that are missed, or come before the rollout before is over. `grace` is seconds."""

    misfire: Misfire = Misfire.RUN_ONCE
    grace: float = GRACE
    overlap: Overlap = Overlap.SKIP


class Schedules:
    """Changes schedules for somebody and writes it to the audit log. Methods raise NotFoundError for no such schedule."""

    def __init__(self, store: RedisStore, launcher: Launcher) -> None:
        self._launcher = launcher
        self._audit = AuditLog(store)
        self.store = ScheduleStore(store)

    async def add(
        self, name: str, *, when: When, order: Order, policy: Policy, actor: Actor, now_us: int, replacing: bool = False
    ) -> tuple[ScheduleRecord, Plan]:
        """Add a schedule after its order has been planned once; return both. `replacing` keeps its pause and its past.

        Raises InputError for what can never work, StateError when the name is taken.
        """
        check_name(name)
        plan = await self._launcher.plan(order)
        if not plan.dues:
            raise InputError(f"schedule {name} would send to no phone: {_why_none(plan)}")
        check_agreed(plan, order)
        record = ScheduleRecord(
            name=name,
            when=when.to_dict(),
            order=order.model_dump(mode="json", by_alias=True, exclude_unset=True),
            misfire=policy.misfire,
            grace=policy.grace,
            overlap=policy.overlap,
            created_us=now_us,
            decided_us=now_us,
        )
        written = await self._replace(record) if replacing else None
        if written is None:
            await self.store.add(record)
        details = {"when": str(when), "plan_hash": plan.hash, "targets": str(plan.targets)}
        await self._audit.record(actor, "schedule.replace" if written else "schedule.add", name, details)
        return written or record, plan

    async def _replace(self, record: ScheduleRecord) -> ScheduleRecord | None:
        def change(known: ScheduleRecord) -> ScheduleRecord:
            past = {"last_fire_us": known.last_fire_us, "last_rollout": known.last_rollout}
            return replace(record, paused=known.paused, **past)  # type: ignore[arg-type]

        try:
            changed = await self.store.update(record.name, change)
        except NotFoundError:
            return None
        return changed.record if changed else None

    async def pause(self, name: str, actor: Actor) -> ScheduleRecord:
        """Let a schedule fire no more until it is resumed; what waits is dropped, what was launched goes on."""
        changed = await self.store.update(
            name, lambda record: None if record.paused else replace(record, paused=True, waiting_us=0)
        )
        return await self._changed(name, actor, "schedule.pause", changed.record if changed else None)

    async def resume(self, name: str, actor: Actor, *, now_us: int) -> ScheduleRecord:
        """Let a schedule fire again from now on; what would have fired during the pause has not been missed."""
        changed = await self.store.update(
            name,
            lambda record: replace(record, paused=False, decided_us=now_us, note="") if record.paused else None,
        )
        return await self._changed(name, actor, "schedule.resume", changed.record if changed else None)

    async def _changed(self, name: str, actor: Actor, action: str, record: ScheduleRecord | None) -> ScheduleRecord:
        if record is None:
            return await self.store.get(name)
        await self._audit.record(actor, action, name)
        return record

    async def remove(self, name: str, actor: Actor) -> None:
        """Remove a schedule; what was launched goes on."""
        await self.store.remove(name)
        await self._audit.record(actor, "schedule.remove", name)

    async def run(self, name: str, actor: Actor, *, now_us: int) -> Launched:
        """Launch a schedule's rollout now, also while it is paused; its fire times stay as they are.

        Raises StateError while its rollout before is not over, and what `Launcher.launch` raises.
        """
        record = await self.store.get(name)
        if (await self.store.ends([record.last_rollout]))[0] == 0:
            raise StateError(
                f"rollout {record.last_rollout} of schedule {name} is not over; let it end, or abort it, first"
            )
        wanted = run_id(name, from_us(now_us))
        launched = await self._launcher.launch(read_order(record.order), actor, name=wanted)
        await self.store.update(name, lambda known: replace(known, last_rollout=launched.record.id, last_error=""))
        await self._audit.record(actor, "schedule.run", name, {"rollout": launched.record.id})
        return launched


def check_name(name: str) -> None:
    """Raise InputError for what cannot name a schedule."""
    rollout_id(name)
    if name.endswith(_RUN):
        raise InputError(f"{name!r} cannot name a schedule: `{_RUN}` at the end is for rollouts that are run by hand")


def fire_id(name: str, moment: datetime) -> RolloutId:
    """Return the ID of the rollout of a fire time: `NAME-20261124T020000Z`, the same whoever asks."""
    return _id(name, "", moment)


def run_id(name: str, moment: datetime) -> RolloutId:
    """Return the ID of a rollout that is run by hand: `NAME-run-20261124T020000Z`."""
    return _id(name, _RUN, moment)


def _id(name: str, kind: str, moment: datetime) -> RolloutId:
    tail = f"{kind}-{moment:%Y%m%dT%H%M%SZ}"
    room = _LONGEST_ID - len(tail)
    if len(name) > room:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        name = f"{name[: room - 9]}-{digest}"
    return RolloutId(name + tail)


def next_fires(record: ScheduleRecord, now_us: int, count: int) -> list[dict[str, str]]:
    """Return the next fire times in UTC (`utc`) and in the schedule's zone (`local`), whether it is paused or not."""
    when = When.from_dict(record.when)
    found: list[dict[str, str]] = []
    moment = when.next(from_us(max(now_us, record.decided_us)))
    while moment is not None and len(found) < min(count, MOST_FIRES):
        found.append({"utc": iso(moment), "local": when.local(moment).isoformat(timespec="seconds")})
        moment = when.next(moment)
    return found


def schedule_report(record: ScheduleRecord, now_us: int) -> dict[str, object]:
    """Return a schedule as plain values, for people and the API; phones that are in its order are only counted."""
    following = next_fires(record, now_us, 1)
    order = {name: value for name, value in record.order.items() if name != "phones"}
    phones = record.order.get("phones")
    return {
        "name": record.name,
        "when": str(When.from_dict(record.when)),
        **_times(record.when),
        **({"phones": len(phones)} if isinstance(phones, list) else {}),
        **order,
        "misfire": record.misfire.value,
        "grace": record.grace,
        "overlap": record.overlap.value,
        "paused": record.paused,
        "created_at": _at(record.created_us),
        "next_at": following[0]["utc"] if following and not record.paused else None,
        "waiting_since": _at(record.waiting_us),
        "last_fire_at": _at(record.last_fire_us),
        "last_rollout": record.last_rollout or None,
        "last_error": record.last_error or None,
        "note": record.note or None,
    }


def added_report(record: ScheduleRecord, plan: Plan, now_us: int) -> dict[str, object]:
    """Return a schedule that has just been added, with what it would do now."""
    planned = {"targets": plan.targets, "sends": len(plan.dues), "plan_hash": plan.hash, "notices": list(plan.notices)}
    return {**schedule_report(record, now_us), **planned}


def _times(when: Mapping[str, object]) -> dict[str, object]:
    return {name: when[name] for name in ("cron", "every", "at", "tz") if name in when}


def _at(us: int) -> str | None:
    return iso(from_us(us)) if us else None


def _why_none(plan: Plan) -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in plan.skipped.items())
    return f"all are skipped: {reasons}" if reasons else "none matches"
