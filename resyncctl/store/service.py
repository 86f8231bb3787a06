"""What the service keeps beside rollouts: plans that wait for one, what it has to execute, its processes, a freeze."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from resyncctl.clock import now_us
from resyncctl.errors import NotFoundError
from resyncctl.rollout.model import RolloutId
from resyncctl.store import keys
from resyncctl.store.redis_store import store_errors

if TYPE_CHECKING:
    from resyncctl.store.redis_store import RedisStore

WORKER_GONE_US: Final = 15_000_000
"""Microseconds after which a process that has said nothing is gone; it says something every few seconds."""


@dataclass(frozen=True, slots=True)
class Freeze:
    """All rollouts stand still: who wanted it, since when (microseconds since the Unix epoch), and why."""

    actor: str
    since_us: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """A process that executes rollouts."""

    name: str
    host: str
    pid: int
    pool: str
    started_us: int
    seen_us: int
    rollouts: tuple[str, ...] = ()


class ServiceStore:
    """Every method raises StoreError when Redis fails."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._redis = store.client

    # Plans that no rollout was made of yet

    async def keep_plan(self, plan_hash: str, kept: Mapping[str, object]) -> None:
        """Keep what a plan was made of, and its report, for KEPT seconds."""
        with store_errors(self._store.where):
            await self._redis.set(keys.kept(plan_hash), zlib.compress(json.dumps(dict(kept)).encode()), ex=keys.KEPT)

    async def kept_plan(self, plan_hash: str) -> dict[str, object]:
        """Return what was kept; raise NotFoundError when it never was, or too long ago."""
        with store_errors(self._store.where):
            packed: bytes | None = await self._redis.get(keys.kept(plan_hash))
        if packed is None:
            raise NotFoundError(
                f"there is no plan {plan_hash[:64]!r}; plans are kept {keys.KEPT // 3600} hours, plan again"
            )
        kept: dict[str, object] = json.loads(zlib.decompress(packed))
        return kept

    # Idempotency

    async def once(self, key: str, value: str, *, seconds: int = keys.ONCE) -> str:
        """Remember `value` for a key unless it has one; return the one that it has now."""
        known = await self._set_once(keys.once(key), value, seconds=seconds)
        return value if known is None else known.decode()

    async def settle(self, key: str, value: str) -> None:
        """Replace what is remembered for a key: what was promised for it has been made."""
        with store_errors(self._store.where):
            await self._redis.set(keys.once(key), value, ex=keys.ONCE)

    async def _set_once(self, key: str, value: str, *, seconds: int | None = None) -> bytes | None:
        """Set a key that has no value and return None; else return its value. (`SET … NX GET` needs Redis 7.)"""
        with store_errors(self._store.where):
            while not await self._redis.set(key, value, nx=True, ex=seconds):
                known: bytes | None = await self._redis.get(key)
                if known is not None:  # None: it has ended in between
                    return known
        return None

    async def forget(self, key: str) -> None:
        """Forget a key, because what was promised for it could not be made."""
        with store_errors(self._store.where):
            await self._redis.delete(keys.once(key))

    # What the service executes

    async def serve(self, rollout: RolloutId) -> None:
        """Have the service execute a rollout."""
        with store_errors(self._store.where):
            await self._redis.sadd(keys.SERVED, rollout)

    async def served(self) -> list[RolloutId]:
        """Return the rollouts that the service has to execute, in order of their names."""
        with store_errors(self._store.where):
            found: set[bytes] = await self._redis.smembers(keys.SERVED)
        return sorted(RolloutId(name.decode()) for name in found)

    async def serve_no_more(self, rollout: RolloutId) -> None:
        """Take a rollout that has ended off the list."""
        with store_errors(self._store.where):
            await self._redis.srem(keys.SERVED, rollout)

    # Processes

    async def announce(self, worker: WorkerRecord) -> None:
        """Say that a process is alive and what it does."""
        with store_errors(self._store.where):
            await self._redis.hset(keys.WORKERS, worker.name, json.dumps(asdict(worker)))

    async def leave(self, name: str) -> None:
        """Take a process off the list."""
        with store_errors(self._store.where):
            await self._redis.hdel(keys.WORKERS, name)

    async def workers(self) -> list[WorkerRecord]:
        """Return the processes that are alive, by name; those that are gone are forgotten by the way."""
        with store_errors(self._store.where):
            found: dict[bytes, bytes] = await self._redis.hgetall(keys.WORKERS)
        alive = []
        for name, text in sorted(found.items()):
            values = json.loads(text)
            worker = WorkerRecord(**{**values, "rollouts": tuple(values["rollouts"])})
            if worker.seen_us > now_us() - WORKER_GONE_US:
                alive.append(worker)
            else:
                await self.leave(name.decode())
        return alive

    # Freeze

    async def freeze(self, wanted: Freeze) -> Freeze:
        """Freeze unless somebody has; return the freeze that is in force."""
        known = await self._set_once(keys.FREEZE, json.dumps(asdict(wanted)))
        return wanted if known is None else Freeze(**json.loads(known))

    async def thaw(self) -> bool:
        """Lift the freeze; False when there was none."""
        with store_errors(self._store.where):
            return bool(await self._redis.delete(keys.FREEZE))

    async def frozen(self) -> Freeze | None:
        """Return the freeze that is in force."""
        with store_errors(self._store.where):
            text: bytes | None = await self._redis.get(keys.FREEZE)
        return None if text is None else Freeze(**json.loads(text))
