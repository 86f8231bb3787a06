"""A sender is killed, interrupted, or replaced: a reboot reaches no phone twice, a resync every phone, no target is lost."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.engine.controller import TERMINAL, Controller, eventually, states
from tests.engine.recorder import Recorder
from tests.peers.redis_server import RedisServer

pytestmark = pytest.mark.needs("redis-server")

COUNT = 300
RATE = 150
"""A rollout of two seconds."""


class Story:
    """One rollout of COUNT phones; some answer late, so that there is always something on the wire."""

    def __init__(self, controller: Controller, phones: Recorder, directory: Path, name: str, action: str) -> None:
        self.controller, self.phones, self.name, self.action = controller, phones, name, action
        self.users = [f"{('ok', 'ok', 'late300')[index % 3]}.{name}x{index}" for index in range(COUNT)]
        self.list = phones.phone_list(directory / f"{name}.csv", self.users)

    def command(self) -> tuple[str | Path, ...]:
        return ("run", self.list, "--id", self.name, "--action", self.action, "--now", "--rate", str(RATE), "--yes")

    def sent(self) -> int:
        return len(self.phones.times(self.users))

    def finish(self) -> None:
        """Resume, as the operator does, until the rollout has ended."""
        status, _, errors = self.controller.run("rollout", "resume", self.name)
        assert status in {0, 1}, errors

    def check(self) -> None:
        """Compare the results with what the phones have received."""
        results = self.controller.results(self.name)
        times = self.phones.times(self.users)
        assert sorted(results) == sorted(self.users)
        assert {row["state"] for row in results.values()} <= TERMINAL
        if self.action == "reboot":
            assert max(times.values()) == 1
            never = [results[user]["state"] for user in self.users if not times[user]]
            assert set(never) <= {"unknown"}
        else:
            assert set(times) == set(self.users)
            assert states(results) == {"accepted": COUNT}
        report = self.controller.show(self.name)
        assert report["state"] == "finished"
        assert report["counts"] == states(results)


World = tuple[Controller, Recorder, Path]


def killed(world: World, action: str, number: int, moment: float, *, again: bool) -> None:
    """Kill the sender when `moment` phones have been reached, with `again` its successor as well; then resume."""
    story = Story(*world, f"killed-{action}-{number}", action)
    with story.controller.start(*story.command()) as sender:
        eventually(lambda: story.sent() > moment, "it has come so far", within=25)
        sender.kill()
    if again:
        seen = story.sent()
        with story.controller.start("rollout", "resume", story.name) as sender:
            eventually(lambda: story.sent() > seen + COUNT // 5, "it has been taken over", within=25)
            sender.kill()
    story.finish()
    story.check()


def takers(world: World) -> None:
    """Let two commands wait for the lease of an owner that stands still, and kill it."""
    story = Story(*world, "takers", "reboot")
    with story.controller.start(*story.command()) as sender:
        eventually(lambda: story.sent() > COUNT // 3, "a third has been reached", within=25)
        sender.send(signal.SIGSTOP)
        with story.controller.start(*story.command()) as first, story.controller.start(*story.command()) as second:
            eventually(lambda: first.process.poll() is None and second.process.poll() is None, "both wait")
            sender.kill()
            statuses = sorted((first.status(), second.status()))
            texts = first.errors() + second.errors()
    assert statuses[0] in {0, 1}
    assert statuses[1] == 2
    assert "is being executed by" in texts
    story.check()


def stale(world: World) -> None:
    """Stop an owner for longer than its lease lasts, and let it go on while another one executes the rollout."""
    story = Story(*world, "stale", "reboot")
    with story.controller.start(*story.command()) as owner:
        eventually(lambda: story.sent() > COUNT // 3, "a third has been reached", within=25)
        owner.send(signal.SIGSTOP)
        seen = story.sent()
        with story.controller.start("rollout", "resume", story.name) as taker:
            eventually(lambda: story.sent() > seen + COUNT // 5, "it has been taken over", within=25)
            awake_at = time.time()
            owner.send(signal.SIGCONT)
            assert owner.status(within=5) == 4
            assert "executed by another process now" in owner.errors()
            assert taker.status() in {0, 1}
    story.check()
    left_over = {user for user, row in story.controller.results(story.name).items() if row["state"] == "unknown"}
    assert [one for one in story.phones.requests(left_over) if one.at > awake_at] == []


KILLS = [(action, number) for number in range(3) for action in ("reboot", "resync")]


@pytest.fixture(scope="module")
def stories(shared_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[None]]]:
    """Tell the stories in which a lease has to end, ten seconds each, all at once."""
    directory = tmp_path_factory.mktemp("stories")
    rng = random.Random("kill")
    with Recorder() as phones, ThreadPoolExecutor(8) as pool:
        world = (Controller(directory / "data", shared_redis.url), phones, directory)
        told = {"takers": pool.submit(takers, world), "stale": pool.submit(stale, world)}
        for action, number in KILLS:
            again = number == 2
            moment = rng.uniform(0, COUNT * (0.4 if again else 0.95))
            told[f"{action}{number}"] = pool.submit(killed, world, action, number, moment, again=again)
        yield told


@pytest.mark.parametrize(("action", "number"), KILLS)
def test_killed_sender_is_resumed_and_no_promise_is_broken(
    action: str, number: int, stories: dict[str, Future[None]]
) -> None:
    stories[f"{action}{number}"].result()


def test_takers_that_wait_while_the_owner_is_killed_execute_it_once(stories: dict[str, Future[None]]) -> None:
    stories["takers"].result()


def test_stale_owner_stops_without_sending_anything_twice(stories: dict[str, Future[None]]) -> None:
    stories["stale"].result()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_pauses_and_follows_what_is_on_the_wire_to_its_end(
    number: signal.Signals, controller: Controller, phones: Recorder, tmp_path: Path
) -> None:
    story = Story(controller, phones, tmp_path, f"{number.name}", "reboot")
    with controller.start(*story.command()) as sender:
        eventually(lambda: story.sent() > COUNT // 3, "a third has been reached", within=20)
        sender.send(number)
        assert sender.status(within=5) == 130
        report = sender.report()
    assert report["state"] == "paused"
    assert report["pause_reason"] == "operator"
    assert report["counts"] == {"accepted": story.sent(), "planned": COUNT - story.sent()}
    story.finish()
    story.check()
    assert controller.show(story.name)["counts"] == {"accepted": COUNT}


@pytest.mark.parametrize("action", ["reboot", "resync"])
def test_second_interrupt_leaves_at_once_and_is_still_safe(
    action: str, controller: Controller, phones: Recorder, tmp_path: Path
) -> None:
    story = Story(controller, phones, tmp_path, f"leave-{action}", action)
    silent = [f"silent.{index}" for index in range(5)]
    story.users[:0] = silent
    story.list = phones.phone_list(story.list, story.users)
    with controller.start(*story.command(), "--timeout", "4s", "--attempts", "1") as sender:
        eventually(lambda: story.sent() > COUNT // 3, "a third has been reached", within=20)
        sender.send(signal.SIGINT)
        eventually(lambda: "pausing" in sender.errors(), "the first Ctrl-C was taken")
        sender.send(signal.SIGINT)
        assert sender.status(within=1.5) == 130
    story.finish()
    results, times = controller.results(story.name), phones.times(story.users)
    assert {row["state"] for row in results.values()} <= TERMINAL
    if action == "reboot":
        assert max(times.values()) == 1
        assert {results[user]["state"] for user in silent} == {"unknown"}
    assert {results[user]["state"] for user in story.users if not times[user]} <= {"unknown"}
    if action == "resync":
        assert set(times) == set(story.users)
    rest = {user: row for user, row in results.items() if user not in silent}
    assert set(states(rest)) <= ({"accepted", "unknown"} if action == "reboot" else {"accepted"})


def test_run_with_the_same_id_resumes_an_interrupted_rollout(
    controller: Controller, phones: Recorder, tmp_path: Path
) -> None:
    story = Story(controller, phones, tmp_path, "same-id", "reboot")
    with controller.start(*story.command()) as sender:
        eventually(lambda: story.sent() > COUNT // 3, "a third has been reached", within=20)
        sender.send(signal.SIGINT)
        assert sender.status(within=5) == 130
    assert controller.run(*story.command(), within=15)[0] == 0
    story.check()
