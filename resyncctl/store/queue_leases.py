"""The deliveries that one worker has the lease of: renewed while they are handled, then removed or handed back."""

from __future__ import annotations

import asyncio
from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError
from taskiq import AckableMessage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from structlog.typing import FilteringBoundLogger

GROUP: Final = "workers"
RELEASED: Final = "released"
"""The consumer that has what was handed back; nobody reads under this name."""
PATIENCE: Final = 30.0
"""Seconds that a put or an acknowledgement is repeated while Redis is away."""
LAST_PATIENCE: Final = 3.0
"""The same for a worker that was told to stop."""
DEAD_AFTER: Final = 100
"""Leases of silence after which a consumer without deliveries is removed."""
AWAY: Final = (RedisError, OSError)
"""How the client says that Redis is not there, or will not: all of it can pass."""
_LONGEST_PAUSE: Final = 1.0
_AT_ONCE: Final = 500
"""Deliveries in one command: Redis does nothing else meanwhile."""


def pauses() -> Iterator[float]:
    """Yield the seconds to wait before each further try, doubling from 0.05 to 1."""
    pause = 0.05
    while True:
        yield pause
        pause = min(_LONGEST_PAUSE, pause * 2)


def cancellations() -> int:
    """Return how often the running task has been cancelled, for `heed`."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def heed(known: int = 0) -> None:
    """Raise the cancellation that a command of Redis has kept to itself: there are more than were `known`.

    redis-py writes with `asyncio.wait_for`, which up to Python 3.11 forgets a cancellation that comes just when the write
    has ended. A loop of commands would go on for ever.
    """
    if cancellations() > known:
        raise asyncio.CancelledError


async def insist(
    action: Callable[[], Awaitable[None]], *, within: float = PATIENCE, hurry: asyncio.Event | None = None
) -> None:
    """Repeat what Redis does not do; after `within` seconds, or LAST_PATIENCE after `hurry`, raise its last error."""
    loop = asyncio.get_running_loop()
    end = loop.time() + within
    hurried = False
    known = cancellations()
    for pause in pauses():
        try:
            return await action()
        except AWAY:
            if hurry is not None and hurry.is_set() and not hurried:
                hurried = True
                end = min(end, loop.time() + LAST_PATIENCE)
            if loop.time() + pause > end:
                raise
        heed(known)
        await asyncio.sleep(pause)
    return None


class Outage:
    """Whether Redis was away, as far as anybody here has noticed."""

    def __init__(self, where: str, log: FilteringBoundLogger) -> None:
        self.noticed_at = float("-inf")
        """When it was last found away, or back."""
        self._where = where
        self._log = log
        self._away = False

    def begins(self, error: Exception) -> None:
        """Note that a command has failed."""
        self.noticed_at = asyncio.get_running_loop().time()
        if not self._away:
            self._away = True
            self._log.warning("queue_lost", where=self._where, error=str(error) or type(error).__name__)

    def ends(self) -> None:
        """Note that one has not."""
        if self._away:
            self._away = False
            self.noticed_at = asyncio.get_running_loop().time()
            self._log.warning("queue_found", where=self._where)


class Delivery(AckableMessage):
    """A message that came to this worker; `times` counts its deliveries, this one included."""

    stream: str
    entry: bytes
    times: int = 1


class Leases:
    """What one consumer has of some streams. Redis may be away: it is asked again, and at worst a lease ends."""

    def __init__(  # Any: as in RedisStore, the client's answers are annotated where they are used
        self,
        redis: Any,
        streams: Sequence[str],
        *,
        consumer: str,
        lease: float,
        outage: Outage,
        log: FilteringBoundLogger,
    ) -> None:
        """Hold deliveries of `lease` seconds under the name `consumer`."""
        self.hurry = asyncio.Event()
        """Set when the worker is to stop: Redis is not waited for long then."""
        self._redis = redis
        self._streams = streams
        self._consumer = consumer
        self._lease = lease
        self._idle = int(lease * 1000)
        self._outage = outage
        self._log = log
        self._hold = self._script("hold")
        self._tidy = self._script("tidy")
        self._mine: dict[tuple[str, bytes], bool] = {}
        """Stream and entry of each delivery to whether somebody else is known to have it now."""

    def _script(self, name: str) -> Callable[..., Awaitable[Any]]:
        text = files(__package__).joinpath(f"queue_{name}.lua").read_text()
        script: Callable[..., Awaitable[Any]] = self._redis.register_script(text)
        return script

    def take(self, delivery: Delivery) -> bool:
        """Hold a delivery from now on; False when it is held: it came again because Redis or we were away."""
        place = delivery.stream, delivery.entry
        held = place in self._mine
        self._mine[place] = False
        return not held

    async def keep(self) -> None:
        """Renew what is held, three times a lease, until cancelled."""
        pause = self._lease / 3
        while True:
            heed()
            await asyncio.sleep(pause)
            try:
                for stream in self._streams:
                    await self._renew(stream)
                pause = self._lease / 3
            except AWAY as error:
                self._outage.begins(error)
                pause = min(_LONGEST_PAUSE, self._lease / 12)

    async def _renew(self, stream: str) -> None:
        entries = [entry for of, entry in self._mine if of == stream]
        held: set[bytes] = set()
        for first in range(0, len(entries), _AT_ONCE):
            part = entries[first : first + _AT_ONCE]
            held.update(await self._hold(keys=[stream], args=[GROUP, self._consumer, self._consumer, 0, 0, *part]))
            self._outage.ends()
        for entry in set(entries) - held:
            if self._mine.get((stream, entry)) is False:  # None: settled meanwhile; True: said already
                self._mine[stream, entry] = True
                self._log.warning("lease_lost", stream=stream, entry=entry.decode())

    async def remove(self, stream: str, entry: bytes) -> None:
        """Acknowledge a delivery and delete its message. When Redis stays away, it will be handled again."""
        try:
            await insist(partial(self._remove, stream, entry), hurry=self.hurry)
        except AWAY as error:
            self._log.warning("acknowledgement_lost", stream=stream, entry=entry.decode(), error=str(error))
        finally:
            self._mine.pop((stream, entry), None)

    async def _remove(self, stream: str, entry: bytes) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.xack(stream, GROUP, entry)
            pipe.xdel(stream, entry)
            await pipe.execute()

    async def release(self, delivery: Delivery, *, counted: bool, after: float) -> None:
        """Hand back what is held, for any worker, this one too, to take after so many seconds.

        With `counted` its count of deliveries stays as it is, else it is as before this one.
        """
        place = delivery.stream, delivery.entry
        if place not in self._mine:
            return
        try:
            await insist(
                partial(self.hand_back, delivery.stream, [delivery.entry], counted=counted, after=after),
                hurry=self.hurry,
            )
        except AWAY as error:
            self._log.info("lease_left_to_end", stream=delivery.stream, error=str(error))
        finally:
            self._mine.pop(place, None)

    async def hand_back(
        self, stream: str, entries: Sequence[bytes], *, counted: bool = False, after: float = 0.0
    ) -> None:
        """Hand back what this consumer has in Redis, whether it is held here or not; raise what the client raises."""
        idle = max(0, self._idle - int(after * 1000))
        await self._hold(keys=[stream], args=[GROUP, self._consumer, RELEASED, idle, 0 if counted else -1, *entries])

    async def release_all(self) -> None:
        """Hand back all that this consumer has; when nothing is handled any more."""
        self._mine.clear()
        for stream in self._streams:
            try:
                while pending := await self._redis.xpending_range(
                    stream, GROUP, "-", "+", _AT_ONCE, consumername=self._consumer
                ):
                    await self.hand_back(stream, [each["message_id"] for each in pending])
            except AWAY as error:
                self._log.info("lease_left_to_end", stream=stream, error=str(error))

    async def leave(self) -> None:
        """Take this consumer out of the groups unless it has something, and those that are long dead."""
        for stream in self._streams:
            try:
                await self._tidy(keys=[stream], args=[GROUP, self._consumer, self._idle * DEAD_AFTER])
            except AWAY as error:
                self._log.info("consumer_left_behind", stream=stream, consumer=self._consumer, error=str(error))
