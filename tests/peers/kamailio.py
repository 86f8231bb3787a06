"""Kamailio 5.6.3 as registrar, proxy and Path hop on one loopback port, UDP and TCP (configuration: kamailio.cfg).

With `tls` it has one more port, with `ipv6` the same again on ::1; `listener("tls", ipv6=True)` has its addresses.

- `sip:USER@127.0.0.1:PORT` and `sip:USER@phones.test` are its addresses of record; a NOTIFY to one is forked to all
  bindings, along their stored Path. An address without a binding gets 404.
- A NOTIFY with a Route to it is loose-routed on. A phone that stays silent becomes 408 after `relay_timeout`.
- It relays the request statefully: it retransmits downstream itself (0.5 s, 1 s, 2 s, 4 s …) and sends no 100 for a
  NOTIFY, so our own retransmissions go on until the phone answers.
- `challenge` is per method: REGISTER gets 401, NOTIFY gets 407, and Kamailio verifies the answers, SHA-256 included.
- A phone that registers over TCP or TLS is reached on that connection, whatever its Contact says, and on no other: when
  it is gone, the sender gets 477, or 408 if Kamailio has not noticed yet. The registrar keeps the connection as
  `received`, or with `contact_alias` as `;alias=` in the contact, which then leads there through any of its routes.
- `registrar` makes it an edge proxy: it passes a REGISTER on with a Path of its own that has the phone's connection.
- It answers the keep-alive CRLF CRLF with CRLF. It closes no connection by itself within an hour.
- Everything stays in memory. JSON-RPC is served over HTTP at `rpc_url`, as an operator would set it up.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple, cast

from tests.peers.certificates import Certificate
from tests.peers.digest import Credentials
from tests.peers.message import SipText
from tests.peers.plain_client import Address, PlainClient, Transport, host_port
from tests.peers.ports import free_port, udp_port_is_open
from tests.peers.process import REPOSITORY, ServerProcess
from tests.peers.waiting import wait_until

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


def why_no_tls() -> str | None:
    """Say why a Kamailio of this machine can have no TLS socket; None when it can."""
    found = [Path("/usr").glob(f"{folder}/kamailio/modules/tls.so") for folder in ("lib*", "lib*/*")]
    return None if any(any(paths) for paths in found) else "Kamailio has no TLS (Debian package kamailio-tls-modules)"


class Listener(NamedTuple):
    """One socket of a Kamailio."""

    transport: Transport
    host: str
    port: int

    @property
    def address(self) -> Address:
        """What a phone takes as its registrar."""
        return self.host, self.port

    def uri(self, user: str = "") -> str:
        """Return the address of record of a user, or the proxy's own URI, that leads to this socket."""
        parameter = "" if self.transport == "udp" else f";transport={self.transport}"
        return f"sip:{user}{'@' if user else ''}{host_port(self.address)}{parameter}"

    @property
    def sips_uri(self) -> str:
        """The proxy's own URI as TLS is written without a transport parameter."""
        assert self.transport == "tls"
        return f"sips:{host_port(self.address)}"

    @property
    def route(self) -> str:
        """This socket as the value of a Route or Path header field."""
        return f"<{self.uri()};lr>"


class Connection(NamedTuple):
    """An open TCP or TLS connection, whichever side opened it."""

    transport: str
    peer: Address
    own_port: int


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
        host: str = "127.0.0.1",
        port: int | None = None,
        ipv6: bool = False,
        names: Sequence[str] = (),
        tls: Certificate | None = None,
        clients_signed_by: Path | None = None,
        contact_alias: bool = False,
        registrar: str | None = None,
    ) -> None:
        """Choose what is challenged; one `password` opens every account; `relay_timeout` in seconds.

        `names`: DNS names that are its own besides phones.test and localhost. `clients_signed_by`: the authority that
        has to have signed the certificates of TLS clients, who need none without it. `registrar`: a SIP URI.
        """
        super().__init__("kamailio")
        self.host = host
        self.port = free_port(self.host) if port is None else port
        self._listeners = [Listener("udp", self.host, self.port), Listener("tcp", self.host, self.port)]
        if ipv6:
            port = free_port("::1")
            self._listeners += [Listener("udp", "::1", port), Listener("tcp", "::1", port)]
        if tls is not None:
            hosts = (self.host, "::1") if ipv6 else (self.host,)
            self._listeners += [Listener("tls", each, free_port(each)) for each in hosts]
        self._rpc = Listener("tcp", "127.0.0.1", free_port())
        self._names = names
        self._tls = tls
        self._clients_signed_by = clients_signed_by
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
        self._definitions += ["WITH_CONTACT_ALIAS"] * contact_alias
        self._definitions += [f'REGISTRAR="{registrar}"'] * (registrar is not None)
        self._definitions += [f'TLS_PROFILES="{self.directory}/tls.cfg"'] * (tls is not None)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens, UDP and TCP."""
        return self.host, self.port

    def listener(self, transport: Transport, *, ipv6: bool = False) -> Listener:
        """Return one of its sockets, on `host` or, with `ipv6`, on ::1; StopIteration when it was not asked for."""
        host = "::1" if ipv6 else self.host
        return next(each for each in self._listeners if (each.transport, each.host) == (transport, host))

    @property
    def rpc_url(self) -> str:
        """The JSON-RPC URL; any of its TCP sockets would do, this one does nothing else."""
        return f"http://{host_port(self._rpc.address)}/RPC"

    @property
    def route(self) -> str:
        """This proxy as the value of a Route or Path header field."""
        return self.listener("udp").route

    def aor(self, user: str) -> str:
        """Return the address of record of a user."""
        return self.listener("udp").uri(user)

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
        for listener in (self._rpc, *self._listeners):  # it sends from the last one of a kind, and names that in a Path
            command += ["-l", f"{listener.transport}:{host_port(listener.address)}"]
        for name in self._names:
            command += ["--alias", name]
        if self._tls is not None:
            (self.directory / "tls.cfg").write_text(self._tls_profiles(self._tls), encoding="ascii")
        for definition in self._definitions:
            command += ["-A", definition]
        return command

    def _tls_profiles(self, own: Certificate) -> str:
        """Return what it shows and checks, as a server and, should it connect to a phone, as a client."""
        shown = ["method = TLSv1.2+", f"certificate = {own.certificate}", f"private_key = {own.key}"]
        asked = [] if self._clients_signed_by is None else [f"ca_list = {self._clients_signed_by}"]
        asked += [f"{what}_certificate = {'yes' if asked else 'no'}" for what in ("verify", "require")]
        return "\n".join(["[server:default]", *shown, *asked, "[client:default]", *shown, ""])

    def _answers(self) -> bool:
        try:
            self.rpc("core.version")
            with PlainClient(self.host) as client:
                options = client.compose("OPTIONS", self.listener("udp").uri())
                return client.exchange(options, self.address, within=0.2).status == 200
        except OSError:
            return False

    def rpc(self, method: str, parameters: Sequence[str | int] = ()) -> object:
        """Call a JSON-RPC method and return its result; OSError when unreachable or refused."""
        body = {"jsonrpc": "2.0", "method": method, "params": list(parameters), "id": 1}
        request = urllib.request.Request(self.rpc_url, json.dumps(body).encode())  # noqa: S310  loopback
        with urllib.request.urlopen(request, timeout=2.0) as answer:  # noqa: S310  loopback
            return cast("dict[str, object]", json.load(answer))["result"]

    def kill(self) -> None:
        """End all its processes at once, with SIGKILL; `start()` brings it back, with the same ports and no bindings."""
        self.end(gently=False)
        wait_until(lambda: not udp_port_is_open(self.port), "closing the sockets", within=3.0)

    def connections(self) -> list[Connection]:
        """Return its TCP and TLS connections, without those of JSON-RPC."""
        found = cast("list[dict[str, str | int]]", self.rpc("core.tcp_list"))
        return [
            Connection(str(one["type"]).lower(), (str(one["src_ip"]), int(one["src_port"])), int(one["dst_port"]))
            for one in found
            if one["dst_port"] != self._rpc.port
        ]

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
