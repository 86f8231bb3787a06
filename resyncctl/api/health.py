"""`/healthz`, `/readyz`, `/metrics`: for whoever watches the service."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import Response

from resyncctl import __version__
from resyncctl.api.models import Health
from resyncctl.api.problems import ProblemError
from resyncctl.api.services import Use
from resyncctl.engine.access import Scope
from resyncctl.engine.gauges import gather
from resyncctl.errors import StoreError
from resyncctl.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from resyncctl.api.routing import Routes


async def healthz() -> dict[str, object]:
    """Tell whether the process answers."""
    return {"status": "ok", "version": __version__}


async def readyz(services: Use) -> dict[str, object]:
    """Tell whether requests can be answered: Redis is there, and the service is not on its way out."""
    if services.hub.closed:
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "the service is stopping", headers={"Retry-After": "5"})
    await services.service.frozen()
    return {"status": "ready", "version": __version__}


async def metrics(services: Use) -> Response:
    """Count for Prometheus.

    What rollouts have sent and heard, leases and schedules, for all processes of the service; HTTP requests and event
    streams, for this one.
    """
    services.metrics.streams.set(services.hub.followers)
    try:
        numbers = await gather(services.store, now_us=services.now_us())
    except StoreError:
        numbers = None
    return Response(services.metrics.render(numbers), media_type=CONTENT_TYPE)


def add(routes: Routes) -> None:
    """Add the operations. Health is the only thing that is told without a token."""
    routes.add("GET", "/healthz", healthz, tag="health", scope=None, answer=Health)
    routes.add("GET", "/readyz", readyz, tag="health", scope=None, answer=Health)
    content = {"text/plain": {"schema": {"type": "string"}}}
    routes.add("GET", "/metrics", metrics, tag="health", scope=Scope.READ, content=content)
