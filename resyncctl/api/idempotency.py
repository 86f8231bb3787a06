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

PENDING_US: Final = 60_000_000
"""Microseconds after which a request that has no answer yet is taken over: the process that had it has died."""
_LONGEST: Final = 255
"""Characters of a key."""

Make = Callable[[str], Awaitable[tuple[Mapping[str, object], str]]]
"""Does what was asked for, and returns a body and the path of what it made. It is given a text that is the same each time this
request is sent, and like no other; '' for a request without a key."""


def named(beginning: str, unique: str) -> str:
    """Name what a request makes: the same each time it is sent. '' for a request without a key: any name will do."""
    return f"{beginning}-{unique[:10]}" if unique else ""


@dataclass(frozen=True, slots=True)
class Once:
    """One request with a key ('' = without one). The same caller, key, path and body are the same request."""

    key: str
    fingerprint: str
    service: ServiceStore
    now_us: Callable[[], int]

    async def answer(self, status: HTTPStatus, make: Make) -> Response:
        """Return what `make` returns, or what it returned the first time.

        A request that fails is forgotten: it may be sent again. ProblemError: 409 while the first is in work, 422 when
        the key was used for another request.
        """
        if not self.key:
            return _response(status, *await make(""))
        unique = uuid4().hex
        mine = self._pending(unique)
        known = await self.service.once(self.key, mine)
        if known != mine:
            values = json.loads(known)
            if "pending" not in values or values["fingerprint"] != self.fingerprint:
                return self._again(values)
            if self.now_us() - values["at_us"] < PENDING_US:
                raise ProblemError(
                    HTTPStatus.CONFLICT,
                    "the first request with this Idempotency-Key is in work; ask again",
                    headers={"Retry-After": "1"},
                )
            unique = values["pending"]  # what was made under its name by then is found, not made again
            await self.service.settle(self.key, self._pending(unique))
        try:
            body, location = await make(unique)
        except BaseException:  # also when the service is stopped: nothing was promised yet
            await self.service.forget(self.key)
            raise
        answered = {"fingerprint": self.fingerprint, "status": status, "body": body, "location": location}
        await self.service.settle(self.key, json.dumps(answered))
        return _response(status, body, location)

    def _pending(self, unique: str) -> str:
        return json.dumps({"fingerprint": self.fingerprint, "pending": unique, "at_us": self.now_us()})

    def _again(self, known: Mapping[str, object]) -> Response:
        if known["fingerprint"] != self.fingerprint:
            raise ProblemError(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "this Idempotency-Key was used for another request; take a new key for each",
                errors=[("Idempotency-Key", "was used for another request")],
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
            description="Any text of your own; a request that is sent again with it within 7 days is not done again.",
        ),
    ] = "",
) -> Once:
    """Return the request as `Once` sees it."""
    if not idempotency_key:
        return Once("", "", services.service, services.now_us)
    line = f"{request.method} {request.scope['path']}\0"
    digest = hashlib.sha256(line.encode() + await request.body()).hexdigest()
    return Once(f"{caller.name} {idempotency_key}", digest, services.service, services.now_us)


OnceOnly = Annotated[Once, Depends(once_of)]
"""An endpoint's parameter of this type honours `Idempotency-Key`."""


def _response(status: HTTPStatus, body: Mapping[str, object], location: str) -> Response:
    return JSONResponse(dict(body), status, headers={"Location": location} if location else None)
