"""A hook to be called by the scripts of deploy/hooks: checks who calls as the service does, and records what it was told."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, urlsplit

from resyncctl.engine.hook_event import HookEvent, parse_event
from resyncctl.engine.hook_signature import check_signature
from resyncctl.errors import AccessError, InputError
from tests.peers.ports import free_port
from tests.peers.waiting import wait_until

SECRET = "the secret of the hook"
TOKEN = "rsy_the-token-of-the-hook"


class HookReceiver:
    """`with HookReceiver() as hook`: POST `hook.url`, signed with SECRET or with TOKEN; `hook.events` are those let in."""

    def __init__(self) -> None:
        self.events: list[HookEvent] = []
        self.refused: list[str] = []
        self.failures = 0
        """Calls that are answered with 503 before the first that is not."""
        self.open = threading.Event()
        """Clear it to keep calls waiting for their answer."""
        self.open.set()
        self._signatures: set[str] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", free_port()), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        """Where it is called."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1/hooks/pbx"

    def wait_for(self, count: int, *, within: float = 10.0) -> list[HookEvent]:
        """Block until so many calls were let in; return them."""
        wait_until(lambda: len(self.events) >= count, f"{count} calls of the hook ({self.refused})", within=within)
        return self.events

    def _check(self, headers: dict[str, str], query: list[tuple[str, str]], body: bytes) -> None:
        if headers.get("authorization") == f"Bearer {TOKEN}":
            return
        used = check_signature(SECRET, headers=headers, query=query, body=body, now_us=time.time_ns() // 1000)
        if used in self._signatures:
            raise AccessError("used already")
        self._signatures.add(used)

    def answer(self, url: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, object]]:
        """Take a call as the service does."""
        query = parse_qsl(urlsplit(url).query, keep_blank_values=True)
        try:
            self._check(headers, query, body)
            event = parse_event(headers.get("content-type", ""), body, query)
        except (AccessError, InputError) as error:
            self.refused.append(str(error))
            return (401 if isinstance(error, AccessError) else 422), {"title": str(error)}
        if self.failures:
            self.failures -= 1
            self.refused.append("not now")
            return 503, {"title": "not now"}
        self.events.append(event)
        self.open.wait(20)
        return 202, {"rollout": "hook-pbx-1", "fires_at": "2027-01-15T08:01:00.000000Z", "joined": False}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status, values = receiver.answer(self.path, headers, body)
                text = json.dumps(values).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the name that it has there)
                pass

        return Handler

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
