"""A rollout from its plan to its report, by HTTP alone, against phones that record what they receive."""

from __future__ import annotations

import csv
import io
import json

import httpx
import pytest

from resyncctl.engine.access import Scope
from tests.api.rollouts import AT_ONCE, SLOW, body, ended, events, launch, phone_rows, plan, problem
from tests.api.server import ApiServer
from tests.engine.recorder import Recorder

pytestmark = pytest.mark.needs("redis-server")


def test_a_plan_says_what_would_happen_and_sends_nothing(client: httpx.Client, phones: Recorder) -> None:
    users = ["ok.plan1", "ok.plan2", "ok.plan3"]
    order = {"phones": phone_rows(phones, users), "options": {"rate": 10, "batch_interval": 0, "random_delay": "0s"}}
    response = client.post("/v1/plans", json=order)
    report = body(response)
    assert response.status_code == 201
    assert (report["targets"], report["skipped"], report["first_due"]) == (3, 0, 0.0)
    assert 0.2 <= report["last_due"] < 0.3
    assert sum(report["load_curve"]["sends"]) == 3
    assert response.headers["location"] == f"/v1/plans/{report['plan_hash']}"
    assert body(client.get(response.headers["location"])) == report
    assert phones.requests(users) == []


def test_a_source_is_planned_with_conditions_as_an_object_or_a_list(client: httpx.Client) -> None:
    as_object = plan(client, {"source": "office", "where": {"site": ["berlin"], "vendor": "yea*"}})
    as_list = plan(client, {"source": "office", "where": ["site=berlin", "vendor=yea*"]})
    assert as_object["targets"] == 20
    assert as_object["plan_hash"] == as_list["plan_hash"]


def test_a_launched_plan_reaches_every_phone_once_and_is_reported(client: httpx.Client, phones: Recorder) -> None:
    users = ["ok.life1", "ok.life2", "c404.life3"]
    rollout = launch(client, {"phones": phone_rows(phones, users), "options": AT_ONCE}, "life")
    report = ended(client, rollout)
    assert rollout == "life"
    assert report["state"] == "finished"
    assert report["counts"] == {"accepted": 2, "rejected": 1}
    assert report["responses"] == {"200": 2, "404": 1}
    assert body(client.get("/v1/rollouts/life")) == report
    assert phones.times(users) == dict.fromkeys(users, 1)


def test_the_report_comes_as_json_csv_or_lines_as_the_client_accepts(client: httpx.Client, phones: Recorder) -> None:
    order = {"phones": phone_rows(phones, ["ok.forms1", "c486.forms2"]), "options": AT_ONCE}
    rollout = launch(client, order)
    report = ended(client, rollout)
    path = f"/v1/rollouts/{rollout}/report"

    assert body(client.get(path)) == report
    assert body(client.get(path, headers={"Accept": "text/csv;q=0.5, application/json"})) == report
    as_csv = client.get(path, headers={"Accept": "text/csv"})
    assert as_csv.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(as_csv.text)))
    assert {row["aor"]: (row["state"], row["status"]) for row in rows} == {
        "sip:ok.forms1@pbx.example": ("accepted", "200"),
        "sip:c486.forms2@pbx.example": ("rejected", "486"),
    }
    lines = client.get(path, headers={"Accept": "application/x-ndjson"}).text.splitlines()
    assert sorted(json.loads(line)["status"] for line in lines) == [200, 486]
    problem(client.get(path, headers={"Accept": "image/png"}), 406)


def test_a_running_rollout_is_paused_resumed_and_aborted(client: httpx.Client, phones: Recorder) -> None:
    order = {"phones": phone_rows(phones, [f"ok.steer{number}" for number in range(40)]), "options": SLOW}
    rollout = launch(client, order)
    path = f"/v1/rollouts/{rollout}"
    running = next(event for event in events(client, rollout) if event.data.get("counts", {}).get("accepted"))
    assert running.data["state"] == "running"

    paused = body(client.post(f"{path}/pause"))
    assert (paused["state"], paused["pause_reason"]) == ("paused", "operator")
    assert problem(client.post(f"{path}/pause"), 409)["title"] == "Conflict"
    resumed = body(client.post(f"{path}/resume"))
    assert resumed["state"] == "running"
    assert body(client.post(f"{path}/abort"))["state"] == "aborted"
    report = ended(client, rollout)
    assert report["state"] == "aborted"
    assert report["counts"]["cancelled"] > 0
    assert sum(report["counts"].values()) == 40
    problem(client.post(f"{path}/resume"), 409)


def test_what_failed_is_tried_again_in_a_rollout_of_its_own(client: httpx.Client, phones: Recorder) -> None:
    users = ["ok.retry1", "once404.retry2", "c486.retry3"]
    rollout = launch(client, {"phones": phone_rows(phones, users), "options": AT_ONCE}, "failing")
    assert ended(client, rollout)["counts"] == {"accepted": 1, "rejected": 2}

    response = client.post("/v1/rollouts/failing/retry", json={"now": True})
    assert response.status_code == 202
    assert response.headers["location"] == "/v1/rollouts/failing-r1"
    report = ended(client, "failing-r1")
    assert (report["parent"], report["targets"]) == ("failing", 2)
    assert report["counts"] == {"accepted": 1, "rejected": 1}

    problem(client.post("/v1/rollouts/failing/retry", json={"states": ["unreachable"]}), 422)
    wrong = problem(client.post("/v1/rollouts/failing/retry", json={"states": ["broken"]}), 422)
    assert wrong["errors"][0]["field"] == "states"


def test_a_rollout_that_is_not_over_is_not_tried_again(client: httpx.Client, phones: Recorder) -> None:
    order = {"phones": phone_rows(phones, [f"ok.early{number}" for number in range(20)]), "options": SLOW}
    rollout = launch(client, order)
    problem(client.post(f"/v1/rollouts/{rollout}/retry", json={}), 409)
    client.post(f"/v1/rollouts/{rollout}/abort")
    assert ended(client, rollout)["state"] in {"aborted", "finished"}


def test_a_plan_whose_phones_have_changed_since_is_not_launched(
    server: ApiServer, client: httpx.Client, phones: Recorder
) -> None:
    path = phones.phone_list(server.directory / "changing.csv", ["ok.change1"])
    planned = plan(client, {"phones_file": str(path), "options": AT_ONCE})
    phones.phone_list(path, ["ok.change1", "ok.change2"])
    changed = problem(client.post("/v1/rollouts", json={"plan_hash": planned["plan_hash"]}), 409)
    assert "changed" in changed["detail"]
    assert phones.requests(["ok.change1", "ok.change2"]) == []


def test_files_of_the_service_and_credentials_need_the_scope_admin(
    server: ApiServer, tokens: dict[Scope, str], phones: Recorder
) -> None:
    path = phones.phone_list(server.directory / "private.csv", ["ok.private"])
    with server.client(tokens[Scope.OPERATE]) as operator:
        for order in (
            {"phones_file": str(path)},
            {"source": "office", "options": {"busy_file": "/etc/hostname"}},
            {"source": "office", "where": {"auth_password": "s*"}},
        ):
            problem(operator.post("/v1/plans", json=order), 403)


def test_an_id_names_one_rollout_for_one_plan(client: httpx.Client, phones: Recorder) -> None:
    first = plan(client, {"phones": phone_rows(phones, ["ok.same1"]), "options": AT_ONCE})
    second = plan(client, {"phones": phone_rows(phones, ["ok.same2"]), "options": AT_ONCE})
    for _ in range(2):
        response = client.post("/v1/rollouts", json={"plan_hash": first["plan_hash"], "id": "same"})
        assert (response.status_code, body(response)) == (202, {"rollout": "same"})
    other = problem(client.post("/v1/rollouts", json={"plan_hash": second["plan_hash"], "id": "same"}), 409)
    assert "another plan" in other["detail"]
    ended(client, "same")
    assert phones.times(["ok.same1", "ok.same2"]) == {"ok.same1": 1}


def test_phones_that_would_reboot_need_the_option_yes(client: httpx.Client, phones: Recorder) -> None:
    rows = [{**row, "vendor": "yealink"} for row in phone_rows(phones, ["ok.reboots"])]
    order = {"phones": [{**row, "DBID_RESYNC_FROM_SIP": "1"} for row in rows], "options": dict(AT_ONCE)}
    planned = plan(client, order)
    assert planned["will_reboot"] == 1
    refused = problem(client.post("/v1/rollouts", json={"plan_hash": planned["plan_hash"]}), 422)
    assert "option yes" in refused["detail"]
    agreed = launch(client, {**order, "options": {**AT_ONCE, "yes": True}})
    assert ended(client, agreed)["counts"] == {"accepted": 1}
