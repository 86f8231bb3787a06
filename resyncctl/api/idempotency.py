"""`Idempotency-Key`: whoever sends a request again, because its answer was lost, gets that answer and nothing is done twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Final
from uuid import uuid4

from fastapi import Depends, Header, Request, Response
from fastapi.responses import JSONResponse

from resyncctl.api.problems import ProblemError
from resyncctl.api.security import Who
from resyncctl.api.services import Use
from resyncctl.store.service import ServiceStore

PENDING: Final = 60
"""Seconds after which a request whose process died may be sent again."""
_LONGEST: Final = 255
"""Characters of a key."""


@dataclass(frozen=True, slots=True)
class Once:
    """One request with a key ('' = without one). The same caller, key, path and body are the same request."""

    key: str
    fingerprint: str
    service: ServiceStore

    def name(self, beginning: str) -> str:
        """Return a name for what this request makes: with a key always the same, so that it is made once whatever dies in
        between; without one ''.
        """
        return f"{beginning}-{hashlib.sha256(self.key.encode()).hexdigest()[:10]}" if self.key else ""

    async def answer(
        self, status: HTTPStatus, make: Callable[[], Awaitable[tuple[Mapping[str, object], str]]]
    ) -> Response:
        """Return what `make` returns (a body, and the path of what it made), or what it returned the first time.

        A request that fails is forgotten: it may be sent again. ProblemError: 409 while the first is in work, 422 when
        the key was used for another request.
        """
        if not self.key:
            return _response(status, *await make())
        mine = json.dumps({"fingerprint": self.fingerprint, "pending": uuid4().hex})
        known = await self.service.once(self.key, mine, seconds=PENDING)
        if known != mine:
            return self._again(json.loads(known))
        try:
            body, location = await make()
        except BaseException:  # also when the service is stopped: nothing was promised yet
            await self.service.forget(self.key)
            raise
        answered = {"fingerprint": self.fingerprint, "status": status, "body": body, "location": location}
        await self.service.settle(self.key, json.dumps(answered))
        return _response(status, body, location)

    def _again(self, known: Mapping[str, object]) -> Response:
        if known["fingerprint"] != self.fingerprint:
            raise ProblemError(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "this Idempotency-Key was used for another request; take a new key for each",
                errors=[("Idempotency-Key", "was used for another request")],
            )
        if "pending" in known:
            raise ProblemError(
                HTTPStatus.CONFLICT,
                "the first request with this Idempotency-Key is in work; ask again",
                headers={"Retry-After": "1"},
            )
        body, status = known["body"], known["status"]
        assert isinstance(body, dict)  # noqa: S101  (what `answer` wrote)
        assert isinstance(status, int)  # noqa: S101
        return _response(HTTPStatus(status), body, str(known["location"]))


async def once_of(
    request: Request,
    caller: Who,
    services: Use,
    idempotency_key: Annotated[
        str,
        Header(
            max_length=_LONGEST,
            pattern=r"^[!-~]*$",
            description="Any text of your own; a request that is sent again with it is not done again.",
        ),
    ] = "",
) -> Once:
    """Return the request as `Once` sees it."""
    if not idempotency_key:
        return Once("", "", services.service)
    digest = hashlib.sha256(f"{request.method} {request.scope['path']}\0".encode() + await request.body()).hexdigest()
    return Once(f"{caller.name} {idempotency_key}", digest, services.service)


OnceOnly = Annotated[Once, Depends(once_of)]
"""An endpoint's parameter of this type honours `Idempotency-Key`."""


def _response(status: HTTPStatus, body: Mapping[str, object], location: str) -> Response:
    return JSONResponse(dict(body), status, headers={"Location": location} if location else None)
