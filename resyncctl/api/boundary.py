"""The outermost layer of the API, below HTTP: size of bodies, counting, and the last catch of an error nobody foresaw."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from starlette.datastructures import MutableHeaders

from resyncctl.api.problems import ProblemError, problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send
    from structlog.typing import FilteringBoundLogger

    from resyncctl.metrics import Metrics

_HEADERS: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


class Boundary:
    """ASGI middleware that passes streams through as they are."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_body: Callable[[], int],
        metrics: Metrics,
        log: FilteringBoundLogger,
        clock: Callable[[], float],
    ) -> None:
        self._app = app
        self._max_body = max_body
        self._metrics = metrics
        self._log = log
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = self._clock()
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._serve(scope, receive, sending)
        except Exception as error:  # noqa: BLE001  (whatever it is, it is logged here, and the client learns no more than that)
            self._log.error("request_failed", path=scope["path"], exc_info=error)
            if not status:
                answer = problem(
                    HTTPStatus.INTERNAL_SERVER_ERROR,
                    "an error of the service itself; its log says more",
                    instance=scope["path"],
                )
                await answer(scope, receive, sending)
        finally:
            route = getattr(scope.get("route"), "path", "")
            method = scope["method"] if route else ""  # a method may be any word; as a label it needs a route
            seconds = self._clock() - began
            self._metrics.request(method, route, status, seconds)
            self._log.debug("request_answered", method=method, path=scope["path"], status=status, seconds=seconds)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if announced.isdigit() and int(announced[:20]) > self._max_body():
            too_large = self._too_large()
            await problem(too_large.status, str(too_large), instance=scope["path"])(scope, receive, send)
            return
        received = 0

        async def receiving() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_body():
                raise self._too_large()
            return message

        await self._app(scope, receiving, send)

    def _too_large(self) -> ProblemError:
        return ProblemError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"a body has at most {self._max_body()} bytes; longer phone lists belong into a source",
            headers={"Connection": "close"},
        )
