"""Rollouts in Redis (6.2 or later) or Valkey: plans, leases, intents, outcomes and progress."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from redis import exceptions as redis_errors
from redis.asyncio import ConnectionPool, Redis

from resyncctl.clock import now_us
from resyncctl.errors import InputError, LeaseLostError, NotFoundError, StoreError
from resyncctl.logs import redact_url
from resyncctl.rollout.states import RolloutState
from resyncctl.store import keys
from resyncctl.store.connection import open_pool
from resyncctl.store.records import (
    Claim,
    Claimed,
    Commit,
    Control,
    Course,
    Holder,
    ProgressEvent,
    RolloutRecord,
    Verdict,
    read_fields,
)

if TYPE_CHECKING:
    from resyncctl.rollout.model import RolloutId

_PAGE: Final = 64
"""Batches fetched or expired in one round trip."""


@contextlib.contextmanager
def store_errors(where: str) -> Iterator[None]:
    """Turn every error of the Redis client into a StoreError that says what to do.

    A cancellation that the client has kept to itself is raised: redis-py writes with `asyncio.wait_for`, which up to Python
    3.11 forgets one that comes just when the write has ended, and whoever waits for the task would wait for ever.
    """
    task = asyncio.current_task()
    known = 0 if task is None else task.cancelling()
    try:
        yield
    except (redis_errors.AuthenticationError, redis_errors.NoPermissionError) as error:
        raise StoreError(f"Redis at {where} refuses us: {error}; check user and password in --redis-url") from error
    except redis_errors.ResponseError as error:
        advice = "; free disk space on its machine, it goes on by itself then" if "MISCONF" in str(error) else ""
        raise StoreError(f"Redis at {where} answers with an error: {error}{advice}") from error
    except (redis_errors.RedisError, OSError) as error:
        raise StoreError(
            f"Redis at {where} cannot be reached ({str(error) or type(error).__name__}); start it, or name another one with"
            " --redis-url"
        ) from error
    if task is not None and task.cancelling() > known:
        raise asyncio.CancelledError


class RedisStore:
    """All that the engine and the commands ask of Redis. Every method raises StoreError when Redis fails."""

    def __init__(self, url: str, *, revive: Callable[[], None] | None = None) -> None:
        """Take a `redis://`, `rediss://` or `unix://` URL; InputError when it is none. Nothing is connected yet.

        `revive` is called (in a thread) before a reconnection: the embedded server is started again by it.
        """
        try:
            self._url = url
            # Any: the client's annotations unite every answer of every protocol version; the results are annotated here.
            self.client: Any = Redis.from_pool(open_pool(url))
        except (ValueError, InputError, redis_errors.RedisError) as error:
            raise InputError(
                f"--redis-url {redact_url(url)!r} cannot be used: {error}; write redis://HOST:PORT/DB"
            ) from error
        self._where = redact_url(url)
        self._revive = revive
        self._commit = self._script("commit")
        self._claim = self._script("claim")
        self._steer = self._script("steer")
        self._acquire = self._script("acquire")
        self._release = self._script("release")
        self._transition = self._script("transition")
        self._create = self._script("create")

    def _script(self, name: str) -> Callable[..., Awaitable[Any]]:
        script: Callable[..., Awaitable[Any]] = self.client.register_script(
            files(__package__).joinpath(f"{name}.lua").read_text()
        )
        return script

    @property
    def where(self) -> str:
        """The URL without its password."""
        return self._where

    def pool(self) -> ConnectionPool:
        """Return a pool of further connections to the same Redis; whoever takes it closes it."""
        return open_pool(self._url)

    async def close(self) -> None:
        """Close all connections."""
        await self.client.aclose()

    async def revive(self) -> None:
        """Start an embedded server again that has died; for a Redis of somebody else do nothing."""
        if self._revive is not None:
            await asyncio.to_thread(self._revive)

    async def info(self) -> dict[str, object]:
        """Return the server's INFO."""
        with store_errors(self._where):
            return dict(await self.client.info())

    # Plans

    async def put_blocks(self, rollout: RolloutId, upload: str, blocks: Mapping[int, bytes]) -> None:
        """Write batches of a plan that `create` with the same `upload`, a fresh token, makes that of a rollout.

        Until then they expire. Two commands that plan for one ID at once do not mix their batches.
        """
        key = keys.upload(rollout, upload)
        with store_errors(self._where):
            async with self.client.pipeline(transaction=False) as pipe:
                pipe.hset(key, mapping=dict(blocks.items()))
                pipe.expire(key, keys.UPLOAD)
                await pipe.execute()

    async def create(
        self, rollout: RolloutId, upload: str, fields: Mapping[str, str | int | bytes], *, counted: str = "{}"
    ) -> str | None:
        """Make a rollout of an uploaded plan; return the plan hash of the one that has the ID already, else None.

        `counted` is the part of the report that the plan itself decides, as JSON.
        """
        with store_errors(self._where):
            await self.client.zadd(keys.ROLLOUTS, {rollout: int(fields["created_us"])}, nx=True)
            flat = [item for pair in fields.items() for item in pair]
            names = [
                keys.meta(rollout),
                keys.plan(rollout),
                keys.upload(rollout, upload),
                keys.part(rollout, "reports"),
            ]
            known: bytes = await self._create(keys=names, args=[counted, *flat])
        return known.decode() if known else None

    async def get(self, rollout: RolloutId) -> RolloutRecord:
        """Return a rollout; raise NotFoundError when there is none of that name."""
        record = await self.find(rollout)
        if record is None:
            raise NotFoundError(
                f"there is no rollout {rollout!r} in {self._where}; `resyncctl rollout list` shows which there are"
            )
        return record

    async def find(self, rollout: RolloutId) -> RolloutRecord | None:
        """Return a rollout, or None when there is none of that name."""
        with store_errors(self._where):
            fields = await self.client.hgetall(keys.meta(rollout))
        return read_fields(rollout, fields) if fields else None

    async def newest(self, count: int) -> list[RolloutRecord]:
        """Return the newest rollouts, newest first."""
        with store_errors(self._where):
            names: list[RolloutId] = [
                name.decode() for name in await self.client.zrevrange(keys.ROLLOUTS, 0, count - 1)
            ]
            async with self.client.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.hgetall(keys.meta(name))
                found = await pipe.execute()
        return [read_fields(name, fields) for name, fields in zip(names, found, strict=True) if fields]

    async def blocks(self, rollout: RolloutId, numbers: Sequence[int]) -> list[bytes]:
        """Return the compressed targets of batches; raise NotFoundError when one is gone."""
        if not numbers:
            return []
        with store_errors(self._where):
            found: list[bytes] = await self.client.hmget(keys.plan(rollout), [str(number) for number in numbers])
        if any(block is None for block in found):
            raise NotFoundError(
                f"the targets of rollout {rollout} are gone from {self._where}: they are kept {keys.RETENTION // 86_400} days"
                " after the end; the report stays (`resyncctl rollout show`)"
            )
        return found

    async def outcomes(self, rollout: RolloutId, numbers: Sequence[int]) -> list[dict[bytes, bytes]]:
        """Return what is written of batches, packed, by place; a batch of which nothing is written is empty."""
        with store_errors(self._where):
            async with self.client.pipeline(transaction=False) as pipe:
                for number in numbers:
                    pipe.hgetall(keys.batch(rollout, number))
                found: list[dict[bytes, bytes]] = await pipe.execute()
        return found

    async def pages(
        self, rollout: RolloutId, numbers: Sequence[int]
    ) -> AsyncIterator[tuple[int, bytes, dict[bytes, bytes]]]:
        """Yield (batch number, targets, outcomes) in the given order, a page at a time: memory stays flat."""
        for start in range(0, len(numbers), _PAGE):
            page = numbers[start : start + _PAGE]
            blocks, outcomes = await asyncio.gather(self.blocks(rollout, page), self.outcomes(rollout, page))
            for row in zip(page, blocks, outcomes, strict=True):
                yield row

    # Leases and writes of the owner

    async def acquire(self, rollout: RolloutId, owner: str) -> Holder | None:
        """Take the lease for LEASE seconds: None = it is ours, else who holds it. NotFoundError when there is no rollout."""
        with store_errors(self._where):
            answer = await self._acquire(
                keys=[keys.meta(rollout), keys.lease(rollout)], args=[owner, int(keys.LEASE * 1000)]
            )
        if answer[0] == b"missing":
            raise NotFoundError(f"there is no rollout {rollout!r} in {self._where}")
        return Holder(answer[1].decode(), max(0, answer[2]) / 1000) if answer[0] == b"held" else None

    async def release(self, rollout: RolloutId, owner: str) -> None:
        """Give the lease back, if it is still ours."""
        with store_errors(self._where):
            await self._release(keys=[keys.lease(rollout)], args=[owner])

    async def steer(self, rollout: RolloutId, owner: str, *, base_us: int = 0) -> Course:
        """Renew the lease of whoever dispatches a rollout and return how it stands; `base_us` as in Commit.

        Raises LeaseLostError when another process dispatches it.
        """
        names = [keys.meta(rollout), keys.lease(rollout), keys.part(rollout, "owners"), keys.part(rollout, "done")]
        args = [owner, int(keys.LEASE * 1000), now_us(), base_us, keys.worker(rollout, "")]
        with store_errors(self._where):
            answer = await self._steer(keys=names, args=args)
        if answer[0] == b"lost" or answer[0] is None:
            raise _lost(rollout, answer[1].decode())
        state, reason, base, done, held, orphans, report = answer
        return Course(
            RolloutState(state.decode()),
            reason.decode(),
            int(base),
            done,
            held,
            tuple(orphans),
            json.loads(report) if report else {},
        )

    async def taken(self, rollout: RolloutId) -> set[int]:
        """Return the batches that are done, or that a worker has, whether it is alive or not."""
        with store_errors(self._where):
            async with self.client.pipeline(transaction=False) as pipe:
                for name in ("done", "owners"):
                    pipe.hkeys(keys.part(rollout, name))
                done, owned = await pipe.execute()
        return {int(number) for number in (*done, *owned)}

    async def ahead_us(self) -> int:
        """Return by how many microseconds Redis's clock is ahead of ours, so that many machines can use one."""
        with store_errors(self._where):
            before = now_us()
            seconds, micros = await self.client.time()
            after = now_us()
        return int(seconds) * 1_000_000 + int(micros) - (before + after) // 2

    async def claim(self, rollout: RolloutId, worker: str, number: int) -> Claim:
        """Take a batch for a worker; a batch of a worker that has died is taken over."""
        names = [
            keys.meta(rollout),
            keys.part(rollout, "owners"),
            keys.part(rollout, "done"),
            keys.worker(rollout, worker),
            keys.plan(rollout),
            keys.batch(rollout, number),
            keys.part(rollout, "deaths"),
        ]
        with store_errors(self._where):
            answer = await self._claim(
                keys=names, args=[worker, int(keys.LEASE * 1000), number, keys.worker(rollout, "")]
            )
        claimed = Claimed(answer[0].decode())
        if claimed is not Claimed.OK:
            return Claim(claimed)
        _, state, base, deaths, block, flat = answer
        if block is None:
            raise StoreError(f"batch {number} of rollout {rollout} is gone from {self._where}; plan and run it again")
        outcomes = dict(zip(flat[::2], flat[1::2], strict=True))
        return Claim(claimed, RolloutState(state.decode()), int(base), deaths, block, outcomes)

    async def commit(
        self, rollout: RolloutId, worker: str, commit: Commit, *, now_us: int = 0, spacing_us: int = 0
    ) -> Control:
        """Write outcomes and verdicts, and intents while the rollout is running; renew the worker's lease.

        `now_us` counts from the start of the rollout, `spacing_us` is the least time between two sends. Atomic, and may be
        repeated. Raises LeaseLostError, having written nothing, when another worker owns one of the batches.
        """
        numbers = list(dict.fromkeys((*commit.outcomes, *commit.intents, *commit.verdicts)))
        args: list[str | int | bytes] = [worker, int(keys.LEASE * 1000), commit.base_us, commit.report, now_us]
        args += [spacing_us, commit.wanted, keys.worker(rollout, "")]
        for number in numbers:
            args.append(number)
            args.append(bytes(commit.outcomes.get(number, b"")))
            args.append(bytes(commit.intents.get(number, b"")))
            args.append(commit.verdicts.get(number, Verdict.GOES_ON).value)
        names = [keys.meta(rollout), keys.part(rollout, "owners"), keys.part(rollout, "done")]
        names += [keys.worker(rollout, worker), keys.part(rollout, "reports"), keys.part(rollout, "slots")]
        names += [keys.events(rollout), *(keys.batch(rollout, number) for number in numbers)]
        with store_errors(self._where):
            answer = await self._commit(keys=names, args=args)
        if answer[0] == b"lost":
            raise _lost(rollout, answer[1].decode())
        state, reason, base, workers, report, slots = answer
        return Control(RolloutState(state.decode()), reason.decode(), int(base), workers, report.decode(), slots)

    async def retire(self, rollout: RolloutId, worker: str) -> None:
        """Let a worker of a rollout be dead at once: what it still has is free."""
        with store_errors(self._where):
            await self.client.delete(keys.worker(rollout, worker))

    async def transition(
        self,
        rollout: RolloutId,
        expected: RolloutState,
        new: RolloutState,
        fields: Mapping[str, str | int] | None = None,
    ) -> RolloutState:
        """Change the state if it is still `expected`; return the state that it was in."""
        flat: list[str | int] = [item for pair in (fields or {"pause_reason": ""}).items() for item in pair]
        with store_errors(self._where):
            was = await self._transition(
                keys=[keys.meta(rollout), keys.events(rollout)], args=[expected.value, new.value, *flat]
            )
        if was is None:
            raise NotFoundError(f"there is no rollout {rollout!r} in {self._where}")
        return RolloutState(was.decode())

    async def annotate(self, rollout: RolloutId, fields: Mapping[str, str | int]) -> None:
        """Write fields of the rollout as a whole."""
        with store_errors(self._where):
            await self.client.hset(keys.meta(rollout), mapping=dict(fields.items()))

    async def expire(self, rollout: RolloutId, batches: int) -> None:
        """Let everything but the report expire after RETENTION."""
        with store_errors(self._where):
            for start in range(0, batches, 1000):
                async with self.client.pipeline(transaction=False) as pipe:
                    for number in range(start, min(start + 1000, batches)):
                        pipe.expire(keys.batch(rollout, number), keys.RETENTION)
                    await pipe.execute()
            parts = [keys.part(rollout, name) for name in ("done", "deaths", "reports")]
            for key in (keys.plan(rollout), keys.events(rollout), *parts):
                await self.client.expire(key, keys.RETENTION)

    # Progress

    async def events(self, rollout: RolloutId, after: str, *, wait: float) -> list[ProgressEvent]:
        """Return the events after an ID ('0' = all that are kept, '$' = from now on), waiting up to `wait` seconds."""
        with store_errors(self._where):
            found = await self.client.xread({keys.events(rollout): after}, count=100, block=max(1, int(wait * 1000)))
        entries: list[tuple[bytes, dict[bytes, bytes]]] = found[0][1] if found else []
        return [
            ProgressEvent(
                name.decode(), RolloutState(fields[b"state"].decode()), json.loads(fields[b"report"] or b"{}")
            )
            for name, fields in entries
        ]


def _lost(rollout: RolloutId, holder: str) -> LeaseLostError:
    return LeaseLostError(
        f"rollout {rollout} is executed by another process now ({holder or 'its data is gone from Redis'}); this one has"
        " stopped sending"
    )
