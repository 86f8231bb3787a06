"""Sources by HTTP: what is told of them, and that phones get a NOTIFY from the domain of their source."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from resyncctl.config import Source
from resyncctl.engine.access import Scope
from tests.api.rollouts import AT_ONCE, body, ended, launch, plan
from tests.api.server import ApiServer
from tests.peers.redis_server import RedisServer

pytestmark = pytest.mark.needs("redis-server")

FROM = "sip:resyncctl@pbx.branch.example"


class Phone:
    """A phone that keeps what it received last and says 200 to it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(10)
        self._socket.bind(("127.0.0.1", 0))

    @property
    def contact(self) -> str:
        """Its Contact URI."""
        return f"sip:branch@127.0.0.1:{self._socket.getsockname()[1]}"

    def answer(self) -> dict[str, str]:
        """Answer one request; return its header."""
        data, peer = self._socket.recvfrom(65_536)
        lines = data.decode().partition("\r\n\r\n")[0].split("\r\n")[1:]
        copied = [line for line in lines if line.lower().startswith(("via:", "from:", "to:", "call-id:", "cseq:"))]
        reply = ["SIP/2.0 200 OK", *copied, "Content-Length: 0", "", ""]
        self._socket.sendto("\r\n".join(reply).encode(), peer)
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def close(self) -> None:
        """Close its socket."""
        self._socket.close()


@pytest.fixture(scope="module")
def phone() -> Iterator[Phone]:
    """The only phone of the branch."""
    made = Phone()
    yield made
    made.close()


@pytest.fixture(scope="module")
def branch(
    redis: RedisServer, tokens: dict[Scope, str], phone: Phone, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """A client of a service with a source that has a From domain, and one whose file is missing."""
    path = tmp_path_factory.mktemp("branch") / "branch.csv"
    path.write_text(f"aor,contact\nsip:branch@pbx.branch.example,{phone.contact}\n", encoding="ascii")
    sources: dict[str, Path | Source] = {
        "branch": Source(path, "pbx.branch.example"),
        "gone": Path("/nowhere/gone.csv"),
    }
    with (
        ApiServer(redis.url, sources=sources, requests_per_second=0) as server,
        server.client(tokens[Scope.OPERATE]) as client,
    ):
        yield client


def test_sources_are_listed_with_their_domain(branch: httpx.Client) -> None:
    found = body(branch.get("/v1/sources"))["sources"]
    assert [(one["name"], one["exists"], one["from_domain"]) for one in found] == [
        ("branch", True, "pbx.branch.example"),
        ("gone", False, ""),
    ]


def test_a_plan_for_a_source_says_which_from_its_phones_will_read(branch: httpx.Client) -> None:
    assert plan(branch, {"source": "branch"})["options"]["from_uri"] == FROM
    said = {"source": "branch", "options": {"from": "sip:admin@192.0.2.9"}}
    assert plan(branch, said)["options"]["from_uri"] == "sip:admin@192.0.2.9"


def test_the_phone_of_a_source_is_notified_from_its_domain(branch: httpx.Client, phone: Phone) -> None:
    rollout = launch(branch, {"source": "branch", "options": AT_ONCE})
    received = phone.answer()
    assert received["From"].startswith(f"<{FROM}>;tag=")
    assert ended(branch, rollout)["counts"] == {"accepted": 1}
