"""Kamailio 5.6.3 as registrar, proxy and Path hop on one loopback port, UDP and TCP (configuration: kamailio.cfg).

- `sip:USER@127.0.0.1:PORT` and `sip:USER@phones.test` are its addresses of record; a NOTIFY to one is forked to all
  bindings, along their stored Path. An address without a binding gets 404.
- A NOTIFY with a Route to it is loose-routed on. A phone that stays silent becomes 408 after `relay_timeout`.
- It relays the request statefully: it retransmits downstream itself (0.5 s, 1 s, 2 s, 4 s …) and sends no 100 for a
  NOTIFY, so our own retransmissions go on until the phone answers.
- `challenge` is per method: REGISTER gets 401, NOTIFY gets 407, and Kamailio verifies the answers, SHA-256 included.
- Everything stays in memory. JSON-RPC is served over HTTP at `rpc_url`, as an operator would set it up.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast

from tests.peers.digest import Credentials
from tests.peers.message import SipText
from tests.peers.plain_client import PlainClient
from tests.peers.ports import free_port
from tests.peers.process import REPOSITORY, ServerProcess

CONFIGURATION = REPOSITORY / "tests" / "peers" / "kamailio.cfg"
NOT_SET: Final = "[not set]"
"""What ul.dump writes for an absent value."""
START_WITHIN = 10.0


@dataclass(frozen=True, slots=True)
class Binding:
    """One contact of the registrar's location table, as JSON-RPC `ul.dump` shows it; None means not set."""

    aor: str
    address: str
    path: str | None
    received: str | None
    user_agent: str | None
    instance: str | None
    expires: int | Literal["permanent", "expired", "deleted"]


class Kamailio(ServerProcess):
    """A running Kamailio: `with Kamailio() as registrar`."""

    def __init__(
        self,
        *,
        password: str = "open-sesame",
        realm: str = "phones.test",
        authenticate_register: bool = False,
        authenticate_notify: bool = False,
        algorithm: Literal["MD5", "SHA-256"] = "MD5",
        qop: bool = True,
        relay_timeout: float = 3.0,
    ) -> None:
        """Choose what is challenged; one `password` opens every account; `relay_timeout` in seconds."""
        super().__init__("kamailio")
        self.host = "127.0.0.1"
        self.port = free_port(self.host)
        self.password = password
        self.realm = realm
        definitions = {
            "REALM": f'"{realm}"',
            "PASSWORD": f'"{password}"',
            "QOP_FLAG": '"1"' if qop else '"0"',
            "RELAY_TIMEOUT": str(round(relay_timeout * 1000)),
            "DIGEST": f'"{algorithm}"',
        }
        self._definitions = [f"{name}={value}" for name, value in definitions.items()]
        self._definitions += ["WITH_REGISTER_AUTH"] * authenticate_register
        self._definitions += ["WITH_NOTIFY_AUTH"] * authenticate_notify

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens, UDP and TCP."""
        return self.host, self.port

    @property
    def rpc_url(self) -> str:
        """The JSON-RPC URL."""
        return f"http://{self.host}:{self.port}/RPC"

    @property
    def route(self) -> str:
        """This proxy as the value of a Route or Path header field."""
        return f"<sip:{self.host}:{self.port};lr>"

    def aor(self, user: str) -> str:
        """Return the address of record of a user."""
        return f"sip:{user}@{self.host}:{self.port}"

    def credentials(self, user: str) -> Credentials:
        """Return credentials that it accepts."""
        return Credentials(user, self.password)

    def wait_until_ready(self) -> None:
        """Block until it answers JSON-RPC and SIP."""
        self.wait_until(self._answers, f"answering on port {self.port}", within=START_WITHIN)

    def command(self) -> list[str]:
        """Return the command."""
        here = str(self.directory)
        command = ["kamailio", "-f", str(CONFIGURATION), "-DD", "-E", "-a", "no", "-m", "32", "-M", "8"]
        command += ["-Y", here, "-w", here, "-P", f"{here}/kamailio.pid"]
        command += ["-l", f"udp:{self.host}:{self.port}", "-l", f"tcp:{self.host}:{self.port}"]
        for definition in self._definitions:
            command += ["-A", definition]
        return command

    def _answers(self) -> bool:
        try:
            self.rpc("core.version")
            with PlainClient(self.host) as client:
                options = client.compose("OPTIONS", f"sip:{self.host}:{self.port}")
                return client.exchange(options, self.address, within=0.2).status == 200
        except OSError:
            return False

    def rpc(self, method: str, parameters: Sequence[str | int] = ()) -> object:
        """Call a JSON-RPC method and return its result; OSError when unreachable or refused."""
        body = {"jsonrpc": "2.0", "method": method, "params": list(parameters), "id": 1}
        request = urllib.request.Request(self.rpc_url, json.dumps(body).encode())  # noqa: S310  loopback
        with urllib.request.urlopen(request, timeout=2.0) as answer:  # noqa: S310  loopback
            return cast("dict[str, object]", json.load(answer))["result"]

    def contacts(self) -> list[Binding]:
        """Return all bindings."""
        dump = cast("dict[str, list[dict[str, dict[str, list[dict[str, dict[str, object]]]]]]]", self.rpc("ul.dump"))
        found: list[Binding] = []
        for domain in dump["Domains"]:
            for record in domain["Domain"]["AoRs"]:
                info = record["Info"]
                contacts = cast("list[dict[str, dict[str, object]]]", info["Contacts"])
                found += [_binding(str(info["AoR"]), contact["Contact"]) for contact in contacts]
        return found

    def wait_for_contact(self, user: str, *, within: float = 8.0) -> Binding:
        """Block until that user has a binding and return it."""

        def bindings() -> list[Binding]:
            return [binding for binding in self.contacts() if binding.aor == user]

        self.wait_until(lambda: bool(bindings()), f"registering {user}", within=within)
        return bindings()[0]

    def register(
        self,
        user: str,
        contact: str,
        *,
        path: str | None = None,
        expires: int = 300,
        user_agent: str | None = None,
        credentials: Credentials | None = None,
    ) -> SipText:
        """Register a contact URI with a hand-written REGISTER and return the final answer.

        `path`: value of a Path header field. `credentials` answers a challenge; None leaves the 401 as it is.
        """
        extra = [f"Contact: <{contact}>", f"Expires: {expires}"]
        extra += [] if path is None else [f"Path: {path}", "Supported: path"]
        extra += [] if user_agent is None else [f"User-Agent: {user_agent}"]
        with PlainClient(self.host) as client:
            return client.register(self.aor(user), self.address, credentials=credentials, extra=tuple(extra))


def _binding(aor: str, contact: dict[str, object]) -> Binding:
    def text(name: str) -> str | None:
        value = str(contact.get(name, NOT_SET))
        return None if value in {NOT_SET, "n/a"} else value

    expires = contact["Expires"]
    return Binding(
        aor=aor,
        address=str(contact["Address"]),
        path=text("Path"),
        received=text("Received"),
        user_agent=text("User-Agent"),
        instance=text("Instance"),
        expires=expires if isinstance(expires, int) else cast("Literal['permanent', 'expired', 'deleted']", expires),
    )
