"""What `plan`, `vendors` and `doctor` print; settings, durations and the load curve behind them."""

from __future__ import annotations

import subprocess
from array import array
from pathlib import Path

import pytest

from resyncctl.cli.chart import draw
from resyncctl.cli.doctor import judge_redis
from resyncctl.cli.main import hoist
from resyncctl.config import load
from resyncctl.duration import format_duration, parse_duration
from resyncctl.engine.planning import CURVE
from resyncctl.errors import InputError
from resyncctl.rollout.planner import load_curve
from tests.cli.command import Ear, Resyncctl
from tests.cli.conftest import Ask
from tests.peers.ports import free_port
from tests.peers.waiting import wait_until


def test_a_plan_of_one_phone_is_a_few_lines(ask: Ask, one_phone: Path) -> None:
    answer = ask("plan", one_phone, "--seed", "7")
    assert answer.status == 0
    assert answer.out.startswith("resync of 1 phone, plan ")
    assert "seed 7\ndue " in answer.out
    assert "Event: check-sync;reboot=false" in answer.out
    assert "load: sends per second, one column is 1 s" in answer.out
    assert len(answer.out.splitlines()) < 12


def test_a_plan_shows_its_first_and_last_batches(ask: Ask, resyncctl: Resyncctl, ear: Ear) -> None:
    phones = resyncctl.file("many.csv", *ear.rows(2000))
    answer = ask("plan", phones, "--random-delay", "0")
    assert "first due 0 s after the start, last due 39 min" in answer.out
    assert "never more than 50 sends in a second" in answer.out
    assert "(29 more)" in answer.out
    [last] = [line for line in answer.out.splitlines() if line.split()[:2] == ["40", "50"]]
    assert last.split() == ["40", "50", "2340.000", "s", "2340.985", "s"]
    assert "one column is 1 min" in answer.out


def test_a_plan_as_json_is_its_numbers(ask: Ask, resyncctl: Resyncctl, ear: Ear) -> None:
    report = ask("plan", resyncctl.file("five.csv", *ear.rows(5)), "--now", "--rate", "1", "--json").report
    assert report["batches"] == 1
    assert report["first_due"] == 0
    assert report["last_due"] == pytest.approx(4, abs=0.1)
    assert report["load_curve"] == {"bucket_seconds": 1, "sends": [1, 1, 1, 1, 1]}


def test_a_plan_that_skips_everybody_says_so_with_reasons_and_examples(ask: Ask, resyncctl: Resyncctl) -> None:
    rows = [f"sip:{n}@127.0.0.1,2" for n in range(5)]
    answer = ask("plan", resyncctl.file("skip.csv", "aor,DBID_RESYNC_FROM_SIP", *rows))
    assert answer.status == 0
    assert "nothing is sent: every phone is skipped" in answer.out
    assert "5 phone is set to ignore check-sync (DBID_RESYNC_FROM_SIP=2): sip:0@127.0.0.1" in answer.out
    assert "load:" not in answer.out


def test_a_plan_stores_and_sends_nothing(ask: Ask, resyncctl: Resyncctl, one_phone: Path, ear: Ear) -> None:
    assert ask("plan", one_phone, "--now").status == 0
    assert ear.heard() == []
    assert resyncctl.has_stored_nothing


def test_vendors_are_listed_whole_where_there_is_no_terminal(ask: Ask) -> None:
    listed = ask("vendors", "list")
    assert listed.status == 0
    assert "check-sync;reboot=true" in listed.out
    assert "…" not in listed.out


def test_a_vendor_is_shown_and_matched_with_its_sources(ask: Ask) -> None:
    shown = ask("vendors", "show", "GRANDSTREAM")
    assert shown.out.startswith("id grandstream\n")
    assert "dangerous\n  reset\n" in shown.out
    assert ask("vendors", "match", "Grandstream GRP2615 1.0.13.122").out == shown.out
    assert ask("vendors", "show", "grandstream", "--json").report["id"] == "grandstream"


def test_doctor_is_content_with_the_embedded_server(resyncctl: Resyncctl) -> None:
    answer = resyncctl.call("doctor")
    assert answer.status == 0
    assert f"embedded in {resyncctl.data}" in answer.out
    assert "bad" not in answer.out


def test_doctor_reports_a_redis_that_is_down(resyncctl: Resyncctl) -> None:
    answer = resyncctl.call("doctor", "--redis-url", "redis://127.0.0.1:1")
    assert answer.status == 4
    assert "bad  Redis: Redis at redis://127.0.0.1:1 cannot be reached" in answer.out
    assert "good Python" in answer.out


@pytest.mark.needs("redis-server")
def test_doctor_reports_a_redis_that_forgets(resyncctl: Resyncctl) -> None:
    port = free_port()
    server = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(resyncctl.directory)],
        stdout=subprocess.DEVNULL,
    )
    url = f"redis://127.0.0.1:{port}/0"
    try:
        wait_until(lambda: "cannot be reached" not in resyncctl.call("doctor", "--redis-url", url).out, url, within=20)
        answer = resyncctl.call("doctor", "--redis-url", url)
    finally:
        server.terminate()
        server.wait(timeout=10)
    assert answer.status == 4
    assert "bad  persistence: the append-only file is off" in answer.out
    assert "set `appendonly yes`" in answer.out


@pytest.mark.parametrize(
    ("info", "verdicts"),
    [
        ({"redis_version": "6.2.14", "aof_enabled": 1}, {"Redis": "good", "persistence": "good"}),
        ({"redis_version": "6.0.16", "aof_enabled": 1}, {"Redis": "bad", "persistence": "good"}),
        ({"redis_version": "5.0", "aof_enabled": 0}, {"Redis": "bad", "persistence": "bad"}),
        (
            {"redis_version": "7.4.1", "aof_enabled": "1", "maxmemory": 1, "maxmemory_policy": "allkeys-lru"},
            {"Redis": "good", "persistence": "good", "memory": "bad"},
        ),
        (
            {"redis_version": "7.4.1", "aof_enabled": 1, "aof_last_write_status": "err"},
            {"Redis": "good", "persistence": "good", "disk": "bad"},
        ),
        (
            {"server_name": "valkey", "valkey_version": "9.1.2", "redis_version": "7.2.4", "aof_enabled": 1},
            {"Redis": "good", "persistence": "good"},
        ),
    ],
)
def test_doctor_judges_a_server_by_what_it_says_of_itself(info: dict[str, object], verdicts: dict[str, str]) -> None:
    assert {name: verdict for name, verdict, _ in judge_redis(info, "here")} == verdicts


def test_an_old_server_is_told_with_the_oldest_that_will_do() -> None:
    assert judge_redis({"redis_version": "6.0.16", "aof_enabled": 1}, "here")[0][2] == (
        "redis 6.0.16, here; resyncctl needs Redis 6.2 or later, or Valkey"
    )


def test_all_problems_of_a_configuration_file_are_told_at_once(ask: Ask, resyncctl: Resyncctl) -> None:
    file = resyncctl.file("c.toml", "colour = 1", "redis_url = 5", "data_dir = []", "log_level = 'loud'")
    answer = ask("vendors", "list", "--config", file)
    assert answer.status == 0  # a command that needs no settings reads none
    answer = ask("doctor", "--config", file)
    assert answer.status == 2
    for problem in (
        "unknown key 'colour'",
        "redis_url is not text",
        "data_dir is not text",
        "log_level 'loud' is none of",
    ):
        assert problem in answer.complaint
    assert "known keys: redis_url, data_dir, log_level" in answer.complaint


def test_a_configuration_file_that_is_not_toml_is_told_with_its_line(ask: Ask, resyncctl: Resyncctl) -> None:
    answer = ask("doctor", "--config", resyncctl.file("c.toml", "", "[["))
    assert answer.status == 2
    assert "c.toml: not TOML: " in answer.complaint
    assert "line 2" in answer.complaint


def test_the_command_line_beats_the_environment_which_beats_the_file(resyncctl: Resyncctl) -> None:
    file = resyncctl.file("c.toml", 'redis_url = "file"', 'data_dir = "/file"', 'log_level = "error"')
    environ = {"RESYNCCTL_REDIS_URL": "environment", "RESYNCCTL_DATA_DIR": "/environment"}
    told = load(file=file, environ=environ, redis_url="told", data_dir=Path("/told"), log_level="debug")
    assert (told.redis_url, told.data_dir, told.log_level) == ("told", Path("/told"), "debug")
    around = load(file=file, environ=environ, redis_url="", data_dir=None, log_level="")
    assert (around.redis_url, around.data_dir, around.log_level) == ("environment", Path("/environment"), "error")
    kept = load(file=file, environ={}, redis_url="", data_dir=None, log_level="")
    assert (kept.redis_url, kept.data_dir) == ("file", Path("/file"))


def test_without_settings_data_goes_where_the_desktop_specification_says() -> None:
    def folder(environ: dict[str, str]) -> Path:
        return load(file=None, environ=environ, redis_url="", data_dir=None, log_level="").data_dir

    assert folder({"XDG_DATA_HOME": "/share"}) == Path("/share/resyncctl")
    assert folder({"XDG_DATA_HOME": "relative"}) == Path.home() / ".local/share/resyncctl"
    with pytest.raises(InputError, match="is in no known home"):
        load(file=None, environ={}, redis_url="", data_dir=Path("~nobody-of-that-name/x"), log_level="")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("250ms", 0.25),
        ("1.5s", 1.5),
        ("12", 12.0),
        ("30d", 2_592_000.0),
        (" 5M ", 300.0),
    ],
)
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", " ", "s", "5x", "-5", "1e3", "5 m", "5m s", "inf", "31d", "9" * 40, "٣s"])
def test_other_texts_are_no_durations(text: str) -> None:
    with pytest.raises(InputError):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (1.5, "1.5 s"),
        (59.99, "60 s"),
        (125, "2 min 5 s"),
        (5400, "1 h 30 min"),
        (119_978, "1 d 9 h 19 min"),
    ],
)
def test_durations_are_written_as_people_write_them(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_the_load_curve_counts_from_the_start_in_whole_seconds() -> None:
    assert load_curve(array("q", [0, 999_999, 1_000_000, 3_500_000]), columns=CURVE) == (1, [2, 1, 0, 1])
    assert load_curve(array("q", [59_999_999]), columns=CURVE) == (1, [0] * 59 + [1])
    assert load_curve(array("q", [60_000_000]), columns=CURVE) == (2, [0] * 30 + [1])
    assert load_curve(array("q"), columns=CURVE) == (1, [])


def test_the_load_curve_has_at_most_the_asked_columns_and_loses_no_send() -> None:
    dues = array("q", (number * 7_777_777 for number in range(5000)))
    width, counts = load_curve(dues, columns=60)
    assert len(counts) <= 60
    assert sum(counts) == 5000
    assert width == 900


def curve(*dues: int) -> tuple[int, list[int]]:
    return load_curve(array("q", dues), columns=CURVE)


def test_the_load_curve_is_drawn_as_high_as_its_peak_and_never_hides_a_send() -> None:
    assert draw(*curve(0, 100_000, 2_000_000)).splitlines() == [
        "load: sends per second, one column is 1 s",
        "       2 ┤█",
        "         │█ █",
        "       0 ┼───",
        "          0 3 s",
    ]
    assert "▁" in draw(*curve(*[0] * 1000, 5_000_000))
    assert draw(*curve()) == ""


def test_the_load_curve_is_drawn_narrower_where_there_is_no_room() -> None:
    assert draw(*curve(0, 2_000_000, 3_000_000, 6_000_000), columns=4).splitlines() == [
        "load: sends per second, one column is 2 s",
        "       1 ┤ █",
        "         │██ █",
        "       0 ┼────",
        "          0 8 s",
    ]


def test_common_options_move_to_the_front_and_others_stay() -> None:
    assert hoist(["run", "a.csv", "--json", "--data-dir", "x", "--now"]) == [
        "--json",
        "--data-dir",
        "x",
        "run",
        "a.csv",
        "--now",
    ]
    assert hoist(["run", "--config=c", "--", "--json"]) == ["--config=c", "run", "--", "--json"]
    assert hoist(["run", "a.csv", "--config"]) == ["--config"]
