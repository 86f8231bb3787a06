"""How operations are added to the application, each with its scope, its errors and its examples."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from resyncctl.api.bodies import body_model
from resyncctl.api.problems import MEDIA_TYPE
from resyncctl.api.security import GuardedRoute, guard

if TYPE_CHECKING:
    from fastapi import FastAPI

    from resyncctl.engine.access import Scope

_PROBLEM: Final = {"$ref": "#/components/schemas/Problem"}
_MEANINGS: Final = {
    400: "The body is no JSON.",
    401: "No token, or one that is not accepted.",
    403: "The token lacks the scope.",
    404: "There is nothing of that name.",
    406: "None of the accepted media types can be made.",
    409: "It does not fit the state of what it is about.",
    413: "The body is too large.",
    415: "The body is of another media type.",
    422: "A field or parameter is wrong; `errors` names each.",
    429: "Too many requests, or too many streams; `Retry-After` says when to ask again.",
    503: "Redis is away; `Retry-After` says when to ask again.",
}


class Routes:
    """Adds operations. Every one of them is guarded; `scope` None is for the few that need no token."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        app.router.route_class = GuardedRoute

    def add(  # noqa: PLR0913  (what an operation is described by)
        self,
        method: str,
        path: str,
        endpoint: Callable[..., object],
        *,
        tag: str,
        scope: Scope | None,
        answer: object = None,
        status: HTTPStatus = HTTPStatus.OK,
        meaning: str = "",
        errors: Sequence[int] = (),
        examples: Mapping[str, object] | None = None,
        extra: Mapping[str, object] | None = None,
        content: Mapping[str, object] | None = None,
        signed: bool = False,
    ) -> None:
        """Add an operation.

        `answer` is the model of its answer, `content` its media types when it is no JSON; `signed`: see `guard`.
        """
        summary, _, more = (inspect.getdoc(endpoint) or "").partition("\n\n")
        codes = {*errors, 422, 429, 503} | (set() if scope is None else {401, 403})
        described = dict(guard(scope, signed=signed)) | dict(extra or {})
        if body_model(endpoint) is not None:
            codes |= {400, 413, 415}
        if examples:
            named = {name: {"value": value} for name, value in examples.items()}
            described["requestBody"] = {"content": {"application/json": {"examples": named}}}
        responses: dict[int | str, dict[str, object]] = {code: _described(code) for code in sorted(codes)}
        if content is not None:
            responses[int(status)] = {"description": meaning or "Done.", "content": dict(content)}
        self._app.add_api_route(
            path,
            endpoint,
            methods=[method],
            operation_id=getattr(endpoint, "__name__", path),
            tags=[tag],
            summary=summary.rstrip("."),
            description=more or None,
            status_code=status,
            response_model=answer,
            response_description=meaning or "Done.",
            responses=responses,
            openapi_extra=described,
        )


def _described(code: int) -> dict[str, object]:
    return {"description": _MEANINGS[code], "content": {MEDIA_TYPE: {"schema": _PROBLEM}}}


def guarded_routes(app: FastAPI) -> list[GuardedRoute]:
    """Return all operations of an application."""
    return [route for route in app.routes if isinstance(route, GuardedRoute)]


def unguarded_routes(app: FastAPI) -> list[str]:
    """Return the paths that no guard stands before: none, in an application made by `create_app`."""
    return [str(getattr(route, "path", route)) for route in app.routes if not isinstance(route, GuardedRoute)]
