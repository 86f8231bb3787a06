"""`Idempotency-Key`: what is sent again is answered again, and done once."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from resyncctl.clock import now_us
from resyncctl.engine.access import Scope
from resyncctl.store.redis_store import RedisStore
from resyncctl.store.service import ServiceStore
from tests.api.rollouts import AT_ONCE, body, ended, phone_rows, plan, problem
from tests.api.server import ApiServer
from tests.engine.recorder import Recorder
from tests.peers.redis_server import RedisServer

pytestmark = pytest.mark.needs("redis-server")


def keyed(key: str) -> dict[str, str]:
    """Return the header."""
    return {"Idempotency-Key": key}


def test_a_launch_that_is_sent_again_gets_the_same_answer_and_makes_one_rollout(
    client: httpx.Client, phones: Recorder
) -> None:
    wanted = {"plan_hash": plan(client, {"phones": phone_rows(phones, ["ok.once"]), "options": AT_ONCE})["plan_hash"]}
    first = client.post("/v1/rollouts", json=wanted, headers=keyed("launch-1"))
    ended(client, body(first)["rollout"])
    again = client.post("/v1/rollouts", json=wanted, headers=keyed("launch-1"))
    other = client.post("/v1/rollouts", json=wanted, headers=keyed("launch-2"))
    assert (again.status_code, again.content) == (202, first.content)
    assert again.headers["location"] == first.headers["location"]
    assert body(other) != body(first)
    ended(client, body(other)["rollout"])
    assert phones.times(["ok.once"]) == {"ok.once": 2}


def test_many_at_once_make_one_rollout(server: ApiServer, client: httpx.Client, phones: Recorder) -> None:
    wanted = {"plan_hash": plan(client, {"phones": phone_rows(phones, ["ok.many"]), "options": AT_ONCE})["plan_hash"]}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.post("/v1/rollouts", json=wanted, headers=keyed("many")), range(8)))
    made = {body(answer)["rollout"] for answer in answers if answer.status_code == 202}
    assert len(made) == 1
    assert {answer.status_code for answer in answers} <= {202, 409}
    ended(client, made.pop())
    assert phones.times(["ok.many"]) == {"ok.many": 1}


def test_a_key_with_another_body_or_path_is_refused(client: httpx.Client) -> None:
    assert client.post("/v1/plans", json={"source": "office"}, headers=keyed("reused")).status_code == 201
    other = {"source": "office", "where": {"site": "bonn"}}
    found = problem(client.post("/v1/plans", json=other, headers=keyed("reused")), 422)
    assert found["errors"] == [{"field": "Idempotency-Key", "message": "was used for another request"}]
    problem(client.post("/v1/rollouts", json={"plan_hash": "x"}, headers=keyed("reused")), 422)


def test_a_key_belongs_to_its_token(server: ApiServer, client: httpx.Client, tokens: dict[Scope, str]) -> None:
    assert client.post("/v1/plans", json={"source": "office"}, headers=keyed("mine")).status_code == 201
    other = {"source": "office", "where": {"site": "bonn"}}
    with server.client(tokens[Scope.TRIGGER]) as somebody:
        assert body(somebody.post("/v1/plans", json=other, headers=keyed("mine")))["targets"] == 10


def test_a_request_that_failed_may_be_sent_again_with_its_key(client: httpx.Client) -> None:
    problem(client.post("/v1/plans", json={"source": "nowhere"}, headers=keyed("failing")), 404)
    assert client.post("/v1/plans", json={"source": "office"}, headers=keyed("failing")).status_code == 201


async def leave_pending(url: str, key: str, *, since_us: int) -> None:
    """Leave a key as a process does that has died before it answered."""
    store = RedisStore(url)
    service = ServiceStore(store)
    known = json.loads(await service.once(key, "{}"))
    pending = {"fingerprint": known["fingerprint"], "pending": "f" * 32, "at_us": since_us}
    await service.settle(key, json.dumps(pending))
    await store.close()


def test_while_the_first_is_in_work_the_second_is_told_to_ask_again(client: httpx.Client, redis: RedisServer) -> None:
    assert client.post("/v1/plans", json={"source": "office"}, headers=keyed("busy")).status_code == 201
    asyncio.run(leave_pending(redis.url, "the-admin busy", since_us=now_us()))
    response = client.post("/v1/plans", json={"source": "office"}, headers=keyed("busy"))
    problem(response, 409)
    assert response.headers["retry-after"] == "1"


def test_what_a_dead_process_had_begun_is_finished_under_the_same_name(
    client: httpx.Client, redis: RedisServer, phones: Recorder
) -> None:
    planned = plan(client, {"phones": phone_rows(phones, ["ok.died"]), "options": AT_ONCE})["plan_hash"]
    wanted = {"plan_hash": planned}
    ended(client, body(client.post("/v1/rollouts", json=wanted, headers=keyed("died")))["rollout"])
    asyncio.run(leave_pending(redis.url, "the-admin died", since_us=now_us() - 61_000_000))
    named = [body(client.post("/v1/rollouts", json=wanted, headers=keyed("died")))["rollout"] for _ in range(2)]
    assert named == [f"{planned[:8]}-ffffffffff"] * 2
    asyncio.run(leave_pending(redis.url, "the-admin died", since_us=now_us() - 61_000_000))
    ended(client, named[0])
    assert body(client.post("/v1/rollouts", json=wanted, headers=keyed("died")))["rollout"] == named[0]
    assert phones.times(["ok.died"]) == {"ok.died": 2}


def test_a_retry_and_a_schedule_honour_it_too(client: httpx.Client, phones: Recorder) -> None:
    order = {"phones": phone_rows(phones, ["c486.again"]), "options": AT_ONCE}
    launched = client.post("/v1/rollouts", json={"plan_hash": plan(client, order)["plan_hash"], "id": "again"})
    ended(client, body(launched)["rollout"])
    answers = [client.post("/v1/rollouts/again/retry", json={}, headers=keyed("retry")) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].content == answers[1].content
    ended(client, body(answers[0])["rollout"])
    assert phones.times(["c486.again"]) == {"c486.again": 2}

    wish = {"name": "once-only", "cron": "0 3 * * sun", "source": "office"}
    answers = [client.post("/v1/schedules", json=wish, headers=keyed("schedule")) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    problem(client.post("/v1/schedules", json=wish), 409)
    assert client.delete("/v1/schedules/once-only").status_code == 204


@pytest.mark.parametrize("key", ["with blank", "x" * 256])
def test_a_key_that_cannot_be_one_is_refused(client: httpx.Client, key: str) -> None:
    found = problem(client.post("/v1/plans", json={"source": "office"}, headers=keyed(key)), 422)
    assert found["errors"][0]["field"] == "idempotency-key"
