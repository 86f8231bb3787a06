"""Lists come in pages: every entry once, whatever is added meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.api.rollouts import AT_ONCE, body, ended, launch, phone_rows, problem
from tests.engine.recorder import Recorder

pytestmark = pytest.mark.needs("redis-server")


def pages(client: httpx.Client, path: str, key: str, **query: Any) -> Iterator[list[dict[str, Any]]]:
    """Yield the pages of a list."""
    cursor = None
    while True:
        page = body(client.get(path, params={**query, **({"cursor": cursor} if cursor else {})}))
        yield page[key]
        cursor = page["next"]
        if cursor is None:
            return


def test_rollouts_come_newest_first_and_once_each_also_when_new_ones_are_made(
    client: httpx.Client, phones: Recorder
) -> None:
    order = {"phones": phone_rows(phones, ["ok.page"]), "options": AT_ONCE}
    names = [launch(client, order, f"page-{number}") for number in range(5)]
    for name in names:
        ended(client, name)
    walk = pages(client, "/v1/rollouts", "rollouts", limit=2)
    first = next(walk)
    ended(client, launch(client, order, "page-late"))
    found = [*first, *(one for page in walk for one in page)]
    seen = [one["rollout"] for one in found]
    assert [name for name in seen if name.startswith("page-")] == names[::-1]
    assert max(Counter(seen).values()) == 1


def test_rollouts_are_selected_by_state(client: httpx.Client, phones: Recorder) -> None:
    order = {"phones": phone_rows(phones, ["ok.state"]), "options": AT_ONCE}
    ended(client, launch(client, order, "state-1"))
    running = [one for page in pages(client, "/v1/rollouts", "rollouts", state="running", limit=1) for one in page]
    finished = next(pages(client, "/v1/rollouts", "rollouts", state=["finished", "aborted"], limit=1))
    assert [one["rollout"] for one in running if one["rollout"] == "state-1"] == []
    assert finished[0]["rollout"] == "state-1"
    problem(client.get("/v1/rollouts", params={"state": "broken"}), 422)


def test_targets_come_in_pages_over_batches_and_by_state(client: httpx.Client, phones: Recorder) -> None:
    users = [f"{'c486' if number % 10 == 0 else 'ok'}.paged{number}" for number in range(1200)]
    rollout = launch(client, {"phones": phone_rows(phones, users), "options": AT_ONCE})
    ended(client, rollout)
    path = f"/v1/rollouts/{rollout}/targets"

    found = list(pages(client, path, "targets", limit=500))
    assert [len(page) for page in found] == [500, 500, 200]
    seen = Counter(row["aor"] for page in found for row in page)
    assert seen == {f"sip:{user}@pbx.example": 1 for user in users}

    rejected = [row for page in pages(client, path, "targets", state="rejected", limit=50) for row in page]
    assert len(rejected) == 120
    assert {row["status"] for row in rejected} == {486}
    both = [row for page in pages(client, path, "targets", state=["rejected", "accepted"], limit=1000) for row in page]
    assert len(both) == 1200
    assert list(pages(client, path, "targets", state="unreachable")) == [[]]
    problem(client.get(path, params={"state": "broken"}), 422)
    problem(client.get(path, params={"cursor": "99:0"}), 422)


def test_phones_of_a_source_come_in_pages_without_credentials(client: httpx.Client) -> None:
    found = list(pages(client, "/v1/phones", "phones", source="office", limit=12))
    assert [len(page) for page in found] == [12, 12, 6]
    assert [row["aor"] for page in found for row in page] == [f"sip:{1000 + n}@pbx.example" for n in range(30)]
    assert found[0][0].keys() == {"aor", "contact", "user_agent", "site", "vendor"}
    assert "secret" not in str(found)


def test_phones_are_selected_by_field_and_by_vendor(client: httpx.Client) -> None:
    query = {"source": "office", "where": ["site=bonn", "vendor=yealink"]}
    assert len(body(client.get("/v1/phones", params=query))["phones"]) == 10
    assert body(client.get("/v1/phones", params={**query, "where": "vendor=snom"}))["phones"] == []


@pytest.mark.parametrize("where", ["auth_password=s*", "auth_username=u1", "colour=red", "site"])
def test_credentials_cannot_be_guessed_by_conditions(client: httpx.Client, where: str) -> None:
    problem(client.get("/v1/phones", params={"source": "office", "where": where}), 422)


def test_the_audit_log_comes_in_pages(client: httpx.Client) -> None:
    entries = [one for page in pages(client, "/v1/audit", "entries", limit=7) for one in page]
    assert len(entries) == len({one["id"] for one in entries}) > 7
    assert [one["time"] for one in entries] == sorted((one["time"] for one in entries), reverse=True)
