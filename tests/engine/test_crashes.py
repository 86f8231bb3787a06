"""A sender is killed, interrupted, or replaced: a reboot reaches no phone twice, a resync every phone, no target is lost."""

from __future__ import annotations

import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.engine.controller import TERMINAL, Controller, eventually, states
from tests.engine.recorder import Recorder

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


def test_killed_sender_is_resumed_and_no_promise_is_broken(
    controller: Controller, phones: Recorder, tmp_path: Path
) -> None:
    """Each story runs by itself, all at once: kills at random moments, of the first sender, or of its successor as well."""
    rng = random.Random("kill")

    def tell(action: str, number: int, moment: float, *, again: bool) -> None:
        story = Story(controller, phones, tmp_path, f"killed-{action}-{number}", action)
        with controller.start(*story.command()) as sender:
            eventually(lambda: story.sent() > moment, "it has come so far", within=25)
            sender.kill()
        if again:
            seen = story.sent()
            with controller.start("rollout", "resume", story.name) as sender:
                eventually(lambda: story.sent() > seen + COUNT // 5, "it has been taken over", within=25)
                sender.kill()
        story.finish()
        story.check()

    with ThreadPoolExecutor(6) as pool:
        stories = []
        for number, again in enumerate((False, False, True)):
            for action in ("reboot", "resync"):
                moment = rng.uniform(0, COUNT * (0.4 if again else 0.95))
                stories.append(pool.submit(tell, action, number, moment, again=again))
        for story in stories:
            story.result()


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


def test_takers_that_wait_while_the_owner_is_killed_execute_it_once(
    controller: Controller, phones: Recorder, tmp_path: Path
) -> None:
    story = Story(controller, phones, tmp_path, "takers", "reboot")
    with controller.start(*story.command()) as sender:
        eventually(lambda: story.sent() > COUNT // 3, "a third has been reached", within=20)
        sender.send(signal.SIGSTOP)
        with controller.start(*story.command()) as first, controller.start(*story.command()) as second:
            eventually(lambda: first.process.poll() is None and second.process.poll() is None, "both wait")
            sender.kill()
            statuses = sorted((first.status(), second.status()))
            texts = first.errors() + second.errors()
    assert statuses[0] in {0, 1}
    assert statuses[1] == 2
    assert "is being executed by" in texts
    story.check()


def test_stale_owner_stops_without_sending_anything_twice(
    controller: Controller, phones: Recorder, tmp_path: Path
) -> None:
    story = Story(controller, phones, tmp_path, "stale", "reboot")
    with controller.start(*story.command()) as stale:
        eventually(lambda: story.sent() > COUNT // 3, "a third has been reached", within=20)
        stale.send(signal.SIGSTOP)
        seen = story.sent()
        with controller.start("rollout", "resume", story.name) as taker:
            eventually(lambda: story.sent() > seen + COUNT // 5, "it has been taken over", within=20)
            awake_at = time.time()
            stale.send(signal.SIGCONT)
            assert stale.status(within=3) == 2
            assert "executed by another process now" in stale.errors()
            assert taker.status() in {0, 1}
    story.check()
    left_over = {user for user, row in controller.results(story.name).items() if row["state"] == "unknown"}
    assert [one for one in phones.requests(left_over) if one.at > awake_at] == []
