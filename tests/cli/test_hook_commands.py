"""`resyncctl hook …`: made, listed, called and removed at a terminal; the secret is shown once, alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from resyncctl.cli.hook import Auth
from resyncctl.store.hooks import HookAuth
from tests.cli.command import Ear, Resyncctl
from tests.cli.conftest import Ask
from tests.peers.redis_server import RedisServer

SECRET = re.compile(r"[A-Za-z0-9_-]{43}\n")


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    with RedisServer() as redis:
        yield redis.url


@pytest.fixture
def empty(server_url: str, monkeypatch: pytest.MonkeyPatch, ask: Ask) -> None:
    """Have the commands of this process use an empty redis-server."""
    with Redis.from_url(server_url) as client:
        client.flushall()
    monkeypatch.setenv("RESYNCCTL_REDIS_URL", server_url)


def hooks_of(ask: Ask) -> list[dict[str, object]]:
    answer = ask("--json", "hook", "list")
    assert answer.status == 0, answer.err
    found: list[dict[str, object]] = json.loads(answer.out)
    return found


def test_the_words_of_the_command_line_are_those_of_the_store() -> None:
    assert [one.value for one in Auth] == [one.value for one in HookAuth]


def test_a_hook_lives_from_one_command_to_the_next_in_the_embedded_server(
    resyncctl: Resyncctl, one_phone: Path
) -> None:
    made = resyncctl.call("hook", "add", "pbx", "--phones", one_phone, "--quiet", "2s", "--rate", "7")
    assert made.status == 0, made.err
    assert SECRET.fullmatch(made.out)
    assert "call POST /v1/hooks/pbx" in made.err
    called = resyncctl.call("--json", "hook", "call", "pbx", "--extension", "0,1", "--extension", "2")
    assert (called.report["rollout"], called.report["joined"]) == ("hook-pbx-1", False)
    shown = resyncctl.call("--json", "hook", "show", "pbx").report
    assert (shown["pending"], shown["phones"], shown["calls"], shown["secret"]) == ("hook-pbx-1", 3, 1, "***")
    assert shown["order"] == {"phones_file": str(one_phone), "options": {"rate": 7.0}}
    listing = resyncctl.call("hook", "list")
    assert "hook-pbx-1 at 20" in listing.out
    assert made.out.strip() not in listing.out + listing.err + resyncctl.call("audit", "list").out


@pytest.mark.needs("redis-server")
def test_a_hook_is_made_with_run_options_and_is_audited(empty: None, ask: Ask, one_phone: Path) -> None:
    words = ("--where", "aor=*0@*", "--where", "site=b", "--action", "reboot", "--yes", "--cool-down", "1h")
    made = ask("--json", "hook", "add", "pbx", "--phones", one_phone, "--auth", "token", *words)
    assert made.report == {"name": "pbx", "auth": "token", "secret": None}
    assert "resyncctl token create NAME --scope trigger" in made.err
    [hook] = hooks_of(ask)
    assert hook["order"] == {
        "phones_file": str(one_phone),
        "where": ["aor=*0@*", "site=b"],
        "options": {"action": "reboot", "yes": True},
    }
    assert (hook["quiet"], hook["max_wait"], hook["cool_down"]) == (5.0, 60.0, 3600.0)
    assert ask("--json", "hook", "remove", "pbx").report == {"name": "pbx", "removed": True}
    assert hooks_of(ask) == []
    entries = json.loads(ask("--json", "audit", "list").out)
    assert [(one["action"], one["subject"]) for one in entries] == [("hook.remove", "pbx"), ("hook.add", "pbx")]


@pytest.mark.needs("redis-server")
def test_a_hook_for_tokens_prints_nothing_on_standard_output(empty: None, ask: Ask, one_phone: Path) -> None:
    made = ask("hook", "add", "pbx", "--phones", one_phone, "--auth", "token")
    assert (made.status, made.out) == (0, "")


@pytest.mark.needs("redis-server")
def test_calls_join_and_all_absorbs_the_named_ones(empty: None, ask: Ask, one_phone: Path) -> None:
    ask("hook", "add", "pbx", "--phones", one_phone)
    first = ask("hook", "call", "pbx", "--extension", "1001")
    assert re.fullmatch(r"rollout hook-pbx-1 at 20\S+Z at the latest\n", first.out)
    assert ask("--json", "hook", "call", "pbx", "--reason", "Apply Config").report["joined"] is True
    [hook] = hooks_of(ask)
    assert (hook["calls"], hook["phones"]) == (2, None)


@pytest.mark.needs("redis-server")
@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("add", "pbx"), "give --phones FILE or --source NAME, one of the two"),
        (("add", "pbx", "--phones", "LIST", "--source", "pbx"), "give --phones FILE or --source NAME, one of the two"),
        (("add", "p b x", "--phones", "LIST"), "cannot name a hook"),
        (("add", "pbx", "--phones", "absent.csv"), "absent.csv: cannot be read"),
        (("add", "pbx", "--source", "nowhere"), "there is no source 'nowhere'"),
        (("add", "pbx", "--phones", "LIST", "--quiet", "2m"), "quiet (120 s) is longer than max_wait (60 s)"),
        (("add", "pbx", "--phones", "LIST", "--quiet", "soon"), "'soon' is not a duration"),
        (("add", "pbx", "--phones", "LIST", "--where", "colour=red"), "write FIELD=GLOB"),
        (("add", "pbx", "--phones", "AASTRA"), "needs the option yes"),
        (("add", "taken", "--phones", "LIST"), "there is a hook 'taken' already"),
        (("show", "nobody"), "there is no hook 'nobody'"),
        (("remove", "nobody"), "there is no hook 'nobody'"),
        (("call", "nobody"), "there is no hook 'nobody'"),
        (("call", "taken", "--extension", ""), "an empty extension"),
    ],
)
def test_what_cannot_be_is_refused_with_status_2(
    empty: None, ask: Ask, resyncctl: Resyncctl, ear: Ear, words: tuple[str, ...], complaint: str
) -> None:
    lists = {
        "LIST": resyncctl.file("list.csv", *ear.rows()),
        "AASTRA": resyncctl.file("aastra.csv", *ear.rows(user_agent="Aastra 6865i/4.2.0.2023")),
    }
    assert ask("hook", "add", "taken", "--phones", lists["LIST"]).status == 0
    answer = ask("hook", *(lists.get(word, word) for word in words))
    assert (answer.status, answer.out) == (2, "")
    assert complaint in answer.complaint
    assert [hook["name"] for hook in hooks_of(ask)] == ["taken"]
