"""The scheduler on a real redis-server, its time moved by hand: every fire time makes one rollout, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from resyncctl.clock import from_us
from resyncctl.clock import now_us as real_now_us
from resyncctl.engine.calendar import When
from resyncctl.engine.launch import Launched, Launcher
from resyncctl.engine.order import Order, read_order
from resyncctl.engine.scheduler import Scheduler
from resyncctl.engine.schedules import Policy, Schedules, fire_id, run_id
from resyncctl.errors import InputError, NotFoundError, StateError, StoreError
from resyncctl.logs import make_logger
from resyncctl.rollout.model import RolloutId
from resyncctl.rollout.states import RolloutState
from resyncctl.store import keys
from resyncctl.store.audit import Actor, AuditLog
from resyncctl.store.redis_store import RedisStore
from resyncctl.store.schedules import Misfire, Overlap, ScheduleRecord, ScheduleStore
from resyncctl.store.service import Freeze, ServiceStore
from tests.peers.process import REPOSITORY
from tests.peers.redis_server import RedisServer

pytestmark = pytest.mark.needs("redis-server")

PHONES = {"phones": [{"aor": "sip:1@pbx.invalid", "contact": "sip:1@127.0.0.1:9", "vendor": "yealink"}]}
ADMIN = Actor("admin@pbx")
NIGHT = "30 2 * * *"


class Hand:
    """A wall's clock that is moved by hand."""

    def __init__(self, text: str) -> None:
        self.us = 0
        self.set(text)

    def set(self, text: str) -> None:
        """Set it to a UTC time."""
        self.us = int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000_000)

    def move(self, seconds: float) -> None:
        """Move it."""
        self.us += int(seconds * 1_000_000)

    def __call__(self) -> int:
        return self.us


class Counting:
    """A launcher that counts what it makes, and fails as often as it is told."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self.launched: list[Launched] = []
        self.failures: list[Exception] = []
        self.calls: list[str] = []

    async def launch(self, order: Order, actor: Actor, *, name: str = "") -> Launched:
        """Launch."""
        self.calls.append(name)
        if self.failures:
            raise self.failures.pop(0)
        launched = await self._launcher.launch(order, actor, name=name)
        self.launched.append(launched)
        return launched

    @property
    def made(self) -> list[str]:
        """The rollouts that it has made itself."""
        return [one.record.id for one in self.launched if one.new]


class Service:
    """Schedules on one Redis, and as many schedulers as are asked for."""

    def __init__(self, url: str, clock: Callable[[], int]) -> None:
        self.store = RedisStore(url)
        self.clock = clock
        self.launcher = Counting(Launcher(self.store, {}))
        self.schedules = Schedules(self.store, Launcher(self.store, {}))
        self.log: list[dict[str, Any]] = []

    def scheduler(self, token: str = "one") -> Scheduler:
        """Return a scheduler that is not running."""
        return Scheduler(self.store, self.launcher, make_logger("error"), token=token, clock=self.clock)

    async def add(self, name: str, line: str, *, tz: str = "UTC", order: Any = PHONES, **policy: Any) -> ScheduleRecord:
        """Add a schedule now."""
        now = self.clock()
        when = When.parse(cron=line, tz=tz, now=from_us(now))
        record, _ = await self.schedules.add(
            name, when=when, order=read_order(order), policy=Policy(**policy), actor=ADMIN, now_us=now
        )
        return record

    async def rollouts(self) -> list[str]:
        """Return the rollouts there are, oldest first by name."""
        return sorted(record.id for record in await self.store.newest(1000))

    async def end(self, rollout: str, at_us: int) -> None:
        """Let a rollout be over."""
        name = RolloutId(rollout)
        record = await self.store.get(name)
        await self.store.transition(name, record.state, RolloutState.ABORTED)
        await self.store.annotate(name, {"finished_us": at_us})


async def tick(scheduler: Scheduler) -> None:
    """Let a scheduler look once and bring what it began to its end."""
    for known in scheduler._timetable:
        known.again_at = 0.0
    scheduler.wake()
    await scheduler._turn()
    await asyncio.gather(*scheduler._tasks.values())


async def eventually(condition: Callable[[], Awaitable[bool]], what: str, *, within: float = 15.0) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + within
    while not await condition():
        assert time.monotonic() < deadline, f"{what}: did not happen within {within} s"
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running(*schedulers: Scheduler) -> AsyncIterator[None]:
    """Run schedulers beside the test."""
    tasks = [asyncio.create_task(scheduler.run()) for scheduler in schedulers]
    try:
        yield
    finally:
        for scheduler in schedulers:
            scheduler.stop()
        await asyncio.gather(*tasks)


@pytest.fixture
def clock() -> Hand:
    return Hand("2026-11-24T01:00:00")


@pytest.fixture
async def service(shared_redis: RedisServer, clock: Hand) -> AsyncIterator[Service]:
    """A service on a database of its own."""
    found = Service(shared_redis.url.removesuffix("/0") + "/5", clock)
    await found.store.client.flushdb()
    yield found
    await found.store.close()


# At its time


async def test_a_rollout_is_made_at_the_fire_time_and_not_before(service: Service, clock: Hand) -> None:
    await service.add("night", NIGHT)
    scheduler = service.scheduler()
    clock.set("2026-11-24T02:29:59.999")
    await tick(scheduler)
    assert await service.rollouts() == []
    clock.set("2026-11-24T02:30:00.000")
    await tick(scheduler)
    assert await service.rollouts() == ["night-20261124T023000Z"]
    await tick(scheduler)
    clock.set("2026-11-24T23:00:00")
    await tick(scheduler)
    assert await service.rollouts() == ["night-20261124T023000Z"]
    record = await service.schedules.store.get("night")
    assert (record.last_rollout, record.last_error, record.note) == ("night-20261124T023000Z", "", "")
    assert from_us(record.last_fire_us) == datetime(2026, 11, 24, 2, 30, tzinfo=UTC)
    assert await ServiceStore(service.store).served() == ["night-20261124T023000Z"]
    entry = (await AuditLog(service.store).newest(1))[0]
    assert (entry.actor, entry.action, entry.subject) == ("schedule:night", "rollout.launch", "night-20261124T023000Z")


async def test_every_day_makes_a_rollout_when_the_one_before_is_over(service: Service, clock: Hand) -> None:
    await service.add("night", NIGHT)
    scheduler = service.scheduler()
    for day in ("24", "25", "26"):
        clock.set(f"2026-11-{day}T02:30:00.010")
        await tick(scheduler)
        await service.end(f"night-202611{day}T023000Z", clock())
    assert await service.rollouts() == [f"night-202611{day}T023000Z" for day in ("24", "25", "26")]


async def test_the_lag_from_fire_time_to_launch_is_kept_and_told(service: Service, clock: Hand) -> None:
    await service.add("night", NIGHT)
    told: list[float] = []
    scheduler = Scheduler(
        service.store, service.launcher, make_logger("error"), token="one", clock=clock, on_fire=told.append
    )
    await tick(scheduler)
    clock.set("2026-11-24T02:30:00.250")
    await tick(scheduler)
    assert list(scheduler.lags) == told == [0.25]


async def test_what_others_add_change_and_remove_is_seen(service: Service, clock: Hand) -> None:
    scheduler = service.scheduler()
    await tick(scheduler)
    await service.add("early", "0 2 * * *")
    await service.add("late", "0 2 * * *")
    await service.add("gone", "0 2 * * *")
    await tick(scheduler)
    when = When.parse(cron="0 4 * * *", now=from_us(clock()))
    await service.schedules.add(
        "late",
        when=when,
        order=read_order(PHONES),
        policy=Policy(),
        actor=ADMIN,
        now_us=clock(),
        replacing=True,
    )
    await service.schedules.remove("gone", ADMIN)
    clock.set("2026-11-24T02:00:01")
    await tick(scheduler)
    assert await service.rollouts() == ["early-20261124T020000Z"]
    clock.set("2026-11-24T04:00:01")
    await tick(scheduler)
    assert await service.rollouts() == ["early-20261124T020000Z", "late-20261124T040000Z"]


async def test_schedules_are_read_again_only_when_somebody_else_has_changed_one(service: Service, clock: Hand) -> None:
    for number in range(5):
        await service.add(f"s{number}", NIGHT)
    scheduler = service.scheduler()
    await tick(scheduler)
    reads = 0
    snapshot = scheduler._schedules.snapshot

    async def counted() -> tuple[int, dict[str, bytes]]:
        nonlocal reads
        reads += 1
        return await snapshot()

    scheduler._schedules.snapshot = counted  # type: ignore[method-assign]
    clock.set("2026-11-24T02:30:00")
    await tick(scheduler)
    await tick(scheduler)
    assert len(await service.rollouts()) == 5
    assert reads == 0
    await service.schedules.pause("s0", ADMIN)
    await tick(scheduler)
    assert reads == 1


# Clocks that change, clocks that are set


@pytest.mark.parametrize(
    ("tz", "line", "start", "hours", "expected"),
    [
        ("Europe/Berlin", NIGHT, "2026-03-28T12:00", 40, ["20260329T010000Z", "20260330T003000Z"]),
        ("Europe/Berlin", NIGHT, "2026-10-24T12:00", 40, ["20261025T003000Z", "20261026T013000Z"]),
        ("Australia/Lord_Howe", "45 1 * * *", "2026-04-04T02:00", 40, ["20260404T144500Z", "20260405T151500Z"]),
        ("Australia/Lord_Howe", "15 2 * * *", "2026-10-03T02:00", 40, ["20261003T153000Z", "20261004T151500Z"]),
        (
            "America/New_York",
            "0 * * * *",
            "2026-11-01T04:30",
            4,
            ["20261101T050000Z", "20261101T060000Z", "20261101T070000Z", "20261101T080000Z"],
        ),
    ],
)
async def test_over_a_change_of_clocks_a_running_scheduler_fires_as_the_calendar_says(
    service: Service, clock: Hand, tz: str, line: str, start: str, hours: int, expected: list[str]
) -> None:
    clock.set(start)
    await service.add("night", line, tz=tz)
    scheduler = service.scheduler()
    for _ in range(hours * 6 + 1):
        await tick(scheduler)
        for rollout in service.launcher.made:
            if not (await service.store.get(RolloutId(rollout))).finished_us:
                await service.end(rollout, clock())
        clock.move(600)
    assert await service.rollouts() == [f"night-{time}" for time in expected]
    assert service.launcher.made == await service.rollouts()


async def test_a_clock_that_is_put_back_fires_nothing_again(service: Service, clock: Hand) -> None:
    await service.add("often", "*/10 * * * *")
    scheduler = service.scheduler()
    clock.set("2026-11-24T01:10:00")
    await tick(scheduler)
    await service.end("often-20261124T011000Z", clock())
    clock.set("2026-11-24T00:50:00")
    for _ in range(20):
        await tick(scheduler)
        clock.move(60)
    assert service.launcher.made == ["often-20261124T011000Z"]
    clock.set("2026-11-24T01:20:00")
    await tick(scheduler)
    assert service.launcher.made == ["often-20261124T011000Z", "often-20261124T012000Z"]


async def test_a_clock_that_was_days_ahead_does_not_silence_a_schedule(service: Service, clock: Hand) -> None:
    await service.add("often", "*/10 * * * *")
    scheduler = service.scheduler()
    await tick(scheduler)
    clock.set("2031-01-01T00:00:05")
    await tick(scheduler)
    assert service.launcher.made == ["often-20310101T000000Z"]
    await service.end("often-20310101T000000Z", clock())
    clock.set("2026-11-24T01:05:00")
    await tick(scheduler)
    clock.set("2026-11-24T01:10:00")
    await tick(scheduler)
    assert service.launcher.made == ["often-20310101T000000Z", "often-20261124T011000Z"]


# Fire times that were missed


async def test_of_several_missed_fire_times_the_latest_is_fired_once(service: Service, clock: Hand) -> None:
    await service.add("often", "*/10 * * * *")
    clock.set("2026-11-24T01:48:00")
    scheduler = service.scheduler()
    await tick(scheduler)
    await tick(scheduler)
    assert await service.rollouts() == ["often-20261124T014000Z"]
    assert (await service.schedules.store.get("often")).note == (
        "2026-11-24T01:40:00Z was missed, and fired 8 min later"
    )


async def test_a_fire_time_that_was_missed_by_more_than_the_grace_time_is_skipped(
    service: Service, clock: Hand
) -> None:
    await service.add("night", NIGHT, grace=600.0)
    clock.set("2026-11-24T02:40:01")
    await tick(service.scheduler())
    assert await service.rollouts() == []
    assert (await service.schedules.store.get("night")).note == (
        "2026-11-24T02:30:00Z was missed by 10 min 1 s; the grace time is 10 min"
    )


async def test_missed_fire_times_can_be_skipped(service: Service, clock: Hand) -> None:
    await service.add("night", NIGHT, misfire=Misfire.SKIP)
    clock.set("2026-11-24T02:31:00")
    scheduler = service.scheduler()
    await tick(scheduler)
    assert await service.rollouts() == []
    assert (await service.schedules.store.get("night")).note == "2026-11-24T02:30:00Z was missed by 1 min"
    clock.set("2026-11-25T02:30:00")
    await tick(scheduler)
    assert await service.rollouts() == ["night-20261125T023000Z"]


@pytest.mark.parametrize("policy", [{"misfire": Misfire.SKIP}, {"grace": 0.0}])
async def test_the_time_that_another_process_needs_to_take_over_misses_nothing(
    service: Service, clock: Hand, policy: dict[str, Any]
) -> None:
    await service.add("night", NIGHT, **policy)
    clock.set("2026-11-24T02:30:12")
    await tick(service.scheduler())
    assert await service.rollouts() == ["night-20261124T023000Z"]


# While the rollout before is not over


async def test_a_fire_time_is_skipped_while_the_rollout_before_is_not_over(service: Service, clock: Hand) -> None:
    await service.add("often", "*/10 * * * *")
    scheduler = service.scheduler()
    for minute in ("10", "20", "30"):
        clock.set(f"2026-11-24T01:{minute}:00")
        await tick(scheduler)
    assert await service.rollouts() == ["often-20261124T011000Z"]
    assert (await service.schedules.store.get("often")).note == (
        "2026-11-24T01:30:00Z was skipped: rollout often-20261124T011000Z was not over"
    )
    await service.end("often-20261124T011000Z", clock())
    await tick(scheduler)
    assert await service.rollouts() == ["often-20261124T011000Z"]
    clock.set("2026-11-24T01:40:00")
    await tick(scheduler)
    assert await service.rollouts() == ["often-20261124T011000Z", "often-20261124T014000Z"]
    assert (await service.schedules.store.get("often")).note == ""


async def test_one_fire_time_waits_for_the_end_of_the_rollout_before(service: Service, clock: Hand) -> None:
    await service.add("often", "*/10 * * * *", overlap=Overlap.QUEUE, grace=60.0)
    scheduler = service.scheduler()
    for minute in ("10", "20", "30"):
        clock.set(f"2026-11-24T01:{minute}:00")
        await tick(scheduler)
        await tick(scheduler)
    record = await service.schedules.store.get("often")
    assert from_us(record.waiting_us) == datetime(2026, 11, 24, 1, 20, tzinfo=UTC)
    assert record.note == "2026-11-24T01:30:00Z was skipped: 2026-11-24T01:20:00Z still waits"
    clock.set("2026-11-24T01:35:00")
    await service.end("often-20261124T011000Z", clock())
    await tick(scheduler)
    await tick(scheduler)
    assert await service.rollouts() == ["often-20261124T011000Z", "often-20261124T012000Z"]
    record = await service.schedules.store.get("often")
    assert (record.waiting_us, record.note) == (0, "2026-11-24T01:20:00Z was fired 15 min later")


async def test_what_waited_while_no_process_scheduled_is_given_up_after_the_grace_time(
    service: Service, clock: Hand
) -> None:
    await service.add("often", "*/10 * * * *", overlap=Overlap.QUEUE, grace=60.0)
    scheduler = service.scheduler()
    for minute in ("10", "20"):
        clock.set(f"2026-11-24T01:{minute}:00")
        await tick(scheduler)
    await service.end("often-20261124T011000Z", clock())
    clock.set("2026-11-24T01:22:00")
    await tick(service.scheduler())
    assert await service.rollouts() == ["often-20261124T011000Z"]
    record = await service.schedules.store.get("often")
    assert (record.waiting_us, record.last_error) == (0, "2026-11-24T01:20:00Z: given up, it was late by 2 min")


# Several schedulers, crashes


async def test_two_schedulers_that_believe_they_are_active_make_one_rollout_of_a_fire_time(
    service: Service, clock: Hand
) -> None:
    names = [f"s{number}" for number in range(10)]
    for name in names:
        await service.add(name, NIGHT)
    first, second = service.scheduler("one"), service.scheduler("two")
    await tick(first)
    await service.store.client.delete(keys.SCHEDULER)
    await tick(second)
    assert first.active
    assert second.active
    clock.set("2026-11-24T02:30:00")
    await asyncio.gather(tick(first), tick(second))
    await asyncio.gather(tick(first), tick(second))
    expected = [f"{name}-20261124T023000Z" for name in names]
    assert await service.rollouts() == expected
    assert sorted(set(service.launcher.calls)) == expected
    for name in names:
        record = await service.schedules.store.get(name)
        assert (record.last_rollout, record.waiting_us, record.last_error) == (f"{name}-20261124T023000Z", 0, "")


async def test_a_scheduler_that_has_lost_its_lease_stops_and_waits(service: Service) -> None:
    first, second = service.scheduler("one"), service.scheduler("two")
    await tick(first)
    await service.store.client.delete(keys.SCHEDULER)
    await tick(second)
    first._renew_at = 0.0
    await tick(first)
    assert not first.active
    assert second.active


async def test_a_schedule_that_was_paused_since_it_was_read_is_not_fired(service: Service, clock: Hand) -> None:
    await service.add("night", NIGHT)
    scheduler = service.scheduler()
    await tick(scheduler)
    await service.schedules.pause("night", ADMIN)
    scheduler._look_at = float("inf")
    clock.set("2026-11-24T02:30:00")
    await scheduler._turn()
    await asyncio.gather(*scheduler._tasks.values())
    assert await service.rollouts() == []


@pytest.mark.parametrize("launched", [False, True])
async def test_a_claim_of_a_process_that_died_is_launched_once(
    service: Service, clock: Hand, *, launched: bool
) -> None:
    await service.add("night", NIGHT)
    clock.set("2026-11-24T02:30:00")
    fire_us = clock()
    await service.schedules.store.update("night", lambda known: replace(known, decided_us=fire_us, waiting_us=fire_us))
    if launched:  # it died after the launch, before it could say so
        await service.launcher.launch(read_order(PHONES), ADMIN, name="night-20261124T023000Z")
    clock.move(9)
    scheduler = service.scheduler()
    await tick(scheduler)
    await tick(scheduler)
    assert service.launcher.made == await service.rollouts() == ["night-20261124T023000Z"]
    record = await service.schedules.store.get("night")
    assert (record.waiting_us, record.last_rollout) == (0, "night-20261124T023000Z")


async def test_a_clean_stop_lets_another_process_take_over_at_once(service: Service) -> None:
    first, second = service.scheduler("one"), service.scheduler("two")
    async with contextlib.AsyncExitStack() as stack:
        async with running(first):
            await eventually(lambda: _true(first.active), "the first is active")
            await stack.enter_async_context(running(second))
            await asyncio.sleep(0.05)
            assert not second.active
        stopped = time.monotonic()
        await eventually(lambda: _true(second.active), "the second is active")
        assert time.monotonic() - stopped < 2.0
    assert await service.store.client.get(keys.SCHEDULER) is None


async def test_a_clock_that_is_set_is_noticed_within_a_second(service: Service, clock: Hand) -> None:
    await service.add("night", NIGHT)
    scheduler = service.scheduler()
    async with running(scheduler):
        await eventually(lambda: _true(scheduler.active), "it is active")
        clock.set("2026-11-24T02:30:00")
        began = time.monotonic()
        await eventually(lambda: _true(bool(service.launcher.made)), "the fire time is fired")
        assert time.monotonic() - began < 2.0


async def _true(value: bool) -> bool:
    return value


HOLDER = """
import asyncio, sys
from resyncctl.engine.launch import Launcher
from resyncctl.engine.scheduler import Scheduler
from resyncctl.logs import make_logger
from resyncctl.store.redis_store import RedisStore

async def main():
    store = RedisStore(sys.argv[1])
    await Scheduler(store, Launcher(store, {}), make_logger("error"), token="holder").run()

asyncio.run(main())
"""


async def test_another_process_takes_over_within_ten_seconds_of_a_kill_and_fires_what_fell_due(
    shared_redis: RedisServer,
) -> None:
    url = shared_redis.url.removesuffix("/0") + "/6"
    service = Service(url, real_now_us)
    await service.store.client.flushdb()

    async def held() -> bool:
        return bool(await service.store.client.get(keys.SCHEDULER) == b"holder")

    async def fired() -> bool:
        return bool(await service.rollouts())

    holder = await asyncio.create_subprocess_exec(sys.executable, "-c", HOLDER, url, cwd=REPOSITORY)
    try:
        await eventually(held, "the first process has the lease")
        at = (from_us(real_now_us()) + timedelta(seconds=4)).replace(microsecond=0)
        when = When.parse(at=at.isoformat(), now=from_us(real_now_us()))
        await service.schedules.add(
            "once",
            when=when,
            order=read_order(PHONES),
            policy=Policy(misfire=Misfire.SKIP),
            actor=ADMIN,
            now_us=real_now_us(),
        )
        second = service.scheduler("second")
        async with running(second):
            await asyncio.sleep(0)
            holder.send_signal(signal.SIGKILL)
            killed = time.monotonic()
            await eventually(fired, "the fire time is fired", within=20.0)
            taken = time.monotonic() - killed
    finally:
        with contextlib.suppress(ProcessLookupError):
            holder.kill()
        await holder.wait()
    assert taken <= 10.0
    assert await service.rollouts() == [f"once-{at:%Y%m%dT%H%M%SZ}"]
    await service.store.close()


# Launches that fail


async def test_a_launch_that_fails_is_written_down_and_the_others_go_on(
    service: Service, clock: Hand, tmp_path: Path
) -> None:
    phones = tmp_path / "phones.csv"
    phones.write_text("aor,vendor\nsip:1@pbx.invalid,yealink\n")
    await service.add("broken", NIGHT, order={"phones_file": str(phones)})
    await service.add("sound", NIGHT)
    phones.write_text("aor,vendor\nnot a phone,yealink\n")
    scheduler = service.scheduler()
    clock.set("2026-11-24T02:30:00")
    await tick(scheduler)
    assert await service.rollouts() == ["sound-20261124T023000Z"]
    record = await service.schedules.store.get("broken")
    assert record.last_error.startswith(f"2026-11-24T02:30:00Z: {phones}: 1 row cannot be used")
    assert (record.waiting_us, record.last_rollout) == (0, "")
    phones.write_text("aor,vendor\nsip:1@pbx.invalid,yealink\n")
    clock.set("2026-11-25T02:30:00")
    await tick(scheduler)
    record = await service.schedules.store.get("broken")
    assert (record.last_rollout, record.last_error) == ("broken-20261125T023000Z", "")


async def test_a_freeze_skips_fire_times_and_says_so(service: Service, clock: Hand) -> None:
    await service.add("night", NIGHT)
    await ServiceStore(service.store).freeze(Freeze("boss@pbx", clock(), "fair in town"))
    clock.set("2026-11-24T02:30:00")
    await tick(service.scheduler())
    assert await service.rollouts() == []
    assert "frozen by boss@pbx: fair in town" in (await service.schedules.store.get("night")).last_error


async def test_even_a_bug_in_a_launch_leaves_the_scheduler_alive(service: Service, clock: Hand) -> None:
    await service.add("night", NIGHT)
    service.launcher.failures = [RuntimeError("boom")]
    clock.set("2026-11-24T02:30:00")
    scheduler = service.scheduler()
    await tick(scheduler)
    assert (await service.schedules.store.get("night")).last_error == "2026-11-24T02:30:00Z: boom"
    clock.set("2026-11-25T02:30:00")
    await tick(scheduler)
    assert await service.rollouts() == ["night-20261125T023000Z"]


async def test_a_launch_that_redis_refused_is_tried_again_for_the_same_fire_time(service: Service, clock: Hand) -> None:
    await service.add("night", NIGHT)
    service.launcher.failures = [StoreError("away"), StoreError("still away")]
    scheduler = service.scheduler()
    clock.set("2026-11-24T02:30:00")
    for _ in range(4):
        await tick(scheduler)
        clock.move(1)
    assert service.launcher.calls == ["night-20261124T023000Z"] * 3
    assert service.launcher.made == ["night-20261124T023000Z"]


async def test_a_launch_that_redis_refuses_is_given_up_after_the_grace_time(service: Service, clock: Hand) -> None:
    await service.add("night", NIGHT, grace=60.0)
    service.launcher.failures = [StoreError("away")] * 100
    scheduler = service.scheduler()
    clock.set("2026-11-24T02:30:00")
    for _ in range(10):
        await tick(scheduler)
        clock.move(10)
    assert len(service.launcher.calls) == 7
    assert (await service.schedules.store.get("night")).last_error == (
        "2026-11-24T02:30:00Z: given up, it was late by 1 min 10 s"
    )


async def test_a_redis_that_is_away_for_a_while_is_waited_for(redis_server: RedisServer) -> None:
    clock = Hand("2026-11-24T01:00:00")
    service = Service(redis_server.url, clock)
    await service.add("night", NIGHT)
    scheduler = service.scheduler()

    async def fired() -> bool:
        with contextlib.suppress(StoreError):
            return bool((await service.schedules.store.get("night")).last_fire_us)
        return False

    async with running(scheduler):
        await eventually(lambda: _true(scheduler.active), "it is active")
        redis_server.end()  # gently: nothing of the last second is lost
        clock.set("2026-11-24T02:30:00")
        scheduler.wake()
        await asyncio.sleep(0.2)
        redis_server.start()
        await eventually(fired, "the fire time is fired")
    assert await service.rollouts() == ["night-20261124T023000Z"]
    await service.store.close()


# What people do


async def test_a_paused_schedule_fires_nothing_and_misses_nothing(service: Service, clock: Hand) -> None:
    await service.add("often", "*/10 * * * *")
    scheduler = service.scheduler()
    await service.schedules.pause("often", ADMIN)
    clock.set("2026-11-24T01:35:00")
    await tick(scheduler)
    await service.schedules.resume("often", ADMIN, now_us=clock())
    await tick(scheduler)
    assert await service.rollouts() == []
    clock.set("2026-11-24T01:40:00")
    await tick(scheduler)
    assert await service.rollouts() == ["often-20261124T014000Z"]
    actions = [(entry.actor, entry.action) for entry in await AuditLog(service.store).newest(10)]
    assert actions == [
        ("schedule:often", "rollout.launch"),
        ("admin@pbx", "schedule.resume"),
        ("admin@pbx", "schedule.pause"),
        ("admin@pbx", "schedule.add"),
    ]


async def test_a_schedule_can_be_run_by_hand_but_not_twice_at_once(service: Service, clock: Hand) -> None:
    await service.add("night", NIGHT)
    await service.schedules.pause("night", ADMIN)
    launched = await service.schedules.run("night", ADMIN, now_us=clock())
    assert launched.record.id == "night-run-20261124T010000Z"
    with pytest.raises(StateError, match="rollout night-run-20261124T010000Z of schedule night is not over"):
        await service.schedules.run("night", ADMIN, now_us=clock() + 1_000_000)


async def test_a_fire_time_does_not_overlap_what_was_run_by_hand(service: Service, clock: Hand) -> None:
    await service.add("night", NIGHT)
    await service.schedules.run("night", ADMIN, now_us=clock())
    clock.set("2026-11-24T02:30:00")
    await tick(service.scheduler())
    assert await service.rollouts() == ["night-run-20261124T010000Z"]


@pytest.mark.parametrize(
    ("order", "complaint"),
    [
        ({"source": "berlin"}, "there is no source 'berlin'"),
        ({**PHONES, "where": ["site=nowhere"]}, "no phone is left"),
        ({"phones": [{"contact": "sip:1@127.0.0.1:9;transport=ws"}]}, "would send to no phone: all are skipped"),
        ({**PHONES, "options": {"event": "check-sync;reboot=true"}}, "--action reboot"),
        ({"phones": [{"aor": "nonsense"}]}, "phones.0"),
    ],
)
async def test_what_can_never_work_is_refused_when_it_is_added(
    service: Service, order: dict[str, Any], complaint: str
) -> None:
    with pytest.raises((InputError, NotFoundError), match=complaint):
        await service.add("night", NIGHT, order=order)
    assert await service.schedules.store.list() == []


@pytest.mark.parametrize("name", ["", "two words", "night-run", "a" * 65, "#"])
async def test_a_name_that_cannot_be_part_of_a_rollouts_name_is_refused(service: Service, name: str) -> None:
    with pytest.raises(InputError, match="cannot name a"):
        await service.add(name, NIGHT)


async def test_records_are_json_that_people_can_read(service: Service) -> None:
    await service.add("night", NIGHT, tz="Europe/Berlin", overlap=Overlap.QUEUE)
    stored = json.loads(await service.store.client.hget(keys.SCHEDULES, "night"))
    assert stored["when"] == {"cron": "30 2 * * *", "tz": "Europe/Berlin"}
    assert stored["order"] == PHONES
    assert (stored["misfire"], stored["grace"], stored["overlap"]) == ("run-once", 3600.0, "queue")


async def test_a_damaged_record_stops_only_itself(service: Service, clock: Hand) -> None:
    await service.add("night", NIGHT)
    await service.store.client.hset(keys.SCHEDULES, "broken", "{")
    clock.set("2026-11-24T02:30:00")
    await tick(service.scheduler())
    assert await service.rollouts() == ["night-20261124T023000Z"]


async def test_a_change_is_made_on_what_is_stored_now(service: Service) -> None:
    await service.add("night", NIGHT)
    store = ScheduleStore(service.store)
    seen: list[float] = []

    def change(record: ScheduleRecord) -> ScheduleRecord:
        seen.append(record.grace)
        return replace(record, grace=record.grace + 1)

    await asyncio.gather(*(store.update("night", change) for _ in range(10)))
    assert (await store.get("night")).grace == 3610.0
    assert len(seen) > 10  # some were too late and saw the record again


def test_names_of_rollouts_fit_and_stay_different() -> None:
    moment = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)
    assert fire_id("sunday", moment) == "sunday-20261124T020000Z"
    assert run_id("sunday", moment) == "sunday-run-20261124T020000Z"
    names = [f"{'a' * 60}{number}" for number in range(10)]
    made = [kind(name, moment) for name in names for kind in (fire_id, run_id)]
    assert len(set(made)) == 20
    assert max(map(len, made)) == 64
