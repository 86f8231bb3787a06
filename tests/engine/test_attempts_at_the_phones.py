"""Which answers lead to another attempt, when it comes, and what the results say, also after the sender was killed."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.engine.controller import Controller, eventually, states
from tests.engine.recorder import Recorder, most_in_a_second
from tests.peers.ports import free_udp_port

pytestmark = pytest.mark.needs("redis-server")

AGAIN = ("ok.1", "after503.1", "once408.1", "once480.1", "once500.1", "once503.1")
NOT_AGAIN = {"c404.1": "rejected", "c489.1": "rejected", "c302.1": "rejected", "c603.1": "rejected"}
IN_VAIN = {"c480.2": "unreachable", "c408.2": "unreachable", "c503.2": "overloaded", "silent.2": "unreachable"}


def test_what_a_retry_can_cure_is_tried_again_and_nothing_else(
    controller: Controller, phones: Recorder, tmp_path: Path
) -> None:
    closed = free_udp_port()
    users = (*AGAIN, *NOT_AGAIN, *IN_VAIN)
    listed = phones.phone_list(tmp_path / "p.csv", users, rows=f"sip:closed@x,sip:closed@127.0.0.1:{closed}\n")
    status, _, errors = controller.run(
        "run",
        listed,
        "--id",
        "attempts",
        "--now",
        "--retry-delay",
        "200ms",
        "--timeout",
        "600ms",
        "--timer-t1",
        "150ms",
    )
    assert status == 1, errors
    results, times = controller.results("attempts"), phones.times()
    assert {user: row["state"] for user, row in results.items()} == {
        **dict.fromkeys(AGAIN, "accepted"), **NOT_AGAIN, **IN_VAIN, "closed": "unreachable",
    }  # fmt: skip
    assert {user: row["attempts"] for user, row in results.items() if user != "closed"} == dict(times)
    assert {user: times[user] for user in (*AGAIN, *NOT_AGAIN)} == {
        **dict.fromkeys(AGAIN, 2), **dict.fromkeys(NOT_AGAIN, 1), "ok.1": 1,
    }  # fmt: skip
    assert {times[user] for user in IN_VAIN} == {3}
    assert (results["closed"]["attempts"], results["closed"]["reason"]) == (3, "refused: nothing listens at that port")
    first, second = (one.at for one in phones.requests(["after503.1"]))
    assert 1.0 <= second - first < 1.3
    first, second, third = (one.at for one in phones.requests(["c480.2"]))
    assert 0.2 <= second - first < 0.45
    assert 0.4 <= third - second < 0.75


def test_reboot_is_tried_once(controller: Controller, phones: Recorder, tmp_path: Path) -> None:
    listed = phones.phone_list(tmp_path / "p.csv", ["once503.1", "once480.1", "silent.1"])
    status, *_ = controller.run(
        "run",
        listed,
        "--id",
        "once",
        "--now",
        "--action",
        "reboot",
        "--yes",
        "--retry-delay",
        "100ms",
        "--timeout",
        "1s",
    )
    assert status == 1
    assert phones.times() == {"once503.1": 1, "once480.1": 1, "silent.1": 1}


def test_fleet_that_is_down_is_not_hammered(controller: Controller, phones: Recorder, tmp_path: Path) -> None:
    users = [f"c503.{index}" for index in range(300)]
    listed = phones.phone_list(tmp_path / "p.csv", users)
    status, *_ = controller.run("run", listed, "--id", "down", "--now", "--rate", "200", "--retry-delay", "100ms")
    assert status == 1
    assert sum(phones.times().values()) == 300 + 100  # the retry budget
    assert most_in_a_second((one.at for one in phones.requests()), jitter=0.005) <= 200
    assert states(controller.results("down")) == {"overloaded": 300}


def test_attempts_of_before_an_interruption_count(controller: Controller, phones: Recorder, tmp_path: Path) -> None:
    users = [f"once503.{index}" for index in range(40)]
    listed = phones.phone_list(tmp_path / "p.csv", users)
    with controller.start("run", listed, "--id", "counted", "--now", "--rate", "100", "--retry-delay", "3s") as sender:
        eventually(lambda: len(phones.times()) == 40, "all have been asked once", within=20)
        sender.send(signal.SIGINT)
        assert sender.status() == 130
    assert controller.run("rollout", "resume", "counted")[0] == 0
    assert phones.times() == dict.fromkeys(users, 2)
    assert {row["attempts"] for row in controller.results("counted").values()} == {2}
    for user in users:
        first, second = (one.at for one in phones.requests([user]))
        assert second - first >= 3
