"""A phone that is a Python program of ours around somebody else's stack: one JSON object per line on its stdout.

Events: `{"event": "listening"}`, `{"event": "registered", "status": 200}` (or the error as text) and, for every
request, `{"event": "request", "text": …, "source": "host:port", "time": seconds since 1970}`.
The program ends when its standard input ends, so that it cannot outlive the tests.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import cast

from tests.peers.message import TracedMessage
from tests.peers.plain_client import Address, Transport, host_port
from tests.peers.ports import free_port
from tests.peers.process import REPOSITORY, ServerProcess

START_WITHIN = 15.0


class PhoneProcess(ServerProcess):
    """A phone program in a process of its own, so that a crash of its C code cannot hurt pytest."""

    def __init__(
        self,
        name: str,
        program: str,
        user: str,
        *,
        registrar: Address | None,
        password: str,
        transport: Transport = "udp",
        host: str | None = None,
    ) -> None:
        """Prepare `python -m program` as the phone of `user`; `registrar=None` registers nowhere.

        `host`: its own loopback address, by default of the registrar's kind. UDP on 127.0.0.1 goes without saying:
        a program that can do more gets the rest in its `arguments()`.
        """
        super().__init__(name)
        self.user = user
        self.host = host or ("::1" if registrar is not None and ":" in registrar[0] else "127.0.0.1")
        self.port = free_port(self.host)
        self.transport: Transport = transport
        self._program = program
        self._registrar = registrar
        self._password = password

    @property
    def address(self) -> Address:
        """Where the phone listens."""
        return self.host, self.port

    @property
    def uri(self) -> str:
        """The address of the phone itself, where it listens."""
        parameter = "" if self.transport == "udp" else f";transport={self.transport}"
        return f"sip:{self.user}@{host_port(self.address)}{parameter}"

    def arguments(self) -> Sequence[str]:
        """Return further arguments of the program."""
        return ()

    def command(self) -> list[str]:
        """Return the command."""
        command = [sys.executable, "-m", self._program, "--user", self.user, "--port", str(self.port)]
        if self._registrar is not None:
            command += ["--registrar", host_port(self._registrar), "--password", self._password]
        return [*command, *self.arguments()]

    def environment(self) -> Mapping[str, str]:
        """Let the program find this package."""
        return {"PYTHONPATH": str(REPOSITORY)}

    def wait_until_ready(self) -> None:
        """Block until it listens and has registered."""
        self.wait_until(lambda: bool(self.events("listening")), "listening", within=START_WITHIN)
        if self._registrar is None:
            return
        self.wait_until(lambda: bool(self.events("registered")), "registering", within=START_WITHIN)
        status = self.events("registered")[0].get("status")
        if status != 200:
            raise self.error(f"{self.name}: registration failed: {status}")

    def events(self, kind: str) -> list[dict[str, object]]:
        """Return the events of one kind that it has printed."""
        complete = self.log().rpartition("\n")[0].splitlines()
        parsed = [cast("dict[str, object]", json.loads(line)) for line in complete if line.startswith('{"event": ')]
        return [event for event in parsed if event["event"] == kind]

    def received(self) -> list[TracedMessage]:
        """Return every request that arrived, in order."""
        return [
            TracedMessage(
                text=str(event["text"]),
                traced_time=datetime.fromtimestamp(float(str(event["time"])), UTC),
                source=str(event["source"]),
            )
            for event in self.events("request")
        ]

    def wait_for(self, requests: int, *, within: float = 5.0) -> list[TracedMessage]:
        """Block until at least that many requests arrived, return all."""
        self.wait_until(lambda: len(self.received()) >= requests, f"receiving {requests} requests", within=within)
        return self.received()


def tell(**event: object) -> None:
    """Print one event."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def end_with_standard_input() -> None:
    """Leave as soon as the tests are gone; for a daemon thread."""
    while os.read(0, 1024):  # not sys.stdin: its lock would be held at interpreter shutdown
        pass
    os._exit(0)
