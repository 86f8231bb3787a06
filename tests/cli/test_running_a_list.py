"""`run` from its exit status: what is sent, what is stored, what a second command makes of it."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from tests.cli.command import HEADER, YEALINK, Ear, Resyncctl, finish

GRANDSTREAM = "Grandstream GRP2615 1.0.13.122"
REBOOTS_ANYWAY = "Aastra 6865i/4.2.0.2023"


def refusing_port() -> int:
    """Return a UDP port of loopback that nobody listens on: the kernel answers with ICMP port unreachable."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_phones_that_all_accept_are_success_and_json_is_alone_on_standard_output(
    resyncctl: Resyncctl, answering: Path
) -> None:
    answer = resyncctl.call("run", answering, "--now", "--rate", "0", "--json")
    assert answer.status == 0
    assert answer.report["counts"] == {"accepted": 40}
    assert answer.report["state"] == "finished"
    assert "40 phones" in answer.err


def test_a_phone_that_refuses_is_status_one(resyncctl: Resyncctl) -> None:
    phones = resyncctl.file("dead.csv", HEADER, f"sip:1@x.invalid,sip:1@127.0.0.1:{refusing_port()},{YEALINK},")
    answer = resyncctl.call("run", phones, "--now", "--attempts", "1", "--json")
    assert answer.status == 1
    assert answer.report["counts"] == {"unreachable": 1}
    again = resyncctl.call("rollout", "retry", "--now", "--json")
    assert again.status == 1
    assert again.report["parent"] == answer.report["rollout"]
    assert resyncctl.call("rollout", "watch").status == 1


def test_a_list_of_skipped_phones_is_success(resyncctl: Resyncctl) -> None:
    phones = resyncctl.file("skip.csv", "aor,DBID_RESYNC_FROM_SIP", "sip:1@127.0.0.1,2")
    answer = resyncctl.call("run", phones, "--action", "reboot")
    assert answer.status == 0
    assert "1 target: skipped 1" in answer.err


def test_the_same_id_with_the_same_plan_prints_the_report_and_sends_nothing(
    resyncctl: Resyncctl, answering: Path
) -> None:
    first = resyncctl.call("run", answering, "--now", "--rate", "0", "--id", "monday", "--json")
    second = resyncctl.call("run", answering, "--now", "--rate", "0", "--id", "monday", "--json")
    assert (first.status, second.status) == (0, 0)
    assert second.report == first.report


def test_the_same_id_with_another_plan_is_refused_and_the_old_rollout_untouched(
    resyncctl: Resyncctl, answering: Path, one_phone: Path, ear: Ear
) -> None:
    resyncctl.call("run", answering, "--now", "--rate", "0", "--id", "monday")
    before = resyncctl.call("rollout", "show", "monday", "--json")
    answer = resyncctl.call("run", one_phone, "--now", "--id", "monday")
    assert answer.status == 2
    assert "--id monday names a rollout with another plan" in answer.complaint
    assert "Use another --id, or `resyncctl rollout resume monday`" in answer.complaint
    assert ear.heard() == []
    assert resyncctl.call("rollout", "show", "monday", "--json") == before


def test_ctrl_c_pauses_and_the_same_command_goes_on(resyncctl: Resyncctl, answering: Path) -> None:
    command = ("run", answering, "--now", "--rate", "10", "--id", "monday", "--json")
    with resyncctl.sending(*command) as process:
        process.send_signal(signal.SIGINT)
        paused = finish(process)
    assert paused.status == 130
    assert paused.report["state"] == "paused"
    assert paused.report["pause_reason"] == "operator"
    assert "`resyncctl rollout resume monday` continues it" in paused.complaint
    ended = resyncctl.call(*command)
    assert ended.status == 0
    assert ended.report["counts"] == {"accepted": 40}


def test_a_paused_rollout_is_listed_shown_resumed_and_never_resumed_twice(
    resyncctl: Resyncctl, answering: Path
) -> None:
    with resyncctl.sending("run", answering, "--now", "--rate", "10") as process:
        process.send_signal(signal.SIGTERM)
        assert finish(process).status == 130
    assert "paused" in resyncctl.call("rollout", "list").out
    assert "is paused (operator)" in resyncctl.call("rollout", "show").out
    resumed = resyncctl.call("rollout", "resume", "--json")
    assert resumed.status == 0
    assert resumed.report["counts"] == {"accepted": 40}
    again = resyncctl.call("rollout", "resume")
    assert again.status == 2
    assert "there is no rollout that is not over" in again.complaint
    named = resyncctl.call("rollout", "resume", str(resumed.report["rollout"]))
    assert named.status == 2
    assert "is finished; nothing is left to resume" in named.complaint


def test_abort_cancels_what_is_left_and_watch_says_so(resyncctl: Resyncctl, answering: Path) -> None:
    with resyncctl.sending("run", answering, "--now", "--rate", "10") as process:
        process.send_signal(signal.SIGINT)
        finish(process)
    aborted = resyncctl.call("rollout", "abort", "--json")
    assert aborted.status == 0
    assert aborted.report["state"] == "aborted"
    assert resyncctl.call("rollout", "watch", "--json").status == 3


def test_a_resync_that_reboots_phones_anyway_needs_yes(resyncctl: Resyncctl, ear: Ear) -> None:
    phones = resyncctl.file("list.csv", *ear.rows(2, user_agent=REBOOTS_ANYWAY))
    answer = resyncctl.call("run", phones, "--now")
    assert answer.status == 2
    assert "note: 2 phones will reboot although you asked for resync (Aastra" in answer.err
    assert "this needs --yes (see the notes above); nothing was sent" in answer.complaint
    assert ear.heard() == []
    assert resyncctl.has_stored_nothing


def test_a_factory_reset_needs_yes_and_says_why(resyncctl: Resyncctl, ear: Ear) -> None:
    phones = resyncctl.file("list.csv", *ear.rows(user_agent=GRANDSTREAM))
    answer = resyncctl.call("run", phones, "--now", "--event", "reset")
    assert answer.status == 2
    assert "the event 'reset' can reset 1 of these phones to factory settings" in answer.err
    assert "this needs --yes" in answer.complaint
    assert ear.heard() == []
    assert resyncctl.has_stored_nothing


def test_yes_is_enough_for_a_surprising_resync(resyncctl: Resyncctl, ear: Ear) -> None:
    phones = resyncctl.file("list.csv", *ear.rows(user_agent=REBOOTS_ANYWAY))
    answer = resyncctl.call(
        "run", phones, "--now", "--yes", "--attempts", "1", "--timer-t1", "100ms", "--timeout", "300ms"
    )
    assert answer.status == 1
    assert ear.heard()


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        (
            "192.0.2.1",
            "cannot open UDP port 0 on 192.0.2.1: Cannot assign requested address; choose another --local-address",
        ),
        ("127.0.0.1:{port}", "cannot open UDP port {port} on 127.0.0.1: Address already in use"),
    ],
    ids=["not-ours", "in-use"],
)
def test_a_local_address_that_cannot_be_used_stores_no_rollout(
    resyncctl: Resyncctl, one_phone: Path, ear: Ear, address: str, complaint: str
) -> None:
    answer = resyncctl.call("run", one_phone, "--now", "--local-address", address.format(port=ear.port))
    assert answer.status == 4
    assert complaint.format(port=ear.port) in answer.complaint
    assert ear.heard() == []
    assert resyncctl.call("rollout", "list", "--json").out.strip() == "[]"


def test_a_paused_rollout_stays_paused_when_its_port_is_taken(resyncctl: Resyncctl, answering: Path, ear: Ear) -> None:
    with resyncctl.sending("run", answering, "--now", "--rate", "10", "--id", "monday") as process:
        process.send_signal(signal.SIGINT)
        finish(process)
    answer = resyncctl.call("rollout", "resume", "monday", "--local-address", f"127.0.0.1:{ear.port}")
    assert answer.status == 4
    assert "Address already in use" in answer.complaint
    assert resyncctl.call("rollout", "show", "monday", "--json").report["state"] == "paused"


def test_an_unreachable_redis_is_infrastructure(resyncctl: Resyncctl, one_phone: Path, ear: Ear) -> None:
    answer = resyncctl.call("run", one_phone, "--now", "--redis-url", "redis://user:secret@127.0.0.1:1/0")
    assert answer.status == 4
    assert "Redis at redis://user:***@127.0.0.1:1/0 cannot be reached" in answer.complaint
    assert "name another one with --redis-url" in answer.complaint
    assert ear.heard() == []


@pytest.mark.parametrize("url", ["nonsense", "http://127.0.0.1", "redis://127.0.0.1:port"])
def test_a_bad_redis_url_is_bad_usage(resyncctl: Resyncctl, one_phone: Path, ear: Ear, url: str) -> None:
    answer = resyncctl.call("run", one_phone, "--now", "--redis-url", url)
    assert answer.status == 2
    assert f"--redis-url '{url}' cannot be used" in answer.complaint
    assert "write redis://HOST:PORT/DB" in answer.complaint
    assert ear.heard() == []


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_in_the_place_of_the_data_directory_is_told(
    resyncctl: Resyncctl, one_phone: Path, ear: Ear, below: str
) -> None:
    place = resyncctl.file("occupied", "mine")
    answer = resyncctl.call("run", one_phone, "--now", "--data-dir", place / below)
    assert answer.status == 4
    assert "Move away the file that is in its place" in answer.complaint
    assert place.read_text() == "mine\n"
    assert ear.heard() == []


@pytest.mark.parametrize("command", ["show", "watch", "results", "pause", "resume", "abort", "retry"])
def test_a_rollout_that_is_not_there_is_bad_usage(resyncctl: Resyncctl, command: str) -> None:
    answer = resyncctl.call("rollout", command, "nowhere")
    assert answer.status == 2
    assert "there is no rollout 'nowhere' in " in answer.complaint
    assert "`resyncctl rollout list` shows which there are" in answer.complaint


@pytest.mark.parametrize(
    ("command", "which"),
    [
        ("show", ""),
        ("results", ""),
        ("pause", " that is running"),
        ("resume", " that is not over"),
        ("abort", " that is not over"),
    ],
)
def test_without_an_id_and_without_rollouts_the_commands_say_so(resyncctl: Resyncctl, command: str, which: str) -> None:
    answer = resyncctl.call("rollout", command)
    assert answer.status == 2
    assert f"there is no rollout{which} in " in answer.complaint


def test_an_empty_list_of_rollouts_says_how_to_make_one(resyncctl: Resyncctl) -> None:
    assert resyncctl.call("rollout", "list").out.startswith("no rollouts yet; `resyncctl run PHONES.csv` makes one")


def test_a_busy_file_that_is_not_there_means_unknown_said_once_and_counted(
    resyncctl: Resyncctl, answering: Path
) -> None:
    answer = resyncctl.call("run", answering, "--now", "--rate", "0", "--busy-file", "nowhere.txt", "--json")
    assert answer.status == 0
    assert answer.report["counts"] == {"accepted": 40}
    busy = answer.report["busy"]
    assert isinstance(busy, dict)
    assert busy["unknown"] == 40
    [trouble] = busy["trouble"]
    assert "nowhere.txt" in trouble
    assert answer.err.count("busy_state_unknown") == 1
