"""baresip 1.0 as a desk phone: registered at a registrar (usually our Kamailio), without audio.

What we saw it answer to a NOTIFY outside any subscription, whatever the event: 481 "Subscription Does Not Exist";
489 "Bad Event" when Event is missing; 400 "Bad Subscription-State Header" when Subscription-State is missing or
cannot be read. It does not look at the user of the Request-URI. There is no option that makes it answer 200.
Over TCP and TLS its Contact has the port that it listens on, not the one that its connection comes from. It looks at no
certificate: neither a wrong name nor a date of the past nor an unknown authority keeps it from registering.
It finds no address on the interface `lo`: `net_interface` must be the address 127.0.0.1 itself.
"""

from __future__ import annotations

import re

from tests.peers.message import TracedMessage
from tests.peers.plain_client import Address, Transport
from tests.peers.ports import free_port, udp_port_is_open
from tests.peers.process import ServerProcess

MODULES = "/usr/lib/baresip/modules"
NOTIFY_ANSWER = 481
"""What it answers to every out-of-dialog NOTIFY that it can read."""

_TRACE = re.compile(
    r"\x1b\[36;1m#\n(?:UDP|TCP|TLS) (?P<source>\S+) -> (?P<destination>\S+)\n(?P<text>.*?)\x1b\[;m", re.DOTALL
)


class BaresipPhone(ServerProcess):
    """A running baresip: `with BaresipPhone("200", registrar=kamailio.address, password="…") as phone`."""

    def __init__(
        self,
        user: str,
        *,
        registrar: Address | None,
        password: str = "",
        expires: int = 300,
        transport: Transport = "udp",
    ) -> None:
        """Prepare the phone of one user; `registrar=None` registers nowhere; `expires` in seconds.

        It registers over `transport`, and listens on UDP and TCP in any case.
        """
        super().__init__("baresip")
        self.user = user
        self.host = "127.0.0.1"
        self.port = free_port(self.host, adjacent=2)  # it also takes the next port, for TLS
        self._registrar = registrar
        self._password = password
        self._expires = expires
        self._transport: Transport = transport

    @property
    def address(self) -> tuple[str, int]:
        """Where the phone listens."""
        return self.host, self.port

    @property
    def uri(self) -> str:
        """The address of the phone itself."""
        return f"sip:{self.user}@{self.host}:{self.port}"

    def wait_until_ready(self) -> None:
        """Block until it listens and has registered."""
        self.wait_until(lambda: udp_port_is_open(self.port), f"opening UDP port {self.port}")
        if self._registrar is not None:
            self.wait_until(self._is_registered, f"registering at {self._registrar}")

    def command(self) -> list[str]:
        """Write the configuration and return the command, which traces SIP and ends by itself after 10 minutes."""
        lines = [
            "poll_method epoll",
            f"sip_listen {self.host}:{self.port}",
            f"net_interface {self.host}",
            f"module_path {MODULES}",
            "module_app account.so",
        ]
        host, port = self._registrar or self.address
        interval = 0 if self._registrar is None else self._expires
        account = f"<sip:{self.user}@{host}:{port};transport={self._transport}>;regint={interval};audio_codecs="
        if self._password:
            account += f";auth_user={self.user};auth_pass={self._password}"
        (self.directory / "config").write_text("\n".join(lines) + "\n", encoding="ascii")
        (self.directory / "accounts").write_text(account + "\n", encoding="ascii")
        (self.directory / "contacts").write_text("", encoding="ascii")
        return ["baresip", "-f", str(self.directory), "-s", "-t", "600"]

    def _is_registered(self) -> bool:
        return any(
            answer.status == 200 and (answer.header("CSeq") or "").endswith("REGISTER") for answer in self.traced()
        )

    def traced(self) -> list[TracedMessage]:
        """Return every message of its SIP trace, received and sent, in order; baresip logs no times."""
        return [TracedMessage(text=match["text"], source=match["source"]) for match in _TRACE.finditer(self.log())]

    def received(self) -> list[TracedMessage]:
        """Return every request that arrived, retransmissions included, in order.

        The only requests that it sends itself are its REGISTERs; over TCP those come from a port of the kernel's choice.
        """
        return [each for each in self.traced() if each.status is None and each.method != "REGISTER"]
