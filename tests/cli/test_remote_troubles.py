"""A service elsewhere whose answers get lost, come late, are not from it, or whose certificate nobody knows."""

from __future__ import annotations

import http.server
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import pytest

from tests.cli.both_sides import FAST, Both
from tests.cli.command import COMMAND
from tests.cli.conftest import List
from tests.engine.recorder import Recorder

pytestmark = pytest.mark.needs("redis-server")


class Link:
    """A way to a service on which answers get lost: `lose(b"POST /v1/rollouts", after=0)` cuts the answer to the next such
    request after so many pieces of it.
    """

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._there = (str(place.hostname), int(place.port or 0))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._losses: dict[bytes, int] = {}
        self.lost: list[bytes] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def lose(self, request: bytes, *, after: int = 0) -> None:
        self._losses[request] = after

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        doomed: list[bytes] = []
        with client, socket.create_connection(self._there) as service, suppress(OSError):
            back = threading.Thread(target=self._back, args=(client, service, doomed), daemon=True)
            back.start()
            while data := client.recv(65_536):
                doomed += [request for request in self._losses if data.startswith(request)]
                service.sendall(data)
            service.shutdown(socket.SHUT_RDWR)
            back.join()

    def _back(self, client: socket.socket, service: socket.socket, doomed: list[bytes]) -> None:
        with suppress(OSError):
            while data := service.recv(65_536):
                if doomed and not self._losses.get(doomed[0], 0):
                    self._losses.pop(doomed[0])
                    self.lost.append(doomed[0])
                    break
                if doomed:
                    self._losses[doomed[0]] -= 1
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)


class _Stranger(http.server.BaseHTTPRequestHandler):
    """Answers what `answers` says, in order, the last one for ever."""

    answers: list[tuple[int, dict[str, str], bytes]]
    paths: list[str]

    def do_GET(self) -> None:
        type(self).paths.append(self.path)
        status, headers, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def stranger(*answers: tuple[int, dict[str, str], bytes]) -> Iterator[tuple[str, list[str]]]:
    """Serve these answers; give the URL, and the paths that were asked for."""
    paths: list[str] = []
    handler = type("Handler", (_Stranger,), {"answers": list(answers), "paths": paths})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", paths
        server.shutdown()


def test_launch_whose_answer_is_lost_is_sent_again_and_makes_one_rollout(
    both: Both, phones: Recorder, listed: List
) -> None:
    path = listed("ok.once")
    before = both.call(both.there, "--json", "rollout", "list", "--count", "1000").out.count('"rollout":')
    with Link(both.there["RESYNCCTL_SERVER"]) as link:
        link.lose(b"POST /v1/rollouts")
        answer = both.call({**both.there, "RESYNCCTL_SERVER": link.url}, "run", path, *FAST)
    assert (answer.status, link.lost) == (0, [b"POST /v1/rollouts"]), answer.err
    assert phones.times() == {"ok.once": 1}
    after = both.call(both.there, "--json", "rollout", "list", "--count", "1000").out.count('"rollout":')
    assert after == before + 1


def test_pause_whose_answer_is_lost_is_not_sent_again_and_says_so(both: Both, listed: List) -> None:
    users = [f"ok.unsure{number}" for number in range(200)]
    started = both.call(both.there, "run", listed(*users), "--id", "unsure", "--rate", "10", "--detach", *FAST)
    assert started.status == 0, started.err
    with Link(both.there["RESYNCCTL_SERVER"]) as link:
        link.lose(b"POST /v1/rollouts/unsure/abort")
        answer = both.call({**both.there, "RESYNCCTL_SERVER": link.url}, "rollout", "abort", "unsure")
    assert (answer.status, "look whether it was done" in answer.complaint) == (4, True)
    assert both.call(both.there, "--json", "rollout", "show", "unsure").report["state"] == "aborted"


def test_progress_that_is_cut_off_goes_on_where_it_was(both: Both, phones: Recorder, listed: List) -> None:
    path = listed(*(f"ok.cut{number}" for number in range(30)))
    with Link(both.there["RESYNCCTL_SERVER"]) as link:
        link.lose(b"GET /v1/rollouts/cut/events", after=2)
        remote = {**both.there, "RESYNCCTL_SERVER": link.url}
        answer = both.call(remote, "run", path, "--id", "cut", "--rate", "20", *FAST)
    assert (answer.status, link.lost) == (0, [b"GET /v1/rollouts/cut/events"]), answer.err
    assert "30 targets: accepted 30" in answer.err
    assert len(phones.times()) == 30


def test_service_that_says_when_to_come_back_is_asked_again_then(both: Both) -> None:
    problem = (429, {"Content-Type": "application/problem+json", "Retry-After": "1"}, b'{"detail": "too many"}')
    good = (200, {"Content-Type": "application/json"}, b'{"frozen": false}')
    with stranger(problem, good) as (url, paths):
        answer = both.call({**both.there, "RESYNCCTL_SERVER": url}, "freeze", "show")
    assert (answer.status, answer.out, paths) == (0, "not frozen\n", ["/v1/freeze"] * 2)


def test_what_is_not_our_api_is_told_and_gets_no_token_elsewhere(both: Both) -> None:
    page = (200, {"Content-Type": "text/html"}, b"<h1>It works!</h1>")
    with stranger(page) as (elsewhere, asked), stranger((302, {"Location": elsewhere}, b"")) as (url, _):
        moved = both.call({**both.there, "RESYNCCTL_SERVER": url}, "freeze", "show")
        assert (moved.status, "answers 302 Found" in moved.complaint, asked) == (4, True, [])
        strange = both.call({**both.there, "RESYNCCTL_SERVER": elsewhere}, "freeze", "show")
    assert (strange.status, "is not the API of resyncctl; check --server" in strange.complaint) == (4, True)


def test_token_without_the_scope_is_refused_with_the_scope_that_is_needed(both: Both, tmp_path: Path) -> None:
    make = [
        str(COMMAND),
        "--redis-url",
        both.here["RESYNCCTL_REDIS_URL"],
        "token",
        "create",
        "looker",
        "--scope",
        "read",
    ]
    token = tmp_path / "token"
    token.write_text(
        subprocess.run(make, check=True, capture_output=True, text=True, timeout=30).stdout, encoding="ascii"
    )
    reading = {**both.there, "RESYNCCTL_TOKEN_FILE": str(token)}
    assert both.call(reading, "rollout", "list").status == 0
    refused = both.call(reading, "freeze", "on")
    assert (refused.status, "operate" in refused.complaint) == (2, True)
    given = {**both.there, "RESYNCCTL_TOKEN": token.read_text(encoding="ascii").strip()}
    del given["RESYNCCTL_TOKEN_FILE"]
    assert both.call(given, "rollout", "list").status == 0
    del given["RESYNCCTL_TOKEN"]
    nobody = both.call(given, "rollout", "list")
    assert (nobody.status, "--server needs a token: --token-file" in nobody.complaint) == (2, True)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--server", "localhost:8420"), "write it like http://127.0.0.1:8420"),
        (("--token-file", "/nowhere/token"), "cannot be read (No such file or directory)"),
        (("--ca-file", os.devnull), "--ca-file"),
        (("--redis-url", "redis://127.0.0.1:9"), "give one of them"),
    ],
)
def test_what_cannot_be_a_service_is_refused_before_anything_is_sent(
    both: Both, words: tuple[str, ...], complaint: str
) -> None:
    answer = both.call(both.there, "rollout", "list", *words)
    assert (answer.status, complaint in answer.complaint) == (2, True), answer.complaint


def test_more_phones_than_a_request_carries_belong_into_a_source(both: Both, tmp_path: Path) -> None:
    path = tmp_path / "many.csv"
    path.write_text("aor\n" + "".join(f"sip:{number}@pbx.invalid\n" for number in range(100_001)), encoding="ascii")
    answer = both.call(both.there, "run", path)
    assert (answer.status, "more than 100000 phones" in answer.complaint) == (2, True)
    assert "[sources]" in answer.complaint


@pytest.mark.needs("openssl")
def test_certificate_of_our_own_is_trusted_with_ca_file_only(both: Both, tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    make = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        *subject,
        "-keyout",
        str(key),
        "-out",
        str(certificate),
    ]
    subprocess.run(make, check=True, capture_output=True, timeout=30)
    tls = {"RESYNCCTL_TLS_CERT": str(certificate), "RESYNCCTL_TLS_KEY": str(key)}
    with both.start({**both.here, **tls}, "serve", "--listen", "127.0.0.1:0") as service:
        try:
            assert service.stderr is not None
            port = service.stderr.readline().rpartition(":")[2].strip()
            remote = {**both.there, "RESYNCCTL_SERVER": f"https://localhost:{port}"}
            unknown = both.call(remote, "freeze", "show")
            assert (unknown.status, "its certificate is not trusted" in unknown.complaint) == (4, True)
            assert both.call(remote, "--ca-file", certificate, "freeze", "show").out == "not frozen\n"
        finally:
            service.terminate()
