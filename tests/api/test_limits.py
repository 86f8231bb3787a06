"""How often a client may ask, and how much it may send."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from resyncctl.api.limits import Buckets
from resyncctl.engine.access import Scope
from tests.api.rollouts import body, problem
from tests.api.server import ApiServer
from tests.peers.redis_server import RedisServer

MAX_BODY = 10_000


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def strict(redis: RedisServer, office: Path) -> Iterator[ApiServer]:
    """Start a service with a small limit of everything."""
    with ApiServer(redis.url, sources={"office": office}, requests_per_second=2, max_body=MAX_BODY) as running:
        yield running


def test_a_bucket_lets_a_burst_through_and_then_the_rate() -> None:
    clock = Hand()
    buckets = Buckets(lambda: 10.0, clock)
    assert [buckets.take("a") for _ in range(20)] == [0.0] * 20
    assert buckets.take("a") == pytest.approx(0.1)
    assert buckets.take("b") == 0.0
    clock.now += 0.1
    assert buckets.take("a") == 0.0
    assert buckets.take("a") == pytest.approx(0.1)
    clock.now += 3600.0
    assert [buckets.take("a") for _ in range(21)].count(0.0) == 20


def test_a_rate_of_zero_is_no_limit() -> None:
    buckets = Buckets(lambda: 0.0, Hand())
    assert {buckets.take("a") for _ in range(10_000)} == {0.0}


def test_a_flood_of_clients_makes_the_oldest_forgotten_not_the_memory_full() -> None:
    buckets = Buckets(lambda: 1.0, Hand())
    for number in range(25_000):
        buckets.take(f"client {number}")
    assert len(buckets._levels) == 10_000


@pytest.mark.needs("redis-server")
def test_who_asks_too_often_is_told_when_to_ask_again_and_others_are_not(
    strict: ApiServer, tokens: dict[Scope, str]
) -> None:
    with strict.client(tokens[Scope.READ]) as eager, strict.client(tokens[Scope.OPERATE]) as other:
        answers = [eager.get("/v1/freeze") for _ in range(12)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert answers[0].status_code == 200
        assert len(refused) >= 6
        assert problem(refused[0], 429)["title"] == "Too Many Requests"
        assert refused[0].headers["retry-after"] == "1"
        assert other.get("/v1/freeze").status_code == 200


@pytest.mark.needs("redis-server")
def test_wrong_tokens_are_counted_by_address(strict: ApiServer) -> None:
    with strict.client("rsy_" + "B" * 43, **{"X-Forwarded-For": "192.0.2.77"}) as guesser:
        statuses = [guesser.get("/v1/freeze").status_code for _ in range(12)]
    assert statuses[0] == 401
    assert statuses[-1] == 429
    with strict.client("rsy_" + "B" * 43, **{"X-Forwarded-For": "192.0.2.78"}) as somebody:
        assert somebody.get("/v1/freeze").status_code == 401


@pytest.mark.needs("redis-server")
def test_a_body_that_says_it_is_too_large_is_not_read(strict: ApiServer, tokens: dict[Scope, str]) -> None:
    with strict.client(tokens[Scope.TRIGGER]) as client:
        response = client.post("/v1/plans", content=b" " * (MAX_BODY + 1), headers={"Content-Type": "application/json"})
        assert f"at most {MAX_BODY} bytes" in problem(response, 413)["detail"]


@pytest.mark.needs("redis-server")
def test_a_body_in_chunks_is_read_no_further_than_the_limit(strict: ApiServer, tokens: dict[Scope, str]) -> None:
    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(20_000):
            sent += 5000
            yield b" " * 5000

    with strict.client(tokens[Scope.ADMIN]) as client:
        try:
            response = client.post("/v1/plans", content=chunks(), headers={"Content-Type": "application/json"})
        except httpx.WriteError:  # the connection was closed while we wrote
            pass
        else:
            problem(response, 413)
    assert sent < 100_000_000


@pytest.mark.needs("redis-server")
def test_a_body_up_to_the_limit_is_read(strict: ApiServer, tokens: dict[Scope, str]) -> None:
    text = b'{"source": "office"}'
    with strict.client(tokens[Scope.ADMIN]) as client:
        headers = {"Content-Type": "application/json"}
        response = client.post("/v1/plans", content=text + b" " * (MAX_BODY - len(text)), headers=headers)
    assert response.status_code == 201
    assert body(response)["targets"] == 30
