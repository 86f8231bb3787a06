"""What the tests of the API share: one redis-server and one service on it, with a token of each scope."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from resyncctl.engine.access import Scope
from tests.api.server import ApiServer, make_token
from tests.engine.recorder import Recorder
from tests.peers.redis_server import RedisServer


@pytest.fixture(scope="package")
def redis() -> Iterator[RedisServer]:
    """Start a redis-server."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="package")
def phones() -> Iterator[Recorder]:
    """Start phones that record what they receive."""
    with Recorder() as recorder:
        yield recorder


@pytest.fixture(scope="package")
def office(phones: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the phone list of the source `office`: 30 phones, of which one does not exist any more."""
    path = tmp_path_factory.mktemp("sources") / "office.csv"
    rows = ["aor,contact,user_agent,site,auth_username,auth_password"]
    for number in range(30):
        site = "berlin" if number < 20 else "bonn"
        contact = phones.contact(f"ok.office{number}")
        rows.append(
            f"sip:{1000 + number}@pbx.example,{contact},Yealink SIP-T46U 108.86.0.20,{site},u{number},secret{number}"
        )
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="package")
def tokens(redis: RedisServer) -> dict[Scope, str]:
    """Make a token of each scope."""
    return {scope: make_token(redis.url, f"the-{scope.label}", scope) for scope in Scope}


@pytest.fixture(scope="package")
def server(redis: RedisServer, office: Path, tokens: dict[Scope, str]) -> Iterator[ApiServer]:
    """Start the service, without a limit of requests."""
    with ApiServer(redis.url, sources={"office": office}, requests_per_second=0) as running:
        yield running
    assert "request_failed" not in running.log(), running.log()
    assert "Traceback" not in running.log(), running.log()


@pytest.fixture
def client(server: ApiServer, tokens: dict[Scope, str]) -> Iterator[httpx.Client]:
    """Return a client that may do everything."""
    with server.client(tokens[Scope.ADMIN]) as made:
        yield made
