"""Alerts and dashboard: promtool accepts them, and a real Prometheus finds all that they ask for in a real scrape."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from resyncctl.engine.access import Scope
from tests.api.rollouts import AT_ONCE, ended, launch, phone_rows
from tests.api.server import ApiServer, make_token
from tests.deploy.documents import everywhere, items, mapping, read, text
from tests.deploy.prometheus import FILES, Prometheus
from tests.engine.recorder import Recorder
from tests.peers.process import REPOSITORY
from tests.peers.redis_server import RedisServer

DASHBOARD = REPOSITORY / "deploy" / "grafana" / "resyncctl.json"
OUR_METRIC = re.compile(r"\b(?:resyncctl|process)_[a-z_]+")
PROMTOOL = pytest.mark.needs("promtool")
SERVERS = pytest.mark.needs("prometheus", "redis-server")


def dashboard() -> dict[str, object]:
    return mapping(json.loads(DASHBOARD.read_text(encoding="utf-8")))


def targets() -> list[tuple[str, str, str]]:
    """Return the title, the expression and the legend of all that the dashboard draws, with its variables put in."""
    found = []
    for panel in items(dashboard(), "panels"):
        for target in items(panel, "targets"):
            expression = text(target, "expr").replace("$__rate_interval", "1m")
            expression = expression.replace("$rollout", ".*").replace("$job", ".*")
            assert "$" not in expression
            found.append((text(panel, "title"), expression, text(target, "legendFormat")))
    return found


def alerts() -> list[dict[str, object]]:
    (group,) = items(read(FILES / "alerts.yaml"), "groups")
    return [mapping(rule) for rule in items(group, "rules")]


def promtool(*words: str | Path) -> None:
    done = subprocess.run(
        ["promtool", *map(str, words)], check=False, capture_output=True, text=True, cwd=FILES, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@PROMTOOL
def test_promtool_accepts_the_configuration_and_the_alerts() -> None:
    promtool("check", "config", "--syntax-only", "scrape.yaml")
    promtool("check", "rules", "--lint-fatal", "alerts.yaml")


@PROMTOOL
def test_the_alerts_fire_when_they_should_and_only_then() -> None:
    promtool("test", "rules", "alerts_test.yaml")


def test_each_alert_is_seen_firing_and_seen_silent() -> None:
    fired: set[str] = set()
    silent: set[str] = set()
    for case in everywhere(read(FILES / "alerts_test.yaml"), "alert_rule_test"):
        for one in items(case):
            (fired if items(one, "exp_alerts") else silent).add(text(one, "alertname"))
    names = {text(rule, "alert") for rule in alerts()}
    assert fired == names
    assert silent == names


@PROMTOOL
def test_prometheus_understands_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{number}", "expr": target[1]} for number, target in enumerate(targets())]
    path = tmp_path / "panels.yaml"
    path.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")
    promtool("check", "rules", path)


def test_panels_do_not_overlap_and_have_a_datasource_that_can_be_chosen() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in items(dashboard(), "panels"):
        x, y, w, h = (int(str(mapping(panel, "gridPos")[side])) for side in "xywh")
        cells = {(column, line) for column in range(x, x + w) for line in range(y, y + h)}
        assert x + w <= 24
        assert not cells & taken, text(panel, "title")
        taken |= cells
    assert {str(mapping(one)["uid"]) for one in everywhere(dashboard(), "datasource")} == {"${datasource}"}


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def service(redis: RedisServer) -> Iterator[ApiServer]:
    """Start a service that has just done a rollout."""
    token = make_token(redis.url, "lead", Scope.ADMIN)
    with Recorder() as phones, ApiServer(redis.url) as server, server.client(token) as client:
        order = {"phones": phone_rows(phones, ["ok.1", "late30.2", "c404.3", "once503.4"]), "options": AT_ONCE}
        ended(client, launch(client, {**order, "options": {**AT_ONCE, "retry_delay": 0.1}}, "watched"))
        yield server


@pytest.fixture(scope="module")
def scraped(redis: RedisServer, service: ApiServer) -> dict[str, set[str]]:
    """Return the labels of each sample of a scrape, by its name."""
    with service.client(make_token(redis.url, "scrape", Scope.READ)) as client:
        answer = client.get("/metrics")
    assert answer.status_code == 200
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.fixture(scope="module")
def prometheus(redis: RedisServer, service: ApiServer) -> Iterator[Prometheus]:
    token = make_token(redis.url, "prometheus", Scope.READ)
    with Prometheus(service.url.removeprefix("http://"), token) as server:
        yield server


@SERVERS
def test_all_metrics_of_alerts_and_dashboard_are_exported(scraped: dict[str, set[str]]) -> None:
    shown = {name for _, expression, _ in targets() for name in OUR_METRIC.findall(expression)}
    watched = {name for rule in alerts() for name in OUR_METRIC.findall(text(rule, "expr"))}
    assert len(shown) > 15
    assert shown | watched <= set(scraped)


@SERVERS
def test_all_that_the_service_counts_is_on_the_dashboard(scraped: dict[str, set[str]]) -> None:
    shown = {name for _, expression, _ in targets() for name in OUR_METRIC.findall(expression)}
    ours = {name for name in scraped if name.startswith("resyncctl_")}
    parts = {name for name in ours if name.endswith(("_created", "_count", "_sum"))}
    assert ours - parts - shown == set()


@SERVERS
def test_the_backlog_of_the_default_pool_is_told_even_when_it_is_empty(scraped: dict[str, set[str]]) -> None:
    assert scraped["resyncctl_queue_backlog"] == {"pool"}


@SERVERS
@pytest.mark.parametrize(("title", "expression", "legend"), targets(), ids=lambda value: value[:40])
def test_a_panel_shows_something(prometheus: Prometheus, title: str, expression: str, legend: str) -> None:
    series = prometheus.query(expression)
    assert series, f"{title}: {expression}"
    for one in series:
        assert set(re.findall(r"{{(\w+)}}", legend)) <= set(mapping(one, "metric")), f"{title}: {one}"


@SERVERS
def test_the_choices_of_the_dashboard_find_rollouts_and_jobs(prometheus: Prometheus) -> None:
    chosen = {}
    for variable in items(dashboard(), "templating.list"):
        if found := re.fullmatch(r"label_values\((\w+), (\w+)\)", str(mapping(variable).get("definition"))):
            values = prometheus.query(f"count by ({found[2]}) ({found[1]})")
            chosen[text(variable, "name")] = [text(value, f"metric.{found[2]}") for value in values]
    assert chosen == {"job": ["resyncctl"], "rollout": ["watched"]}


@SERVERS
def test_prometheus_judges_every_alert_and_none_fires_for_a_service_that_is_well(prometheus: Prometheus) -> None:
    prometheus.wait_until(
        lambda: all(text(rule, "health") == "ok" for rule in prometheus.rules()), "judging its rules", within=20
    )
    assert {text(rule, "name"): text(rule, "state") for rule in prometheus.rules()} == {
        text(rule, "alert"): "inactive" for rule in alerts()
    }
