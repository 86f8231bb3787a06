"""A real Prometheus with our scrape configuration and our alerts, on one instance of the service."""

from __future__ import annotations

import contextlib
from typing import cast

import httpx

from tests.deploy.documents import items, mapping
from tests.peers.ports import free_port
from tests.peers.process import REPOSITORY, ServerProcess

FILES = REPOSITORY / "deploy" / "prometheus"


class Prometheus(ServerProcess):
    """`with Prometheus(target, token)`: scrapes HOST:PORT each second with the token, by deploy/prometheus/scrape.yaml."""

    def __init__(self, target: str, token: str) -> None:
        super().__init__("prometheus")
        self._target, self._token = target, token
        self._url = f"http://127.0.0.1:{free_port()}"

    def command(self) -> list[str]:
        """Return the command."""
        (self.directory / "token").write_text(self._token + "\n", encoding="utf-8")
        config = (FILES / "scrape.yaml").read_text(encoding="utf-8")
        for ours, here in (
            ("127.0.0.1:8420", self._target),
            ("/etc/prometheus/resyncctl.token", str(self.directory / "token")),
            ("- alerts.yaml", f"- {FILES / 'alerts.yaml'}"),
            ("_interval: 15s", "_interval: 1s"),
        ):
            assert ours in config
            config = config.replace(ours, here)
        (self.directory / "prometheus.yml").write_text(config, encoding="utf-8")
        return [
            "prometheus",
            f"--config.file={self.directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.directory / 'data'}",
            f"--web.listen-address={self._url.removeprefix('http://')}",
        ]

    def wait_until_ready(self) -> None:
        """Block until it has scraped often enough for rates."""
        self.wait_until(self._has_scraped, "scraping the service three times", within=30)

    def _has_scraped(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            counted = self.query('count_over_time(resyncctl_store_up{job="resyncctl"}[1m])')
            return any(float(str(items(one, "value")[1])) >= 3 for one in counted)
        return False

    def query(self, expression: str) -> list[object]:
        """Return the series of an expression; raises HTTPStatusError, with the answer, for a wrong one."""
        return items(self._get("query", query=expression), "result")

    def rules(self) -> list[object]:
        """Return the rules as it judges them."""
        (group,) = items(self._get("rules"), "groups")
        return items(group, "rules")

    def _get(self, what: str, **query: str) -> dict[str, object]:
        answer = httpx.get(f"{self._url}/api/v1/{what}", params=query, timeout=10)
        if answer.status_code != httpx.codes.OK:
            raise httpx.HTTPStatusError(answer.text, request=answer.request, response=answer)
        return mapping(cast("object", answer.json()), "data")
