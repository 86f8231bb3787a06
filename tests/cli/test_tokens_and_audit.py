"""`resyncctl token …` and `resyncctl audit …`, and what the other commands leave in the audit log."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import re
import socket
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from resyncctl.cli.token import _SCOPES
from resyncctl.duration import parse_duration
from resyncctl.engine.access import Access, Caller, Scope
from resyncctl.errors import AccessError, InputError
from resyncctl.store.redis_store import RedisStore
from tests.cli.command import WITHIN, Answer, Ear, Resyncctl, finish
from tests.cli.conftest import Ask
from tests.peers.redis_server import RedisServer
from tests.peers.waiting import wait_until

pytestmark = pytest.mark.needs("redis-server")

TOKEN = re.compile(r"rsy_[A-Za-z0-9_-]{43}\n")
ME = f"{pwd.getpwuid(os.getuid()).pw_name}@{socket.gethostname()}"
QUICK = ("--now", "--random-delay", "0")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as redis:
        yield redis


@pytest.fixture
def redis(server: RedisServer, resyncctl: Resyncctl, monkeypatch: pytest.MonkeyPatch, ask: Ask) -> str:
    """An empty redis-server that both ways to call the command use; its URL."""
    with socket.create_connection((server.host, server.port)) as connection:
        connection.sendall(b"FLUSHALL\r\n")
        assert connection.recv(64) == b"+OK\r\n"
    monkeypatch.setenv("RESYNCCTL_REDIS_URL", server.url)
    resyncctl.environment["RESYNCCTL_REDIS_URL"] = server.url
    return server.url


def authenticate(url: str, token: str, source: str = "192.0.2.1") -> Caller:
    """Ask as the API does."""

    async def main() -> Caller:
        store = RedisStore(url)
        try:
            return await Access(store).authenticate(f"Bearer {token}", source)
        finally:
            await store.close()

    return asyncio.run(main())


def listed(answer: Answer) -> list[dict[str, object]]:
    """Return the JSON list that a command has printed."""
    assert answer.status == 0, answer.err
    found: list[dict[str, object]] = json.loads(answer.out)
    return found


def actions(ask: Ask) -> list[tuple[object, object]]:
    """Return what the audit log holds, oldest first."""
    return [(entry["action"], entry["subject"]) for entry in reversed(listed(ask("audit", "list", "--json")))]


# Tokens


def test_the_token_stands_alone_on_standard_output(resyncctl: Resyncctl, redis: str) -> None:
    answer = resyncctl.call("token", "create", "ops", "--scope", "operate", "--log-level", "debug")
    assert answer.status == 0, answer.err
    assert TOKEN.fullmatch(answer.out)
    assert (
        answer.err
        == "token ops: operate, expires never, from anywhere. It is shown only this once; keep it like a password\n"
    )
    assert authenticate(redis, answer.out.strip()) == Caller("ops", Scope.OPERATE, "192.0.2.1")


def test_a_token_works_with_the_embedded_server_as_well(resyncctl: Resyncctl) -> None:
    answer = resyncctl.call("token", "create", "ops", "--scope", "read")
    assert TOKEN.fullmatch(answer.out)
    assert [token["name"] for token in listed(resyncctl.call("token", "list", "--json"))] == ["ops"]
    assert b"ops" in b"".join(path.read_bytes() for path in resyncctl.data.rglob("*.aof"))
    for path in resyncctl.data.rglob("*"):
        if path.is_file():
            assert answer.out.strip().encode() not in path.read_bytes(), path


@pytest.mark.parametrize("scope", ["read", "trigger", "operate", "admin"])
def test_each_scope_can_be_given(ask: Ask, redis: str, scope: str) -> None:
    token = ask("token", "create", "one", "--scope", scope).out.strip()
    assert authenticate(redis, token).scope.label == scope


def test_the_scopes_of_the_help_are_those_of_the_engine() -> None:
    assert tuple(scope.label for scope in Scope) == _SCOPES


def test_json_has_the_token_beside_all_that_may_be_told(ask: Ask, redis: str) -> None:
    words = ("--expires", "90d", "--network", "10.0.0.0/8", "--network", "2001:db8::1", "--json")
    report = ask("token", "create", "ops", "--scope", "admin", *words).report
    assert TOKEN.fullmatch(f"{report.pop('token')}\n")
    created = datetime.fromisoformat(str(report.pop("created_at")))
    expires = datetime.fromisoformat(str(report.pop("expires_at")))
    assert abs(expires - created - timedelta(days=90)) < timedelta(seconds=WITHIN)
    assert report == {
        "name": "ops",
        "scope": "admin",
        "expired": False,
        "last_used_at": None,
        "networks": ["10.0.0.0/8", "2001:db8::1/128"],
    }


def test_a_list_shows_use_and_networks_and_no_secret(ask: Ask, redis: str) -> None:
    token = ask("token", "create", "near", "--scope", "read", "--network", "192.0.2.0/24").out.strip()
    ask("token", "create", "wide", "--scope", "admin")
    authenticate(redis, token)
    answer = ask("token", "list")
    near, wide = (line.split() for line in answer.out.splitlines()[1:])
    assert near[:2] == ["near", "read"]
    assert near[3:] == ["never", near[4], "192.0.2.0/24"]
    assert datetime.fromisoformat(near[4]) >= datetime.fromisoformat(near[2])
    assert [wide[0], wide[1], *wide[3:]] == ["wide", "admin", "never", "not", "yet", "anywhere"]
    assert "rsy_" not in answer.out + ask("token", "list", "--json").out


def test_an_expired_token_is_listed_as_one(ask: Ask, redis: str) -> None:
    async def main() -> None:
        store = RedisStore(redis)
        await Access(store, now_us=lambda: 1).create("brief", Scope.READ, expires_us=2_000_000, networks=())
        await store.close()

    asyncio.run(main())
    assert "1970-01-01T00:00:02.000000Z (expired)" in ask("token", "list").out
    assert listed(ask("token", "list", "--json"))[0]["expired"] is True


def test_without_tokens_the_list_says_how_to_make_one(ask: Ask, redis: str) -> None:
    assert ask("token", "list").out == "no tokens yet; `resyncctl token create NAME --scope …` makes one\n"
    assert listed(ask("token", "list", "--json")) == []


def test_a_revoked_token_lets_nobody_in(ask: Ask, redis: str) -> None:
    token = ask("token", "create", "ops", "--scope", "admin").out.strip()
    authenticate(redis, token)
    answer = ask("token", "revoke", "ops")
    assert (answer.status, answer.out, answer.err) == (0, "", "token ops is revoked\n")
    with pytest.raises(AccessError):
        authenticate(redis, token)
    again = ask("token", "revoke", "ops", "--json")
    assert again.status == 2
    assert again.report == {"error": "there is no token ops; `resyncctl token list` shows which there are"}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["a b", "--scope", "read"], "'a b' cannot name a token: use up to 64 letters"),
        (["a\nb", "--scope", "read"], "'a\\nb' cannot name a token"),
        (["ops", "--scope", "root"], "scope: 'root' is none; write one of read, trigger, operate, admin"),
        (["ops"], "Missing option '--scope'"),
        (["--scope", "read"], "Missing argument 'NAME'"),
        (["ops", "--scope", "read", "--network", "10.0.0.1/8"], "'10.0.0.1/8' is not a network (10.0.0.1/8 has host"),
        (["ops", "--scope", "read", "--expires", "soon"], "--expires: 'soon' is not a duration; write 90s"),
        (["ops", "--scope", "read", "--expires", "0"], "--expires 0: the token would have expired already"),
        (["ops", "--scope", "read", "--expires", "3661d"], "--expires: '3661d' is longer than 3660 days; or never"),
        (["ops", "--scope", "read", "--expires="], "--expires: an empty duration"),
    ],
)
def test_a_wrong_word_is_told_and_makes_no_token(ask: Ask, redis: str, words: Sequence[str], complaint: str) -> None:
    answer = ask("token", "create", *words)
    assert answer.status == 2
    assert complaint in answer.complaint
    assert answer.out == ""
    assert listed(ask("token", "list", "--json")) == []


def test_a_token_in_place_of_a_name_is_not_repeated(ask: Ask, redis: str) -> None:
    token = ask("token", "create", "ops", "--scope", "read").out.strip()
    answer = ask("token", "revoke", token)
    assert answer.status == 2
    assert "a token's name does not begin with rsy_" in answer.complaint
    assert token not in answer.err


def test_of_two_commands_for_one_name_exactly_one_wins(resyncctl: Resyncctl, redis: str) -> None:
    words = ("token", "create", "ops", "--scope", "admin")
    with resyncctl.start(*words) as one, resyncctl.start(*words) as other:
        answers = sorted((finish(one), finish(other)), key=lambda answer: answer.status)
    assert [answer.status for answer in answers] == [0, 2]
    assert "there is a token ops already" in answers[1].complaint
    assert answers[1].out == ""
    assert authenticate(redis, answers[0].out.strip()).name == "ops"


def test_durations_may_be_longer_where_that_is_said() -> None:
    assert parse_duration("90d", longest=90 * 86_400) == 7_776_000.0
    with pytest.raises(InputError, match="'91d' is longer than 90 days"):
        parse_duration("91d", longest=90 * 86_400)
    with pytest.raises(InputError, match="'31d' is longer than 30 days"):
        parse_duration("31d")


# The audit log


def test_the_log_tells_who_did_what_from_where(ask: Ask, redis: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USER", "LOGNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody-else")
    ask("token", "create", "ops", "--scope", "operate", "--network", "10.0.0.0/8")
    ask("token", "revoke", "ops")
    revoked, created = listed(ask("audit", "list", "--json"))
    assert re.fullmatch(r"[0-9]+-[0-9]+", str(created.pop("id")))
    assert datetime.fromisoformat(str(created.pop("time"))).tzinfo is not None
    assert created == {
        "actor": ME,
        "source": "local",
        "action": "token.create",
        "subject": "ops",
        "details": {"scope": "operate", "expires": "never", "networks": "10.0.0.0/8"},
    }
    assert (revoked["actor"], revoked["action"], revoked["subject"]) == (ME, "token.revoke", "ops")


def test_the_table_has_a_line_for_each_entry(ask: Ask, redis: str) -> None:
    ask("token", "create", "ops", "--scope", "operate")
    head, line = ask("audit", "list").out.splitlines()
    assert head.split() == ["time", "who", "from", "action", "subject", "details"]
    assert line.split(maxsplit=5)[1:] == [ME, "local", "token.create", "ops", "scope operate, expires never"]


def test_the_log_goes_on_where_the_last_list_ended(ask: Ask, redis: str) -> None:
    for name in ("a", "b", "c"):
        ask("token", "create", name, "--scope", "read")
    first = ask("audit", "list", "--count", "2", "--json")
    assert [entry["subject"] for entry in listed(first)] == ["c", "b"]
    continuation = first.err.strip().partition("`resyncctl ")[2].rstrip("`")
    ask("token", "create", "d", "--scope", "read")
    rest = ask(*continuation.split(), "--json")
    assert [entry["subject"] for entry in listed(rest)] == ["a"]
    assert rest.err == ""


def test_an_empty_log_says_so(ask: Ask, redis: str) -> None:
    assert ask("audit", "list").out == "nothing has been done yet\n"
    assert ask("audit", "list", "--before", "1-1").out == "nothing older\n"
    assert listed(ask("audit", "list", "--json")) == []


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--before", "yesterday"], "'yesterday' is no cursor of the audit log; use the id of an entry"),
        (["--count", "0"], "--count"),
        (["--count", "1001"], "--count"),
    ],
)
def test_a_wrong_page_is_bad_usage(ask: Ask, redis: str, words: Sequence[str], complaint: str) -> None:
    answer = ask("audit", "list", *words)
    assert answer.status == 2
    assert complaint in answer.complaint


def test_text_of_others_cannot_steer_the_terminal(ask: Ask, redis: str) -> None:
    async def main() -> None:
        from resyncctl.store.audit import Actor, AuditLog  # noqa: PLC0415

        store = RedisStore(redis)
        await AuditLog(store).record(Actor("[red]x[/]", "\x1b[2J"), "hook.call", "a\nb")
        await store.close()

    asyncio.run(main())
    answer = ask("audit", "list")
    assert "\x1b" not in answer.out
    assert answer.out.splitlines()[1].split()[1:] == ["[red]x[/]", "�[2J", "hook.call", "a�b"]


# What other commands leave there


def test_a_rollout_that_is_run_is_in_the_log_with_its_plan(ask: Ask, redis: str, answering: Path) -> None:
    report = ask("run", answering, *QUICK, "--id", "r1", "--json").report
    entry = listed(ask("audit", "list", "--json"))[0]
    assert (entry["actor"], entry["source"]) == (ME, "local")
    assert (entry["action"], entry["subject"]) == ("rollout.run", "r1")
    assert entry["details"] == {"plan_hash": report["plan_hash"], "targets": "40"}


def test_a_preview_and_refused_commands_are_not_in_the_log(ask: Ask, redis: str, answering: Path) -> None:
    ask("plan", answering, *QUICK)
    ask("run", answering, "--rate", "x")
    ask("rollout", "pause", "nobody")
    ask("rollout", "resume", "nobody")
    ask("rollout", "abort", "nobody")
    ask("rollout", "retry", "nobody")
    assert actions(ask) == []


def test_steering_a_rollout_is_in_the_log(resyncctl: Resyncctl, ask: Ask, redis: str, ear: Ear) -> None:
    def runs() -> bool:
        return ask("rollout", "show", "r1", "--json").report["state"] == "running"

    phones = resyncctl.file("two.csv", *ear.rows(2))
    words = ("--id", "r1", "--batch-size", "1", "--random-delay", "0", "--timer-t1", "20ms", "--timeout", "100ms")
    with resyncctl.sending("run", phones, *words) as process:
        try:
            wait_until(runs, "the rollout to run", within=WITHIN)
            assert ask("rollout", "pause", "r1").status == 0
            assert ask("rollout", "resume", "r1").status == 0
            assert ask("rollout", "pause").status == 0
            assert ask("rollout", "pause", "r1").status == 2  # it is paused: nothing is done, nothing is told
            assert ask("rollout", "abort", "r1").status == 0
            assert finish(process).status == 3
        finally:
            process.kill()
    assert actions(ask) == [
        ("rollout.run", "r1"),
        ("rollout.pause", "r1"),
        ("rollout.resume", "r1"),
        ("rollout.pause", "r1"),
        ("rollout.abort", "r1"),
    ]


def test_a_retry_names_the_rollout_and_the_new_one(ask: Ask, resyncctl: Resyncctl, redis: str, ear: Ear) -> None:
    phones = resyncctl.file("one.csv", *ear.rows(1))
    words = (*QUICK, "--attempts", "1", "--timer-t1", "20ms", "--timeout", "100ms", "--id", "r1", "--json")
    assert ask("run", phones, *words).status == 1
    report = ask("rollout", "retry", "r1", "--json").report
    retried, _ = listed(ask("audit", "list", "--json"))
    assert (retried["action"], retried["subject"]) == ("rollout.retry", "r1")
    assert retried["details"] == {"rollout": "r1-r1", "plan_hash": report["plan_hash"], "targets": "1"}


def test_no_command_keeps_phone_passwords_in_the_log(resyncctl: Resyncctl, ask: Ask, redis: str, ear: Ear) -> None:
    rows = ["aor,contact,auth_username,auth_password", f"sip:1@pbx.invalid,sip:1@127.0.0.1:{ear.port},ann,sesame"]
    phones = resyncctl.file("secret.csv", *rows)
    assert ask("run", phones, *QUICK, "--timer-t1", "20ms", "--timeout", "40ms", "--attempts", "1").status == 1
    answer = ask("audit", "list", "--json")
    assert len(listed(answer)) == 1
    assert "sesame" not in answer.out
