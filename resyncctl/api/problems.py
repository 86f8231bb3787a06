"""Errors as the API tells them: RFC 9457 problem details, and nothing of our inside."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from resyncctl.errors import (
    AccessError,
    InfrastructureError,
    InputError,
    NotFoundError,
    PhoneListError,
    ResyncError,
    StateError,
)

if TYPE_CHECKING:
    from fastapi import FastAPI, Request
    from pydantic_core import ErrorDetails

MEDIA_TYPE: Final = "application/problem+json"
RETRY_SECONDS: Final = 5
"""Seconds after which a client may ask again when Redis was away."""
_SHOWN: Final = 20
"""Wrong fields that are spelled out; of more only the number is told."""
_LONGEST: Final = 4000
"""Characters of a detail."""
_OPTION: Final = re.compile(r"(?<![\w-])--([a-z][a-z0-9-]*)")
_WHERE: Final = re.compile(r"(?: in)? (?:rediss?|unix|valkeys?)://[^\s;,]*")

FieldProblem = tuple[str, str]
"""A field by its path (`options.rate`), and what is wrong with it."""


class ProblemError(Exception):
    """A problem of HTTP itself: a header, a method, a media type, a limit."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        errors: Sequence[FieldProblem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status, self.errors, self.headers = status, tuple(errors), dict(headers or {})
        super().__init__(detail)


def problem(
    status: int,
    detail: str,
    *,
    instance: str,
    errors: Sequence[FieldProblem] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a problem document. `instance` is the path that was asked for."""
    title = HTTPStatus(status).phrase
    values: dict[str, object] = {
        "type": f"urn:resyncctl:problem:{title.lower().replace(' ', '-')}",
        "title": title,
        "status": status,
        "detail": _clean(detail),
        "instance": quote(instance, errors="replace"),
    }
    if errors:
        values["errors"] = [{"field": _clean(field), "message": _clean(text)} for field, text in errors[:_SHOWN]]
        if len(errors) > _SHOWN:
            values["more_errors"] = len(errors) - _SHOWN
    return Response(json.dumps(values), status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def fields_of(errors: Sequence[ErrorDetails]) -> list[FieldProblem]:
    """Return what pydantic found wrong, field by field."""
    found = []
    for one in errors:
        field = ".".join(str(part) for part in one["loc"])
        text = one["msg"].removeprefix("Value error, ")
        found.append((field, "there is no such field" if one["type"] == "extra_forbidden" else text))
    return found


def wrong_fields(fields: Sequence[FieldProblem]) -> ProblemError:
    """Return the problem of a request with wrong fields."""
    told = "; ".join(f"{field}: {text}" if field else text for field, text in fields[:_SHOWN])
    return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, told, errors=fields)


def of_error(error: ResyncError, *, instance: str) -> Response:
    """Turn an error of ours into its problem."""
    headers: dict[str, str] = {}
    errors: list[FieldProblem] = []
    match error:
        case PhoneListError():
            status = HTTPStatus.UNPROCESSABLE_ENTITY
            errors = [(name, text) for name, _, text in (one.partition(": ") for one in error.problems)]
        case InputError():
            status = HTTPStatus.UNPROCESSABLE_ENTITY
        case NotFoundError():
            status = HTTPStatus.NOT_FOUND
        case StateError():
            status = HTTPStatus.CONFLICT
        case AccessError(known=True):
            status = HTTPStatus.FORBIDDEN
        case AccessError():
            status, headers["WWW-Authenticate"] = HTTPStatus.UNAUTHORIZED, 'Bearer realm="resyncctl"'
        case InfrastructureError():
            status, headers["Retry-After"] = HTTPStatus.SERVICE_UNAVAILABLE, str(RETRY_SECONDS)
        case _:
            status = HTTPStatus.UNPROCESSABLE_ENTITY
    return problem(status, str(error), instance=instance, errors=errors, headers=headers)


def add_handlers(app: FastAPI) -> None:
    """Have every error answered with a problem."""

    async def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, ResyncError)  # noqa: S101
        return of_error(error, instance=request.scope["path"])

    async def of_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, ProblemError)  # noqa: S101
        return problem(
            error.status, str(error), instance=request.scope["path"], errors=error.errors, headers=error.headers
        )

    async def of_framework(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        detail = _DETAILS.get(error.status_code, error.detail)
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = _allowed(request)
        return problem(error.status_code, detail, instance=request.scope["path"], headers=headers)

    async def of_fields(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        found = wrong_fields([_without_place(one) for one in fields_of(error.errors())])
        return problem(found.status, str(found), instance=request.scope["path"], errors=found.errors)

    app.add_exception_handler(ResyncError, ours)
    app.add_exception_handler(ProblemError, of_http)
    app.add_exception_handler(HTTPException, of_framework)
    app.add_exception_handler(RequestValidationError, of_fields)


_DETAILS: Final = {
    404: "there is nothing at this path; GET /v1/openapi.json lists what there is",
    405: "this path does not take this method",
}


def _allowed(request: Request) -> str:
    """Return all methods of a path; the framework names those of its first operation only."""
    found: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= route.methods
    return ", ".join(sorted(found))


def _without_place(field: FieldProblem) -> FieldProblem:
    """Name a parameter without the place (`query`, `path`, `header`) that FastAPI puts before it."""
    name, text = field
    return name.partition(".")[2] or name, text


def _clean(text: str) -> str:
    """Return text that any JSON parser takes, with the API's words for options and without our Redis."""
    plain = text.encode("utf-8", "backslashreplace").decode()
    plain = _OPTION.sub(lambda found: found[1].replace("-", "_"), _WHERE.sub("", plain))
    return plain if len(plain) <= _LONGEST else f"{plain[:_LONGEST]}…"
