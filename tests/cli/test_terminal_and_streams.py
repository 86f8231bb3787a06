"""The command at a terminal, in a pipe, and without standard streams."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from resyncctl.config import load
from resyncctl.engine.app import open_store, plan_csv, store_plan
from resyncctl.rollout.model import Options
from resyncctl.store.records import rollout_id
from tests.cli.command import COMMAND, Ear, Resyncctl

HELP_SECONDS = 0.3
"""Design, section 8."""


def test_help_is_there_at_once(resyncctl: Resyncctl) -> None:
    """The best of several: what other processes of the machine take is not ours."""
    took = []
    for _ in range(8):
        began = time.perf_counter()
        subprocess.run([COMMAND, "--help"], check=True, capture_output=True, timeout=20)
        took.append(time.perf_counter() - began)
    assert min(took) < HELP_SECONDS


def test_a_person_who_answers_no_sends_nothing(resyncctl: Resyncctl, one_phone: Path, ear: Ear) -> None:
    with resyncctl.terminal("run", one_phone, "--action", "reboot", "--now") as terminal:
        terminal.read_until("Reboot 1 phone? [y/N]")
        terminal.type("n\n")
        assert terminal.status() == 2
    assert "not confirmed; nothing was sent" in terminal.screen
    assert ear.heard() == []
    assert resyncctl.has_stored_nothing


def test_a_person_who_leaves_at_the_question_sends_nothing(resyncctl: Resyncctl, one_phone: Path, ear: Ear) -> None:
    with resyncctl.terminal("run", one_phone, "--action", "reboot", "--now") as terminal:
        terminal.read_until("[y/N]")
        terminal.interrupt()
        assert terminal.status() == 130
    assert "interrupted; nothing was sent" in terminal.screen
    assert ear.heard() == []


def test_a_person_who_answers_yes_sees_progress_and_a_report(resyncctl: Resyncctl, answering: Path) -> None:
    with resyncctl.terminal("run", answering, "--action", "reboot", "--now", "--rate", "40") as terminal:
        terminal.read_until("Reboot 40 phones? [y/N]")
        terminal.type("y\n")
        assert terminal.status() == 0
    assert "running" in terminal.screen
    assert "━" in terminal.screen
    assert "40 targets: " in terminal.screen


def test_ctrl_c_at_a_terminal_pauses_and_the_second_leaves_at_once(resyncctl: Resyncctl, one_phone: Path) -> None:
    with resyncctl.terminal("run", one_phone, "--now", "--id", "monday", "--timeout", "5s") as terminal:
        terminal.read_until("sending 1")
        terminal.interrupt()
        terminal.read_until("pausing: ")
        terminal.interrupt()
        assert terminal.status() == 130
    assert "left at once" in terminal.screen
    assert "Traceback" not in terminal.screen


def test_a_narrow_terminal_wraps_and_loses_nothing(resyncctl: Resyncctl, answering: Path) -> None:
    with resyncctl.terminal("plan", answering, columns=40) as terminal:
        assert terminal.status() == 0
    lines = terminal.screen.splitlines()
    assert all(len(line) <= 40 for line in lines)
    assert "40 phones" in terminal.screen


def test_ctrl_c_while_planning_leaves_nothing(resyncctl: Resyncctl) -> None:
    block = "".join(f"sip:{n}@x.invalid,sip:{n}@127.0.0.1:9\n" for n in range(1000))
    phones = resyncctl.file("many.csv", "aor,contact")
    with phones.open("a") as file:
        file.writelines(block for _ in range(300))
    with resyncctl.terminal("run", phones) as terminal:
        terminal.read_until("planning for many.csv")
        terminal.interrupt()
        assert terminal.status() == 130
    assert "interrupted while planning; nothing was sent" in terminal.screen
    assert "Traceback" not in terminal.screen
    assert resyncctl.has_stored_nothing


@pytest.mark.parametrize(
    "words",
    [
        "vendors list",
        "vendors list --json",
        "doctor",
        "--help",
        "rollout list --json",
        "plan one.csv",
        "plan one.csv --json",
    ],
)
def test_a_reader_that_leaves_early_is_no_error(resyncctl: Resyncctl, one_phone: Path, words: str) -> None:
    answer = resyncctl.shell(f'cd "{one_phone.parent}"; $R {words} | true; echo "${{PIPESTATUS[0]}}"')
    assert answer.out == "0\n"
    assert answer.err == ""


def test_a_reader_of_the_progress_that_leaves_does_not_stop_the_rollout(resyncctl: Resyncctl, answering: Path) -> None:
    answer = resyncctl.shell(
        f'$R run "{answering}" --now --rate 40 --yes --log-level debug 2>&1 | true; echo "${{PIPESTATUS[0]}}"'
    )
    assert answer.out == "0\n"
    assert resyncctl.call("rollout", "show", "--json").report["counts"] == {"accepted": 40}


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_error(resyncctl: Resyncctl, answering: Path, closed: str) -> None:
    answer = resyncctl.shell(f'$R run "{answering}" --now --rate 0 --action reboot {closed}; echo "status $?" > status')
    assert "Traceback" not in answer.err
    done = resyncctl.shell("cat status; rm status")
    assert done.out == "status 0\n"


def test_a_full_standard_output_is_told(resyncctl: Resyncctl) -> None:
    answer = resyncctl.shell("$R vendors list --json > /dev/full")
    assert answer.status == 4
    assert "No space left on device" in answer.complaint


def test_a_full_disk_is_told_and_nothing_is_sent(resyncctl: Resyncctl, one_phone: Path, ear: Ear) -> None:
    tiny = resyncctl.directory / "tiny"
    tiny.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tiny], check=False, capture_output=True, timeout=10
    )
    if mounted.returncode:
        pytest.skip(f"no file system may be mounted here: {mounted.stderr.decode().strip()}")
    try:
        (tiny / "filling").write_bytes(bytes(60 * 1024))
        answer = resyncctl.call("run", one_phone, "--now", "--data-dir", tiny / "data")
    finally:
        subprocess.run(["umount", tiny], check=True, timeout=10)
    assert answer.status == 4
    assert "No space left on device" in answer.complaint
    assert "Free some space on that disk" in answer.complaint
    assert ear.heard() == []


COUNT = 100_000


async def test_results_of_a_hundred_thousand_phones_are_streamed(resyncctl: Resyncctl, tmp_path: Path) -> None:
    phones = tmp_path / "phones.csv"
    phones.write_text("contact\n" + "".join(f"sip:{n}@127.0.0.1:9\n" for n in range(COUNT)))
    settings = load(file=None, environ={}, redis_url="", data_dir=resyncctl.data, log_level="")
    plan = plan_csv(phones, Options(), where=[], seed=1, name="big")
    async with open_store(settings) as store:
        await store_plan(store, rollout_id("big"), plan)
        small = resyncctl.measured("rollout", "list")
        table = resyncctl.measured("rollout", "results")
        ndjson = resyncctl.measured("rollout", "results", "big", "--format", "ndjson")
        rows = resyncctl.measured("rollout", "results", "--format", "csv")
        began = time.monotonic()
        head = resyncctl.shell('$R rollout results --format csv | head -3; echo "${PIPESTATUS[0]}"')
        took = time.monotonic() - began
        none = resyncctl.call("rollout", "results", "--state", "accepted", "--format", "csv")
    assert len(table.out.splitlines()) == len(rows.out.splitlines()) == COUNT + 1
    parsed = [json.loads(line) for line in ndjson.out.splitlines()]
    assert len({row["contact"] for row in parsed}) == COUNT
    assert {row["state"] for row in parsed} == {"planned"}
    header = "aor,contact,vendor,state,reason,status,attempts,planned_at,sent_at,answered_at,rtt_ms"
    assert rows.out.splitlines()[0] == header
    assert none.out == f"{header}\n"
    assert head.out.splitlines()[0] == header
    assert head.out.splitlines()[-1] == "0"
    assert head.err == ""
    assert took < 5.0
    for streamed in (table, ndjson, rows):
        assert streamed.status == 0
        assert streamed.peak < max(small.peak, 80_000_000) + 40_000_000
