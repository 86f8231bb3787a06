"""What Redis knows of rollouts, leases and schedules at one moment, for a scrape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from resyncctl.engine.tally import report_of
from resyncctl.metrics import Numbers, RolloutNumbers
from resyncctl.rollout.model import RolloutId
from resyncctl.store import keys
from resyncctl.store.records import read_fields
from resyncctl.store.redis_store import store_errors
from resyncctl.store.service import ServiceStore

if TYPE_CHECKING:
    from resyncctl.store.records import RolloutRecord
    from resyncctl.store.redis_store import RedisStore

_MOST: Final = 200
"""Rollouts that are told apart; a service that executes more has other worries."""
_NEWEST: Final = 50
_DEFAULT: Final = "default"
"""How the pool of those that name none is called outside."""
_LINGER_US: Final = 600_000_000
"""Microseconds that a rollout is told of after its end, so that the last scrape sees all it did."""


async def gather(store: RedisStore, *, now_us: int) -> Numbers:
    """Return the numbers of rollouts that the service executes, or that have ended just now; raises StoreError."""
    service = ServiceStore(store)
    served, workers = await service.served(), await service.workers()
    with store_errors(store.where):
        newest: list[bytes] = await store.client.zrevrange(keys.ROLLOUTS, 0, _NEWEST - 1)
        names: list[RolloutId] = list(dict.fromkeys([*served, *map(_name, newest)]))[:_MOST]
        async with store.client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hgetall(keys.meta(name))
                pipe.pttl(keys.lease(name))
            pipe.pttl(keys.SCHEDULER)
            *answers, scheduler = await pipe.execute()
    found = [
        (read_fields(name, fields), _seconds(lease))
        for name, fields, lease in zip(names, answers[::2], answers[1::2], strict=True)
        if fields
    ]
    pools = {one.pool for one in workers}.union(*(record.index.pools for record, _ in found if record.id in served))
    return Numbers(
        rollouts=tuple(
            _numbers(record, lease)
            for record, lease in found
            if record.id in served or record.finished_us > now_us - _LINGER_US
        ),
        workers=len(workers),
        backlog=await _backlog(store, {pool or _DEFAULT for pool in pools}),
        frozen=await service.frozen() is not None,
        scheduler_lease=_seconds(scheduler),
    )


async def _backlog(store: RedisStore, pools: set[str]) -> dict[str, int]:
    """Count the batches that wait or run, of these pools and of the default one: a queue without a worker is told of."""
    named = sorted(pools | {_DEFAULT})
    with store_errors(store.where):
        async with store.client.pipeline(transaction=False) as pipe:
            for pool in named:
                pipe.xlen(keys.queue(pool))
            counts: list[int] = await pipe.execute()
    return dict(zip(named, counts, strict=True))


def _name(raw: bytes) -> RolloutId:
    return RolloutId(raw.decode())


def _numbers(record: RolloutRecord, lease: float) -> RolloutNumbers:
    report = report_of(record)
    retries, milliseconds = report["retries"], record.report.get("latency_ms")
    return RolloutNumbers(
        rollout=record.id,
        state=record.state.value,
        rate=record.options.rate,
        counts=_counts(report["counts"]),
        responses=_counts(report["responses"]),
        retries=retries if isinstance(retries, int) else 0,
        latency=_counts(record.report.get("latency")),
        latency_sum=milliseconds / 1000 if isinstance(milliseconds, int) else 0.0,
        lease=lease,
    )


def _counts(value: object) -> Mapping[str, int]:
    found = value if isinstance(value, dict) else {}
    return {str(name): count for name, count in found.items() if isinstance(count, int)}


def _seconds(ttl: int) -> float:
    """Turn the time to live of a key into seconds; 0 when there is none."""
    return max(0, ttl) / 1000
