"""Who may do what: every operation names the scope that it needs, and is closed to everybody when it names none."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute

from resyncctl.api.bodies import body_model, read
from resyncctl.api.client import address_of
from resyncctl.api.limits import Buckets
from resyncctl.api.problems import ProblemError, wrong_fields
from resyncctl.api.services import services_of
from resyncctl.engine.access import Caller, Scope
from resyncctl.errors import AccessError

SCOPE: Final = "x-required-scope"
"""Where an operation's description names its scope; `none` = no token is asked for."""
SIGNED: Final = "x-or-signature"
"""Where an operation's description says that a signature serves as well as a token. It looks at them itself, and it takes query
parameters of any name."""
OPEN: Final = "none"
AT_ONCE: Final = 32
"""Requests that are worked on at a time, once their bodies are read; others wait. A pool has 100 connections, and what sends
needs some of them whatever clients do."""

_Handler = Callable[[Request], Coroutine[object, object, Response]]


class GuardedRoute(APIRoute):
    """A route that looks at the token before it reads anything else of the request, then at the body, strictly."""

    @property
    def needed(self) -> Scope | None:
        """The scope that this operation needs; None = it takes no token."""
        text = (self.openapi_extra or {}).get(SCOPE, Scope.ADMIN.label)
        return None if text == OPEN else Scope.named(text)

    def get_route_handler(self) -> _Handler:
        """Return FastAPI's handler behind the guard."""
        handle: _Handler = super().get_route_handler()
        needed = self.needed
        signed = bool((self.openapi_extra or {}).get(SIGNED))
        model = body_model(self.endpoint)

        async def guarded(request: Request) -> Response:
            if signed:
                return await handle(request)
            if needed is None:
                limit(request, address_of(request))
            else:
                request.state.caller = await admit(request, needed)
            self._check_query(request)
            if needed is None:
                return await handle(request)
            if model is not None:
                request = await read(request, model)
            async with gate_of(request):
                return await handle(request)

        return guarded

    def _check_query(self, request: Request) -> None:
        known = {one.alias for one in self.dependant.query_params}
        unknown = sorted(set(request.query_params) - known)
        if unknown:
            hint = f"known: {', '.join(sorted(known))}" if known else "this path has none"
            raise wrong_fields([(name, f"there is no such query parameter; {hint}") for name in unknown])


async def admit(request: Request, needed: Scope) -> Caller:
    """Return who asks. Raises AccessError, and ProblemError (429) for whoever asks too often.

    A token has its own limit; requests without a good one count against their address.
    """
    source = address_of(request)
    try:
        caller = await services_of(request).access.authenticate(request.headers.get("authorization"), source)
    except AccessError:
        limit(request, source)
        raise
    limit(request, f"token {caller.name}")
    caller.require(needed)
    return caller


def limit(request: Request, client: str) -> None:
    """Count a request of a client; raise ProblemError (429) when there are too many."""
    buckets = request.app.state.buckets
    assert isinstance(buckets, Buckets)  # noqa: S101  (create_app has put it there)
    wait = buckets.take(client)
    if wait:
        raise ProblemError(
            HTTPStatus.TOO_MANY_REQUESTS,
            "too many requests; requests_per_second in the configuration is the limit of each client",
            headers={"Retry-After": str(math.ceil(wait))},
        )


def gate_of(request: Request) -> asyncio.Semaphore:
    """Return what lets AT_ONCE requests at a time to Redis."""
    gate = request.app.state.gate
    assert isinstance(gate, asyncio.Semaphore)  # noqa: S101  (create_app has put it there)
    return gate


def caller_of(request: Request) -> Caller:
    """Return whose request this is."""
    caller = request.state.caller
    assert isinstance(caller, Caller)  # noqa: S101  (the guard has put it there)
    return caller


Who = Annotated[Caller, Depends(caller_of)]
"""An endpoint's parameter of this type is given the caller."""


def guard(scope: Scope | None, *, signed: bool = False) -> Mapping[str, object]:
    """Return what an operation's description says of who may call it.

    `signed`: a signature serves as well as a token; the operation itself looks at either.
    """
    said: dict[str, object] = {SCOPE: OPEN if scope is None else scope.label}
    if scope is not None:
        said["security"] = [{"token": []}]
    if signed:
        said["security"] = [{"token": []}, {"signature": []}]
        said[SIGNED] = True
    return said
