"""Phones in calls, measured at the phones: deferred, sent to after the call, forced or given up to the tenth of a second."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

import pytest
from redis import Redis

from resyncctl.rollout.model import RolloutId
from resyncctl.store import keys
from tests.engine.controller import Controller, eventually, states
from tests.engine.recorder import Recorder
from tests.peers.redis_server import RedisServer

pytestmark = pytest.mark.needs("redis-server")

FORCED = 4.0
IDLE_FOR = 0.5
PUNCTUAL = 0.1


class Calls:
    """The busy file of a PBX, replaced by rename as its users are told to do."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: dict[str, str] = {}
        self.write()

    def begin(self, *users: str, mark: str = "") -> None:
        self._lines |= dict.fromkeys(users, mark)
        self.write()

    def end(self, *users: str) -> float:
        for user in users:
            del self._lines[user]
        self.write()
        return time.time()

    def write(self) -> None:
        text = "".join(f"sip:{user}@pbx.example {mark}\n" for user, mark in self._lines.items())
        new = self.path.with_suffix(".new")
        new.write_text(text, encoding="utf-8")
        new.rename(self.path)


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    return Calls(tmp_path / "busy")


def options(name: str, calls: Calls, *more: str) -> tuple[str | Path, ...]:
    delays = ("--forced-delay", f"{FORCED}s", "--idle-for", f"{int(IDLE_FOR * 1000)}ms")
    return ("--id", name, "--now", "--rate", "500", "--busy-file", calls.path, *delays, *more)


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize("policy", ["force", "skip"])
def test_calls_that_end_before_at_and_after_the_forced_delay(
    policy: str, controller: Controller, phones: Recorder, calls: Calls, tmp_path: Path
) -> None:
    before, at, after = "ok.before", "ok.at", "ok.after"
    emergency, short_emergency = "ok.emergency", "ok.shortemergency"
    calls.begin(before, at, after)
    calls.begin(emergency, short_emergency, mark="emergency")
    listed = phones.phone_list(tmp_path / "p.csv", ["ok.idle", before, at, after, emergency, short_emergency])
    with controller.start("run", listed, *options(f"forced-{policy}", calls, "--on-busy", policy)) as sender:
        eventually(lambda: bool(phones.times()["ok.idle"]), "the idle phone was sent to", within=20)
        due = phones.requests(["ok.idle"])[0].at
        time.sleep(1)
        ended_at = calls.end(before, short_emergency)
        time.sleep(max(0.0, due + FORCED - 0.2 - time.time()))
        calls.end(at)  # too late for `idle_for`
        assert sender.status() == 0
        report = sender.report()
    heard = {one.user: one.at for one in phones.requests()}
    for user in (before, short_emergency):
        assert ended_at + IDLE_FOR - 0.05 <= heard[user] <= ended_at + IDLE_FOR + 1
    assert emergency not in heard
    results = controller.results(f"forced-{policy}")
    assert (results[emergency]["state"], results[emergency]["reason"]) == ("skipped", "emergency call")
    if policy == "force":
        for user in (at, after):
            assert heard[user] == pytest.approx(due + FORCED, abs=PUNCTUAL)
        assert states(results) == {"accepted": 5, "skipped": 1}
        assert report["busy"] == {"deferred": 5, "forced": 2, "unknown": 0, "trouble": []}
    else:
        assert at not in heard
        assert after not in heard
        assert results[after]["reason"] == "still in a call at the forced delay"
        assert states(results) == {"accepted": 3, "skipped": 3}
        assert seconds(report["finished_at"]) == pytest.approx(due + FORCED, abs=0.5)
        assert report["busy"] == {"deferred": 5, "forced": 0, "unknown": 0, "trouble": []}


def test_tenth_of_the_fleet_is_in_calls_and_the_sender_is_killed_meanwhile(
    controller: Controller, shared_redis: RedisServer, phones: Recorder, calls: Calls, tmp_path: Path
) -> None:
    """2,000 phones, a reboot that skips: those whose call ends are rebooted once, the others never."""
    users = [f"ok.{index}" for index in range(2000)]
    ending, staying = users[3::20], users[13::20]
    calls.begin(*ending, *staying)
    listed = phones.phone_list(tmp_path / "p.csv", users)
    more = ("--action", "reboot", "--yes", "--forced-delay", "18s")
    with controller.start("run", listed, *options("killed", calls, *more)) as sender:
        eventually(lambda: len(phones.times()) == 1800, "the idle ones were sent to", within=25)
        eventually(lambda: controller.show("killed")["counts"].get("accepted") == 1800, "and that is written")
        dead = owner(shared_redis)
        sender.kill()
    due = max(one.at for one in phones.requests())
    with controller.start("rollout", "resume", "killed") as taker:
        eventually(lambda: "rollout killed: " in taker.errors(), "it wants to take over", within=15)
        eventually(lambda: owner(shared_redis) != dead, "it has taken over", within=15)
        time.sleep(1)
        ended_at = calls.end(*ending)
        assert taker.status() == 0, taker.errors()
        report = taker.report()
    assert phones.times() == dict.fromkeys([user for user in users if user not in set(staying)], 1)
    late = sorted(one.at for one in phones.requests(ending))
    assert ended_at + IDLE_FOR - 0.05 <= late[0]
    assert late[-1] <= ended_at + IDLE_FOR + 1
    assert states(controller.results("killed")) == {"accepted": 1900, "skipped": 100}
    assert report["busy"]["deferred"] == 200
    assert due + 18 - 4.5 <= seconds(report["finished_at"]) <= due + 18 + 0.5


def owner(server: RedisServer) -> bytes | None:
    """Return the token of the process that has taken the rollout last."""
    with Redis.from_url(server.url) as client:
        found: bytes | None = client.hget(keys.meta(RolloutId("killed")), "owner")
        return found


@pytest.mark.parametrize("trouble", ["No such file or directory", "holds NUL bytes; write it as UTF-8"])
def test_nobody_is_taken_for_idle_while_the_file_cannot_be_read(
    trouble: str, controller: Controller, phones: Recorder, calls: Calls, tmp_path: Path
) -> None:
    users = [f"ok.{index}" for index in range(15)]
    name = f"trouble{len(trouble)}"
    with controller.start(
        "run", phones.phone_list(tmp_path / "p.csv", users), *options(name, calls, "--rate", "5")
    ) as run:
        eventually(lambda: bool(phones.times()), "it is under way", within=20)
        calls.begin("ok.14")
        if trouble.startswith("No"):
            calls.path.unlink()
        else:
            calls.path.write_bytes("ok.14".encode("utf-16"))
        assert run.status() == 0
        errors, busy = run.errors(), run.report()["busy"]
    assert phones.times() == dict.fromkeys(users, 1)
    assert errors.count("busy_state_unknown") == 1
    assert busy["trouble"] == [f"{calls.path}: {trouble}"]
    assert 5 <= busy["unknown"] <= 14


def test_deferred_phone_is_not_taken_for_idle_when_the_file_disappears(
    controller: Controller, phones: Recorder, calls: Calls, tmp_path: Path
) -> None:
    calls.begin("ok.1")
    listed = phones.phone_list(tmp_path / "p.csv", ["ok.1", "ok.2"])
    with controller.start("run", listed, *options("lost", calls, "--on-busy", "skip")) as sender:
        eventually(lambda: bool(phones.times()["ok.2"]), "the idle phone was sent to", within=20)
        calls.path.unlink()
        assert sender.status() == 0
        assert sender.report()["busy"]["trouble"] == [f"{calls.path}: No such file or directory"]
    assert phones.times() == {"ok.2": 1}


def test_busy_line_holds_its_device_back(
    controller: Controller, phones: Recorder, calls: Calls, tmp_path: Path
) -> None:
    listed = tmp_path / "lines.csv"
    lines = [
        f"sip:{user}@pbx.example,{phones.contact(user)},{mac}"
        for user, mac in (("ok.1", "0015650000a1"), ("ok.2", "0015650000a1"), ("ok.3", "0015650000a2"))
    ]
    listed.write_text("\n".join(["aor,contact,mac", *lines]) + "\n")
    calls.begin("ok.2")
    with controller.start("run", listed, *options("lines", calls)) as sender:
        eventually(lambda: bool(phones.times()["ok.3"]), "the other device was sent to", within=20)
        time.sleep(1)
        assert phones.times() == {"ok.3": 1}
        ended_at = calls.end("ok.2")
        assert sender.status() == 0
    assert phones.times() == {"ok.1": 1, "ok.3": 1}
    assert ended_at + IDLE_FOR - 0.05 <= phones.requests(["ok.1"])[0].at <= ended_at + IDLE_FOR + 1


def test_call_that_begins_while_the_phone_waits_for_its_turn_defers_it(
    controller: Controller, phones: Recorder, calls: Calls, tmp_path: Path
) -> None:
    listed = phones.phone_list(tmp_path / "p.csv", [f"ok.{index}" for index in range(20)])
    with controller.start(
        "run", listed, *options("begins", calls, "--rate", "5", "--on-busy", "skip", "--forced-delay", "2s")
    ) as sender:
        eventually(lambda: bool(phones.times()), "it is under way", within=20)
        calls.begin("ok.19")
        assert sender.status() == 0
    assert states(controller.results("begins")) == {"accepted": 19, "skipped": 1}
    assert "ok.19" not in phones.times()
