"""Rollouts as a client of the API makes and follows them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote

import httpx

from tests.engine.recorder import Recorder

AT_ONCE = {"now": True, "random_delay": 0, "rate": 0}
"""Options of a rollout that waits for nothing."""
SLOW = {"batch_interval": 0, "random_delay": 0, "rate": 5}
"""Options of a rollout that can be watched."""


class Event(NamedTuple):
    """One server-sent event."""

    id: str
    kind: str
    data: dict[str, Any]


def phone_rows(phones: Recorder, users: Iterable[str]) -> list[dict[str, str]]:
    """Return phones as a plan takes them."""
    return [{"aor": f"sip:{user}@pbx.example", "contact": phones.contact(user)} for user in users]


def plan(client: httpx.Client, order: dict[str, Any]) -> dict[str, Any]:
    """Plan, and return the report."""
    response = client.post("/v1/plans", json=order)
    assert response.status_code == 201, response.text
    return body(response)


def launch(client: httpx.Client, order: dict[str, Any], name: str = "") -> str:
    """Plan and launch; return the name of the rollout."""
    response = client.post("/v1/rollouts", json={"plan_hash": plan(client, order)["plan_hash"], "id": name})
    assert response.status_code == 202, response.text
    return str(body(response)["rollout"])


def events(client: httpx.Client, rollout: str, after: str = "0") -> Iterator[Event]:
    """Follow a rollout to its end."""
    headers = {"Last-Event-ID": after} if after else {}
    with client.stream("GET", f"/v1/rollouts/{rollout}/events", headers=headers) as stream:
        assert stream.status_code == 200, stream.read()
        yield from read_events(stream)


def read_events(stream: httpx.Response) -> Iterator[Event]:
    """Read the events of a stream."""
    fields: dict[str, str] = {}
    for line in stream.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield Event(fields.get("id", ""), fields["event"], json.loads(fields["data"]))
            fields = {}


def ended(client: httpx.Client, rollout: str) -> dict[str, Any]:
    """Wait for the end of a rollout; return its report."""
    return list(events(client, rollout))[-1].data


def body(response: httpx.Response) -> dict[str, Any]:
    """Return the JSON object of an answer."""
    found: dict[str, Any] = response.json()
    return found


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """Check that an answer is a problem of that status; return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    found = body(response)
    assert found["status"] == status
    assert unquote(found["instance"]) == unquote(
        response.request.url.raw_path.decode().partition("?")[0], errors="replace"
    )
    return found
