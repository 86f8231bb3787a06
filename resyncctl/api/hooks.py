"""`/v1/hooks`: rollouts by what happens on a PBX. A call of a hook comes with a token or with the hook's signature."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from fastapi import Request, Response

from resyncctl.api.client import address_of
from resyncctl.api.plans import check_order, order_of
from resyncctl.api.problems import ProblemError
from resyncctl.api.security import Who, gate_of, limit
from resyncctl.api.services import Services, Use
from resyncctl.api.standing_models import HookAnswer, HookCreated, HookReports, HookWish
from resyncctl.engine.access import Scope
from resyncctl.engine.hooks import HookAuth, new_hook, parse_event
from resyncctl.errors import AccessError
from resyncctl.store.hooks import listed

if TYPE_CHECKING:
    from resyncctl.api.routing import Routes

MAX_CALL: Final = 1024 * 1024
"""Bytes of a call: they are read before it is known who calls."""
EXAMPLES: Final = {
    "freepbx": {"name": "freepbx", "source": "office", "quiet": "5s", "max_wait": "60s", "options": {"rate": 20}}
}
_SECRET_BYTES: Final = 32


async def list_hooks(services: Use) -> dict[str, object]:
    """List hooks, with what they wait for.

    Their secrets are not shown.
    """
    records = await services.hook_store.list()
    return {"hooks": [listed(record, await services.hook_store.status(record.name)) for record in records]}


async def create_hook(body: HookWish, services: Use, caller: Who) -> Response:
    """Make a hook.

    Its secret, for HMAC signatures, is shown in this answer and never again. Phones come from a source; which of them, the
    calls say.
    """
    order = order_of(body)
    check_order(order, caller)
    auth = HookAuth(body.auth)
    record = new_hook(
        body.name,
        order.model_dump(mode="json", by_alias=True, exclude_unset=True),
        now_us=services.now_us(),
        secret=body.secret or secrets.token_urlsafe(_SECRET_BYTES),
        auth=auth,
        quiet=body.quiet,
        max_wait=body.max_wait,
        cool_down=body.cool_down,
    )
    await services.hooks.add(record, caller.actor)
    report = listed(record, await services.hook_store.status(record.name)) | {"secret": record.secret or None}
    created = HookCreated.model_validate(report)
    return Response(
        created.model_dump_json(),
        HTTPStatus.CREATED,
        headers={"Location": f"/v1/hooks/{record.name}"},
        media_type="application/json",
    )


async def remove_hook(name: str, services: Use, caller: Who) -> Response:
    """Remove a hook and what it waits for.

    Rollouts that it has launched go on.
    """
    await services.hooks.remove(name, caller.actor)
    return Response(status_code=HTTPStatus.NO_CONTENT)


async def call_hook(name: str, request: Request, services: Use) -> dict[str, object]:
    """Tell a hook that something has happened.

    The call names extensions or AORs, or none for all phones of the hook, as JSON, as a form or in the query. It carries a
    token with the scope trigger, or the hook's signature. It joins the rollout that is pending, or opens one.
    """
    return await _called(name, request, services)


async def call_hook_by_query(name: str, request: Request, services: Use) -> dict[str, object]:
    """Tell a hook that something has happened, for a PBX that can only fetch a URL."""
    return await _called(name, request, services)


async def _called(name: str, request: Request, services: Services) -> dict[str, object]:
    source = address_of(request)
    body = await _body(request)
    async with gate_of(request):
        try:
            await _admit(name, request, services, body)
        except AccessError:
            limit(
                request, source
            )  # only calls without good credentials are counted: a PBX may call as often as it likes
            raise
        event = parse_event(request.headers.get("content-type", ""), body, request.query_params)
        return await services.hooks.call(name, event=event, source=source)


async def _admit(name: str, request: Request, services: Services, body: bytes) -> None:
    authorization = request.headers.get("authorization")
    if authorization:
        caller = await services.access.authenticate(authorization, address_of(request))
        caller.require(Scope.TRIGGER)
        return
    record = await services.hook_store.find(name)
    if record is None:  # who has no token learns no names
        raise AccessError("the call carries neither a token nor the signature of a hook")
    await services.hooks.verify(
        record, headers=request.headers, query=request.query_params, body=body, now_us=services.now_us()
    )


async def _body(request: Request) -> bytes:
    chunks = bytearray()
    async for chunk in request.stream():
        chunks += chunk
        if len(chunks) > MAX_CALL:
            raise ProblemError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"a call of a hook has at most {MAX_CALL} bytes; name no extension for all phones",
                headers={"Connection": "close"},
            )
    return bytes(chunks)


def add(routes: Routes) -> None:
    """Add the operations."""
    tag, every, one = "hooks", "/v1/hooks", "/v1/hooks/{name}"
    routes.add("GET", every, list_hooks, tag=tag, scope=Scope.READ, answer=HookReports)
    routes.add(
        "POST",
        every,
        create_hook,
        tag=tag,
        scope=Scope.OPERATE,
        answer=HookCreated,
        status=HTTPStatus.CREATED,
        meaning="The hook, with its secret; `Location` names it.",
        errors=(404, 409),
        examples=EXAMPLES,
    )
    routes.add("DELETE", one, remove_hook, tag=tag, scope=Scope.OPERATE, status=HTTPStatus.NO_CONTENT, errors=(404,))
    fields = {
        "extension": {"type": "string", "description": "One, or several separated by commas."},
        "reason": {"type": "string", "description": "For the log."},
    }
    schema = {"type": "object", "properties": fields}
    example = {"extension": "1001", "reason": "config changed"}
    body = {
        "content": {
            "application/json": {"schema": schema, "example": example},
            "application/x-www-form-urlencoded": {"schema": schema, "example": example},
        }
    }
    calls: tuple[tuple[str, Callable[..., object], dict[str, object]], ...] = (
        ("POST", call_hook, {"requestBody": body}),
        ("GET", call_hook_by_query, {}),
    )
    for method, endpoint, extra in calls:
        routes.add(
            method,
            one,
            endpoint,
            tag=tag,
            scope=Scope.TRIGGER,
            answer=HookAnswer,
            status=HTTPStatus.ACCEPTED,
            meaning="What the call became part of.",
            errors=(404, 413),
            extra=extra,
            signed=True,
        )
