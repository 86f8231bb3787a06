"""The contract of the store, the same on redis-server and on the embedded Valkey."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from redis import Redis

from resyncctl.clock import now_us
from resyncctl.engine.app import store_plan
from resyncctl.engine.planning import Plan, Planner
from resyncctl.errors import InputError, LeaseLostError, NotFoundError, StateError, StoreError
from resyncctl.inventory.phone import parse_phone
from resyncctl.rollout.model import Options, Outcome, Reason, RolloutId, TargetState
from resyncctl.rollout.states import RolloutState
from resyncctl.store import keys
from resyncctl.store.codec import decode_block, pack, record, unpack_batch
from resyncctl.store.embedded import EmbeddedServer
from resyncctl.store.records import Claim, Claimed, Commit, Verdict
from resyncctl.store.redis_store import RedisStore, store_errors
from resyncctl.vendors import Catalogue
from tests.peers.ports import free_port
from tests.peers.redis_server import RedisServer

ID = RolloutId("r1")
ACCEPTED = Outcome(TargetState.ACCEPTED, Reason.RESPONSE, 200, 1, 1_000, 1_200, 800)
SENDING = Outcome(TargetState.SENDING, attempts=1, planned_us=1_000)


@pytest.fixture(scope="module", params=["redis-server", "embedded"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start one of the two servers and return its URL."""
    if request.param == "embedded":
        with EmbeddedServer(tmp_path_factory.mktemp("data")) as embedded:
            yield embedded.url
        return
    with RedisServer() as redis:
        yield redis.url


@pytest.fixture
def url(server: str) -> str:
    """Empty the server."""
    with Redis.from_url(server) as client:
        client.flushall()
    return server


@pytest.fixture
async def store(url: str) -> AsyncIterator[RedisStore]:
    opened = RedisStore(url)
    yield opened
    await opened.close()


def plan(count: int, **options: object) -> Plan:
    """Return a plan like that of a real PBX: numbers, addresses, vendors and sites of their own."""
    planner = Planner(Options(**options), Catalogue.load())  # type: ignore[arg-type]
    agents = ("Yealink SIP-T46U 108.86.0.20", "snomD862/10.1.226.13", "PolycomVVX-VVX_450-UA/6.4.2.1234")
    for number in range(count):
        address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        planner.add(
            parse_phone(
                {
                    "aor": f"sip:{100_000 + number}@pbx.example.com",
                    "contact": f"sip:{100_000 + number}@{address}:{5060 + number * 7919 % 20_000}",
                    "user_agent": agents[number % 3],
                    "mac": f"{number * 2_654_435_761 % 2**48:012x}",
                    "site": f"site{number % 20}",
                }
            )
        )
    return planner.make(name="r1")


def blobs(outcome: Outcome, *places: int) -> bytearray:
    return bytearray(b"".join(record(place, pack(outcome)) for place in places))


async def running(store: RedisStore, owner: str = "a", count: int = 10) -> None:
    """Make a rollout of ten phones that `owner` executes."""
    await store_plan(store, ID, plan(count))
    assert await store.acquire(ID, owner) is None
    await store.transition(ID, RolloutState.PLANNED, RolloutState.SCHEDULED)
    await store.transition(ID, RolloutState.SCHEDULED, RolloutState.RUNNING)


async def test_rollout_that_nobody_made_is_not_found(store: RedisStore) -> None:
    assert await store.find(ID) is None
    with pytest.raises(StateError, match="no rollout 'r1'"):
        await store.get(ID)
    with pytest.raises(StateError, match="no rollout"):
        await store.acquire(ID, "a")
    with pytest.raises(StateError, match="no rollout"):
        await store.transition(ID, RolloutState.PLANNED, RolloutState.ABORTED)
    assert await store.newest(5) == []


async def test_rollout_is_found_as_it_was_made(store: RedisStore) -> None:
    made = plan(1200, rate=7.5)
    known = await store_plan(store, ID, made, parent="r0", surroundings={"busy_file": "/x"})
    assert (known.plan_hash, known.seed, known.targets, known.options) == (made.hash, made.seed, 1200, made.options)
    assert (known.state, known.parent, known.surroundings) == (RolloutState.PLANNED, "r0", {"busy_file": "/x"})
    assert known.index == made.index
    assert known.triggers == made.triggers
    numbers = list(range(len(made.blocks)))
    assert await store.blocks(ID, numbers) == made.blocks
    assert [one.id for one in await store.newest(5)] == [ID]


async def test_same_plan_is_found_again_and_another_one_refused(store: RedisStore) -> None:
    first = await store_plan(store, ID, plan(10))
    assert (await store_plan(store, ID, plan(10))).created_us == first.created_us
    with pytest.raises(InputError, match="another plan"):
        await store_plan(store, ID, plan(11))


async def test_two_commands_that_plan_for_one_id_at_once_do_not_mix_their_batches(store: RedisStore, url: str) -> None:
    ours, theirs = plan(10), plan(11)
    await store.put_blocks(ID, "ours", dict(enumerate(ours.blocks)))
    await store.put_blocks(ID, "theirs", dict(enumerate(theirs.blocks)))
    await store_plan(store, ID, ours)
    assert await store.create(ID, "theirs", {"created_us": 1, "plan_hash": theirs.hash}) == ours.hash
    assert len(decode_block((await store.blocks(ID, [0]))[0])) == 10
    with Redis.from_url(url) as client:
        assert client.ttl(keys.upload(ID, "ours")) > 0  # what nobody completes expires
        assert client.ttl(keys.plan(ID)) == -1
        assert not client.exists(keys.upload(ID, "theirs"))


async def test_one_owner_at_a_time(store: RedisStore) -> None:
    await running(store, "a")
    holder = await store.acquire(ID, "b")
    assert holder is not None
    assert holder.token == "a"
    assert 8 < holder.seconds <= 9
    await store.release(ID, "b")  # not his to give
    assert await store.acquire(ID, "b") is not None
    await store.release(ID, "a")
    assert await store.acquire(ID, "b") is None


async def claimed(store: RedisStore, worker: str = "a", number: int = 0) -> Claim:
    claim = await store.claim(ID, worker, number)
    assert claim.claimed is Claimed.OK
    return claim


def part(accepted: int, **more: object) -> str:
    return json.dumps({"counts": {"accepted": accepted}, "retries": 0, **more})


async def test_commit_writes_outcomes_and_intents_and_renews_the_workers_lease(store: RedisStore, url: str) -> None:
    await running(store)
    await claimed(store)
    with Redis.from_url(url) as client:
        client.pexpire(keys.worker(ID, "a"), 500)
        commit = Commit(
            {0: blobs(ACCEPTED, 1, 2)}, {0: blobs(SENDING, 3)}, report=part(2, open={"sending": 1}), base_us=77
        )
        control = await store.commit(ID, "a", commit)
        assert client.pttl(keys.worker(ID, "a")) > 8000
    assert (control.state, control.base_us, control.workers) == (RolloutState.RUNNING, 77, 1)
    assert json.loads(control.report)["counts"] == {"accepted": 2, "sending": 1, "planned": 7}
    assert unpack_batch((await store.outcomes(ID, [0]))[0]) == {1: ACCEPTED, 2: ACCEPTED, 3: SENDING}
    known = await store.get(ID)
    assert (known.base_us, known.report) == (77, json.loads(control.report))


async def test_outcome_and_next_intent_of_one_target_in_one_commit_leave_the_intent(store: RedisStore) -> None:
    await running(store)
    await store.commit(ID, "a", Commit({0: blobs(ACCEPTED, 1)}, {0: blobs(SENDING, 1)}))
    assert unpack_batch((await store.outcomes(ID, [0]))[0]) == {1: SENDING}


@pytest.mark.parametrize("state", [RolloutState.PAUSED, RolloutState.ABORTED])
async def test_commit_to_a_stopped_rollout_writes_outcomes_only(store: RedisStore, state: RolloutState) -> None:
    await running(store)
    await store.transition(ID, RolloutState.RUNNING, state, {"pause_reason": "operator"})
    wanted = Commit({0: blobs(ACCEPTED, 1)}, {0: blobs(SENDING, 2)}, wanted="100")
    control = await store.commit(ID, "a", wanted, spacing_us=10)
    assert (control.state, control.pause_reason, control.slots) == (state, "operator", [])
    assert unpack_batch((await store.outcomes(ID, [0]))[0]) == {1: ACCEPTED}


async def test_commit_to_a_batch_of_another_worker_writes_nothing_at_all(store: RedisStore) -> None:
    await running(store, count=1200)
    await claimed(store, "a", 0)
    await claimed(store, "b", 1)
    before = await store.get(ID)
    with pytest.raises(LeaseLostError, match=r"executed by another process now \(1\)"):
        await store.commit(ID, "a", Commit({0: blobs(ACCEPTED, 1), 1: blobs(ACCEPTED, 1)}, report=part(2), base_us=5))
    assert await store.outcomes(ID, [0, 1]) == [{}, {}]
    assert await store.get(ID) == before
    await store.commit(ID, "b", Commit({1: blobs(ACCEPTED, 1)}, verdicts={1: Verdict.DONE}))
    with pytest.raises(LeaseLostError):  # it is done, by somebody else
        await store.commit(ID, "a", Commit({1: blobs(ACCEPTED, 1)}))


async def test_batch_is_held_as_long_as_its_worker_lives_and_taken_over_afterwards(store: RedisStore, url: str) -> None:
    await running(store)
    await claimed(store, "a")
    await store.commit(ID, "a", Commit(intents={0: blobs(SENDING, 3)}))
    assert (await store.claim(ID, "b", 0)).claimed is Claimed.HELD
    assert (await store.steer(ID, "a")).held == 1
    await store.retire(ID, "a")
    course = await store.steer(ID, "a")
    assert (course.held, course.orphans) == (0, (0,))
    taken = await claimed(store, "b")
    assert (taken.deaths, unpack_batch(taken.outcomes)) == (1, {3: SENDING})
    assert len(decode_block(taken.block)) == 10
    await store.commit(ID, "b", Commit(verdicts={0: Verdict.FREE}))
    assert (await claimed(store, "c")).deaths == 0 + 1  # it was given back: nobody has died again
    await store.commit(ID, "c", Commit(verdicts={0: Verdict.DONE}))
    assert (await store.claim(ID, "d", 0)).claimed is Claimed.DONE
    assert (await store.steer(ID, "a")).done == 1
    assert await store.taken(ID) == {0}


@pytest.mark.parametrize("state", [RolloutState.PAUSED, RolloutState.ABORTED])
async def test_stopped_rollout_gives_no_batch_away_but_an_aborted_one_what_a_dead_worker_left(
    store: RedisStore, state: RolloutState
) -> None:
    await running(store, count=1200)
    await claimed(store, "a", 1)
    await store.retire(ID, "a")
    await store.transition(ID, RolloutState.RUNNING, state)
    assert (await store.claim(ID, "b", 0)).claimed is Claimed.IDLE
    left = Claimed.OK if state is RolloutState.ABORTED else Claimed.IDLE
    assert (await store.claim(ID, "b", 1)).claimed is left


async def test_batch_of_a_rollout_that_is_gone_is_gone(store: RedisStore) -> None:
    assert (await store.claim(ID, "a", 0)).claimed is Claimed.GONE


async def test_reports_add_up_and_what_the_dead_had_on_the_wire_does_not_count(store: RedisStore) -> None:
    await running(store, count=100)
    ours = {
        "open": {"sending": 3},
        "responses": {"200": 5},
        "first_sent": 70,
        "last_outcome": 200,
        "busy": {"trouble": ["x"]},
    }
    theirs = {"open": {"sending": 4}, "responses": {"200": 1, "404": 2}, "first_sent": 60, "last_outcome": 90}
    theirs["busy"] = {"trouble": ["x", "y"]}
    await store.commit(ID, "a", Commit(report=part(5, **ours)))
    control = await store.commit(ID, "b", Commit(report=part(3, **theirs)))
    total = json.loads(control.report)
    assert control.workers == 2
    assert total == {
        "counts": {"accepted": 8, "sending": 7, "planned": 85},
        "responses": {"200": 6, "404": 2},
        "retries": 0,
        "first_sent": 60,
        "last_outcome": 200,
        "busy": {"trouble": ["x", "y"]},
    }
    await store.retire(ID, "a")
    control = await store.commit(ID, "b", Commit(report=part(4)))
    assert (control.workers, json.loads(control.report)["counts"]) == (1, {"accepted": 9, "planned": 91})


async def test_no_two_sends_of_any_workers_are_closer_than_the_spacing(store: RedisStore) -> None:
    await running(store)
    given: list[int] = []
    rng = random.Random(5)
    for number in range(60):
        wanted = sorted(rng.randrange(20_000) for _ in range(rng.randrange(1, 12)))
        commit = Commit(wanted=" ".join(map(str, wanted)))
        slots = (await store.commit(ID, "ab"[number % 2], commit, spacing_us=100)).slots
        assert all(slot >= wish for slot, wish in zip(slots, wanted, strict=True))
        given += slots
    given.sort()
    assert all(later - earlier >= 100 for earlier, later in pairwise(given))


async def test_slot_that_nobody_has_is_given_as_it_is_wanted(store: RedisStore) -> None:
    await running(store)
    commit = Commit(wanted="1000 1100 1150")
    assert (await store.commit(ID, "a", commit, spacing_us=100)).slots == [1000, 1100, 1200]
    commit = Commit(wanted="850 950 1110 5000")
    assert (await store.commit(ID, "b", commit, spacing_us=100)).slots == [850, 1300, 1400, 5000]


async def test_plans_offset_zero_only_moves_on(store: RedisStore) -> None:
    await running(store)
    assert (await store.commit(ID, "a", Commit(base_us=2**50 + 7))).base_us == 2**50 + 7
    assert (await store.commit(ID, "b", Commit(base_us=2**50))).base_us == 2**50 + 7
    assert (await store.steer(ID, "a", base_us=2**50 + 9)).base_us == 2**50 + 9


async def test_dispatcher_that_lost_its_lease_is_told_so(store: RedisStore, url: str) -> None:
    await running(store, "a")
    with Redis.from_url(url) as client:
        client.delete(keys.lease(ID))
        await store.steer(ID, "a")  # an expired lease is still its owner's as long as nobody took it
        assert client.get(keys.lease(ID)) == b"a"
    await store.release(ID, "a")
    assert await store.acquire(ID, "b") is None
    with pytest.raises(LeaseLostError, match=r"executed by another process now \(b\)"):
        await store.steer(ID, "a")
    with Redis.from_url(url) as client:
        client.delete(keys.lease(ID))  # also when the lease of the other one has ended meanwhile
    with pytest.raises(LeaseLostError):
        await store.steer(ID, "a")


async def test_steering_tells_that_the_dispatcher_lives(store: RedisStore) -> None:
    await running(store)
    before = now_us()
    await store.steer(ID, "a")
    assert before <= (await store.get(ID)).seen_us <= now_us()


async def test_commit_to_a_rollout_that_is_gone_says_so(store: RedisStore, url: str) -> None:
    await running(store)
    with Redis.from_url(url) as client:
        client.flushall()
    with pytest.raises(LeaseLostError, match="its data is gone from Redis"):
        await store.commit(ID, "a", Commit({0: blobs(ACCEPTED, 1)}))
    with Redis.from_url(url) as client:
        assert client.keys("*") == []


async def test_transition_compares_before_it_sets(store: RedisStore) -> None:
    await running(store)
    was = await store.transition(ID, RolloutState.RUNNING, RolloutState.PAUSED, {"pause_reason": "operator"})
    assert was is RolloutState.RUNNING
    was = await store.transition(ID, RolloutState.RUNNING, RolloutState.DRAINING, {"pause_reason": ""})
    assert was is RolloutState.PAUSED
    known = await store.get(ID)
    assert (known.state, known.pause_reason) == (RolloutState.PAUSED, "operator")


async def test_events_follow_the_rollout(store: RedisStore) -> None:
    await running(store)
    await store.commit(ID, "a", Commit(report=part(1)))
    await store.commit(ID, "a", Commit())  # nothing new
    events = await store.events(ID, "0", wait=0.01)
    assert [(event.state, event.report) for event in events] == [
        (RolloutState.SCHEDULED, {}),
        (RolloutState.RUNNING, {}),
        (RolloutState.RUNNING, {"counts": {"accepted": 1, "planned": 9}, "retries": 0}),
    ]
    assert await store.events(ID, events[-1].id, wait=0.01) == []
    assert await store.events(ID, events[1].id, wait=0.01) == events[2:]


async def test_finished_rollout_keeps_its_report_and_loses_its_targets(store: RedisStore, url: str) -> None:
    await running(store, count=1200)
    await store.commit(ID, "a", Commit({0: blobs(ACCEPTED, 1)}, report=part(1)))
    batches = len((await store.get(ID)).index.sizes)
    await store.expire(ID, batches)
    with Redis.from_url(url) as client:
        lives = [client.ttl(key) for key in (keys.plan(ID), keys.batch(ID, 0), keys.events(ID))]
        assert all(keys.RETENTION - 5 < left <= keys.RETENTION for left in lives)
        assert client.ttl(keys.meta(ID)) == -1
        client.delete(keys.plan(ID))
    with pytest.raises(NotFoundError, match="they are kept 90 days after the end; the report stays"):
        await store.blocks(ID, [0])
    assert (await store.get(ID)).report["counts"] == {"accepted": 1, "planned": 1199}


async def test_phone_costs_at_most_100_bytes(store: RedisStore, url: str) -> None:
    made = plan(20_000, batch_size=500)
    await store_plan(store, ID, made)
    assert await store.acquire(ID, "a") is None
    for number, size in enumerate(made.index.sizes):
        outcomes = bytearray()
        for place in range(size):
            due = number * 500 + place
            outcomes += record(
                place, pack(Outcome(ACCEPTED.state, Reason.RESPONSE, 200, 1, due * 97, due * 97 + 13, 812))
            )
        await store.commit(ID, "a", Commit({number: outcomes}, verdicts={number: Verdict.DONE}, report=part(size)))
    with Redis.from_url(url) as client:
        used = sum(client.memory_usage(key, samples=0) or 0 for key in client.scan_iter(f"*{{{ID}}}*"))
    assert used / 20_000 <= 100


# Servers that cannot be used


async def test_unreachable_redis_is_one_paragraph_that_says_what_to_do() -> None:
    store = RedisStore(f"redis://:secret@127.0.0.1:{free_port()}/0")
    with pytest.raises(StoreError, match=r"cannot be reached .*--redis-url") as caught:
        await store.find(ID)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    await store.close()


@pytest.mark.needs("redis-server")
async def test_wrong_password_is_told_without_showing_it() -> None:
    with RedisServer() as redis:
        with Redis.from_url(redis.url) as client:
            client.config_set("requirepass", "right")
        address = redis.url.removeprefix("redis://")
        for wrong in (f"redis://:wrong@{address}", f"redis://{address}?password=wrong", f"redis://{address}"):
            store = RedisStore(wrong)
            with pytest.raises(StoreError, match=r"refuses us: .*check user and password") as caught:
                await store.find(ID)
            assert "wrong@" not in str(caught.value)
            assert "=wrong" not in str(caught.value)
            assert "wrong" not in store.where
            await store.close()
        store = RedisStore(f"redis://:right@{address}")
        assert await store.find(ID) is None
        await store.close()


@pytest.mark.parametrize("url", ["http://localhost", "localhost:6379", "redis://localhost:port/0"])
def test_what_is_no_redis_url_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="--redis-url"):
        RedisStore(url)


@pytest.mark.needs("redis-server")
async def test_server_without_append_only_file_tells_so() -> None:
    with RedisServer() as redis, Redis.from_url(redis.url) as client:
        store = RedisStore(redis.url)
        assert (await store.info())["aof_enabled"] == 1
        client.config_set("appendonly", "no")
        assert (await store.info())["aof_enabled"] == 0
        await store.close()


@pytest.mark.needs("redis-server")
async def test_server_that_stands_still_counts_as_unreachable_after_five_seconds() -> None:
    with RedisServer() as redis:
        store = RedisStore(redis.url)
        assert await store.find(ID) is None
        redis.freeze()
        began = time.monotonic()
        with pytest.raises(StoreError, match="cannot be reached"):
            await store.find(ID)
        assert 4.5 < time.monotonic() - began < 6.5
        redis.thaw()
        assert await store.find(ID) is None
        await store.close()


async def test_full_server_is_told_as_its_own_error(store: RedisStore, url: str) -> None:
    await running(store)
    with Redis.from_url(url) as client:
        before = client.config_get("maxmemory")["maxmemory"]
        client.config_set("maxmemory", "1")
        try:
            with pytest.raises(StoreError, match=r"answers with an error: .*OOM|maxmemory"):
                await store.put_blocks(ID, "x", {0: b"block"})
        finally:
            client.config_set("maxmemory", before)


def test_data_dir_is_enough(tmp_path: Path) -> None:
    """The embedded server needs no more than a directory."""
    with EmbeddedServer(tmp_path / "new") as embedded:
        assert embedded.url.startswith("unix://")


async def test_cancellation_that_the_client_has_kept_to_itself_is_raised() -> None:
    reached = []

    async def ask() -> None:
        # The second one does what `asyncio.wait_for` does up to Python 3.11.
        with store_errors("a Redis"), contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(10)
        reached.append("the next command")

    task = asyncio.create_task(ask())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not reached
