"""The contract of the queue of batches: on one process's memory, and over Redis with real workers that are killed."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest
from redis import Redis
from taskiq.abc.broker import AsyncBroker

from resyncctl.errors import StoreError
from resyncctl.logs import make_logger
from resyncctl.store import keys
from resyncctl.store.queue import MOST_DELIVERIES, BatchRef, MemoryQueue, OnPoison, Queue
from resyncctl.store.queue_broker import BatchBroker
from resyncctl.store.queue_leases import GROUP
from resyncctl.store.queue_redis import BatchQueue
from tests.peers.ports import free_port
from tests.peers.redis_sentinel import RedisSentinel
from tests.peers.redis_server import RedisServer
from tests.peers.waiting import wait_until, wait_until_async
from tests.store.queue_worker import Journal, QueueWorker, sentinel_pool

pytestmark = pytest.mark.needs("redis-server")

LEASE = 2.0
"""Seconds: the shortest that a loaded machine does not lose."""
SOON = 20.0
"""Seconds that a loaded machine may take for something that takes one."""
SEED = 20_261_122
STREAM = keys.queue("")

Handle = Callable[[BatchRef], Awaitable[bool]]
QueueMaker = Callable[[OnPoison | None], Queue]


@pytest.fixture(scope="module")
def shared() -> Iterator[RedisServer]:
    """Start a redis-server that no test disturbs."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def url(shared: RedisServer) -> str:
    """Empty the shared server."""
    with Redis.from_url(shared.url) as client:
        client.flushall()
    return shared.url


@pytest.fixture
def redis(url: str) -> Iterator[Redis]:
    with Redis.from_url(url) as client:
        yield client


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


class OpenQueue(Protocol):
    """Open a queue over Redis; it is stopped after the test."""

    def __call__(
        self,
        url: str,
        *,
        pools: Sequence[str] = ("",),
        consumer: str = "here",
        on_poison: OnPoison | None = None,
    ) -> BatchQueue: ...


@pytest.fixture
async def open_queue() -> AsyncIterator[OpenQueue]:
    opened: list[BatchQueue] = []

    def open_one(
        url: str, *, pools: Sequence[str] = ("",), consumer: str = "here", on_poison: OnPoison | None = None
    ) -> BatchQueue:
        broker = BatchBroker(url, pools=pools, consumer=consumer, log=make_logger("error"), lease=LEASE)
        opened.append(BatchQueue(broker, on_poison=on_poison))
        return opened[-1]

    yield open_one
    for queue in opened:
        await queue.stop()


@asynccontextmanager
async def working(queue: Queue, handle: Handle, *, concurrency: int = 4) -> AsyncIterator[asyncio.Event]:
    """Work on a queue during the block; what is given stops the work."""
    stop = asyncio.Event()
    await queue.start()
    task = asyncio.create_task(queue.work(handle, concurrency=concurrency, stop=stop))
    try:
        yield stop
    finally:
        stop.set()
        async with asyncio.timeout(SOON):
            await task


async def put(url: str, rollout: str, batches: Sequence[int]) -> None:
    """Put batches into the queue of the default pool."""
    queue = BatchQueue(BatchBroker(url, pools=("",), consumer="put", log=make_logger("error")))
    await queue.start()
    for batch in batches:
        await queue.put(BatchRef(rollout, batch))
    await queue.stop()


@pytest.fixture
def workers() -> Iterator[Callable[..., list[QueueWorker]]]:
    """Start workers; end them after the test."""
    with ExitStack() as stack:

        def start(
            count: int, where: str, journal: Journal, **options: int | float | Sequence[str]
        ) -> list[QueueWorker]:
            started = [QueueWorker(where, journal, **options) for _ in range(count)]  # type: ignore[arg-type]
            for worker in started:
                stack.callback(worker.stop)
                worker.launch()
            for worker in started:
                worker.wait_until_ready()
            return started

        yield start


def stop_quietly(workers: Sequence[QueueWorker]) -> None:
    """SIGTERM: all end with status 0 and have said nothing."""
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    assert [worker.exit_status() for worker in workers] == [0] * len(workers)
    assert [worker.log() for worker in workers] == [""] * len(workers)


def expect_empty(where: Redis, *, stream: str = STREAM) -> None:
    """No message and no delivery is left."""
    assert where.xlen(stream) == 0
    assert where.xpending(stream, GROUP)["pending"] == 0


# In memory and over Redis


@pytest.fixture(params=["memory", "redis"])
def make_queue(request: pytest.FixtureRequest, url: str, open_queue: OpenQueue) -> QueueMaker:
    """Return what makes the queue under test."""

    def make(on_poison: OnPoison | None = None) -> Queue:
        if request.param == "memory":
            return MemoryQueue(make_logger("error"), on_poison=on_poison)
        return open_queue(url, on_poison=on_poison)

    return make


async def test_each_batch_is_handled_once_and_leaves_the_queue(make_queue: QueueMaker) -> None:
    queue = make_queue(None)
    handled: list[BatchRef] = []

    async def handle(ref: BatchRef) -> bool:
        handled.append(ref)
        return True

    refs = [BatchRef("r1", batch) for batch in range(20)]
    async with working(queue, handle):
        for ref in refs:
            await queue.put(ref)
        await wait_until_async(lambda: len(handled) == 20, "handling 20 batches", within=SOON)
    assert sorted(handled, key=lambda ref: ref.batch) == refs


async def test_what_was_put_before_the_first_worker_is_handled_in_order(make_queue: QueueMaker) -> None:
    queue = make_queue(None)
    handled: list[int] = []

    async def handle(ref: BatchRef) -> bool:
        handled.append(ref.batch)
        return True

    await queue.start()
    for batch in range(5):
        await queue.put(BatchRef("r1", batch))
    async with working(queue, handle, concurrency=1):
        await wait_until_async(lambda: len(handled) == 5, "handling 5 batches", within=SOON)
    assert handled == [0, 1, 2, 3, 4]


async def test_no_more_than_concurrency_are_handled_at_a_time_and_the_backlog_counts_those_too(
    make_queue: QueueMaker,
) -> None:
    queue = make_queue(None)
    running: set[int] = set()
    most: list[int] = []
    go = asyncio.Event()

    async def handle(ref: BatchRef) -> bool:
        running.add(ref.batch)
        most.append(len(running))
        await go.wait()
        running.discard(ref.batch)
        return True

    async with working(queue, handle, concurrency=3):
        for batch in range(7):
            await queue.put(BatchRef("r1", batch))
        await wait_until_async(lambda: len(running) == 3, "3 handlers", within=SOON)
        assert await queue.backlog("") == 7
        assert await queue.backlog("elsewhere") == 0
        go.set()
        await wait_until_async(lambda: len(most) == 7, "7 handlers", within=SOON)
    assert max(most) == 3
    assert await queue.backlog("") == 0


@pytest.mark.parametrize("how", ["false", "exception"])
async def test_a_batch_that_is_handed_back_is_handled_again_at_once(make_queue: QueueMaker, how: str) -> None:
    queue = make_queue(None)
    at: list[float] = []
    loop = asyncio.get_running_loop()

    async def handle(ref: BatchRef) -> bool:
        at.append(loop.time())
        if len(at) == 1 and how == "exception":
            raise StoreError("as the test says")
        return len(at) == 3 if how == "false" else True

    async with working(queue, handle):
        await queue.put(BatchRef("r1", 1))
        wanted = 3 if how == "false" else 2
        await wait_until_async(lambda: len(at) == wanted, "handling it again", within=SOON)
    pauses = [later - earlier for earlier, later in itertools.pairwise(at)]
    assert all(0.4 < pause < LEASE for pause in pauses), pauses
    assert await queue.backlog("") == 0


async def test_a_batch_that_fails_ten_times_is_poison_and_one_that_is_refused_is_not(
    make_queue: QueueMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison: list[BatchRef] = []
    handled: Counter[int] = Counter()
    wanted = asyncio.Event()

    async def on_poison(ref: BatchRef) -> None:
        poison.append(ref)

    async def handle(ref: BatchRef) -> bool:
        handled[ref.batch] += 1
        if ref.batch == 1:
            raise StoreError("as the test says")
        return wanted.is_set()

    for module in ("queue", "queue_receiver", "queue_broker"):  # sooner than in half a second
        monkeypatch.setattr(f"resyncctl.store.{module}.RETRY", 0.02)
    queue = make_queue(on_poison)
    async with working(queue, handle):
        await queue.put(BatchRef("r1", 1))
        await queue.put(BatchRef("r1", 2))
        await wait_until_async(lambda: bool(poison), "giving up", within=SOON)
        await wait_until_async(lambda: handled[2] > 12, "handling the other one", within=SOON)
        refused = handled[2]
        wanted.set()
        await wait_until_async(lambda: handled[2] > refused, "ending the other one", within=SOON)
    assert poison == [BatchRef("r1", 1)]
    assert handled[1] == MOST_DELIVERIES == 10
    assert await queue.backlog("") == 0


async def test_a_stopped_queue_begins_nothing_and_waits_for_what_runs(make_queue: QueueMaker) -> None:
    queue = make_queue(None)
    started, ended = [], []
    go = asyncio.Event()

    async def handle(ref: BatchRef) -> bool:
        started.append(ref.batch)
        await go.wait()
        ended.append(ref.batch)
        return True

    async with working(queue, handle, concurrency=2) as stop:
        for batch in range(5):
            await queue.put(BatchRef("r1", batch))
        await wait_until_async(lambda: len(started) == 2, "2 handlers", within=SOON)
        stop.set()
        go.set()
    assert started == [0, 1]
    assert sorted(ended) == [0, 1]


async def test_a_cancelled_worker_cancels_its_handlers_and_hands_their_batches_back(make_queue: QueueMaker) -> None:
    queue = make_queue(None)
    started, cancelled, again = [], [], []

    async def handle(ref: BatchRef) -> bool:
        started.append(ref.batch)
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(ref.batch)
        return True

    async def handle_again(ref: BatchRef) -> bool:
        again.append(ref.batch)
        return True

    await queue.start()
    for batch in range(2):
        await queue.put(BatchRef("r1", batch))
    work = asyncio.create_task(queue.work(handle, concurrency=2, stop=asyncio.Event()))
    await wait_until_async(lambda: len(started) == 2, "2 handlers", within=SOON)
    work.cancel()
    async with asyncio.timeout(SOON):
        await asyncio.gather(work, return_exceptions=True)
    assert work.cancelled()
    assert sorted(cancelled) == [0, 1]
    assert await queue.backlog("") == 2
    async with working(queue, handle_again):
        await wait_until_async(lambda: len(again) == 2, "handling them again", within=SOON)
    assert await queue.backlog("") == 0


# Over Redis, in this process


async def test_pools_are_served_by_those_who_listen_to_them_later_too(url: str, open_queue: OpenQueue) -> None:
    handled: dict[str, list[str]] = {"both": [], "one": []}
    first = open_queue(url, pools=("nowhere",), consumer="put")
    both = open_queue(url, pools=("berlin", "munich"), consumer="both")
    one = open_queue(url, pools=("",), consumer="one")

    def collect(name: str) -> Handle:
        async def handle(ref: BatchRef) -> bool:
            handled[name].append(ref.pool)
            return True

        return handle

    for pool in ("berlin", "munich", "", "berlin", "munich", "nowhere"):
        await first.put(BatchRef("r1", 1, pool))
    async with working(both, collect("both"), concurrency=1), working(one, collect("one"), concurrency=1):
        await wait_until_async(lambda: sum(map(len, handled.values())) == 5, "handling 5", within=SOON)
    assert sorted(handled["both"]) == ["berlin", "berlin", "munich", "munich"]
    assert handled["one"] == [""]
    assert await one.backlog("nowhere") == 1
    assert AsyncBroker.global_task_registry == {}


async def test_a_message_of_a_full_worker_with_two_pools_is_left_to_others(
    url: str, redis: Redis, open_queue: OpenQueue
) -> None:
    """XREADGROUP takes one message *of each stream*: the second one may not wait here, nor go back and forth."""
    held, handled = [], []
    go = asyncio.Event()
    full = open_queue(url, pools=("berlin", "munich"), consumer="full")
    free = open_queue(url, pools=("munich", "berlin"), consumer="free")

    async def hold(ref: BatchRef) -> bool:
        held.append(ref.pool)
        await go.wait()
        return True

    async def handle(ref: BatchRef) -> bool:
        handled.append(ref.pool)
        return True

    await full.start()
    for pool in ("berlin", "munich"):
        await full.put(BatchRef("r1", 1, pool))
    async with working(full, hold, concurrency=1):
        await wait_until_async(lambda: len(held) == 1, "the first one", within=SOON)
        async with working(free, handle):
            await wait_until_async(lambda: len(handled) == 1, "the second one", within=SOON)
        go.set()
    assert sorted(held + handled) == ["berlin", "munich"]
    consumers = {
        consumer["name"] for pool in held + handled for consumer in redis.xinfo_consumers(keys.queue(pool), GROUP)
    }
    assert consumers <= {b"full", b"free"}


async def test_a_dead_workers_batch_is_found_behind_many_that_are_being_handled(
    url: str, redis: Redis, open_queue: OpenQueue
) -> None:
    """XAUTOCLAIM looks at ten pending deliveries a call; those of the living may be more, and all of them older."""
    running: set[int] = set()
    again: list[int] = []
    go = asyncio.Event()

    async def handle(ref: BatchRef) -> bool:
        running.add(ref.batch)
        await go.wait()
        return True

    async def take_over(ref: BatchRef) -> bool:
        again.append(ref.batch)
        return True

    async with working(open_queue(url, consumer="busy"), handle, concurrency=40):
        await put(url, "r1", range(40))
        await wait_until_async(lambda: len(running) == 40, "40 handlers", within=SOON)
        await put(url, "r1", [99])
        redis.xreadgroup(GROUP, "dead", {STREAM: ">"}, count=1)
        async with working(open_queue(url, consumer="free"), take_over, concurrency=1):
            await wait_until_async(lambda: again == [99], "finding it", within=LEASE + 2)
        go.set()
    assert again == [99]


@pytest.mark.parametrize("how", ["stopped", "cancelled"])
async def test_work_ends_whenever_it_is_stopped_and_keeps_nothing(
    url: str, redis: Redis, open_queue: OpenQueue, how: str
) -> None:
    """A cancellation in the middle of a command is not lost (it is, one time in three, to Python 3.11 and redis-py)."""
    chance = random.Random(SEED)
    handled: list[int] = []

    async def handle(ref: BatchRef) -> bool:
        handled.append(ref.batch)
        return True

    for number in range(40):
        queue, stop = open_queue(url, pools=("", "berlin"), consumer=f"c{number}"), asyncio.Event()
        await queue.start()
        await queue.put(BatchRef("r1", number))
        work = asyncio.create_task(queue.work(handle, concurrency=4, stop=stop))
        for _ in range(chance.randrange(60)):
            await asyncio.sleep(0)
        if how == "stopped":
            stop.set()
        else:
            work.cancel()
        done, _ = await asyncio.wait({work}, timeout=SOON)
        assert done, f"the work of round {number} did not end"
        await queue.stop()
    # Redis may get to a command whose connection is closed already; with what it delivers then, a consumer stays.
    assert len([each for each in redis.xinfo_consumers(STREAM, GROUP) if each["name"] != b"released"]) <= 2
    async with working(open_queue(url), handle):
        await wait_until_async(lambda: {*handled} == {*range(40)}, "handling all", within=SOON)


async def test_clean_stops_leave_no_consumer_and_no_delivery(url: str, redis: Redis, open_queue: OpenQueue) -> None:
    async def refuse(ref: BatchRef) -> bool:
        return False

    await put(url, "r1", range(3))
    queue = open_queue(url)
    async with working(queue, refuse):
        await wait_until_async(lambda: redis.xpending(STREAM, GROUP)["pending"] == 3, "3 refusals", within=SOON)
    await queue.stop()
    assert [consumer["name"] for consumer in redis.xinfo_consumers(STREAM, GROUP)] == [b"released"]
    assert redis.xlen(STREAM) == 3


async def test_redis_without_its_data_is_given_its_groups_again(url: str, redis: Redis, open_queue: OpenQueue) -> None:
    handled: list[int] = []

    async def handle(ref: BatchRef) -> bool:
        handled.append(ref.batch)
        return True

    queue = open_queue(url)
    async with working(queue, handle):
        await queue.put(BatchRef("r1", 1))
        await wait_until_async(lambda: handled == [1], "the first batch", within=SOON)
        redis.flushall()
        await queue.put(BatchRef("r1", 2))
        await wait_until_async(lambda: handled == [1, 2], "the second batch", within=SOON)


async def test_a_message_that_is_none_of_ours_is_removed(url: str, redis: Redis, open_queue: OpenQueue) -> None:
    async def handle(ref: BatchRef) -> bool:
        return True

    async with working(open_queue(url), handle):
        redis.xadd(STREAM, {b"data": b"{}"})
        redis.xadd(STREAM, {b"data": b"\xff"})
        await wait_until_async(lambda: redis.xlen(STREAM) == 0, "removing them", within=SOON)


async def test_a_queue_whose_redis_is_away_says_where(open_queue: OpenQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setattr("resyncctl.store.queue_leases.insist.__kwdefaults__", {"within": 0.1, "hurry": None})
    queue = open_queue(f"redis://:secret@127.0.0.1:{port}/0")
    with pytest.raises(StoreError, match=f"127.0.0.1:{port} cannot be reached") as failure:
        await queue.start()
    assert "secret" not in str(failure.value)


# Workers that are killed, and a Redis that goes away


async def test_the_batch_of_a_killed_worker_is_run_again_on_an_idle_queue(
    url: str, redis: Redis, journal: Journal, workers: Callable[..., list[QueueWorker]]
) -> None:
    both = workers(2, url, journal, lease=LEASE)
    await put(url, "sleep:1.5", [1])
    await wait_until_async(lambda: journal.batches("start") == [1], "starting it", within=SOON)
    victim = journal.entries("start")[0].pid
    survivors = [worker for worker in both if worker.pid != victim]
    next(worker for worker in both if worker.pid == victim).kill()
    await wait_until_async(lambda: journal.batches("start") == [1, 1], "starting it again", within=LEASE + 2)
    await wait_until_async(lambda: journal.batches("done") == [1], "ending it", within=SOON)
    stop_quietly(survivors)
    expect_empty(redis)


async def test_a_batch_of_two_and_a_half_leases_is_started_once(
    url: str, redis: Redis, journal: Journal, workers: Callable[..., list[QueueWorker]]
) -> None:
    both = workers(2, url, journal, lease=LEASE)
    await put(url, f"sleep:{LEASE * 2.5}", [1])
    await wait_until_async(lambda: journal.batches("done") == [1], "ending it", within=SOON)
    stop_quietly(both)
    assert journal.batches("start") == [1]
    expect_empty(redis)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["TERM", "KILL"])
async def test_nothing_is_lost_or_run_twice_when_redis_is_away_for_longer_than_a_lease(
    how: str, journal: Journal, workers: Callable[..., list[QueueWorker]]
) -> None:
    with RedisServer() as server:
        both = workers(2, server.url, journal, lease=LEASE, concurrency=3)
        await put(server.url, "sleep:2", range(12))
        await wait_until_async(lambda: len(journal.batches("start")) == 6, "starting 6", within=SOON)
        server.end(gently=how == "TERM")
        await asyncio.sleep(LEASE * 1.5)  # the outage
        server.start()
        await wait_until_async(lambda: len(journal.batches("done")) >= 12, "ending 12", within=SOON)
        for worker in both:
            assert worker.terminate() == 0
            assert worker.log().count("queue_lost") == worker.log().count("queue_found") == 1
            assert "Traceback" not in worker.log()
        with Redis.from_url(server.url) as client:
            expect_empty(client)
    assert journal.batches("start") == list(range(12))
    assert journal.batches("done") == list(range(12))


async def test_after_an_outage_the_living_have_half_a_lease_to_renew(open_queue: OpenQueue) -> None:
    """What was not renewed while Redis was away is not yet that of the dead."""
    taken_at: list[float] = []
    loop = asyncio.get_running_loop()

    async def handle(ref: BatchRef) -> bool:
        taken_at.append(loop.time())
        return True

    with RedisServer() as server:
        queue = open_queue(server.url)
        await queue.start()
        with Redis.from_url(server.url) as client:
            await put(server.url, "r1", [1])
            client.xreadgroup(GROUP, "alive", {STREAM: ">"}, count=1)
            async with working(queue, handle):
                entry = client.xpending(STREAM, GROUP)["min"]
                client.xclaim(STREAM, GROUP, "alive", 0, [entry], idle=int(LEASE * 600), justid=True)
                server.end()
                await asyncio.sleep(LEASE / 2)  # the outage; the delivery is 1.1 leases old after it
                server.start()
                back_at = loop.time()
                await wait_until_async(lambda: bool(taken_at), "taking it", within=SOON)
        await queue.stop()
    assert taken_at[0] - back_at > LEASE / 2 - 0.1


async def test_a_terminated_worker_ends_what_runs_and_leaves_the_rest_to_others(
    url: str, redis: Redis, journal: Journal, workers: Callable[..., list[QueueWorker]]
) -> None:
    (first,) = workers(1, url, journal, concurrency=2)
    await put(url, "sleep:1", range(6))
    await wait_until_async(lambda: len(journal.batches("start")) == 2, "starting 2", within=SOON)
    stop_quietly([first])
    assert journal.batches("start") == journal.batches("done") == [0, 1]
    (second,) = workers(1, url, journal, concurrency=4)
    await wait_until_async(lambda: journal.batches("done") == list(range(6)), "ending all", within=SOON)
    stop_quietly([second])
    assert journal.batches("start") == list(range(6))
    assert [consumer["name"] for consumer in redis.xinfo_consumers(STREAM, GROUP)] in ([], [b"released"])
    expect_empty(redis)


@pytest.mark.slow
async def test_chaos_loses_nothing(journal: Journal, workers: Callable[..., list[QueueWorker]]) -> None:
    """150 batches, 3 workers of which one is killed every second or two, and Redis is killed once."""
    chance = random.Random(SEED)
    kills = 0
    with RedisServer() as server:
        alive = workers(3, server.url, journal, lease=LEASE)
        for length in (0.2, 0.6, 1.0):
            await put(server.url, f"sleep:{length}", range(int(length * 1000), int(length * 1000) + 50))
        while kills < 6:
            await asyncio.sleep(chance.uniform(1.0, 2.0))
            victim = alive.pop(chance.randrange(3))
            victim.kill()
            kills += 1
            if kills == 3:
                server.kill()
                server.start()
            alive += workers(1, server.url, journal, lease=LEASE)
        with Redis.from_url(server.url) as client:
            await wait_until_async(lambda: client.xlen(STREAM) == 0, "ending all", within=2 * SOON)
            expect_empty(client)
        assert [worker.terminate() for worker in alive] == [0, 0, 0]
    done = {*journal.batches("done")}
    assert done == {*range(200, 250), *range(600, 650), *range(1000, 1050)}
    again = len(journal.batches("start")) - 150
    assert 0 < again <= kills * 4 + 8, f"{again} batches were started again after {kills} kills of workers with 4 each"


@pytest.mark.slow
async def test_a_fail_over_of_sentinel_loses_nothing(
    journal: Journal, workers: Callable[..., list[QueueWorker]]
) -> None:
    with RedisSentinel() as redis:
        both = workers(2, f"sentinel:{redis.host}:{redis.port}", journal, lease=LEASE, concurrency=2)
        broker = BatchBroker(
            sentinel_pool(redis.host, redis.port), pools=("",), consumer="put", log=make_logger("error"), lease=LEASE
        )
        queue = BatchQueue(broker)
        await queue.start()
        for batch in range(12):
            await queue.put(BatchRef("sleep:1", batch))
        await wait_until_async(lambda: len(journal.batches("start")) >= 4, "starting 4", within=SOON)
        redis.kill_primary()
        await queue.put(BatchRef("sleep:1", 12))  # waits for the fail-over
        redis.wait_until_failed_over()
        with Redis(host=redis.replica.host, port=redis.replica.port) as client:
            await wait_until_async(lambda: client.xlen(STREAM) == 0, "ending all", within=2 * SOON)
            expect_empty(client)
        await queue.stop()
        assert [worker.running for worker in both] == [True, True]
        assert [worker.terminate() for worker in both] == [0, 0]
    assert sorted({*journal.batches("done")}) == list(range(13))


async def test_a_batch_that_kills_its_handler_again_and_again_stops_at_the_limit(
    url: str, redis: Redis, journal: Journal, workers: Callable[..., list[QueueWorker]]
) -> None:
    """Deaths of workers are counted by Redis: nine are made up here, the tenth failure is the handler's."""
    await put(url, "fail", [1])
    redis.xreadgroup(GROUP, "dead", {STREAM: ">"}, count=1)
    entry = redis.xpending(STREAM, GROUP)["min"]
    redis.xclaim(STREAM, GROUP, "dead", 0, [entry], idle=60_000, retrycount=9, justid=True)
    (worker,) = workers(1, url, journal)
    await wait_until_async(lambda: journal.batches("poison") == [1], "giving up", within=SOON)
    wait_until(lambda: redis.xlen(STREAM) == 0, "removing it", within=SOON)
    assert journal.batches("start") == [1]
    assert worker.terminate() == 0
    assert "batch_poisonous" in worker.log()
    expect_empty(redis)
