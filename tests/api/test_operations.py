"""The emergency stop, the workers, health, and what Prometheus is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from resyncctl.engine.access import Scope
from tests.api.rollouts import AT_ONCE, SLOW, body, ended, events, launch, phone_rows, plan, problem
from tests.api.server import ApiServer, make_token
from tests.engine.recorder import Recorder
from tests.peers.redis_server import RedisServer
from tests.peers.waiting import wait_until

pytestmark = pytest.mark.needs("redis-server")


@pytest.fixture(scope="module")
def alone(office: Path) -> Iterator[tuple[ApiServer, RedisServer, str]]:
    """Start a service on a redis-server of its own, that may be frozen and killed."""
    with RedisServer() as redis:
        token = make_token(redis.url, "ops", Scope.ADMIN)
        with ApiServer(redis.url, sources={"office": office}, requests_per_second=0) as server:
            yield server, redis, token


@pytest.fixture
def ops(alone: tuple[ApiServer, RedisServer, str]) -> Iterator[httpx.Client]:
    """Return a client of that service."""
    server, _, token = alone
    with server.client(token) as made:
        yield made


def running(client: httpx.Client, phones: Recorder, name: str) -> str:
    """Launch a slow rollout and wait until it sends."""
    order = {"phones": phone_rows(phones, [f"ok.{name}{number}" for number in range(60)]), "options": SLOW}
    launch(client, order, name)
    next(event for event in events(client, name) if event.data.get("counts", {}).get("accepted"))
    return name


def show(client: httpx.Client, rollout: str) -> dict[str, Any]:
    """Return the report of a rollout."""
    return body(client.get(f"/v1/rollouts/{rollout}"))


def test_a_freeze_stops_what_sends_and_a_thaw_resumes_only_that(ops: httpx.Client, phones: Recorder) -> None:
    frozen, held = running(ops, phones, "frozen"), running(ops, phones, "held")
    ops.post(f"/v1/rollouts/{held}/pause")

    state = body(ops.put("/v1/freeze", json={"reason": "storm"}))
    assert (state["frozen"], state["actor"], state["reason"]) == (True, "token:ops", "storm")
    assert body(ops.get("/v1/freeze")) == state
    assert (show(ops, frozen)["state"], show(ops, frozen)["pause_reason"]) == ("paused", "freeze")
    assert show(ops, held)["pause_reason"] == "operator"
    for rollout in (frozen, held):
        assert "storm" in problem(ops.post(f"/v1/rollouts/{rollout}/resume"), 409)["detail"]
    planned = plan(ops, {"phones": phone_rows(phones, ["ok.cold"]), "options": AT_ONCE})
    problem(ops.post("/v1/rollouts", json={"plan_hash": planned["plan_hash"]}), 409)

    assert body(ops.put("/v1/freeze", json={"reason": "again"}))["reason"] == "storm"
    assert body(ops.delete("/v1/freeze")) == {"frozen": False, "actor": "", "since": None, "reason": ""}
    assert show(ops, frozen)["state"] == "running"
    assert show(ops, held)["state"] == "paused"
    assert ops.delete("/v1/freeze").status_code == 200
    for rollout in (frozen, held):
        ops.post(f"/v1/rollouts/{rollout}/abort")
        ended(ops, rollout)
    assert phones.requests(["ok.cold"]) == []


def test_the_workers_are_listed(ops: httpx.Client) -> None:
    [worker] = body(ops.get("/v1/workers"))["workers"]
    assert worker["pool"] == ""
    assert worker["started_at"] < worker["seen_at"]


def samples(client: httpx.Client) -> dict[str, float]:
    """Scrape, and return the samples by name and labels."""
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        one.name + "".join(f" {value}" for _, value in sorted(one.labels.items())): one.value
        for family in text_string_to_metric_families(response.text)
        for one in family.samples
    }


def test_prometheus_is_told_of_rollouts_leases_and_requests(ops: httpx.Client, phones: Recorder) -> None:
    order = {"phones": phone_rows(phones, ["ok.prom1", "ok.prom2", "c486.prom3"]), "options": {**AT_ONCE, "rate": 40}}
    ended(ops, launch(ops, order, "prom"))
    slow = running(ops, phones, "promslow")
    found = samples(ops)
    assert found["resyncctl_store_up"] == 1.0
    assert found["resyncctl_workers"] == 1.0
    assert found["resyncctl_frozen"] == 0.0
    assert found["resyncctl_rollout_targets prom accepted"] == 2.0
    assert found["resyncctl_rollout_responses_total 2xx prom"] == 2.0
    assert found["resyncctl_rollout_responses_total 4xx prom"] == 1.0
    assert found["resyncctl_rollout_rate_limit prom"] == 40.0
    assert found["resyncctl_rollouts running"] == 1.0
    assert found["resyncctl_leases rollout"] == 1.0
    assert found["resyncctl_leases scheduler"] == 1.0
    assert 0 < found[f"resyncctl_lease_seconds {slow}"] <= 10
    assert found["resyncctl_http_requests_total POST /v1/plans 201"] >= 2
    assert found["resyncctl_event_streams"] == 0.0
    ops.post(f"/v1/rollouts/{slow}/abort")
    ended(ops, slow)


def test_while_redis_is_away_health_is_told_apart_from_readiness(
    alone: tuple[ApiServer, RedisServer, str], ops: httpx.Client
) -> None:
    _, redis, _ = alone
    assert ops.get("/readyz").status_code == 200
    redis.kill()
    try:
        assert ops.get("/healthz").status_code == 200
        for path in ("/readyz", "/v1/rollouts"):
            response = ops.get(path)
            found = problem(response, 503)
            assert response.headers["retry-after"] == "5"
            assert "redis://" not in found["detail"]
    finally:
        redis.restart()
    wait_until(lambda: ops.get("/readyz").status_code == 200, "ready again", within=10)
    assert ops.get("/v1/rollouts").status_code == 200


def test_health_names_the_version(ops: httpx.Client) -> None:
    assert body(ops.get("/healthz")) == {"status": "ok", "version": "0.1.0"}
