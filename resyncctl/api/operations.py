"""`/v1/workers`, `/v1/audit`, `/v1/freeze`: who works, who did what, and the emergency stop."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from resyncctl.api.models import Audit, FreezeState, FreezeWish, Workers
from resyncctl.api.rollouts import PAGE, Limit, PageCursor
from resyncctl.api.security import Who
from resyncctl.api.services import Use
from resyncctl.engine.access import Scope
from resyncctl.engine.listing import freeze_report, worker_report

if TYPE_CHECKING:
    from resyncctl.api.routing import Routes


async def list_workers(services: Use) -> dict[str, object]:
    """List the processes that execute rollouts."""
    return {"workers": [worker_report(one) for one in await services.service.workers()]}


async def list_audit(services: Use, cursor: PageCursor = "", limit: Limit = PAGE) -> dict[str, object]:
    """List the audit log, newest first.

    Nothing can change it.
    """
    page = await services.audit.page(limit, before=cursor)
    return {"entries": [dataclasses.asdict(entry) for entry in page.entries], "next": page.more or None}


async def show_freeze(services: Use) -> dict[str, object]:
    """Show whether all rollouts are frozen."""
    return freeze_report(await services.freezer.frozen())


async def set_freeze(body: FreezeWish, services: Use, caller: Who) -> dict[str, object]:
    """Freeze all rollouts.

    What the service sends is paused, and nothing is launched or resumed until the freeze is lifted. A freeze that is in
    force already stays as it is.
    """
    return freeze_report(await services.freezer.freeze(caller.actor, body.reason))


async def lift_freeze(services: Use, caller: Who) -> dict[str, object]:
    """Lift the freeze.

    The rollouts that it has paused go on; those that somebody has paused do not.
    """
    await services.freezer.thaw(caller.actor)
    services.wake()
    return freeze_report(None)


def add(routes: Routes) -> None:
    """Add the operations."""
    tag, path = "operations", "/v1/freeze"
    routes.add("GET", "/v1/workers", list_workers, tag=tag, scope=Scope.READ, answer=Workers)
    routes.add("GET", "/v1/audit", list_audit, tag=tag, scope=Scope.ADMIN, answer=Audit)
    routes.add("GET", path, show_freeze, tag=tag, scope=Scope.READ, answer=FreezeState)
    example = {"maintenance": {"reason": "storm at the data centre"}}
    routes.add("PUT", path, set_freeze, tag=tag, scope=Scope.OPERATE, answer=FreezeState, examples=example)
    routes.add("DELETE", path, lift_freeze, tag=tag, scope=Scope.OPERATE, answer=FreezeState)
