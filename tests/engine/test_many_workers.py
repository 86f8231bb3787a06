"""Several workers share one rollout: its rate, its pauses, its crashes; measured at the phones."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from resyncctl.rollout.model import RolloutId
from resyncctl.store import keys
from tests.engine.controller import Controller, eventually, states
from tests.engine.recorder import Recorder, most_in_a_second
from tests.engine.service import Fleet, launch, terminate
from tests.peers.redis_sentinel import RedisSentinel
from tests.peers.redis_server import RedisServer

pytestmark = pytest.mark.needs("redis-server")

JITTER = 0.005
COUNT = 600


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def own(tmp_path: Path, own_redis: RedisServer) -> Controller:
    return Controller(tmp_path / "data", own_redis.url)


def listed(
    phones: Recorder, tmp_path: Path, name: str, count: int = COUNT, *, kinds: tuple[str, ...] = ("ok",)
) -> Path:
    users = [f"{kinds[index % len(kinds)]}.{name}{index}" for index in range(count)]
    return phones.phone_list(tmp_path / f"{name}.csv", users)


def test_four_workers_share_a_rollout_and_together_keep_its_rate(
    own: Controller, own_redis: RedisServer, phones: Recorder, tmp_path: Path
) -> None:
    with Fleet(own, 4, url=own_redis.url) as fleet:
        path = listed(phones, tmp_path, "shared", kinds=("ok", "once503", *["ok"] * 4, "late200"))
        launch(own_redis.url, "shared", path, rate=150, batch_size=20, batch_interval="0s", retry_delay="300ms")
        report = fleet.finished("shared")
        assert report["counts"] == {"accepted": COUNT}
        assert report["retries"] == 86
        assert len(fleet.shares("shared")) >= 2
    times = sorted(one.at for one in phones.requests())
    assert most_in_a_second(times, jitter=JITTER) <= 150
    assert set(phones.times()) == set(own.results("shared"))


def test_killed_workers_lose_nothing_and_send_no_reboot_twice(
    own: Controller, own_redis: RedisServer, phones: Recorder, tmp_path: Path
) -> None:
    rng = random.Random(33)
    with Fleet(own, 3, url=own_redis.url) as fleet:
        for action in ("reboot", "resync"):
            path = listed(phones, tmp_path, action, kinds=("ok", "late300"))
            launch(own_redis.url, action, path, action=action, rate=120, batch_size=25)
        for _ in range(4):
            time.sleep(0.5 + rng.random())
            fleet.kill_one(rng)
        reports = {action: fleet.finished(action) for action in ("reboot", "resync")}
    times = phones.times()
    for action, report in reports.items():
        results = own.results(action)
        assert report["state"] == "finished"
        assert report["counts"] == states(results)
        assert len(results) == COUNT
        sent = {user: times[user] for user in results}
        if action == "reboot":
            assert max(sent.values()) == 1
            assert {results[user]["state"] for user, count in sent.items() if not count} <= {"unknown"}
        else:
            assert min(sent.values()) >= 1
            assert states(results) == {"accepted": COUNT}


def test_terminated_worker_hands_over_within_five_seconds_and_no_phone_notices(
    own: Controller, own_redis: RedisServer, phones: Recorder, tmp_path: Path
) -> None:
    with Fleet(own, 2, url=own_redis.url) as fleet:
        path = listed(phones, tmp_path, "handed", kinds=("ok", "late500"))
        launch(own_redis.url, "handed", path, action="reboot", rate=100, batch_size=25)
        eventually(lambda: len(phones.times()) > COUNT // 5, "it is under way", within=20)
        for worker in fleet.workers[:]:
            began = time.monotonic()
            terminate(worker)
            assert worker.status(within=8) == 0
            assert time.monotonic() - began < 5
            fleet.workers.remove(worker)
            fleet.add()
        report = fleet.finished("handed")
    assert report["counts"] == {"accepted": COUNT}
    assert max(phones.times().values()) == 1


def test_pause_resume_and_abort_reach_every_worker_within_a_second(
    own: Controller, own_redis: RedisServer, phones: Recorder, tmp_path: Path
) -> None:
    with Fleet(own, 3, url=own_redis.url) as fleet:
        path = listed(phones, tmp_path, "steered", 1500)
        launch(own_redis.url, "steered", path, action="reboot", rate=150, batch_size=25)
        eventually(lambda: len(phones.times()) > 150, "it is under way", within=20)
        assert own.run("rollout", "pause", "steered")[0] == 0
        paused_at = time.time()
        time.sleep(2.5)
        last_at = max(one.at for one in phones.requests())
        assert last_at < paused_at + 1
        assert own.run("rollout", "resume", "steered")[0] == 0
        resumed_at = time.time()
        eventually(lambda: len(phones.times()) > 600, "it goes on", within=20)
        first_after = min(one.at for one in phones.requests() if one.at > last_at)
        assert first_after < resumed_at + 1
        assert own.run("rollout", "abort", "steered")[0] == 0
        aborted_at = time.time()
        report = fleet.finished("steered")
        assert max(one.at for one in phones.requests()) < aborted_at + 1
    sent = len(phones.times())
    assert report["counts"] == {"accepted": sent, "cancelled": 1500 - sent}
    assert most_in_a_second((one.at for one in phones.requests()), jitter=JITTER) <= 150


def test_redis_that_is_killed_under_three_workers_forgets_nothing(
    own: Controller, own_redis: RedisServer, phones: Recorder, tmp_path: Path
) -> None:
    with Fleet(own, 3, url=own_redis.url) as fleet:
        path = listed(phones, tmp_path, "outage", kinds=("ok", "late300"))
        launch(own_redis.url, "outage", path, action="reboot", rate=100, batch_size=25)
        for count in (100, 300):
            eventually(lambda count=count: len(phones.times()) > count, "it is under way", within=30)  # type: ignore[misc]
            own_redis.kill()
            time.sleep(1.0)
            own_redis.start()
        report = fleet.finished("outage")
    assert report["counts"] == {"accepted": COUNT}
    assert phones.times() == dict.fromkeys(phones.times(), 1)
    assert most_in_a_second((one.at for one in phones.requests()), jitter=JITTER) <= 100


def test_phones_of_a_site_are_sent_to_by_the_workers_that_reach_it(
    own: Controller, own_redis: RedisServer, phones: Recorder, tmp_path: Path
) -> None:
    path = tmp_path / "sites.csv"
    rows = [f"{phones.contact(f'ok.{site}{n}')},{site}" for n in range(40) for site in ("ber-1", "ber-2", "muc-1")]
    path.write_text("\n".join(["contact,site", *rows]) + "\n", encoding="utf-8")
    with Fleet(own, 1, url=own_redis.url) as fleet:
        launch(own_redis.url, "sites", path, pools=("berlin=ber-*",), rate=200)
        eventually(lambda: len(phones.times()) == 40, "all others have been sent to", within=20)
        assert own.show("sites")["counts"] == {"accepted": 40, "planned": 80}
        fleet.add("--pool", "berlin")
        report = fleet.finished("sites")
        assert report["counts"] == {"accepted": 120}
        assert sorted(fleet.shares("sites").values()) == [40, 80]


def test_fail_over_of_redis_in_mid_rollout_loses_nothing(phones: Recorder, tmp_path: Path) -> None:
    with RedisSentinel() as redis:
        own = Controller(tmp_path / "data", redis.url)
        with Fleet(own, 2, url=redis.url) as fleet:
            path = listed(phones, tmp_path, "sentinel", kinds=("ok", "late300"))
            launch(redis.url, "sentinel", path, rate=100, batch_size=25)
            eventually(lambda: len(phones.times()) > 150, "it is under way", within=30)
            redis.kill_primary()
            report = fleet.finished("sentinel")
    assert report["counts"] == {"accepted": COUNT}
    assert most_in_a_second((one.at for one in phones.requests()), jitter=JITTER) <= 100


@pytest.mark.parametrize("paused", [True, False], ids=["paused", "slow"])
def test_rollout_that_cannot_go_on_holds_up_no_other(
    own: Controller, own_redis: RedisServer, phones: Recorder, tmp_path: Path, paused: bool
) -> None:
    with Fleet(own, 1, url=own_redis.url) as fleet:
        stuck = listed(phones, tmp_path, "stuck", 5000, kinds=("silent",))
        launch(own_redis.url, "stuck", stuck, rate=0, max_in_flight=10)
        eventually(lambda: len(phones.times()) >= 10, "all that may be on the wire is", within=20)
        if paused:
            assert own.run("rollout", "pause", "stuck")[0] == 0
        launch(own_redis.url, "other", listed(phones, tmp_path, "other", 50), rate=0)
        assert fleet.finished("other", within=15)["counts"] == {"accepted": 50}
        assert own.show("stuck")["counts"]["planned"] > 4900


@pytest.mark.parametrize("harm", ["deadly", "damaged"])
def test_batch_that_cannot_be_worked_on_is_given_up_and_the_others_are_done(
    own: Controller, own_redis: RedisServer, phones: Recorder, tmp_path: Path, harm: str
) -> None:
    path = listed(phones, tmp_path, "poison", 1200)
    launch(own_redis.url, "poison", path, rate=0, batch_size=512)
    name = RolloutId("poison")
    with Redis.from_url(own_redis.url) as client:
        if harm == "deadly":  # six workers have died with it
            client.hset(keys.part(name, "owners"), "1", "a-dead-worker")
            client.hset(keys.part(name, "deaths"), "1", 5)
        else:
            client.hset(keys.plan(name), "1", b"nonsense")
    with Fleet(own, 1, url=own_redis.url) as fleet:
        report = fleet.finished("poison", within=20)
    assert report["counts"] == {"accepted": 1200 - 512, "unknown": 512}
    assert report["failure_reasons"] == {"given up: its batch cannot be worked on": 512}
    assert len(phones.times()) == 1200 - 512
