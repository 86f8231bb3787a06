"""The service behind nginx: TLS, the real address of the caller, events as they happen, bodies as long as allowed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from resyncctl.engine.access import Scope
from tests.api.rollouts import SLOW, body, launch, phone_rows, read_events
from tests.api.server import ApiServer, make_token
from tests.deploy.nginx import CONFIG, Nginx
from tests.engine.recorder import Recorder
from tests.peers.redis_server import RedisServer

pytestmark = pytest.mark.needs("nginx", "openssl", "redis-server")


class Site(NamedTuple):
    """A service and the nginx before it."""

    service: ApiServer
    nginx: Nginx
    token: str


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with RedisServer() as redis, ApiServer(redis.url) as service:
        token = make_token(redis.url, "ops", Scope.ADMIN)
        with Nginx(service.url.removeprefix("http://")) as nginx:
            yield Site(service, nginx, token)


def test_nginx_finds_no_fault_with_the_configuration() -> None:
    nginx = Nginx("127.0.0.1:8420")
    try:
        checked = subprocess.run([*nginx.write(), "-t"], check=False, capture_output=True, text=True, timeout=30)
    finally:
        nginx.stop()
    assert checked.returncode == 0, checked.stderr
    assert "test is successful" in checked.stderr
    assert "[warn]" not in checked.stderr


def test_the_audit_log_has_the_address_that_nginx_saw_not_the_one_that_the_client_claims(site: Site) -> None:
    with site.nginx.client(site.token, **{"X-Forwarded-For": "203.0.113.9"}) as client:
        assert client.post("/v1/freeze", json={"reason": "seen through nginx"}).is_success
        assert client.delete("/v1/freeze").is_success
        entries = body(client.get("/v1/audit"))["entries"]
    assert entries[0]["source"] == "127.0.0.1"


def test_events_arrive_through_nginx_while_the_rollout_runs(site: Site) -> None:
    with Recorder() as phones, site.nginx.client(site.token) as client:
        order = {"phones": phone_rows(phones, [f"ok.{number}" for number in range(15)]), "options": SLOW}
        rollout = launch(client, order, "streamed")
        with client.stream("GET", f"/v1/rollouts/{rollout}/events", headers={"Last-Event-ID": "0"}) as stream:
            first = next(read_events(stream))
            with site.service.client(site.token) as direct:
                state = body(direct.get(f"/v1/rollouts/{rollout}"))["state"]
                direct.post(f"/v1/rollouts/{rollout}/abort")
    assert first.id
    assert state in {"planned", "running"}


def test_a_body_of_thirty_megabytes_reaches_the_service(site: Site) -> None:
    with site.nginx.client(site.token) as client:
        answer = client.post("/v1/plans", content=b" " * (30 << 20), headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_the_two_places_pass_on_the_same_headers() -> None:
    lines = [line.strip() for line in CONFIG.read_text(encoding="utf-8").splitlines()]
    headers = [line for line in lines if line.startswith(("proxy_set_header", "proxy_pass", "proxy_http_version"))]
    half = len(headers) // 2
    assert headers[:half] == headers[half:]
