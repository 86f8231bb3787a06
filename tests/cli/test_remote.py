"""The commands against a service elsewhere: the same output and exit statuses as on our own Redis."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from tests.cli.both_sides import FAST, Both
from tests.cli.command import finish
from tests.cli.conftest import List
from tests.engine.recorder import Recorder
from tests.peers.waiting import wait_until

pytestmark = pytest.mark.needs("redis-server")


def test_rollout_of_a_service_is_followed_to_its_end_with_the_exit_status_of_a_local_one(
    both: Both, phones: Recorder, listed: List
) -> None:
    good, bad = listed("ok.1", "ok.2"), ("ok.3", "c404.1")
    answer = both.call(both.there, "run", good, "--id", "all", *FAST)
    assert (answer.status, "2 targets: accepted 2" in answer.err) == (0, True)
    assert phones.times() == {"ok.1": 1, "ok.2": 1}
    answer = both.call(both.there, "run", listed(*bad), "--id", "some", "--json", *FAST)
    assert (answer.status, answer.report["counts"]) == (1, {"accepted": 1, "rejected": 1})
    for words in (
        ("rollout", "list"),
        ("rollout", "show", "some"),
        ("rollout", "show", "some", "--json"),
        ("rollout", "watch", "some"),
        ("rollout", "results", "some"),
        ("rollout", "results", "some", "--format", "csv"),
        ("rollout", "results", "some", "--state", "rejected", "--format", "ndjson"),
        ("audit", "list", "--count", "3"),
        ("workers", "list", "--json"),
        ("rollout", "show", "nobody"),
    ):
        both.same(*words)
    again = both.call(both.there, "rollout", "retry", "some", "--id", "more", "--yes")
    assert (again.status, "1 target: rejected 1" in again.err) == (1, True)


def test_plan_of_a_service_is_that_of_the_same_list_here(both: Both, listed: List) -> None:
    path = listed(*(f"ok.{number}" for number in range(70)))
    for words in ((), ("--json",), ("--rate", "7", "--where", "aor=*1@*"), ("--where", "aor=none")):
        both.same("plan", path, *words)


def test_bad_rows_are_named_by_their_lines_and_nothing_is_sent(both: Both, phones: Recorder, tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(f"contact\n{phones.contact('ok.1')}\nsip:@@\nnonsense\n", encoding="utf-8")
    answer = both.same("run", path, "--yes")
    assert (answer.status, "line 3" in answer.err, "line 4" in answer.err) == (2, True, True)
    assert not phones.times()


def test_ctrl_c_pauses_the_rollout_at_the_service(both: Both, phones: Recorder, listed: List) -> None:
    path = listed(*(f"ok.p{number}" for number in range(200)))
    with both.start(both.there, "run", path, "--id", "stopped", "--rate", "50", *FAST) as process:
        wait_until(lambda: len(phones.times()) > 20, "it is under way", within=20)
        process.send_signal(signal.SIGINT)
        answer = finish(process)
    assert (answer.status, "rollout resume stopped" in answer.err) == (130, True)
    sent = len(phones.times())
    time.sleep(1)
    assert len(phones.times()) == sent < 200
    assert both.same("rollout", "show", "stopped", "--json").report["state"] == "paused"
    assert both.call(both.there, "rollout", "resume", "stopped").status == 0
    assert both.call(both.there, "rollout", "watch", "stopped").status == 0
    assert len(phones.times()) == 200


def test_detached_rollout_is_executed_by_the_service(both: Both, phones: Recorder, listed: List) -> None:
    for name, environment in (("away", both.there), ("shared", both.here)):
        path = listed(f"ok.{name}1", f"ok.{name}2")
        answer = both.call(environment, "run", path, "--id", name, "--detach", *FAST)
        assert (answer.status, answer.out) == (0, f"{name}\n"), answer.err
        assert both.call(environment, "rollout", "watch", name).status == 0
    assert phones.times() == {f"ok.{name}{number}": 1 for name in ("away", "shared") for number in (1, 2)}


def test_abort_through_the_service_ends_the_rollout(both: Both, phones: Recorder, listed: List) -> None:
    path = listed(*(f"ok.a{number}" for number in range(300)))
    with both.start(both.there, "run", path, "--id", "given-up", "--rate", "50", *FAST) as process:
        wait_until(lambda: len(phones.times()) > 20, "it is under way", within=20)
        assert both.call(both.there, "rollout", "abort", "given-up").status == 0
        assert finish(process).status == 3


def test_schedules_and_hooks_are_the_same_on_both_sides(both: Both, listed: List) -> None:
    path = listed("ok.1")
    for number, side in enumerate((both.here, both.there)):
        when = ("--cron", "0 3 * * sun", "--tz", "Europe/Berlin")
        answer = both.call(side, "schedule", "add", f"night{number}", *when, "--phones", path, "--json")
        assert answer.status == 0, answer.err
        assert both.call(side, "schedule", "add", f"night{number}", *when, "--phones", path).status == 2
        hook = both.call(side, "hook", "add", f"pbx{number}", "--phones", path)
        assert (hook.status, len(hook.out.strip()) > 30) == (0, True)
    for words in (
        ("schedule", "list"),
        ("schedule", "show", "night0"),
        ("schedule", "next", "night1", "--count", "2"),
        ("schedule", "show", "nobody"),
        ("hook", "list"),
        ("hook", "show", "pbx1", "--json"),
        ("hook", "remove", "nobody"),
        ("freeze", "show"),
        ("sources", "list"),
        ("phones", "list", "--source", "office", "--where", "site=b*", "--json"),
        ("phones", "list", "--source", "nowhere"),
        ("vendors", "list"),
        ("vendors", "show", "snom", "--json"),
        ("vendors", "match", "Yealink SIP-T46U 108.86.0.20"),
        ("vendors", "match", "nothing of the kind"),
    ):
        both.same(*words)
    for word in ("pause", "resume", "remove"):
        assert both.call(both.there, "schedule", word, "night0").status == 0
    assert both.call(both.there, "hook", "remove", "pbx0").status == 0


def test_schedule_is_run_and_everything_is_frozen_through_the_service(
    both: Both, phones: Recorder, listed: List
) -> None:
    added = both.call(
        both.there, "schedule", "add", "byhand", "--every", "30d", "--phones", listed("ok.byhand"), "--now"
    )
    assert added.status == 0, added.err
    frozen = both.call(both.there, "freeze", "on", "--reason", "storm")
    assert (frozen.status, frozen.out.startswith("frozen by token:remote since 20"), "storm" in frozen.out) == (
        0,
        True,
        True,
    )
    both.same("freeze", "show", "--json")
    refused = both.call(both.there, "schedule", "run", "byhand")
    assert (refused.status, "frozen by token:remote: storm" in refused.complaint) == (2, True)
    assert both.call(both.there, "freeze", "off").out == "not frozen\n"
    ran = both.call(both.there, "--json", "schedule", "run", "byhand").report
    assert (ran["name"], ran["targets"]) == ("byhand", 1)
    assert both.call(both.there, "rollout", "watch", str(ran["rollout"])).status == 0
    assert phones.times() == {"ok.byhand": 1}


def test_rollout_is_retried_detached_and_reboots_only_what_was_agreed_to(
    both: Both, phones: Recorder, listed: List
) -> None:
    path = listed("once404.again")
    assert both.call(both.there, "run", path, "--id", "first", *FAST).status == 1
    again = both.call(both.there, "rollout", "retry", "first", "--detach")
    assert (again.status, again.out) == (0, "first-r1\n"), again.err
    assert both.call(both.there, "rollout", "watch", "first-r1").status == 0
    rebooting = phones.phone_list(path, ["ok.boots"], rows="")
    rows = rebooting.read_text(encoding="utf-8").splitlines()
    rebooting.write_text(f"{rows[0]},vendor,DBID_RESYNC_FROM_SIP\n{rows[1]},yealink,1\n", encoding="utf-8")
    for side in (both.here, both.there):
        refused = both.call(side, "run", rebooting, "--now")
        assert (refused.status, "this needs --yes (see the notes above)" in refused.complaint) == (2, True)
        assert "1 phone will reboot although you asked for resync" in refused.err
    assert phones.times() == {"once404.again": 2}


def test_wrong_token_and_absent_service_are_told_apart(both: Both, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("rsy_nonsense\n", encoding="ascii")
    refused = both.call({**both.there, "RESYNCCTL_TOKEN_FILE": str(wrong)}, "rollout", "list")
    assert (refused.status, "--token-file" in refused.complaint) == (2, True)
    gone = both.call({**both.there, "RESYNCCTL_SERVER": "http://127.0.0.1:9"}, "rollout", "list")
    assert (gone.status, "cannot be reached" in gone.complaint) == (4, True)
    for words in (("token", "list"), ("config", "show"), ("doctor",), ("sim", "1"), ("serve",), ("worker",)):
        local = both.call(both.there, *words)
        assert (local.status, "on the machine of the service alone" in local.complaint) == (2, True), words
    assert json.loads(both.call(both.there, "--json", "rollout", "show", "nobody").out)["error"]
