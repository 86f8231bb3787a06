"""From a call of the API to the first NOTIFY on the wire: `python -m tests.bench.api [RUNS]`."""

from __future__ import annotations

import statistics
import sys
import time

import httpx

from resyncctl.engine.access import Scope
from tests.api.rollouts import AT_ONCE, ended, phone_rows, plan
from tests.api.server import ApiServer, make_token
from tests.engine.recorder import Recorder
from tests.peers.redis_server import RedisServer

RUNS = 40
WARM = 3
"""Launches before the first that counts."""


def latencies(runs: int = RUNS) -> list[float]:
    """Return the seconds from the beginning of each POST /v1/rollouts to its NOTIFY, by the kernel's clock, ascending.

    Service, phones, Redis and client are processes of one machine.
    """
    with RedisServer() as redis, Recorder() as phones:
        token = make_token(redis.url, "bench", Scope.ADMIN)
        with ApiServer(redis.url, requests_per_second=0) as server, server.client(token) as client:
            for number in range(WARM):
                _one(client, phones, f"ok.warm{number}")
            return sorted(_one(client, phones, f"ok.bench{number}") for number in range(runs))


def _one(client: httpx.Client, phones: Recorder, user: str) -> float:
    """Launch a plan for one phone."""
    planned = plan(client, {"phones": phone_rows(phones, [user]), "options": AT_ONCE})
    called_at = time.time()
    response = client.post("/v1/rollouts", json={"plan_hash": planned["plan_hash"]})
    assert response.status_code == 202, response.text
    ended(client, response.json()["rollout"])
    [request] = phones.requests([user])
    return request.at - called_at


def measure() -> float:
    """Return the median of the seconds from an API call to the first NOTIFY on the wire."""
    return statistics.median(latencies())


if __name__ == "__main__":
    found = latencies(int(sys.argv[1]) if len(sys.argv) > 1 else RUNS)
    p50, p90 = statistics.median(found), found[int(len(found) * 0.9)]
    sys.stdout.write(
        f"API call to first NOTIFY, {len(found)} launches: p50 {p50 * 1000:.1f} ms, p90 {p90 * 1000:.1f} ms,"
        f" worst {found[-1] * 1000:.1f} ms\n"
    )
