"""Redis is killed, restarted or stands still in mid-rollout: nothing lost, nothing sent twice, no burst afterwards."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.engine.controller import Controller, eventually, states
from tests.engine.recorder import Recorder, most_in_a_second
from tests.peers.redis_server import RedisServer

pytestmark = pytest.mark.needs("redis-server")

COUNT = 300
RATE = 100
JITTER = 0.02
"""Seconds that a datagram may take longer than another on loopback while two cores are busy with five rollouts."""
SLICE = 0.4
"""Seconds of sends whose intents are in Redis already when it goes away; these still leave."""


def command(name: str, phones: Path, action: str) -> tuple[str | Path, ...]:
    return ("run", phones, "--id", name, "--action", action, "--now", "--rate", str(RATE), "--yes")


def killed(action: str, redis_server: RedisServer, phones: Recorder, tmp_path: Path) -> None:
    controller = Controller(tmp_path, redis_server.url)
    users = [f"ok.{index}" for index in range(COUNT)]
    with controller.start(*command("killed", phones.phone_list(tmp_path / "p.csv", users), action)) as sender:
        for share in (4, 2):
            eventually(lambda part=COUNT // share: len(phones.times()) > part, "it is under way", within=20)  # type: ignore[misc]
            redis_server.kill()
            killed_at = time.time()
            time.sleep(1.5)
            redis_server.start()
            assert [one for one in phones.requests() if one.at > killed_at + SLICE and one.at < killed_at + 1.5] == []
        assert sender.status() == 0
        report = sender.report()
    assert report["counts"] == {"accepted": COUNT}
    assert states(controller.results("killed")) == {"accepted": COUNT}
    assert phones.times() == dict.fromkeys(users, 1)
    times = sorted(one.at for one in phones.requests())
    assert most_in_a_second(times, jitter=JITTER) <= RATE
    assert times[-1] - times[0] > COUNT / RATE + 2 * 1.5 - 2 * SLICE  # the plan was shifted by both outages


def frozen(redis_server: RedisServer, phones: Recorder, tmp_path: Path) -> None:
    controller = Controller(tmp_path, redis_server.url)
    users = [f"ok.{index}" for index in range(COUNT)]
    with controller.start(*command("frozen", phones.phone_list(tmp_path / "p.csv", users), "reboot")) as sender:
        for part, seconds in ((COUNT // 4, 2.0), (COUNT // 2, 6.5)):  # less and more than a command's time-out
            eventually(lambda part=part: len(phones.times()) > part, "it is under way", within=20)  # type: ignore[misc]
            redis_server.freeze()
            frozen_at = time.time()
            time.sleep(seconds)
            redis_server.thaw()
            late = [one for one in phones.requests() if frozen_at + SLICE < one.at < frozen_at + seconds]
            assert late == []
        assert sender.status() == 0
    assert states(controller.results("frozen")) == {"accepted": COUNT}
    assert phones.times() == dict.fromkeys(users, 1)
    assert most_in_a_second((one.at for one in phones.requests()), jitter=JITTER) <= RATE


def embedded(_: RedisServer, phones: Recorder, tmp_path: Path) -> None:
    controller = Controller(tmp_path / "data")
    users = [f"ok.{index}" for index in range(COUNT)]
    with controller.start(*command("embedded", phones.phone_list(tmp_path / "p.csv", users), "reboot")) as sender:
        for part in (COUNT // 4, COUNT // 2):
            eventually(lambda part=part: len(phones.times()) > part, "it is under way", within=20)  # type: ignore[misc]
            os.kill(int((tmp_path / "data" / "server.pid").read_text()), signal.SIGKILL)
        assert sender.status() == 0
    assert states(controller.results("embedded")) == {"accepted": COUNT}
    assert phones.times() == dict.fromkeys(users, 1)
    assert most_in_a_second((one.at for one in phones.requests()), jitter=JITTER) <= RATE


def both(redis_server: RedisServer, phones: Recorder, tmp_path: Path) -> None:
    controller = Controller(tmp_path, redis_server.url)
    lists = {
        action: phones.phone_list(tmp_path / f"{action}.csv", [f"ok.{action}{index}" for index in range(COUNT)])
        for action in ("reboot", "resync")
    }
    with (
        controller.start(*command("reboot", lists["reboot"], "reboot")) as first,
        controller.start(*command("resync", lists["resync"], "resync")) as second,
    ):
        eventually(lambda: len(phones.times()) > COUNT, "they are under way", within=20)
        redis_server.kill()
        first.kill()
        second.kill()
    redis_server.start()
    with ThreadPoolExecutor(2) as pool:
        statuses = list(pool.map(lambda name: controller.run("rollout", "resume", name)[0], lists))
    assert set(statuses) <= {0, 1}
    times = phones.times()
    results = controller.results("reboot")
    assert set(states(results)) <= {"accepted", "unknown"}
    assert {user for user in results if not times[user]} <= {u for u in results if results[u]["state"] == "unknown"}
    assert max(times[user] for user in results) == 1
    assert states(controller.results("resync")) == {"accepted": COUNT}


STORIES: dict[str, Callable[[RedisServer, Recorder, Path], None]] = {
    "killed under a reboot": partial(killed, "reboot"),
    "killed under a resync": partial(killed, "resync"),
    "frozen": frozen,
    "embedded": embedded,
    "sender killed too": both,
}


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[None]]]:
    """Tell all stories at once, each with a redis-server and phones of its own."""

    def tell(story: Callable[[RedisServer, Recorder, Path], None], directory: Path) -> None:
        with RedisServer() as redis_server, Recorder() as phones:
            story(redis_server, phones, directory)

    with ThreadPoolExecutor(len(STORIES)) as pool:
        yield {name: pool.submit(tell, story, tmp_path_factory.mktemp("story")) for name, story in STORIES.items()}


@pytest.mark.parametrize("name", ["killed under a reboot", "killed under a resync"])
def test_killed_redis_comes_back_and_the_rollout_goes_on_by_itself(name: str, stories: dict[str, Future[None]]) -> None:
    stories[name].result()


def test_frozen_redis_stops_the_rollout_for_as_long_as_it_stands_still(stories: dict[str, Future[None]]) -> None:
    stories["frozen"].result()


def test_killed_embedded_server_is_started_again_in_mid_rollout(stories: dict[str, Future[None]]) -> None:
    stories["embedded"].result()


def test_sender_and_redis_killed_together_break_no_promise(stories: dict[str, Future[None]]) -> None:
    stories["sender killed too"].result()


def test_operator_learns_that_redis_is_away_and_can_leave(
    redis_server: RedisServer, phones: Recorder, tmp_path: Path
) -> None:
    controller = Controller(tmp_path, redis_server.url)
    users = [f"ok.{index}" for index in range(COUNT)]
    with controller.start(*command("away", phones.phone_list(tmp_path / "p.csv", users), "resync")) as sender:
        eventually(lambda: len(phones.times()) > 20, "it is under way", within=20)
        redis_server.kill()
        eventually(lambda: "redis_lost" in sender.errors(), "it says so")
        sender.send(signal.SIGINT)
        assert sender.status(within=3) == 4
        assert "cannot be reached" in sender.errors()
