"""Schedules by HTTP: made, looked at, paused, run, removed; and fired by the service."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import httpx
import pytest

from resyncctl.engine.access import Scope
from tests.api.rollouts import AT_ONCE, body, ended, phone_rows, problem
from tests.api.server import ApiServer
from tests.engine.recorder import Recorder
from tests.peers.waiting import wait_until

pytestmark = pytest.mark.needs("redis-server")

WEEKLY = {"name": "weekly", "cron": "0 3 * * sun", "tz": "Europe/Berlin", "source": "office", "options": {"rate": 20}}


def test_a_schedule_is_made_shown_listed_and_removed(client: httpx.Client) -> None:
    made = client.post("/v1/schedules", json={**WEEKLY, "grace": "2h", "overlap": "queue"})
    assert made.status_code == 201
    assert made.headers["location"] == "/v1/schedules/weekly"
    report = body(made)
    assert (report["when"], report["grace"], report["overlap"]) == ("cron 0 3 * * sun (Europe/Berlin)", 7200.0, "queue")
    assert (report["source"], report["paused"], report["last_rollout"]) == ("office", False, None)
    assert (report["targets"], report["sends"]) == (30, 30)
    kept = {name: value for name, value in report.items() if name not in {"targets", "sends", "plan_hash", "notices"}}
    assert body(client.get("/v1/schedules/weekly")) == kept
    assert "weekly" in [one["name"] for one in body(client.get("/v1/schedules"))["schedules"]]
    assert client.delete("/v1/schedules/weekly").status_code == 204
    problem(client.get("/v1/schedules/weekly"), 404)
    problem(client.delete("/v1/schedules/weekly"), 404)


def test_the_next_fire_times_are_those_of_its_zone(client: httpx.Client) -> None:
    client.post("/v1/schedules", json={**WEEKLY, "name": "ahead"})
    fires = body(client.get("/v1/schedules/ahead/next", params={"count": 60}))["fires"]
    local = [datetime.fromisoformat(one["local"]) for one in fires]
    assert len(fires) == 60
    assert {(one.hour, one.minute, one.weekday()) for one in local} == {(3, 0, 6)}
    assert {one.utcoffset() for one in local} == {
        moment.replace(tzinfo=ZoneInfo("Europe/Berlin")).utcoffset()
        for moment in (datetime(2026, 1, 1), datetime(2026, 7, 1))  # noqa: DTZ001  (the zone is put in)
    }
    assert all(first < second for first, second in pairwise(one["utc"] for one in fires))
    client.delete("/v1/schedules/ahead")


def test_a_paused_schedule_has_no_next_time_until_it_is_resumed(client: httpx.Client) -> None:
    client.post("/v1/schedules", json={**WEEKLY, "name": "resting"})
    paused = body(client.post("/v1/schedules/resting/pause"))
    assert (paused["paused"], paused["next_at"]) == (True, None)
    resumed = body(client.post("/v1/schedules/resting/resume"))
    assert resumed["paused"] is False
    assert resumed["next_at"] is not None
    client.delete("/v1/schedules/resting")


def test_a_schedule_is_run_by_hand(client: httpx.Client, phones: Recorder) -> None:
    order = {"phones": phone_rows(phones, ["ok.byhand"]), "options": AT_ONCE}
    client.post("/v1/schedules", json={"name": "byhand", "cron": "0 3 1 1 *", **order})
    run = client.post("/v1/schedules/byhand/run")
    assert run.status_code == 202
    name = body(run)["rollout"]
    assert run.headers["location"] == f"/v1/rollouts/{name}"
    assert ended(client, name)["counts"] == {"accepted": 1}
    assert body(client.get("/v1/schedules/byhand"))["last_rollout"] == name
    client.delete("/v1/schedules/byhand")


def test_the_service_fires_a_schedule_that_was_made_by_http(client: httpx.Client, phones: Recorder) -> None:
    order = {"phones": phone_rows(phones, ["ok.fired"]), "options": AT_ONCE}
    assert client.post("/v1/schedules", json={"name": "soon", "every": 1, **order}).status_code == 201
    wait_until(lambda: len(phones.requests(["ok.fired"])) >= 1, "fired", within=10)
    client.delete("/v1/schedules/soon")
    scraped = client.get("/metrics").text
    assert 'resyncctl_schedule_lag_seconds_bucket{le="+Inf"}' in scraped
    assert "resyncctl_schedule_lag_seconds_count 0.0" not in scraped


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"cron": "0 3 * *"}, "field"),
        ({"cron": "99 3 * * *"}, "99"),
        ({"every": "6h", "cron": "0 3 * * *"}, "exactly one"),
        ({}, "exactly one"),
        ({"at": "2020-01-01T00:00"}, "over"),
        ({"every": "0.5s"}, "1s"),
        ({"cron": "0 3 * * *", "tz": "Berlin"}, "time zone"),
        ({"cron": "0 3 * * *", "misfire": "often"}, "misfire"),
        ({"cron": "0 3 * * *", "name": "a b"}, "name"),
        ({"cron": "0 3 * * *", "colour": "red"}, "colour"),
        ({"cron": "0 3 * * *", "where": {"site": "nowhere"}}, "phone"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_in_the_words_of_the_api(
    client: httpx.Client, wish: dict[str, object], words: str
) -> None:
    found = problem(client.post("/v1/schedules", json={"name": "wrong", "source": "office", **wish}), 422)
    assert words in found["detail"]
    assert "--" not in found["detail"]


def test_files_of_the_service_need_the_scope_admin(server: ApiServer, tokens: dict[Scope, str], office: object) -> None:
    wish = {"name": "file", "cron": "0 3 * * *", "phones_file": str(office)}
    with server.client(tokens[Scope.OPERATE]) as operator:
        problem(operator.post("/v1/schedules", json=wish), 403)
