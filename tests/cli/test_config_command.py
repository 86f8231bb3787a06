"""`resyncctl config`: what is in force and where it comes from, and whether a file is good; no password is ever shown."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cli.command import Resyncctl
from tests.cli.conftest import Ask

EXAMPLE = Path(__file__).parents[2] / "deploy" / "resyncctl.toml"


def rows(text: str) -> dict[str, tuple[str, str]]:
    """Return value and origin by key of the table that `config show` prints."""
    parts = [line.split(maxsplit=2) for line in text.splitlines()[1:]]
    return {key: (value, origin.strip()) for key, value, origin in parts}


def test_show_says_where_each_value_comes_from(ask: Ask, resyncctl: Resyncctl, monkeypatch: pytest.MonkeyPatch) -> None:
    file = resyncctl.file("c.toml", "max_streams = 7", "", 'sources = { hq = { file = "hq.csv" } }')
    monkeypatch.setenv("RESYNCCTL_POOL", "berlin")
    answer = ask("config", "show", "--config", file, "--log-level", "info")
    assert answer.status == 0
    assert rows(answer.out) == {
        "redis_url": ("none", "default"),
        "data_dir": (str(resyncctl.data), "environment (RESYNCCTL_DATA_DIR)"),
        "log_level": ("info", "command line (--log-level)"),
        "log_format": ("auto", "default"),
        "listen": ("127.0.0.1:8420", "default"),
        "tls_cert": ("none", "default"),
        "tls_key": ("none", "default"),
        "pool": ("berlin", "environment (RESYNCCTL_POOL)"),
        "pools": ("none", "default"),
        "requests_per_second": ("50.0", "default"),
        "max_streams": ("7", f"{file}:1"),
        "max_body": ("33554432", "default"),
        "engine": ("asyncio", "default"),
        "nameserver": ("none", "default"),
        "trace": ("none", "default"),
        "sip_tls_ca": ("none", "default"),
        "sip_tls_cert": ("none", "default"),
        "sip_tls_key": ("none", "default"),
        "sip_tls_verify": ("True", "default"),
        "sources.hq.file": (str(resyncctl.directory / "hq.csv"), f"{file}:3"),
    }


def test_show_for_machines_has_values_and_origins_in_parts(
    ask: Ask, resyncctl: Resyncctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = resyncctl.file("c.toml", "", "max_streams = 7")
    monkeypatch.setenv("RESYNCCTL_LISTEN", "[::1]:1")
    report = ask("config", "show", "--config", file, "--json", "--redis-url", "redis://h").report
    assert report["max_streams"] == {"value": 7, "from": "file", "file": str(file), "line": 2}
    assert report["listen"] == {"value": "[::1]:1", "from": "environment", "variable": "RESYNCCTL_LISTEN"}
    assert report["redis_url"] == {"value": "redis://h", "from": "command line", "option": "--redis-url"}
    assert report["tls_cert"] == {"value": None, "from": "default"}
    assert report["sources"] == {"value": {}, "from": "default"}


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["table", "json"])
@pytest.mark.parametrize(
    "url", ["redis://me:hunter2@h:1/0", "redis+sentinel://:hunter2@a:1,b:2/s/0", "unix:///s?db=1&password=hunter2"]
)
def test_no_password_is_shown(ask: Ask, resyncctl: Resyncctl, options: list[str], url: str) -> None:
    answer = ask("config", "show", "--config", resyncctl.file("c.toml", f'redis_url = "{url}"'), *options)
    assert answer.status == 0
    assert "***" in answer.out
    assert "hunter2" not in answer.out + answer.err


def test_show_says_all_that_is_wrong_in_one_paragraph(ask: Ask, resyncctl: Resyncctl) -> None:
    answer = ask("config", "show", "--config", resyncctl.file("c.toml", "colour = 1", "max_body = 1"))
    assert answer.status == 2
    assert answer.out == ""
    assert (
        "c.toml: line 1: unknown key 'colour'; line 2: max_body 1 is less than 1024; known keys: " in answer.complaint
    )


def test_a_good_file_is_called_good(ask: Ask, resyncctl: Resyncctl) -> None:
    file = resyncctl.file("c.toml", 'redis_url = "rediss://h"', 'sources.hq.file = "hq.csv"')
    resyncctl.file("hq.csv", "aor")
    answer = ask("config", "check", file)
    assert (answer.status, answer.out, answer.err) == (0, f"{file} is good\n", "")
    assert ask("config", "check", "--config", file).out == f"{file} is good\n"
    assert ask("config", "check", file, "--json").report == {"file": str(file), "good": True, "problems": []}
    assert resyncctl.has_stored_nothing


def test_the_shipped_example_is_good(ask: Ask) -> None:
    assert ask("config", "check", EXAMPLE).status == 0


def test_check_says_all_that_is_wrong_a_line_each(ask: Ask, resyncctl: Resyncctl) -> None:
    file = resyncctl.file("c.toml", "colour = 1", 'log_format = "xml"', "max_streams = -1")
    answer = ask("config", "check", file)
    assert answer.status == 2
    assert answer.out == ""
    assert answer.err.splitlines() == [
        f"resyncctl: {file}:1: unknown key 'colour'",
        f"resyncctl: {file}:2: log_format 'xml' is none of auto, json, text",
        f"resyncctl: {file}:3: max_streams -1 is less than 1",
    ]


def test_check_for_machines_has_file_line_and_key(ask: Ask, resyncctl: Resyncctl) -> None:
    file = resyncctl.file("c.toml", "", "max_streams = -1")
    answer = ask("config", "check", file, "--json")
    assert answer.status == 2
    problem = {
        "key": "max_streams",
        "problem": "max_streams -1 is less than 1",
        "from": "file",
        "file": str(file),
        "line": 2,
    }
    assert json.loads(answer.out) == {"file": str(file), "good": False, "problems": [problem]}


def test_check_finds_what_cannot_be_used_here(ask: Ask, resyncctl: Resyncctl) -> None:
    file = resyncctl.file(
        "c.toml", 'redis_url = "http://me:hunter2@h"', 'tls_cert = "cert.pem"', 'tls_key = "."', 'sources.hq.file = "hq.csv"'
    )  # fmt: skip
    answer = ask("config", "check", file)
    assert answer.status == 2
    assert answer.err.splitlines() == [
        f"resyncctl: {file}:1: redis_url 'http://me:***@h' is no URL of a Redis; write redis://HOST:PORT/DB, or leave it out",
        f"resyncctl: {file}:2: tls_cert '{resyncctl.directory}/cert.pem' does not exist",
        f"resyncctl: {file}:3: tls_key '{resyncctl.directory}' is a directory",
        f"resyncctl: {file}:4: sources.hq.file '{resyncctl.directory}/hq.csv' does not exist",
    ]


def test_check_finds_a_file_that_may_not_be_read(
    ask: Ask, resyncctl: Resyncctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    resyncctl.file("hq.csv", "aor")
    monkeypatch.setattr(os, "access", lambda file, *_: Path(file).suffix != ".csv")  # root may read everything
    answer = ask("config", "check", resyncctl.file("c.toml", 'sources.hq.file = "hq.csv"'))
    assert "hq.csv' may not be read by this user" in answer.complaint


def test_check_tells_the_line_of_what_is_not_toml(ask: Ask, resyncctl: Resyncctl) -> None:
    file = resyncctl.file("c.toml", "max_streams = 1", "listen = h:1")
    answer = ask("config", "check", file)
    assert answer.status == 2
    assert answer.complaint.startswith(f"resyncctl: {file}:2: not TOML: ")


def test_check_of_nothing_says_what_to_name(ask: Ask) -> None:
    answer = ask("config", "check")
    assert answer.status == 2
    assert answer.complaint == "resyncctl: there is no file to check; name one: resyncctl config check FILE"


def test_the_file_of_the_environment_is_read_by_every_command(
    ask: Ask, resyncctl: Resyncctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = resyncctl.file("c.toml", "max_streams = -1")
    monkeypatch.setenv("RESYNCCTL_CONFIG", str(file))
    assert f"RESYNCCTL_CONFIG {file}: line 1: max_streams" in ask("config", "show").complaint
    assert f"{file}:1: max_streams" in ask("config", "check").complaint
