"""What the plan promises is what the phones see: rate, batches, jitter, no burst after lost time, nor too many in flight."""

from __future__ import annotations

import signal
import time
from datetime import datetime
from pathlib import Path

import pytest

from resyncctl.engine.app import plan_csv
from resyncctl.rollout.model import Options
from tests.engine.controller import Controller, eventually, states
from tests.engine.recorder import Recorder, most_in_a_second

pytestmark = pytest.mark.needs("redis-server")

JITTER = 0.005
"""Seconds that a datagram may take longer than another on loopback while two cores are busy."""


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def errors_of(results: dict[str, dict[str, str]]) -> list[float]:
    """Return sent_at minus planned_at of every phone, sorted."""
    return sorted(seconds(row["sent_at"]) - seconds(row["planned_at"]) for row in results.values())


@pytest.mark.parametrize("rate", [10, 250])
def test_no_window_of_a_second_holds_more_than_the_rate(
    rate: int, controller: Controller, phones: Recorder, tmp_path: Path
) -> None:
    users = [f"ok.{index}" for index in range(rate * 4)]
    name = f"rate{rate}"
    status, *_ = controller.run(
        "run", phones.phone_list(tmp_path / "p.csv", users), "--id", name, "--now", "--rate", rate
    )
    assert status == 0
    times = sorted(one.at for one in phones.requests())
    assert most_in_a_second(times, jitter=JITTER) <= rate
    assert len(times) / (times[-1] - times[0]) > rate * 0.98
    errors = errors_of(controller.results(name))
    assert errors[len(errors) // 2] < 0.005
    assert errors[0] >= -0.0005


def test_batches_and_jitter_reach_the_phones_as_planned(
    controller: Controller, phones: Recorder, tmp_path: Path
) -> None:
    """Batches overlap by far: the jitter is two hundred times their interval."""
    users = [f"ok.{index}" for index in range(2000)]
    listed = phones.phone_list(tmp_path / "p.csv", users)
    options = Options(batch_size=50, batch_interval=0.02, random_delay=4.0, rate=0.0)
    plan = plan_csv(listed, options, where=[], seed=5, name="overlap")
    pacing = ("--batch-size", 50, "--batch-interval", "20ms", "--random-delay", "4s", "--rate", 0, "--seed", 5)
    assert controller.run("run", listed, "--id", "overlap", *pacing)[0] == 0
    assert controller.show("overlap")["plan_hash"] == plan.hash
    dues = {target.contact: target.due_us / 1e6 for _, targets in plan.batches() for target in targets}
    heard = {phones.contact(one.user): one.at for one in phones.requests()}
    shifts = sorted(heard[contact] - due for contact, due in dues.items())
    assert len(shifts) == 2000
    assert shifts[-20] - shifts[20] < 0.1
    assert errors_of(controller.results("overlap"))[1000] < 0.005


def test_lost_time_shifts_the_plan_and_no_burst_makes_up_for_it(
    controller: Controller, phones: Recorder, tmp_path: Path
) -> None:
    users = [f"ok.{index}" for index in range(400)]
    with controller.start(
        "run", phones.phone_list(tmp_path / "p.csv", users), "--id", "stopped", "--now", "--rate", "100"
    ) as sender:
        eventually(lambda: len(phones.times()) > 100, "it is under way", within=20)
        sender.send(signal.SIGSTOP)
        time.sleep(2)
        sender.send(signal.SIGCONT)
        assert sender.status() == 0
    times = sorted(one.at for one in phones.requests())
    assert most_in_a_second(times, jitter=JITTER) <= 100
    assert times[-1] - times[0] == pytest.approx(400 / 100 * 1.005 + 2, abs=0.15)
    assert phones.times() == dict.fromkeys(users, 1)


def test_retries_stay_under_the_limiter(controller: Controller, phones: Recorder, tmp_path: Path) -> None:
    users = [f"{'once503' if index % 4 == 0 else 'ok'}.{index}" for index in range(300)]
    listed = phones.phone_list(tmp_path / "p.csv", users)
    status, *_ = controller.run("run", listed, "--id", "again", "--now", "--rate", "100", "--retry-delay", "500ms")
    assert status == 0
    assert sum(phones.times().values()) == 375
    assert most_in_a_second((one.at for one in phones.requests()), jitter=JITTER) <= 100
    assert states(controller.results("again")) == {"accepted": 300}


def test_unanswered_requests_never_exceed_max_in_flight(
    controller: Controller, phones: Recorder, tmp_path: Path
) -> None:
    users = [f"{'silent' if index % 2 else 'ok'}.{index}" for index in range(60)]
    listed = phones.phone_list(tmp_path / "p.csv", users)
    status, *_ = controller.run(
        "run", listed, "--id", "flight", "--now", "--max-in-flight", "10", "--timeout", "700ms", "--attempts", "1"
    )
    assert status == 1
    assert states(controller.results("flight")) == {"accepted": 30, "unreachable": 30}
    waiting = sorted(one.at for one in phones.requests() if one.user.startswith("silent"))
    for index, at in enumerate(waiting):
        assert sum(1 for earlier in waiting[:index] if earlier > at - 0.7 + 0.05) < 10
