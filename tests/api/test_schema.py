"""The API against its own description: schemathesis asks whatever comes to its mind."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.specs.openapi.checks import positive_data_acceptance

from resyncctl.api.app import create_app, description
from resyncctl.api.services import make_services
from resyncctl.config import Settings
from resyncctl.engine.access import Scope
from resyncctl.logs import make_logger
from resyncctl.store.redis_store import RedisStore
from tests.api.server import ApiServer, make_token
from tests.peers.redis_server import RedisServer

pytestmark = [pytest.mark.needs("redis-server"), pytest.mark.slow]

EXAMPLES = 25
"""Requests for each operation, besides those that cover its description systematically."""
NO_HTTP = "Invalid HTTP request received."
"""What uvicorn says to a header that is none."""


@pytest.fixture(scope="module")
def asked(office: Path) -> Iterator[tuple[ApiServer, str]]:
    """Start a service that only this module disturbs, and make a token for it."""
    with RedisServer() as redis:
        token = make_token(redis.url, "asking", Scope.ADMIN)
        with ApiServer(redis.url, sources={"office": office}, requests_per_second=0) as server:
            yield server, token


def described() -> dict[str, Any]:
    """Return the description; nothing is connected or started for it."""
    settings_ = Settings(data_dir=Path(tempfile.gettempdir()))
    services = make_services(RedisStore("redis://127.0.0.1:1"), settings_, make_logger())
    found: dict[str, Any] = json.loads(json.dumps(description(create_app(services))))
    for operations in found["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)  # test_who_may asks every operation with every kind of token
    return found


schema = schemathesis.openapi.from_dict(described())


@schema.parametrize()
@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
def test_answers_are_as_described_and_never_an_error_of_the_server(
    case: Case[Any], asked: tuple[ApiServer, str]
) -> None:
    server, token = asked
    response = case.call(base_url=server.url, headers={"Authorization": f"Bearer {token}"}, timeout=20)
    if response.status_code == 400 and response.text == NO_HTTP:
        return
    # The schema does not say which phones and cron lines there can be.
    case.validate_response(response, excluded_checks=[positive_data_acceptance])


def test_the_service_has_logged_no_failure(asked: tuple[ApiServer, str]) -> None:
    server, _ = asked
    assert "request_failed" not in server.log()
    assert "Traceback" not in server.log()
