"""taskiq-redis with leases: a batch belongs to one living worker, however long it takes, and to the next one soon after.

What RedisStreamBroker 1.2.4 does, and what is done here instead:

    reclaims only after a new message came in             looks for dead workers' deliveries four times a lease, also when idle
    reclaims from the start of the list, 100 at once      follows the cursor to the end of the list, takes what it can run
    a delivery's idle time runs while it is handled       renews what is still its own three times a lease
    XACK leaves the entry in the stream                   XACK and XDEL in one transaction
    starts with what comes after its first start          starts with the oldest
    takes 100 messages, of each stream                    takes one at a time, of one stream
    ends with the connection                              goes on when Redis is back; puts and acknowledgements are repeated
    leaves its consumer in the group                      removes it when it stops, and those that are long dead
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from taskiq import AckableMessage
from taskiq_redis import RedisStreamBroker

from resyncctl.store import keys
from resyncctl.store.queue import RETRY
from resyncctl.store.queue_leases import AWAY, GROUP, Delivery, Leases, Outage, heed, insist, pauses

if TYPE_CHECKING:
    from redis.asyncio import ConnectionPool
    from structlog.typing import FilteringBoundLogger
    from taskiq.message import BrokerMessage

_SOCKET_TIMEOUT: Final = 5.0


class BatchBroker(RedisStreamBroker):
    """A taskiq broker over the streams of some pools; it can put into those of any."""

    def __init__(
        self,
        url_or_pool: str | ConnectionPool,
        *,
        pools: Sequence[str],
        consumer: str,
        log: FilteringBoundLogger,
        lease: float = 8.0,
    ) -> None:
        """Listen to `pools` (at least one) under the name `consumer`, which no other worker has. Nothing is connected yet.

        A worker that does not renew for `lease` seconds loses its batches. A connection pool, of Sentinel for instance,
        belongs to the broker from now on; it repeats nothing by itself, and its socket time-out is a second or more.
        """
        self.streams: Final = tuple(dict.fromkeys(keys.queue(pool) for pool in pools))
        super().__init__(
            url_or_pool if isinstance(url_or_pool, str) else "redis://",
            queue_name=self.streams[0],
            additional_streams=dict.fromkeys(self.streams[1:], ">"),
            consumer_group_name=GROUP,
            consumer_name=consumer,
            consumer_id="0",
            xread_count=1,
            xread_block=int(min(RETRY, lease / 4) * 1000),
            idle_timeout=int(lease * 1000),
            protocol=2,
            socket_timeout=_SOCKET_TIMEOUT,
            socket_connect_timeout=_SOCKET_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
        )
        if not isinstance(url_or_pool, str):
            self.connection_pool = url_or_pool  # type: ignore[assignment]  # the base class builds one kind, and uses any
        self.log = log
        # Any: as in RedisStore, the client's answers are annotated where they are used.
        self._redis: Any = Redis(connection_pool=self.connection_pool)
        self._outage = Outage(self.where, log)
        self.leases = Leases(self._redis, self.streams, consumer=consumer, lease=lease, outage=self._outage, log=log)
        self._lease = lease
        self._look_at = 0.0
        self._looking: deque[tuple[str, bytes]] = deque()
        self._turn = itertools.count()

    @property
    def where(self) -> str:
        """Where Redis is, without a password."""
        service = getattr(self.connection_pool, "service_name", None)
        if service is not None:
            return f"the Sentinel service {service!r}"
        options = self.connection_pool.connection_kwargs
        return str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")

    async def startup(self) -> None:
        """Declare the group of each stream."""
        await insist(super().startup)

    async def shutdown(self) -> None:
        """Leave the group of each stream, and close the connections, those to Sentinels too."""
        await self.leases.leave()
        await super().shutdown()
        manager = getattr(self.connection_pool, "sentinel_manager", None)
        for sentinel in () if manager is None else manager.sentinels:
            await sentinel.aclose()

    async def kick(self, message: BrokerMessage) -> None:
        """Put a message into the stream that its label `queue_name` says."""
        await insist(partial(super().kick, message))

    async def length(self, stream: str) -> int:
        """Return how many messages of a stream wait or are being handled."""
        return int(await self._redis.xlen(stream))

    async def release(self, delivery: Delivery, *, counted: bool, after: float) -> None:
        """Hand a delivery back and look for it again when it may be taken. See `Leases.release`."""
        await self.leases.release(delivery, counted=counted, after=after)
        self._look_at = min(self._look_at, asyncio.get_running_loop().time() + after)

    async def listen(self) -> AsyncGenerator[AckableMessage, None]:
        """Yield one delivery after the other, for ever; who asks for one begins to handle it at once."""
        pause = pauses()
        while True:
            try:
                delivery = await self._reclaim() or await self._read()
            except AWAY as error:
                self._outage.begins(error)
                self._looking.clear()
                if "NOGROUP" in str(error):  # Redis has lost its data
                    with contextlib.suppress(*AWAY):
                        await self._declare_consumer_group()
                heed()
                await asyncio.sleep(next(pause))
                continue
            heed()
            self._outage.ends()
            pause = pauses()
            if delivery is not None and self.leases.take(delivery):
                yield delivery

    async def _reclaim(self) -> Delivery | None:
        """Take what another worker has not renewed, or what was handed back, if it is time to look for it.

        After an outage that is in half a lease: those who live renew first, and nobody takes theirs for that of the dead.
        """
        now = asyncio.get_running_loop().time()
        if not self._looking and now >= max(self._look_at, self._outage.noticed_at + self._lease / 2):
            self._look_at = now + self._lease / 4
            self._looking.extend((stream, b"0-0") for stream in self.streams)
        while self._looking:
            stream, cursor = self._looking.popleft()
            following, found, *_ = await self._redis.xautoclaim(
                stream, GROUP, self.consumer_name, self.idle_timeout, cursor, count=1
            )
            if following != b"0-0":
                self._looking.appendleft((stream, following))
            for entry, fields in found:
                if fields is None:  # Redis 6.2, of a message that somebody has deleted
                    continue
                pending = await self._redis.xpending_range(stream, GROUP, entry, entry, 1)
                if pending:
                    return self._delivery(stream, entry, fields, times=pending[0]["times_delivered"])
        return None

    async def _read(self) -> Delivery | None:
        """Take a new message: of one stream after the other by turns, then of the first that gets one."""
        if len(self.streams) > 1:
            turn = next(self._turn)
            for place in range(len(self.streams)):
                stream = self.streams[(turn + place) % len(self.streams)]
                if taken := await self._read_from([stream], block=None):
                    return taken
        return await self._read_from(self.streams, block=self.block)

    async def _read_from(self, streams: Sequence[str], *, block: int | None) -> Delivery | None:
        """Take one message; what other streams gave in the same moment is for whoever is free."""
        answer = await self._redis.xreadgroup(
            GROUP, self.consumer_name, dict.fromkeys(streams, ">"), count=1, block=block
        )
        taken = [self._delivery(stream, entry, fields) for stream, entry, fields in _flat(answer)]
        for surplus in taken[1:]:
            await self.leases.hand_back(surplus.stream, [surplus.entry])
        return taken[0] if taken else None

    def _delivery(self, stream: str, entry: bytes, fields: Mapping[bytes, bytes], *, times: int = 1) -> Delivery:
        acknowledge = partial(self.leases.remove, stream, entry)
        return Delivery(data=fields[b"data"], ack=acknowledge, stream=stream, entry=entry, times=times)


def _flat(answer: Any) -> Iterator[tuple[str, bytes, Mapping[bytes, bytes]]]:
    """Read the answer of XREADGROUP: by the protocol a list or a dict, and in some dicts the lists are in lists."""
    for stream, found in answer.items() if isinstance(answer, Mapping) else answer or ():
        for item in found:
            for entry, fields in item if isinstance(item, list) else (item,):
                yield stream.decode(), entry, fields
