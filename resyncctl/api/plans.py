"""`/v1/plans`: see what would happen before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from fastapi import Response

from resyncctl.api.idempotency import OnceOnly
from resyncctl.api.models import PlanReport
from resyncctl.api.security import Who
from resyncctl.api.services import Use
from resyncctl.engine.access import Caller, Scope
from resyncctl.engine.order import Order, read_order

if TYPE_CHECKING:
    from resyncctl.api.routing import Routes

EXAMPLES: Final = {
    "source": {"source": "office", "where": {"site": "berlin", "vendor": ["yealink", "snom"]}, "options": {"rate": 20}},
    "phones": {
        "phones": [{"aor": "sip:1001@pbx.example", "contact": "sip:1001@192.0.2.10:5060", "vendor": "yealink"}],
        "options": {"action": "reboot", "batch_size": 10, "batch_interval": "2m"},
    },
}
_CREDENTIALS: Final = ("auth_username=", "auth_password=")


def order_of(body: Order) -> Order:
    """Return the order in a body that holds more than that."""
    kept = body.model_dump(mode="json", by_alias=True, exclude_unset=True, include=set(Order.model_fields))
    return read_order(kept)


def check_order(order: Order, caller: Caller) -> None:
    """Raise AccessError when an order reaches for files of the service, or looks for credentials, without the scope admin."""
    searching = any(condition.startswith(_CREDENTIALS) for condition in order.where)
    if order.phones_file or order.options.busy_file or searching:
        caller.require(Scope.ADMIN)


async def create_plan(body: Order, services: Use, caller: Who, once: OnceOnly) -> Response:
    """Plan a rollout.

    Nothing is sent. Phones come with the request or from a source of the configuration; options are named as those of
    `resyncctl run`, with underscores. `phones_file` and `busy_file` are files on the machine of the service and need the
    scope admin.
    """
    check_order(body, caller)

    async def make(_: str) -> tuple[Mapping[str, object], str]:
        report = await services.launcher.keep(body)
        return report, f"/v1/plans/{report['plan_hash']}"

    return await once.answer(HTTPStatus.CREATED, make)


async def show_plan(plan_hash: str, services: Use) -> dict[str, object]:
    """Show a plan.

    Plans are kept for 24 hours.
    """
    return await services.launcher.report(plan_hash)


def add(routes: Routes) -> None:
    """Add the operations."""
    routes.add(
        "POST",
        "/v1/plans",
        create_plan,
        tag="plans",
        scope=Scope.TRIGGER,
        answer=PlanReport,
        status=HTTPStatus.CREATED,
        meaning="The plan; `Location` names it.",
        errors=(404, 409),
        examples=EXAMPLES,
    )
    routes.add(
        "GET", "/v1/plans/{plan_hash}", show_plan, tag="plans", scope=Scope.READ, answer=PlanReport, errors=(404,)
    )
