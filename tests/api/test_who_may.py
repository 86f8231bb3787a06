"""Who may do what: every operation, asked with every kind of token."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from resyncctl.api.app import create_app
from resyncctl.api.routing import guarded_routes, unguarded_routes
from resyncctl.api.security import SIGNED
from resyncctl.api.services import make_services
from resyncctl.clock import now_us
from resyncctl.config import Settings
from resyncctl.engine.access import Scope
from resyncctl.logs import make_logger
from resyncctl.store.redis_store import RedisStore
from tests.api.rollouts import body, problem
from tests.api.server import ApiServer, make_token
from tests.peers.redis_server import RedisServer
from tests.peers.waiting import wait_until

pytestmark = pytest.mark.needs("redis-server")

_APP = create_app(
    make_services(RedisStore("redis://127.0.0.1:1"), Settings(data_dir=Path(tempfile.gettempdir())), make_logger())
)
ROUTES = {f"{method} {route.path}": route for route in guarded_routes(_APP) for method in sorted(route.methods or ())}
CLOSED = {name: route for name, route in ROUTES.items() if route.needed is not None}


@pytest.fixture(scope="module")
def anybody(server: ApiServer) -> Iterator[httpx.Client]:
    """Return a client without a token."""
    with server.client() as made:
        yield made


def ask(client: httpx.Client, name: str, token: str = "", **headers: str) -> httpx.Response:
    """Send a request that would be answered 404, 415 or 422 if it were let in, and change nothing."""
    method, path = name.split(" ")
    for part in ("rollout", "plan_hash", "name", "vendor"):
        path = path.replace("{" + part + "}", "nobody")
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return client.request(method, path, params={} if method == "GET" else {"": "x"}, headers=headers)


def test_no_path_is_without_a_guard() -> None:
    assert unguarded_routes(_APP) == []
    assert len(ROUTES) >= 38


def test_only_health_is_open_to_everybody() -> None:
    assert sorted(ROUTES.keys() - CLOSED.keys()) == ["GET /healthz", "GET /readyz"]


def test_only_calls_of_hooks_take_a_signature_for_a_token() -> None:
    signed = [name for name, route in ROUTES.items() if (route.openapi_extra or {}).get(SIGNED)]
    assert sorted(signed) == ["GET /v1/hooks/{name}", "POST /v1/hooks/{name}"]


def test_the_scopes_are_those_that_the_words_promise() -> None:
    scopes = {
        scope: sorted(name for name, route in CLOSED.items() if route.needed is scope and not name.startswith("GET "))
        for scope in Scope
    }
    one = "/v1/rollouts/{rollout}"
    assert scopes[Scope.READ] == []
    assert scopes[Scope.TRIGGER] == [
        "POST /v1/hooks/{name}",
        "POST /v1/plans",
        "POST /v1/rollouts",
        f"POST {one}/retry",
        f"POST {one}/retry/plan",
        "POST /v1/schedules/{name}/run",
    ]
    assert scopes[Scope.OPERATE] == [
        "DELETE /v1/freeze",
        "DELETE /v1/hooks/{name}",
        "DELETE /v1/schedules/{name}",
        "POST /v1/hooks",
        f"POST {one}/abort",
        f"POST {one}/pause",
        f"POST {one}/resume",
        "POST /v1/schedules",
        "POST /v1/schedules/{name}/pause",
        "POST /v1/schedules/{name}/resume",
        "PUT /v1/freeze",
    ]
    assert scopes[Scope.ADMIN] == []
    assert [name for name, route in CLOSED.items() if route.needed is Scope.ADMIN] == ["GET /v1/audit"]


@pytest.mark.parametrize("name", sorted(CLOSED))
def test_without_a_good_token_nothing_is_done(anybody: httpx.Client, name: str) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer rsy_" + "A" * 43},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic YTpi"},
        {"Authorization": "Bearer " + "x" * 5000},
        {"Cookie": "token=x"},
    ):
        response = ask(anybody, name, **headers)
        problem(response, 401)
        assert response.headers["www-authenticate"] == 'Bearer realm="resyncctl"'


@pytest.mark.parametrize("name", sorted(CLOSED))
def test_a_token_with_less_than_the_scope_is_refused_and_one_with_it_is_let_in(
    anybody: httpx.Client, tokens: dict[Scope, str], name: str
) -> None:
    needed = CLOSED[name].needed
    assert needed is not None
    for scope in Scope:
        response = ask(anybody, name, tokens[scope])
        if scope < needed:
            assert f"scope {needed.label}" in problem(response, 403)["detail"]
        else:
            assert response.status_code not in {401, 403}
            assert response.status_code < 500


@pytest.mark.parametrize("name", sorted(ROUTES.keys() - CLOSED.keys()))
def test_health_is_told_to_everybody(anybody: httpx.Client, name: str) -> None:
    assert ask(anybody, name).status_code == 200


def test_a_token_that_has_expired_or_was_revoked_is_refused(anybody: httpx.Client, redis: RedisServer) -> None:
    token = make_token(redis.url, "short", Scope.ADMIN, expires_us=now_us() + 700_000)
    assert ask(anybody, "GET /v1/rollouts", token).status_code == 200
    wait_until(lambda: ask(anybody, "GET /v1/rollouts", token).status_code == 401, "expired", within=5)


def test_the_token_comes_in_the_header_alone(anybody: httpx.Client, tokens: dict[Scope, str]) -> None:
    for name in ("token", "access_token", "api_key"):
        problem(anybody.get("/v1/rollouts", params={name: tokens[Scope.ADMIN]}), 401)


def test_a_body_is_not_read_before_the_token(anybody: httpx.Client) -> None:
    problem(anybody.post("/v1/plans", content="{", headers={"Content-Type": "application/json"}), 401)


def test_every_change_is_in_the_audit_log_with_who_and_from_where(
    server: ApiServer, client: httpx.Client, tokens: dict[Scope, str]
) -> None:
    with server.client(tokens[Scope.OPERATE], **{"X-Forwarded-For": "203.0.113.9, 198.51.100.7"}) as operator:
        assert operator.put("/v1/freeze", json={"reason": "storm"}).status_code == 200
        assert operator.delete("/v1/freeze").status_code == 200
    newest = body(client.get("/v1/audit", params={"limit": 2}))["entries"]
    assert [(one["action"], one["actor"], one["source"]) for one in newest] == [
        ("freeze.lift", "token:the-operate", "198.51.100.7"),
        ("freeze.set", "token:the-operate", "198.51.100.7"),
    ]
    assert newest[1]["details"]["reason"] == "storm"


def test_tokens_are_in_no_log(server: ApiServer, anybody: httpx.Client, tokens: dict[Scope, str]) -> None:
    ask(anybody, "GET /v1/rollouts", tokens[Scope.READ])
    assert not any(token in server.log() for token in tokens.values())
