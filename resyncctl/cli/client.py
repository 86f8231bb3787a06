"""HTTP to the API of a `resyncctl serve`: what is sent again and when, and what its errors mean here.

    400 406 413 415 422 → InputError    401 403 → AccessError    404 → NotFoundError    409 → StateError
    503, no connection, anything that is not from our API → ServerError

A request that did not reach the service is sent again, for a moment. One that may have reached it only when that does no harm:
GET, and POST with an Idempotency-Key. Where the service says when to come back (429, and 409 for a request that is in work), it
is done. Redirections are not followed: the token is for one service.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import httpx

from resyncctl import __version__
from resyncctl.clock import monotonic
from resyncctl.engine.backend import Page, Report
from resyncctl.errors import (
    AccessError,
    InputError,
    NotFoundError,
    PhoneListError,
    ResyncError,
    ServerError,
    StateError,
)

Parameters = Mapping[str, str | int | list[str]]
_TRIES: Final = 3
_AGAIN: Final = 0.2
"""Seconds before the second try; doubles."""
_PATIENCE: Final = 60.0
"""Seconds for which we come back when the service says when to."""
_TIMEOUT: Final = httpx.Timeout(120.0, connect=5.0)
"""Planning a long list takes a while."""
_SILENCE: Final = httpx.Timeout(45.0, connect=5.0)
"""An event stream says something every 15 s."""
_BACK: Final = 0.5
"""Seconds until an event stream that has ended early is opened again."""
AWAY: Final = 30.0
"""Seconds that the service may be away while a rollout is followed."""
LARGEST: Final = 1000
"""Entries of a page, at most."""
_LONGEST: Final = 4096
"""Characters of a token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where the service is, and what lets us in."""

    url: str
    token: str = field(repr=False)
    ca_file: Path | None = None


class Event(NamedTuple):
    """A server-sent event."""

    id: str
    kind: str
    data: Report


def read_url(text: str) -> str:
    """Check the URL of a service and return it without a slash at its end; raise InputError."""
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise InputError(f"--server {text[:200]}: write it like http://127.0.0.1:8420 or https://resync.example")
    return text.rstrip("/")


def read_token(file: Path | None, given: str) -> str:
    """Return the token in a file, else the given one; raise InputError for what cannot be one."""
    try:
        token = (file.read_text(encoding="utf-8") if file else given).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise InputError(f"--token-file {file}: cannot be read ({reason})") from error
    where = f"--token-file {file}" if file else "RESYNCCTL_TOKEN"
    if not token and not file:
        raise InputError(
            "--server needs a token: --token-file FILE, RESYNCCTL_TOKEN_FILE or RESYNCCTL_TOKEN;"
            " `resyncctl token create NAME --scope operate` on the machine of the service makes one"
        )
    if not token or len(token) > _LONGEST or not all("!" <= char <= "~" for char in token):
        raise InputError(f"{where}: there is no token in it; put what `resyncctl token create` prints there, alone")
    return token


class ApiClient:
    """One service. Methods raise the errors above."""

    def __init__(self, server: Server, http: httpx.AsyncClient) -> None:
        self.where = server.url
        self._http = http

    async def get(self, path: str, parameters: Parameters | None = None) -> Report:
        """Return what is there."""
        return _object(await self._request("GET", path, parameters=parameters), self.where)

    async def post(self, path: str, body: Mapping[str, object] | None = None, *, once: bool = False) -> Report:
        """Do something; `once` sends it with an Idempotency-Key, and again when its answer is lost."""
        key = secrets.token_hex(16) if once else ""
        return _object(await self._request("POST", path, body=body, key=key), self.where)

    async def put(self, path: str, body: Mapping[str, object]) -> Report:
        """Set something."""
        return _object(await self._request("PUT", path, body=body), self.where)

    async def delete(self, path: str) -> httpx.Response:
        """Remove something."""
        return await self._request("DELETE", path)

    async def page(self, path: str, entries: str, parameters: Parameters, *, limit: int) -> Page:
        """Return a page of a list that comes in pages."""
        answer = await self.get(path, {**parameters, "limit": limit})
        found = answer[entries]
        assert isinstance(found, list)  # noqa: S101  (what the API says)
        return Page(found, str(answer["next"] or ""))

    async def pages(self, path: str, entries: str, parameters: Parameters, *, most: int | None = None) -> Page:
        """Return at most `most` entries (None = all) of such a list."""
        found: list[Report] = []
        cursor = str(parameters.get("cursor", ""))
        while True:
            limit = LARGEST if most is None else min(LARGEST, most - len(found))
            page = await self.page(path, entries, {**parameters, "cursor": cursor}, limit=limit)
            found += page.entries
            cursor = page.more
            if not cursor or (most is not None and len(found) >= most):
                return Page(found, cursor)

    async def events(self, path: str) -> AsyncIterator[Event]:
        """Yield the events of a stream from its beginning, across interruptions, until the one of the kind `end`."""
        last = "0"
        away_since: float | None = None
        while True:
            headers = {"Last-Event-ID": last}
            try:
                async with self._http.stream("GET", path, headers=headers, timeout=_SILENCE) as response:
                    if not response.is_success:
                        await response.aread()
                        raise _error(response, self.where)
                    away_since = None
                    async for event in _events(response):
                        last = event.id or last
                        yield event
                        if event.kind == "end":
                            return
            except (httpx.TransportError, ServerError) as error:
                away_since = away_since or monotonic()
                if monotonic() - away_since > AWAY:
                    raise _lost(error, self.where) from error
            await asyncio.sleep(_BACK)

    async def _request(
        self,
        method: str,
        path: str,
        *,
        parameters: Parameters | None = None,
        body: Mapping[str, object] | None = None,
        key: str = "",
    ) -> httpx.Response:
        harmless = method == "GET" or bool(key)
        request = self._http.build_request(
            method,
            path,
            params=parameters,
            json=body,
            headers={"Idempotency-Key": key} if key else {},
        )
        tries, patience = 0, _PATIENCE
        while True:
            tries += 1
            try:
                response = await self._http.send(request)
            except httpx.TransportError as error:
                unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                if tries >= _TRIES or not (unsent or harmless):
                    raise _lost(error, self.where, unsure=not unsent and not harmless) from error
                await asyncio.sleep(_AGAIN * 2 ** (tries - 1))
                continue
            wait = _comes_back(response)
            if not wait or wait > patience:
                break
            patience -= wait
            await asyncio.sleep(wait)
        if not response.is_success:
            raise _error(response, self.where)
        return response


@contextlib.asynccontextmanager
async def connected(server: Server) -> AsyncIterator[ApiClient]:
    """Open a client; raise InputError when the file of certificates cannot be used."""
    try:
        verify = ssl.create_default_context(cafile=None if server.ca_file is None else str(server.ca_file))
    except OSError as error:  # SSLError is one
        raise InputError(
            f"--ca-file {server.ca_file}: cannot be used ({error.strerror or error}); give certificates as PEM"
        ) from error
    headers = {"Authorization": f"Bearer {server.token}", "User-Agent": f"resyncctl/{__version__}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, verify=verify, timeout=_TIMEOUT) as http:
        yield ApiClient(server, http)


async def _events(response: httpx.Response) -> AsyncIterator[Event]:
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        name, _, value = line.partition(": ")
        if line:
            fields[name] = value
        elif "data" in fields:
            yield Event(fields.get("id", ""), fields.get("event", ""), json.loads(fields["data"]))
            fields = {}


def _comes_back(response: httpx.Response) -> float:
    """Return the seconds after which the same request may succeed; 0 = it is answered."""
    after = response.headers.get("retry-after", "")
    if response.status_code not in {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.CONFLICT} or not after.isdigit():
        return 0.0
    return max(_AGAIN, float(after))


def _object(response: httpx.Response, where: str) -> Report:
    try:
        value = response.json()
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ServerError(f"{where}: what answers there is not the API of resyncctl; check --server")
    return value


def _error(response: httpx.Response, where: str) -> ResyncError:
    """Return what an answer that is no success means here."""
    status = response.status_code
    if not response.headers.get("content-type", "").startswith("application/problem+json"):
        return ServerError(
            f"{where} answers {status} {response.reason_phrase}, which is not from the API of resyncctl; check --server"
        )
    problem = _object(response, where)
    detail = str(problem.get("detail", ""))
    if status == httpx.codes.UNAUTHORIZED:
        return AccessError(f"{where}: {detail}; check --token-file")
    if status == httpx.codes.FORBIDDEN:
        return AccessError(detail, known=True)
    if status == httpx.codes.NOT_FOUND:
        return NotFoundError(detail)
    if status == httpx.codes.CONFLICT:
        return StateError(detail)
    if status >= httpx.codes.INTERNAL_SERVER_ERROR or status == httpx.codes.TOO_MANY_REQUESTS:
        return ServerError(f"{where} cannot answer now: {detail}")
    return _wrong(problem, detail)


def _wrong(problem: Report, detail: str) -> InputError:
    errors = problem.get("errors")
    fields = [(str(one["field"]), str(one["message"])) for one in errors] if isinstance(errors, list) else []
    if fields and all(name.startswith("phones.") for name, _ in fields):
        more = problem.get("more_errors", 0)
        told = [f"{name}: {text}" for name, text in fields]
        return PhoneListError("the request", told, len(told) + (more if isinstance(more, int) else 0))
    return InputError(detail)


def _lost(error: Exception, where: str, *, unsure: bool = False) -> ServerError:
    if isinstance(error, ServerError):
        return error
    text = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return ServerError(f"{where}: its certificate is not trusted ({text}); name who has signed it with --ca-file")
    if unsure:
        return ServerError(f"{where}: the connection broke ({text}) before it was answered; look whether it was done")
    return ServerError(f"{where} cannot be reached ({text}): start `resyncctl serve` there, or check --server")
