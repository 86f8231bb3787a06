"""What is wrong is told in one form, names the field, and is never an error of the server."""

from __future__ import annotations

import httpx
import pytest

from tests.api.rollouts import body, problem

pytestmark = pytest.mark.needs("redis-server")

JSON = {"Content-Type": "application/json"}
PHONE = '{"aor": "1001@pbx.example"}'


@pytest.mark.parametrize(
    ("text", "status", "field"),
    [
        ("", 400, ""),
        ("{", 400, ""),
        ("[" * 100_000, 400, ""),
        ('{"source": "\\ud800"}', 400, ""),
        ('{"source": "office", "options": {"rate": ' + "9" * 5000 + "}}", 400, ""),
        (b'{"source": "\xff\xfe"}', 400, ""),
        ("null", 422, ""),
        ("[]", 422, ""),
        ("{}", 422, ""),
        ('{"source": "office", "phones": [' + PHONE + "]}", 422, ""),
        ('{"source": "office", "options": {"rate": NaN}}', 422, "options.rate"),
        ('{"source": "office", "options": {"rate": 1e999}}', 422, "options.rate"),
        ('{"source": "office", "options": {"rate": "20"}}', 422, "options.rate"),
        ('{"source": "office", "options": {"batch_size": true}}', 422, "options.batch_size"),
        ('{"source": "office", "options": {"batch_size": 0}}', 422, "options.batch_size"),
        ('{"source": "office", "options": {"random_delay": "soon"}}', 422, "options.random_delay"),
        ('{"source": "office", "options": {"seed": ' + "9" * 400 + "}}", 422, "options.seed"),
        ('{"source": "office", "options": {"speed": 3}}', 422, "options.speed"),
        ('{"source": "office", "sites": "berlin"}', 422, "sites"),
        ('{"source": "office", "where": {"colour": "red"}}', 422, ""),
        ('{"source": "office", "where": {"site": 5}}', 422, "where"),
        ('{"phones": [{"aor": "nobody"}]}', 422, "phones.0"),
        ('{"phones": [{"aor": "a\\u0000b@c"}]}', 422, "phones.0"),
        ('{"phones": [{"aor": {"deep": 1}}]}', 422, "phones.0.aor"),
        ('{"phones": [{"colour": "red"}]}', 422, "phones.0"),
        ('{"source": "nowhere"}', 404, ""),
    ],
)
def test_a_wrong_plan_is_a_problem_that_names_the_field(
    client: httpx.Client, text: str | bytes, status: int, field: str
) -> None:
    found = problem(client.post("/v1/plans", content=text, headers=JSON), status)
    assert [error["field"] for error in found.get("errors", []) if error["field"]] == ([field] if field else [])


def test_an_unknown_field_is_named(client: httpx.Client) -> None:
    found = problem(client.post("/v1/plans", json={"source": "office", "options": {"speed": 3}}), 422)
    assert found["errors"] == [{"field": "options.speed", "message": "there is no such field"}]
    assert found["detail"] == "options.speed: there is no such field"


def test_all_wrong_phones_are_reported_together(client: httpx.Client) -> None:
    phones = [{"aor": "1001@pbx.example"}, {"aor": "nobody"}, *([{"contact": "tel:1"}] * 30)]
    found = problem(client.post("/v1/plans", json={"phones": phones}), 422)
    assert [error["field"] for error in found["errors"][:2]] == ["phones.1", "phones.2"]
    assert len(found["errors"]) == 20
    assert "31 rows cannot be used" in found["detail"]


def test_an_unknown_query_parameter_is_named(client: httpx.Client) -> None:
    found = problem(client.get("/v1/rollouts", params={"sate": "running"}), 422)
    assert found["errors"][0]["field"] == "sate"
    assert "known: cursor, limit, state" in found["errors"][0]["message"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_body_that_is_not_json_is_another_media_type(client: httpx.Client, kind: str) -> None:
    problem(client.post("/v1/plans", content='{"source": "office"}', headers={"Content-Type": kind}), 415)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/rollouts/nobody",
        "/v1/rollouts/%00",
        "/v1/rollouts/%F0%28%8C%28",
        "/v1/rollouts/" + "x" * 3000,
        "/v1/rollouts/nobody/targets",
        "/v1/rollouts/nobody/report",
        "/v1/rollouts/nobody/events",
        "/v1/rollouts/..%2f..%2fmeta",
        "/v1/plans/nobody",
        "/v1/plans/" + "0" * 64,
        "/v1/schedules/nobody",
        "/v1/schedules/%23",
        "/v1/schedules/nobody/next",
        "/v1/vendors/nobody",
        "/v1/phones?source=nowhere",
        "/v1/hooks/nobody",
        "/v1/nothing",
        "/",
        "/docs",
        "/openapi.json",
    ],
)
def test_what_there_is_not_is_not_found(client: httpx.Client, path: str) -> None:
    problem(client.get(path), 404)


@pytest.mark.parametrize(
    ("path", "allowed"), [("/v1/rollouts", "GET, POST"), ("/v1/freeze", "DELETE, GET, PUT"), ("/healthz", "GET")]
)
def test_a_method_that_a_path_does_not_take_is_told_which_it_does(
    client: httpx.Client, path: str, allowed: str
) -> None:
    response = client.request("PATCH", path)
    problem(response, 405)
    assert response.headers["allow"] == allowed


@pytest.mark.parametrize("cursor", ["nobody", "1:1", "*", "\x00", "-1", "9" * 30, "a" * 200, "ä"])
@pytest.mark.parametrize("path", ["/v1/rollouts", "/v1/audit", "/v1/phones?source=office"])
def test_a_cursor_that_no_page_has_given_is_refused_or_empty(client: httpx.Client, path: str, cursor: str) -> None:
    response = client.get(path, params={**httpx.URL(path).params, "cursor": cursor})
    if response.status_code != 200:
        problem(response, 422)


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "many", "1.5", "9" * 400])
def test_a_limit_out_of_bounds_is_refused(client: httpx.Client, limit: str) -> None:
    found = problem(client.get("/v1/rollouts", params={"limit": limit}), 422)
    assert found["errors"][0]["field"] == "limit"


@pytest.mark.parametrize("last", ["$", "-", "x", "1-2-3", "9" * 25, "18446744073709551616-0"])
def test_a_last_event_id_that_is_none_is_refused(client: httpx.Client, last: str) -> None:
    problem(client.get("/v1/rollouts/nobody/events", headers={"Last-Event-ID": last}), 422)


def test_nothing_is_said_of_where_redis_is(client: httpx.Client) -> None:
    assert "redis://" not in client.get("/v1/rollouts/nobody").text


def test_no_answer_is_kept_by_a_cache_or_read_as_another_type(client: httpx.Client) -> None:
    for path in ("/healthz", "/v1/rollouts", "/v1/nothing"):
        headers = client.get(path).headers
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"


def test_the_description_has_an_example_for_every_body_and_fetches_nothing(client: httpx.Client) -> None:
    description = body(client.get("/v1/openapi.json"))
    bodies = [
        (f"{method} {path}", kind)
        for path, operations in description["paths"].items()
        for method, operation in operations.items()
        if "requestBody" in operation
        for kind in operation["requestBody"]["content"].values()
    ]
    assert len(bodies) >= 8
    assert [where for where, kind in bodies if not ("examples" in kind or "example" in kind)] == []
    assert "cdn" not in client.get("/v1/openapi.json").text
