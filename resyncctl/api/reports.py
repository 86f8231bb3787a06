"""`GET /v1/rollouts/{id}/report`: the report, or every target, streamed in the form that the client accepts."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import Header, Response
from fastapi.responses import JSONResponse, StreamingResponse

from resyncctl.api.problems import ProblemError
from resyncctl.api.rollouts import find
from resyncctl.api.services import Use
from resyncctl.engine.access import Scope
from resyncctl.engine.results import COLUMNS, Row, results
from resyncctl.engine.tally import report_of

if TYPE_CHECKING:
    from resyncctl.api.routing import Routes
    from resyncctl.store.records import RolloutRecord
    from resyncctl.store.redis_store import RedisStore

JSON: Final = "application/json"
CSV: Final = "text/csv"
NDJSON: Final = "application/x-ndjson"
_OFFERED: Final = (JSON, CSV, NDJSON)
_CHUNK: Final = 500
"""Rows sent at once."""
_LONGEST: Final = 1000
"""Characters of an Accept header that are looked at."""


def chosen(accept: str, offered: tuple[str, ...] = _OFFERED) -> str:
    """Return the media type that a client likes best (RFC 9110 12.5.1), of equals the first; ProblemError (406) for none."""
    wishes: dict[str, float] = {}
    for part in accept[:_LONGEST].split(","):
        kind, *parameters = (text.strip().lower() for text in part.split(";"))
        wishes[kind] = _quality(parameters)

    def liking(kind: str) -> float:
        for pattern in (kind, f"{kind.partition('/')[0]}/*", "*/*"):
            if pattern in wishes:
                return wishes[pattern]
        return 0.0

    best = max(offered, key=liking)
    if not liking(best):
        raise ProblemError(HTTPStatus.NOT_ACCEPTABLE, f"this can be had as {', '.join(offered)}")
    return best


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0


async def report_rollout(
    rollout: str,
    services: Use,
    accept: Annotated[str, Header(description=f"One of {', '.join(_OFFERED)}.")] = "*/*",
) -> Response:
    """Report a rollout.

    As JSON its report; as CSV or newline-delimited JSON every target, streamed.
    """
    kind = chosen(accept)
    record = await find(services.store, rollout)
    if kind == JSON:
        return JSONResponse(report_of(record))
    lines = _csv_line if kind == CSV else _json_line
    stream = _stream(services.store, record, lines, head=_csv_line(COLUMNS) if kind == CSV else "")
    first = await anext(stream)  # what is wrong is told before the answer begins
    name = f'attachment; filename="{record.id}.{"csv" if kind == CSV else "ndjson"}"'
    return StreamingResponse(
        _continued(first, stream), media_type=f"{kind}; charset=utf-8", headers={"Content-Disposition": name}
    )


async def _stream(
    store: RedisStore, record: RolloutRecord, line: Callable[[Row], str], *, head: str
) -> AsyncIterator[bytes]:
    chunk = [head]
    async for _, _, row in results(store, record):
        chunk.append(line(row))
        if len(chunk) >= _CHUNK:
            yield "".join(chunk).encode("utf-8", "surrogateescape")
            chunk.clear()
    yield "".join(chunk).encode("utf-8", "surrogateescape")


async def _continued(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


def _csv_line(row: Row | tuple[str, ...]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(row)
    return text.getvalue()


def _json_line(row: Row) -> str:
    return json.dumps(row._asdict()) + "\n"


def add(routes: Routes) -> None:
    """Add the operation."""
    content = {
        JSON: {"schema": {"$ref": "#/components/schemas/Report"}},
        CSV: {"schema": {"type": "string"}, "example": f"{','.join(COLUMNS)}\n"},
        NDJSON: {"schema": {"type": "string"}},
    }
    routes.add(
        "GET",
        "/v1/rollouts/{rollout}/report",
        report_rollout,
        tag="rollouts",
        scope=Scope.READ,
        errors=(404, 406),
        content=content,
    )
