"""Hooks by HTTP: made with a secret that is shown once, called with a signature or a token in the forms that PBXs use."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from resyncctl.engine.access import Scope
from tests.api.rollouts import body, ended, problem
from tests.api.server import ApiServer
from tests.engine.recorder import Recorder
from tests.peers.waiting import wait_until

pytestmark = pytest.mark.needs("redis-server")

HOOK = {"source": "office", "quiet": "0.2s", "max_wait": "2s", "options": {"now": True, "random_delay": 0, "rate": 0}}


def signed(secret: str, content: bytes, *, at: float = 0.0) -> dict[str, str]:
    """Return the headers of a signed call."""
    seconds = str(int(at or time.time()))
    digest = hmac.new(secret.encode(), seconds.encode() + b"." + content, hashlib.sha256).hexdigest()
    return {"X-Resyncctl-Timestamp": seconds, "X-Resyncctl-Signature": f"sha256={digest}"}


@pytest.fixture(scope="module")
def hook(server: ApiServer, tokens: dict[Scope, str]) -> Iterator[dict[str, Any]]:
    """Make a hook whose calls are signed."""
    with server.client(tokens[Scope.ADMIN]) as client:
        yield body(client.post("/v1/hooks", json={**HOOK, "name": "pbx"}))
        assert client.delete("/v1/hooks/pbx").status_code == 204


@pytest.fixture
def pbx(server: ApiServer) -> Iterator[httpx.Client]:
    """Return a client that has no token, as a PBX has none."""
    with server.client() as made:
        yield made


def test_the_secret_is_shown_once(client: httpx.Client, hook: dict[str, Any]) -> None:
    assert len(hook["secret"]) >= 32
    listed = client.get("/v1/hooks")
    assert hook["secret"] not in listed.text
    assert [one["name"] for one in body(listed)["hooks"]] == ["pbx"]


def test_a_signed_call_makes_a_rollout_of_the_extension_it_names(
    client: httpx.Client, pbx: httpx.Client, hook: dict[str, Any], phones: Recorder
) -> None:
    content = json.dumps({"extension": "1003", "reason": "config changed"}).encode()
    headers = {"Content-Type": "application/json", **signed(hook["secret"], content)}
    called = pbx.post("/v1/hooks/pbx", content=content, headers=headers)
    assert called.status_code == 202
    name = body(called)["rollout"]
    wait_until(lambda: client.get(f"/v1/rollouts/{name}").status_code == 200, "launched", within=10)
    assert ended(client, name)["targets"] == 1
    assert phones.times(["ok.office3"])["ok.office3"] >= 1


def test_calls_as_form_and_query_join_the_rollout_that_is_pending(
    server: ApiServer, client: httpx.Client, tokens: dict[Scope, str], hook: dict[str, Any]
) -> None:
    with server.client(tokens[Scope.TRIGGER]) as trigger:
        first = body(trigger.post("/v1/hooks/pbx", data={"extension": "1004"}))
        second = body(trigger.get("/v1/hooks/pbx", params={"extension": "1005", "reason": "apply"}))
        third = body(trigger.post("/v1/hooks/pbx", params={"extension": "1005"}))
    assert second["rollout"] == third["rollout"] == first["rollout"]
    assert (second["joined"], third["joined"]) == (True, True)
    wait_until(lambda: client.get(f"/v1/rollouts/{first['rollout']}").status_code == 200, "launched", within=10)
    assert ended(client, first["rollout"])["targets"] == 2


def test_a_signature_that_is_missing_wrong_old_used_or_of_another_body_is_refused(
    pbx: httpx.Client, hook: dict[str, Any]
) -> None:
    content, secret = b'{"extension": "1006"}', hook["secret"]
    good = signed(secret, content)
    wrong = [
        {},
        signed("another secret of a hook", content),
        signed(secret, content, at=time.time() - 301),
        signed(secret, content, at=time.time() + 310),
        signed(secret, b'{"extension": "1007"}'),
        {**good, "X-Resyncctl-Signature": "sha256=0"},
        {**good, "X-Resyncctl-Timestamp": "now"},
        {"Authorization": "Bearer rsy_" + "C" * 43, **good},
    ]
    for headers in wrong:
        response = pbx.post("/v1/hooks/pbx", content=content, headers=headers)
        problem(response, 401)
        assert response.headers["www-authenticate"] == 'Bearer realm="resyncctl"'
    assert pbx.post("/v1/hooks/pbx", content=content, headers=good).status_code == 202
    assert "used" in problem(pbx.post("/v1/hooks/pbx", content=content, headers=good), 401)["detail"]


def test_a_url_can_be_signed(pbx: httpx.Client, hook: dict[str, Any]) -> None:
    seconds = str(int(time.time()))
    query = urlencode(sorted({"extension": "1008", "timestamp": seconds}.items()))
    digest = hmac.new(hook["secret"].encode(), f"{seconds}.{query}".encode(), hashlib.sha256).hexdigest()
    called = pbx.get(f"/v1/hooks/pbx?{query}&signature=sha256={digest}")
    assert called.status_code == 202, called.text


def test_who_has_no_token_learns_not_which_hooks_there_are(pbx: httpx.Client, client: httpx.Client) -> None:
    problem(pbx.post("/v1/hooks/nobody"), 401)
    problem(client.post("/v1/hooks/nobody"), 404)


def test_a_token_needs_the_scope_trigger(server: ApiServer, tokens: dict[Scope, str], hook: dict[str, Any]) -> None:
    with server.client(tokens[Scope.READ]) as reader:
        problem(reader.post("/v1/hooks/pbx"), 403)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("application/json", b"{"),
        ("application/json", b'{"extension": ""}'),
        ("application/json", b'{"extension": {"a": 1}}'),
        ("application/json", b'{"extension": "\\ud800"}'),
        ("application/json", b'{"extension": ' + b"9" * 5000 + b"}"),
        ("application/json", b"[" * 50_000),
        ("application/json", b"\xff"),
        ("application/xml", b"<extension/>"),
        ("application/x-www-form-urlencoded", b"extension=%00"),
        ("application/x-www-form-urlencoded", b"extension=%FF"),
    ],
)
def test_a_call_that_cannot_be_read_is_a_problem(
    client: httpx.Client, hook: dict[str, Any], kind: str, content: bytes
) -> None:
    problem(client.post("/v1/hooks/pbx", content=content, headers={"Content-Type": kind}), 422)


def test_a_call_that_is_too_large_is_refused_before_it_is_known_who_calls(pbx: httpx.Client) -> None:
    problem(pbx.post("/v1/hooks/pbx", content=b"x" * (1024 * 1024 + 1)), 413)


def test_a_hook_of_tokens_has_no_secret(client: httpx.Client, pbx: httpx.Client) -> None:
    made = body(client.post("/v1/hooks", json={**HOOK, "name": "tokens", "auth": "token"}))
    assert made["secret"] is None
    problem(pbx.post("/v1/hooks/tokens", headers=signed("nothing at all", b"")), 401)
    problem(client.post("/v1/hooks", json={**HOOK, "name": "tokens"}), 409)
    assert client.delete("/v1/hooks/tokens").status_code == 204
    problem(client.delete("/v1/hooks/tokens"), 404)


@pytest.mark.parametrize(
    "wish",
    [
        {"name": "wrong", "phones": [{"aor": "1001@pbx.example"}], "source": ""},
        {"name": "wrong", "quiet": "2m"},
        {"name": "wrong", "secret": "short"},
        {"name": "a b"},
        {"name": "wrong", "auth": "none"},
        {"name": "wrong", "colour": "red"},
    ],
)
def test_a_hook_that_cannot_be_is_refused(client: httpx.Client, wish: dict[str, object]) -> None:
    problem(client.post("/v1/hooks", json={**HOOK, **wish}), 422)
