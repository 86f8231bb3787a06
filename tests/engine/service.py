"""Workers of the service in processes of their own, and rollouts that they execute: `with Fleet(controller, 4) as fleet`."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from redis.exceptions import RedisError

from resyncctl.engine.launch import Launcher
from resyncctl.engine.order import Order
from resyncctl.engine.pools import Pools
from resyncctl.rollout.model import RolloutId
from resyncctl.store import keys
from resyncctl.store.audit import Actor
from resyncctl.store.redis_store import RedisStore
from tests.engine.controller import Controller, Process, eventually

WITHIN = 60.0
"""Seconds that a rollout may take, a dead worker's lease included."""


def launch(url: str, name: str, phones: Path, *, pools: Sequence[str] = (), **options: object) -> None:
    """Make a rollout that the service executes."""

    async def story() -> None:
        store = RedisStore(url)
        try:
            order = Order.model_validate({"phones_file": str(phones), "options": {"now": True, "yes": True, **options}})
            await Launcher(store, {}, pools=Pools(pools)).launch(order, Actor("test"), name=name)
        finally:
            await store.close()

    asyncio.run(story())


class Fleet:
    """Some workers on one Redis. They are killed at the end; whoever wants them to end well says so."""

    def __init__(
        self,
        controller: Controller,
        count: int,
        *,
        url: str,
        command: str = "worker",
        options: Sequence[str] = (),
        alive: int = 0,
    ) -> None:
        """`alive` are the processes that have to be there before the block begins, those of others included."""
        self.controller, self.url, self._command, self._options = controller, url, command, options
        self._count, self._alive = count, alive or count
        self._stack = ExitStack()
        self.workers: list[Process] = []

    def add(self, *options: str) -> Process:
        """Start one more."""
        worker = self._stack.enter_context(self.controller.start(self._command, *self._options, *options))
        self.workers.append(worker)
        return worker

    def kill_one(self, rng: random.Random) -> None:
        """Kill a worker with SIGKILL and start another one."""
        victim = self.workers.pop(rng.randrange(len(self.workers)))
        victim.kill()
        self.add()

    def alive(self) -> int:
        """Return how many have announced themselves."""
        return int(_ask(self.url, lambda client: client.hlen(keys.WORKERS)))

    def shares(self, rollout: str) -> Counter[str]:
        """Return how many phones accepted from each worker process."""
        parts = _ask(self.url, lambda client: client.hgetall(keys.part(RolloutId(rollout), "reports")))
        found: Counter[str] = Counter()
        for token, text in parts.items():
            found[token.decode().rpartition(":")[0]] += json.loads(text)["counts"].get("accepted", 0)
        return +found

    def finished(self, rollout: str, *, within: float = WITHIN) -> dict[str, Any]:
        """Wait for the end of a rollout and return its report."""
        key = keys.meta(RolloutId(rollout))

        def ended() -> bool:
            try:
                return bool(_ask(self.url, lambda client: client.hget(key, "finished_us")))
            except RedisError:  # it is being failed over
                return False

        eventually(ended, f"{rollout} has ended", within=within)
        return self.controller.show(rollout)

    def __enter__(self) -> Self:
        try:
            for _ in range(self._count):
                self.add()
            eventually(lambda: self.alive() >= self._alive, "all workers are there", within=30)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        texts = [worker.errors() for worker in self.workers]
        self._stack.close()
        if error is None:
            assert not any("Traceback" in text for text in texts), texts


def _ask(url: str, question: Callable[[Any], Awaitable[Any]]) -> Any:
    async def story() -> Any:
        store = RedisStore(url)
        try:
            return await question(store.client)
        finally:
            await store.close()

    return asyncio.run(story())


def terminate(worker: Process) -> None:
    """Ask a worker to end."""
    worker.send(signal.SIGTERM)
