"""Two services and four workers, one of them killed again and again, while twenty schedules fire."""

from __future__ import annotations

import asyncio
import json
import random
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from resyncctl.clock import now_us
from resyncctl.engine.calendar import When
from resyncctl.engine.launch import Launcher
from resyncctl.engine.order import Order
from resyncctl.engine.schedules import Policy, Schedules, fire_id
from resyncctl.store.audit import Actor
from resyncctl.store.redis_store import RedisStore
from tests.engine.controller import Controller
from tests.engine.recorder import Recorder
from tests.engine.service import Fleet
from tests.peers.redis_server import RedisServer

pytestmark = [pytest.mark.needs("redis-server"), pytest.mark.slow]

ROLLOUTS = 20
PHONES = 40
SEED = 1142


def scheduled(url: str, lists: dict[str, Path], first: datetime) -> dict[str, str]:
    """Schedule a reboot of each list, one a second; return the rollout that each schedule has to start."""

    async def story() -> dict[str, str]:
        store = RedisStore(url)
        schedules = Schedules(store, Launcher(store, {}))
        expected = {}
        for index, (name, path) in enumerate(lists.items()):
            moment = first + timedelta(seconds=index)
            when = When.parse(now=datetime.now(UTC), at=moment.isoformat())
            options = {"action": "reboot", "now": True, "rate": 20, "batch_size": 10}
            order = Order.model_validate({"phones_file": str(path), "options": options})
            await schedules.add(name, when=when, order=order, policy=Policy(), actor=Actor("test"), now_us=now_us())
            expected[name] = str(fire_id(name, moment))
        await store.close()
        return expected

    return asyncio.run(story())


def test_every_fire_time_starts_one_rollout_and_no_phone_is_rebooted_twice_or_forgotten(
    tmp_path: Path, phones: Recorder
) -> None:
    rng = random.Random(SEED)
    with RedisServer() as redis:
        own = Controller(tmp_path / "data", redis.url)
        lists = {}
        for index in range(ROLLOUTS):
            users = [f"{('ok', 'late200')[n % 2]}.s{index}x{n}" for n in range(PHONES)]
            lists[f"s{index}"] = phones.phone_list(tmp_path / f"s{index}.csv", users)
        with (
            Fleet(own, 2, url=redis.url, command="serve", options=("--listen", "127.0.0.1:0")) as services,
            Fleet(own, 4, url=redis.url, alive=6) as workers,
        ):
            first = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=3)
            expected = scheduled(redis.url, lists, first)
            ends_at = first.timestamp() + ROLLOUTS
            while time.time() < ends_at:
                time.sleep(1.0 + 2 * rng.random())
                (services if rng.random() < 0.4 else workers).kill_one(rng)
            reports = {name: workers.finished(rollout, within=90) for name, rollout in expected.items()}
        status, output, errors = own.run("rollout", "list", "--count", "100")
        assert status == 0, errors
    assert sorted(one["rollout"] for one in json.loads(output)) == sorted(expected.values())
    times = phones.times()
    assert max(times.values()) == 1
    for index, report in enumerate(reports[f"s{number}"] for number in range(ROLLOUTS)):
        sent = sum(times[f"{('ok', 'late200')[n % 2]}.s{index}x{n}"] for n in range(PHONES))
        counts = report["counts"]
        assert report["state"] == "finished"
        assert sum(counts.values()) == PHONES
        assert set(counts) <= {"accepted", "unknown"}
        assert counts.get("accepted", 0) <= sent
    assert sum(report["counts"].get("accepted", 0) for report in reports.values()) > ROLLOUTS * PHONES * 0.8
