"""An operator steers a rollout from another terminal: it obeys within a second, measured at the phones."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from tests.engine.controller import Controller, eventually, states
from tests.engine.recorder import Recorder, most_in_a_second

pytestmark = pytest.mark.needs("redis-server")

COUNT = 400
RATE = 100
JITTER = 0.005


def command(name: str, phones: Path, *more: str) -> tuple[str | Path, ...]:
    return ("run", phones, "--id", name, "--action", "reboot", "--now", "--rate", str(RATE), "--yes", *more)


@pytest.fixture
def phone_list(phones: Recorder, tmp_path: Path) -> Path:
    return phones.phone_list(tmp_path / "phones.csv", [f"ok.{index}" for index in range(COUNT)])


def test_pause_and_resume_act_within_a_second_and_shift_the_rest(
    controller: Controller, phones: Recorder, phone_list: Path
) -> None:
    with controller.start(*command("steered", phone_list)) as sender:
        eventually(lambda: len(phones.times()) > COUNT // 4, "it is under way", within=20)
        assert controller.run("rollout", "pause", "steered")[0] == 0
        returned_at = time.time()
        time.sleep(2)
        last_at = max(one.at for one in phones.requests())
        assert last_at <= returned_at + 1
        assert controller.show("steered")["counts"] == {
            "accepted": len(phones.times()),
            "planned": COUNT - len(phones.times()),
        }
        status, _, errors = controller.run("rollout", "resume", "steered")
        assert (status, "goes on in the process that executes it" in errors) == (0, True)
        resumed_at = time.time()
        assert sender.status() == 0
    times = sorted(one.at for one in phones.requests())
    first_after = next(at for at in times if at > last_at)
    assert first_after < resumed_at + 1
    assert most_in_a_second(times, jitter=JITTER) <= RATE
    assert times[-1] - times[0] == pytest.approx(COUNT / RATE * 1.005 + first_after - last_at, abs=0.25)
    assert phones.times() == dict.fromkeys(phones.times(), 1)
    rows = controller.results("steered").values()
    assert states(controller.results("steered")) == {"accepted": COUNT}
    assert max(seconds(row["sent_at"]) - seconds(row["planned_at"]) for row in rows) < 0.1


def test_abort_cancels_the_rest_and_ends_the_running_command_with_3(
    controller: Controller, phones: Recorder, phone_list: Path
) -> None:
    with controller.start(*command("aborted", phone_list)) as sender:
        eventually(lambda: len(phones.times()) > COUNT // 4, "it is under way", within=20)
        assert controller.run("rollout", "abort", "aborted")[0] == 0
        returned_at = time.time()
        assert sender.status(within=5) == 3
        report = sender.report()
    sent = len(phones.times())
    assert max(one.at for one in phones.requests()) <= returned_at + 1
    assert report["state"] == "aborted"
    assert report["counts"] == {"accepted": sent, "cancelled": COUNT - sent}
    assert states(controller.results("aborted")) == {"accepted": sent, "cancelled": COUNT - sent}
    status, _, errors = controller.run("rollout", "resume", "aborted")
    assert (status, "nothing is left to resume" in errors) == (2, True)


def test_rollouts_that_nobody_executes_can_be_paused_resumed_and_aborted(
    controller: Controller, phones: Recorder, tmp_path: Path
) -> None:
    def orphan(name: str) -> set[str]:
        users = [f"ok.{name}{index}" for index in range(COUNT)]
        with controller.start(*command(name, phones.phone_list(tmp_path / f"{name}.csv", users))) as sender:
            eventually(lambda: len(phones.times(users)) > COUNT // 4, "it is under way", within=20)
            sender.kill()
        return set(users)

    def resumed() -> None:
        users = orphan("resumed")
        assert controller.run("rollout", "pause", "resumed")[0] == 0
        assert controller.show("resumed")["state"] == "paused"
        assert controller.run("rollout", "resume", "resumed")[0] in {0, 1}
        assert set(states(controller.results("resumed"))) <= {"accepted", "unknown"}
        assert max(phones.times(users).values()) == 1

    def given_up() -> None:
        users = orphan("given-up")
        sent = len(phones.times(users))
        assert controller.run("rollout", "abort", "given-up")[0] == 0
        report = controller.show("given-up")
        assert report["state"] == "aborted"
        assert sum(report["counts"].values()) == COUNT
        assert set(report["counts"]) <= {"accepted", "unknown", "cancelled"}
        assert len(phones.times(users)) == sent

    with ThreadPoolExecutor(2) as pool:
        for story in [pool.submit(resumed), pool.submit(given_up)]:
            story.result()


def test_two_commands_with_one_id_execute_it_once(controller: Controller, phones: Recorder, phone_list: Path) -> None:
    with (
        controller.start(*command("twice", phone_list)) as first,
        controller.start(*command("twice", phone_list)) as second,
    ):
        statuses = sorted((first.status(), second.status()))
        errors = first.errors() + second.errors()
    assert statuses == [0, 2]
    assert "rollout twice is being executed by" in errors
    assert phones.times() == {f"ok.{index}": 1 for index in range(COUNT)}


def test_one_id_with_another_plan_is_refused(
    controller: Controller, phones: Recorder, phone_list: Path, tmp_path: Path
) -> None:
    few = phones.phone_list(tmp_path / "few.csv", ["ok.1", "ok.2"])
    assert controller.run(*command("taken", few))[0] == 0
    status, _, errors = controller.run(*command("taken", phone_list))
    assert (status, "another plan" in errors) == (2, True)
    assert len(phones.times()) == 2


def test_finished_rollout_is_not_executed_again(controller: Controller, phones: Recorder, tmp_path: Path) -> None:
    few = phones.phone_list(tmp_path / "few.csv", ["ok.1", "ok.2"])
    assert [controller.run(*command("done", few))[0] for _ in range(2)] == [0, 0]
    assert phones.times() == {"ok.1": 1, "ok.2": 1}


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
