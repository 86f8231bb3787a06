"""Bodies read strictly: JSON as it is written, no text for a number, unknown fields named."""

from __future__ import annotations

import email.message
from http import HTTPStatus
from typing import TYPE_CHECKING, get_type_hints

from fastapi import Request
from pydantic import BaseModel, ValidationError

from resyncctl.api.problems import ProblemError, fields_of, wrong_fields

if TYPE_CHECKING:
    from collections.abc import Callable

BODY = "body"
"""The parameter of an endpoint that takes the body."""


def body_model(endpoint: Callable[..., object]) -> type[BaseModel] | None:
    """Return the model of an endpoint's body; None = it has none."""
    found = get_type_hints(endpoint).get(BODY)
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def is_json(content_type: str) -> bool:
    """Say whether a Content-Type is JSON."""
    message = email.message.Message()
    message["content-type"] = content_type
    kind = message.get_content_type()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


class ReadRequest(Request):
    """A request whose body has been read already, into its model."""

    raw: bytes = b""
    model: BaseModel | None = None

    async def body(self) -> bytes:
        """Return the body as it came."""
        return self.raw

    async def json(self) -> BaseModel | None:
        """Return the model; FastAPI takes it as it is."""
        return self.model


async def read(request: Request, model: type[BaseModel]) -> ReadRequest:
    """Read the body; raise ProblemError: 415 for another type, 400 for what is no JSON, 422 for wrong fields."""
    if not is_json(request.headers.get("content-type", "")):
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send JSON, with the header Content-Type: application/json"
        )
    read_request = ReadRequest(request.scope, request.receive)
    read_request.raw = await request.body()
    try:
        read_request.model = model.model_validate_json(read_request.raw, strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False, include_context=False)
        if details[0]["type"] == "json_invalid" and not details[0]["loc"]:
            raise ProblemError(HTTPStatus.BAD_REQUEST, details[0]["msg"]) from error
        raise wrong_fields(fields_of(details)) from error
    return read_request
