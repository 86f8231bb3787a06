"""`GET /v1/rollouts/{id}/events`: the progress of a rollout as server-sent events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import Header, Response
from fastapi.responses import StreamingResponse

from resyncctl.api.rollouts import find
from resyncctl.api.services import Use
from resyncctl.api.streams import Following, position_of
from resyncctl.engine.access import Scope

if TYPE_CHECKING:
    from starlette.types import Receive, Send
    from starlette.types import Scope as AsgiScope

    from resyncctl.api.routing import Routes


class EventStream(StreamingResponse):
    """A follower's stream; the follower is counted out however it ends."""

    media_type = "text/event-stream"

    def __init__(self, following: Following) -> None:
        super().__init__(following.frames(), headers={"X-Accel-Buffering": "no"})  # nginx passes it on at once
        self._following = following

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Send events until the rollout ends or the client goes."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._following.leave()


async def follow_rollout(
    rollout: str,
    services: Use,
    last_event_id: Annotated[
        str | None,
        Header(
            pattern=r"^(0|[1-9][0-9]{0,18})(-(0|[1-9][0-9]{0,18}))?$",
            description="The id of the last event that was seen; 0 = everything that is kept. Without it the stream begins"
            " with the newest event.",
        ),
    ] = None,
) -> Response:
    """Follow a rollout as server-sent events.

    `progress` events hold the state and the counts, each time they changed; their ids go into `Last-Event-ID`. An `end`
    event holds the whole report when the rollout has ended: close the stream then. A comment is sent in silence.
    """
    position = None if last_event_id is None else position_of(last_event_id)
    record = await find(services.store, rollout)
    return EventStream(services.hub.follow(record.id, position))


def add(routes: Routes) -> None:
    """Add the operation."""
    example = 'id: 1767225600000-0\nevent: progress\ndata: {"rollout": "spring", "state": "running"}\n\n'
    routes.add(
        "GET",
        "/v1/rollouts/{rollout}/events",
        follow_rollout,
        tag="rollouts",
        scope=Scope.READ,
        errors=(404,),
        content={"text/event-stream": {"schema": {"type": "string"}, "example": example}},
    )
