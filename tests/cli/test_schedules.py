"""`resyncctl schedule …` as its users have it: on the embedded server, by words and exit statuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.command import YEALINK, Resyncctl
from tests.cli.conftest import Ask

SUNDAY = ("--cron", "0 3 * * sun", "--tz", "Europe/Berlin")


@pytest.fixture
def phones(resyncctl: Resyncctl) -> Path:
    """Three phones at two sites."""
    rows = [f"sip:{number}@pbx.invalid,{YEALINK},{site}" for number, site in enumerate(("berlin", "berlin", "rome"))]
    return resyncctl.file("phones.csv", "aor,user_agent,site", *rows)


def test_a_schedule_is_added_listed_shown_and_looked_ahead(ask: Ask, phones: Path) -> None:
    added = ask(
        "--json", "schedule", "add", "sunday", *SUNDAY, "--phones", phones, "--where", "site=berlin", "--rate", "5"
    )
    assert added.status == 0
    report = added.report
    assert (report["name"], report["cron"], report["tz"]) == ("sunday", "0 3 * * sun", "Europe/Berlin")
    assert (report["targets"], report["sends"]) == (2, 2)
    assert report["phones_file"] == str(phones)
    assert report["where"] == ["site=berlin"]
    assert report["options"] == {"rate": 5.0}
    assert (report["misfire"], report["grace"], report["overlap"], report["paused"]) == (
        "run-once",
        3600.0,
        "skip",
        False,
    )
    assert "it sends to 2 phones. Next: " in added.err

    listed = json.loads(ask("--json", "schedule", "list").out)
    assert [one["name"] for one in listed] == ["sunday"]
    assert listed[0]["next_at"] == report["next_at"]
    table = ask("schedule", "list").out
    assert "cron 0 3 * * sun (Europe/Berlin)" in table
    assert "phones.csv" in table

    shown = ask("schedule", "show", "sunday").out
    assert "options: rate 5.0" in shown
    assert json.loads(ask("--json", "schedule", "show", "sunday").out)["name"] == "sunday"

    fires = json.loads(ask("--json", "schedule", "next", "sunday", "--count", "3").out)
    assert [fire["local"][10:19] for fire in fires] == ["T03:00:00"] * 3
    assert fires[0]["utc"] == report["next_at"]
    lines = ask("schedule", "next", "sunday").out.splitlines()
    assert len(lines) == 5
    assert lines[0].split() == [fires[0]["utc"], fires[0]["local"]]


def test_the_next_fire_times_are_those_of_the_calendar_over_a_change_of_clocks(ask: Ask, phones: Path) -> None:
    ask("schedule", "add", "night", "--cron", "30 2 * * *", "--tz", "Europe/Berlin", "--phones", phones)
    fires = json.loads(ask("--json", "schedule", "next", "night", "--count", "800").out)
    days = [fire["local"][:10] for fire in fires]
    assert len(set(days)) == len(days) == 800
    odd = {fire["local"][11:16] for fire in fires if fire["local"][11:16] != "02:30"}
    assert odd == {"03:00"}  # when clocks are put forward


def test_a_schedule_is_paused_resumed_and_removed(ask: Ask, phones: Path) -> None:
    ask("schedule", "add", "often", "--every", "6h", "--phones", phones)
    paused = ask("--json", "schedule", "pause", "often")
    assert (paused.report["paused"], paused.report["next_at"]) == (True, None)
    assert "paused" in ask("schedule", "list").out
    assert "is paused" in ask("schedule", "next", "often").err
    resumed = ask("--json", "schedule", "resume", "often")
    assert resumed.report["paused"] is False
    assert resumed.report["next_at"] is not None
    assert ask("--json", "schedule", "remove", "often").report == {"name": "often", "removed": True}
    assert json.loads(ask("--json", "schedule", "list").out) == []
    assert "no schedules yet" in ask("schedule", "list").out
    actions = [entry["action"] for entry in json.loads(ask("--json", "audit", "list").out)]
    assert actions == ["schedule.remove", "schedule.resume", "schedule.pause", "schedule.add"]


def test_run_makes_a_rollout_for_the_service(ask: Ask, phones: Path) -> None:
    ask("schedule", "add", "often", "--every", "6h", "--phones", phones)
    ran = ask("--json", "schedule", "run", "often")
    assert ran.status == 0
    rollout = str(ran.report["rollout"])
    assert rollout.startswith("often-run-20")
    assert ran.report["targets"] == 3
    report = ask("--json", "rollout", "show", rollout).report
    assert (report["state"], report["targets"]) == ("planned", 3)
    again = ask("schedule", "run", "often")
    assert again.status == 2
    assert f"rollout {rollout} of schedule often is not over" in again.complaint


def test_a_name_that_is_taken_is_replaced_only_when_asked(ask: Ask, phones: Path) -> None:
    ask("schedule", "add", "often", "--every", "6h", "--phones", phones)
    ask("schedule", "pause", "often")
    taken = ask("schedule", "add", "often", "--every", "1h", "--phones", phones)
    assert taken.status == 2
    assert "there is a schedule 'often' already; replace it with --replace" in taken.complaint
    replaced = ask("--json", "schedule", "add", "often", "--every", "1h", "--phones", phones, "--replace")
    assert (replaced.report["every"], replaced.report["paused"]) == (3600, True)


def test_relative_paths_are_kept_absolute(
    ask: Ask, phones: Path, monkeypatch: pytest.MonkeyPatch, resyncctl: Resyncctl
) -> None:
    busy = resyncctl.file("busy.txt", "")
    monkeypatch.chdir(phones.parent)
    report = ask(
        "--json", "schedule", "add", "often", "--every", "6h", "--phones", "phones.csv", "--busy-file", "busy.txt"
    ).report
    assert report["phones_file"] == str(phones)
    assert report["options"] == {"busy_file": str(busy)}


def test_the_time_zone_is_this_machines_unless_it_is_named(resyncctl: Resyncctl, phones: Path) -> None:
    resyncctl.environment["TZ"] = "America/New_York"
    report = resyncctl.call("--json", "schedule", "add", "early", "--cron", "0 3 * * *", "--phones", phones).report
    assert report["tz"] == "America/New_York"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--cron", "0 3 * * sun"], "give --phones FILE or --source NAME, one of the two"),
        (["--cron", "0 3 * * sun", "--source", "pbx", "--phones", "{phones}"], "one of the two"),
        (["--phones", "{phones}"], "give exactly one of --cron"),
        (["--cron", "0 3 * *", "--phones", "{phones}"], "has 4 fields instead of 5"),
        (["--cron", "0 25 * * *", "--phones", "{phones}"], "hour '25'"),
        (["--every", "soon", "--phones", "{phones}"], "--every: 'soon' is not a duration"),
        (["--at", "2020-01-01T03:00", "--phones", "{phones}"], "is over"),
        (["--every", "6h", "--tz", "Mars/Base", "--phones", "{phones}"], "--tz 'Mars/Base' is not a time zone"),
        (["--every", "6h", "--source", "nowhere"], "there is no source 'nowhere'"),
        (["--every", "6h", "--phones", "missing.csv"], "missing.csv"),
        (["--every", "6h", "--phones", "{phones}", "--where", "site=oslo"], "no phone is left"),
        (["--every", "6h", "--phones", "{phones}", "--where", "nonsense"], "where"),
        (["--every", "6h", "--phones", "{phones}", "--timeout", "1ms"], "timeout"),
        (["--every", "6h", "--phones", "{phones}", "--misfire", "maybe"], "--misfire"),
        (["--every", "6h", "--phones", "{phones}", "--grace", "long"], "--grace"),
    ],
)
def test_what_can_never_work_is_refused_at_once(ask: Ask, phones: Path, words: list[str], complaint: str) -> None:
    answer = ask("schedule", "add", "odd", *(word.format(phones=phones) for word in words))
    assert answer.status == 2
    assert complaint in answer.err
    assert json.loads(ask("--json", "schedule", "list").out) == []


@pytest.mark.parametrize("command", ["show", "next", "pause", "resume", "remove", "run"])
def test_a_schedule_that_is_not_there_is_said_so(ask: Ask, command: str) -> None:
    answer = ask("schedule", command, "ghost")
    assert answer.status == 2
    assert "there is no schedule 'ghost'; `resyncctl schedule list` shows which there are" in answer.complaint


def test_add_offers_the_options_of_run(resyncctl: Resyncctl) -> None:
    """The options are declared once; what `run` takes, a schedule takes, unless it is about the machine that sends."""
    here = {"--nameserver", "--trace", "--tls-ca", "--tls-cert", "--tls-key", "--tls-no-verify"}
    offered = {}
    for command in (("run",), ("schedule", "add")):
        text = resyncctl.call(*command, "--help").out
        offered[command] = {word for word in text.replace("│", " ").split() if word.startswith("--")}
    missing = offered["run",] - offered["schedule", "add"] - {"--id", "--detach", "--server"} - here
    assert missing == set()
    assert "--batch-size" in offered["schedule", "add"]
