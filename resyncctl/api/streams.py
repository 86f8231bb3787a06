"""The progress of rollouts for any number of followers, with one connection to Redis that reads whatever is followed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections import deque
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from resyncctl.api.problems import ProblemError
from resyncctl.engine.tally import is_over, report_of
from resyncctl.errors import NotFoundError, StoreError
from resyncctl.store.following import read_events
from resyncctl.store.keys import EVENTS

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from resyncctl.rollout.model import RolloutId
    from resyncctl.store.records import ProgressEvent
    from resyncctl.store.redis_store import RedisStore

KEEP_ALIVE: Final = 15.0
"""Seconds of silence after which a comment is sent, so that proxies and clients know that the stream lives."""
_WAIT: Final = 0.5
"""Seconds that one read of Redis waits for news; then it takes up the rollouts that are followed since."""
_LOOK: Final = 2.0
"""Seconds without an event after which it is looked whether a rollout has ended."""
_AGAIN: Final = 1.0
"""Seconds before Redis, which was away, is asked again."""
_SHORTEST: Final = 0.001
_ID: Final = re.compile(r"(0|[1-9][0-9]{0,18})(?:-(0|[1-9][0-9]{0,18}))?\Z")

Position = tuple[int, int]
"""A place in an event stream."""
_START: Final = (-1, -1)


def position_of(text: str) -> Position:
    """Read an event's id, as `Last-Event-ID` holds it ('0' = everything that is kept); raise ProblemError."""
    found = _ID.match(text)
    if found is None:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "Last-Event-ID is none of the ids of this stream; send one of them, or 0 for all events that are kept",
            errors=[("Last-Event-ID", "is no id of an event")],
        )
    return int(found[1]), int(found[2] or 0)


class _Channel:
    """What is known of one rollout's stream. Followers look at it; nothing is queued for them."""

    def __init__(self, name: RolloutId) -> None:
        self.name = name
        self.frames: deque[tuple[Position, bytes]] = deque(maxlen=EVENTS)
        self.snapshot = b""
        """The state of a rollout that has no event yet."""
        self.last = b""
        """The frame that ends the stream."""
        self.ended = False
        self.live = False
        """What there was is read; what comes is read together with that of others."""
        self.position = "0"
        self.looked_at = 0.0
        self.followers = 0
        self.task: asyncio.Task[None] | None = None
        """Reads what there was."""
        self._news = asyncio.Event()

    def after(self, position: Position) -> list[tuple[Position, bytes]]:
        """Return the frames that are newer."""
        newer = []
        for frame in reversed(self.frames):
            if frame[0] <= position:
                break
            newer.append(frame)
        return newer[::-1]

    def take(self, events: list[ProgressEvent]) -> None:
        """Keep events that were read."""
        for event in events:
            self.position = event.id
            self.frames.append((position_of(event.id), _frame(self.name, event)))

    def tell(self) -> None:
        """Wake all followers."""
        self._news.set()
        self._news = asyncio.Event()

    async def news(self, within: float) -> bool:
        """Wait for `tell`; False when nothing came in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                return await self._news.wait()
        return False


class Following:
    """One follower. `leave` has to be called, whatever became of `frames`."""

    def __init__(self, hub: Hub, channel: _Channel, position: Position | None) -> None:
        self._hub = hub
        self._channel = channel
        self._position = position
        self._here = True

    async def frames(self) -> AsyncIterator[bytes]:
        """Yield server-sent events until the rollout has ended or the hub is closed."""
        channel = self._channel
        while not (channel.live or channel.ended) and not self._hub.closed:
            if not await channel.news(self._hub.keep_alive):
                yield b": keep-alive\n\n"
        if self._position is None:
            newest = channel.frames[-1] if channel.frames else (_START, channel.snapshot)
            self._position = newest[0]
            yield newest[1]
        while not self._hub.closed:
            newer = channel.after(self._position)
            if newer:
                self._position = newer[-1][0]
                yield b"".join(frame for _, frame in newer)
            elif channel.ended:
                yield channel.last
                return
            elif not await channel.news(self._hub.keep_alive):
                yield b": keep-alive\n\n"

    def leave(self) -> None:
        """Follow no more."""
        if self._here:
            self._here = False
            self._hub.left(self._channel)


class Hub:
    """Hands out progress to at most `most()` followers. `closed`: all streams end, and no new one begins."""

    def __init__(
        self, store: RedisStore, log: FilteringBoundLogger, *, most: Callable[[], int], keep_alive: float = KEEP_ALIVE
    ) -> None:
        self._store = store
        self._log = log
        self._most = most
        self._channels: dict[RolloutId, _Channel] = {}
        self._some_live = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self.keep_alive = keep_alive
        self.followers = 0
        self.closed = False

    def follow(self, name: RolloutId, position: Position | None) -> Following:
        """Follow a rollout that exists, from after a position; None = from its newest event on.

        ProblemError (429) when there are too many followers.
        """
        if self.followers >= self._most() or self.closed:
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{self._most()} event streams are open already (max_streams in the configuration)",
                headers={"Retry-After": "10"},
            )
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = _Channel(name)
            channel.task = asyncio.create_task(self._begin(channel))
        if self._reader is None:
            self._reader = asyncio.create_task(self._read())
        channel.followers += 1
        self.followers += 1
        return Following(self, channel, position)

    def left(self, channel: _Channel) -> None:
        """Count a follower out; with the last one the reading ends."""
        self.followers -= 1
        channel.followers -= 1
        if not channel.followers:
            self._drop(channel)

    def close(self) -> None:
        """End all streams: a client that comes back goes on from its Last-Event-ID."""
        self.closed = True
        if self._reader is not None:
            self._reader.cancel()
        for channel in list(self._channels.values()):
            channel.tell()
            self._drop(channel)

    def _drop(self, channel: _Channel) -> None:
        if channel.task is not None:
            channel.task.cancel()
        if self._channels.get(channel.name) is channel:
            del self._channels[channel.name]

    async def _begin(self, channel: _Channel) -> None:
        """Read what a stream holds already, without waiting for more."""
        more = True
        while more:
            try:
                events = await self._store.events(channel.name, channel.position, wait=_SHORTEST)
                channel.take(events)
                more = bool(events)
                if not more:
                    await self._look(channel)
            except StoreError as error:
                self._log.warning("events_not_read", rollout=channel.name, error=str(error))
                await asyncio.sleep(_AGAIN)
        channel.live = not channel.ended
        self._some_live.set()
        channel.tell()

    async def _read(self) -> None:
        """Read what comes, of all rollouts that are followed."""
        while True:
            live = {name: channel for name, channel in self._channels.items() if channel.live}
            if not live:
                self._some_live.clear()
                await self._some_live.wait()
                continue
            try:
                positions = {name: channel.position for name, channel in live.items()}
                found = await read_events(self._store, positions, wait=_WAIT)
                for name, channel in live.items():
                    await self._take(channel, found.get(name, []))
            except StoreError as error:
                self._log.warning("events_not_read", error=str(error))
                await asyncio.sleep(_AGAIN)

    async def _take(self, channel: _Channel, events: list[ProgressEvent]) -> None:
        channel.take(events)
        silent = asyncio.get_running_loop().time() - channel.looked_at > _LOOK
        if is_over(events[-1].state) if events else silent:
            await self._look(channel)
        if events or channel.ended:
            channel.tell()

    async def _look(self, channel: _Channel) -> None:
        """Look at the rollout itself: has it ended? Then who comes later begins anew."""
        channel.looked_at = asyncio.get_running_loop().time()
        try:
            record = await self._store.get(channel.name)
        except NotFoundError:
            channel.ended = True
        else:
            report = report_of(record)
            if not channel.frames:
                channel.snapshot = _event("progress", report)
            if is_over(record.state) and record.finished_us:
                channel.ended, channel.last = True, _event("end", report)
        if channel.ended:
            channel.live = False
            if self._channels.get(channel.name) is channel:
                del self._channels[channel.name]


def _frame(name: RolloutId, event: ProgressEvent) -> bytes:
    report = {"rollout": name, "state": event.state.value, **event.report}
    return f"id: {event.id}\n".encode() + _event("progress", report)


def _event(kind: str, values: dict[str, object]) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(values)}\n\n".encode()
