"""The application: all operations, their description, and what stands before them."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi

from resyncctl import __version__, clock
from resyncctl.api import (
    events,
    health,
    hooks,
    inventory,
    operations,
    plans,
    problems,
    reports,
    rollouts,
    schedules,
)
from resyncctl.api.boundary import Boundary
from resyncctl.api.limits import Buckets
from resyncctl.api.models import Problem
from resyncctl.api.routing import Routes
from resyncctl.api.security import AT_ONCE
from resyncctl.engine.access import Scope
from resyncctl.engine.hook_signature import SIGNATURE, TIMESTAMP

if TYPE_CHECKING:
    from resyncctl.api.services import Services

_GROUPS: Final = (plans, rollouts, reports, events, schedules, hooks, inventory, operations, health)
_SECURITY: Final = {
    "token": {"type": "http", "scheme": "bearer"},
    "signature": {
        "type": "apiKey",
        "in": "header",
        "name": SIGNATURE,
        "description": f"`sha256=` and the HMAC-SHA256 of `SECONDS.BODY` in hex, with {TIMESTAMP}: SECONDS beside it.",
    },
}
_TAGS: Final = {
    "plans": "See what would happen.",
    "rollouts": "Launch, follow, steer.",
    "schedules": "Rollouts by the clock.",
    "hooks": "Rollouts by what happens on a PBX.",
    "inventory": "Phones, where they come from, and what they do on NOTIFY.",
    "operations": "Who works, who did what, the emergency stop.",
    "health": "For whoever watches the service.",
}
_ABOUT: Final = """\
Resync or reboot registered SIP phones: paced, previewed, every phone's outcome kept.

Every operation but the health checks needs a token: `Authorization: Bearer TOKEN`. `resyncctl token create NAME --scope SCOPE`
makes one; `x-required-scope` names the scope of each operation, and each of read, trigger, operate and admin includes those
before it. Durations are seconds, or text like `90s`, `5m`, `1h30m`. Errors are RFC 9457 problem details.

The address of a client, as limits, networks of tokens and the audit log see it, is that of its connection; `X-Forwarded-For`
is believed only of a proxy on the service's own machine.
"""


def create_app(services: Services) -> FastAPI:
    """Make the application. Nothing outside is fetched, and nothing is started."""
    app = FastAPI(
        title="resyncctl",
        version=__version__,
        description=_ABOUT,
        openapi_url=None,
        docs_url=None,  # the pages that FastAPI offers load scripts from elsewhere
        redoc_url=None,
        openapi_tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
        redirect_slashes=False,
    )
    app.state.services = services
    app.state.buckets = Buckets(lambda: services.settings.requests_per_second, clock.monotonic)
    app.state.gate = asyncio.Semaphore(AT_ONCE)
    app.add_middleware(
        Boundary,
        max_body=lambda: services.settings.max_body,
        metrics=services.metrics,
        log=services.log,
        clock=clock.monotonic,
    )
    problems.add_handlers(app)
    routes = Routes(app)
    for group in _GROUPS:
        group.add(routes)

    content = {"application/json": {"schema": {"type": "object"}}}
    routes.add("GET", "/v1/openapi.json", openapi, tag="health", scope=Scope.READ, content=content)
    # Once, and now: it takes 0.2 s, in which a process that sends would send nothing.
    app.state.description = json.dumps(description(app)).encode()
    return app


async def openapi(request: Request) -> Response:
    """Describe the API."""
    return Response(request.app.state.description, media_type="application/json")


def description(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI description."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            tags=app.openapi_tags,
        )
        components = schema.setdefault("components", {})
        components["securitySchemes"] = _SECURITY
        shown = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas = components.setdefault("schemas", {})
        schemas |= shown.pop("$defs", {})
        schemas["Problem"] = shown
        app.openapi_schema = schema
    return app.openapi_schema
