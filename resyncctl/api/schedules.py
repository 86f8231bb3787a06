"""`/v1/schedules`: rollouts by the clock."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import Query, Response
from fastapi.responses import JSONResponse

from resyncctl.api.idempotency import OnceOnly
from resyncctl.api.models import Accepted
from resyncctl.api.plans import check_order, order_of
from resyncctl.api.rollouts import PAGE, Limit, PageCursor
from resyncctl.api.security import Who
from resyncctl.api.services import Services, Use
from resyncctl.api.standing_models import Fires, ScheduleReport, ScheduleReports, ScheduleWish
from resyncctl.clock import from_us
from resyncctl.engine.access import Scope
from resyncctl.engine.calendar import When
from resyncctl.engine.schedules import MOST_FIRES, Policy, added_report, next_fires, schedule_report
from resyncctl.store.schedules import Misfire, Overlap, ScheduleRecord

if TYPE_CHECKING:
    from resyncctl.api.routing import Routes

EXAMPLES: Final = {
    "weekly": {
        "name": "sunday",
        "cron": "0 3 * * sun",
        "tz": "Europe/Berlin",
        "source": "office",
        "options": {"action": "resync", "rate": 20},
        "misfire": "run-once",
        "grace": "2h",
    }
}


async def list_schedules(services: Use, cursor: PageCursor = "", limit: Limit = PAGE) -> Response:
    """List schedules by name."""
    records = [record for record in await services.schedules.store.list() if record.name > cursor]
    page, now_us = records[:limit], services.now_us()
    more = page[-1].name if len(records) > limit else None
    return JSONResponse({"schedules": [schedule_report(record, now_us) for record in page], "next": more})


async def create_schedule(body: ScheduleWish, services: Use, caller: Who, once: OnceOnly) -> Response:
    """Make a schedule.

    Exactly one of `cron`, `every` and `at` is given. The order is planned once, to see that it can work.
    """
    order = order_of(body)
    check_order(order, caller)

    async def make(_: str) -> tuple[Mapping[str, object], str]:
        now_us = services.now_us()
        when = When.parse(now=from_us(now_us), cron=body.cron, every=str(body.every), at=body.at, tz=body.tz)
        record, plan = await services.schedules.add(
            body.name,
            when=when,
            order=order,
            policy=Policy(misfire=Misfire(body.misfire), grace=body.grace, overlap=Overlap(body.overlap)),
            actor=caller.actor,
            now_us=now_us,
            replacing=body.replace,
        )
        services.reschedule()
        return added_report(record, plan, now_us), f"/v1/schedules/{record.name}"

    return await once.answer(HTTPStatus.CREATED, make)


async def show_schedule(name: str, services: Use) -> Response:
    """Show a schedule."""
    return _shown(await services.schedules.store.get(name), services)


async def remove_schedule(name: str, services: Use, caller: Who) -> Response:
    """Remove a schedule.

    Rollouts that it has launched go on.
    """
    await services.schedules.remove(name, caller.actor)
    services.reschedule()
    return Response(status_code=HTTPStatus.NO_CONTENT)


async def pause_schedule(name: str, services: Use, caller: Who) -> Response:
    """Let a schedule fire no more until it is resumed."""
    record = await services.schedules.pause(name, caller.actor)
    services.reschedule()
    return _shown(record, services)


async def resume_schedule(name: str, services: Use, caller: Who) -> Response:
    """Let a paused schedule fire again, from now on."""
    record = await services.schedules.resume(name, caller.actor, now_us=services.now_us())
    services.reschedule()
    return _shown(record, services)


async def run_schedule(name: str, services: Use, caller: Who, once: OnceOnly) -> Response:
    """Launch a schedule's rollout now.

    Its fire times stay as they are. 409: its rollout before is not over, or there is a freeze.
    """

    async def make(_: str) -> tuple[Mapping[str, object], str]:
        launched = await services.schedules.run(name, caller.actor, now_us=services.now_us())
        services.wake()
        return {"rollout": launched.record.id}, f"/v1/rollouts/{launched.record.id}"

    return await once.answer(HTTPStatus.ACCEPTED, make)


async def show_fires(
    name: str, services: Use, count: Annotated[int, Query(ge=1, le=MOST_FIRES, description="How many.")] = 5
) -> dict[str, object]:
    """Show when a schedule fires next."""
    record = await services.schedules.store.get(name)
    return {"fires": next_fires(record, services.now_us(), count)}


def _shown(record: ScheduleRecord, services: Services) -> Response:
    """Answer with a schedule, its values in the order in which a person reads them, which a model would change."""
    return JSONResponse(schedule_report(record, services.now_us()))


def add(routes: Routes) -> None:
    """Add the operations."""
    tag, every, one = "schedules", "/v1/schedules", "/v1/schedules/{name}"
    read, operate = Scope.READ, Scope.OPERATE
    routes.add("GET", every, list_schedules, tag=tag, scope=read, answer=ScheduleReports)
    routes.add(
        "POST",
        every,
        create_schedule,
        tag=tag,
        scope=operate,
        answer=ScheduleReport,
        status=HTTPStatus.CREATED,
        meaning="The schedule; `Location` names it.",
        errors=(404, 409),
        examples=EXAMPLES,
    )
    routes.add("GET", one, show_schedule, tag=tag, scope=read, answer=ScheduleReport, errors=(404,))
    routes.add("DELETE", one, remove_schedule, tag=tag, scope=operate, status=HTTPStatus.NO_CONTENT, errors=(404,))
    for verb, endpoint in (("pause", pause_schedule), ("resume", resume_schedule)):
        routes.add("POST", f"{one}/{verb}", endpoint, tag=tag, scope=operate, answer=ScheduleReport, errors=(404,))
    routes.add(
        "POST",
        f"{one}/run",
        run_schedule,
        tag=tag,
        scope=Scope.TRIGGER,
        answer=Accepted,
        status=HTTPStatus.ACCEPTED,
        meaning="The rollout; `Location` names it.",
        errors=(404, 409),
    )
    routes.add("GET", f"{one}/next", show_fires, tag=tag, scope=read, answer=Fires, errors=(404,))
