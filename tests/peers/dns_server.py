"""dnsmasq as a name server on a free port of 127.0.0.1, UDP and TCP, for the zone `test.` and nothing else.

Names below `test` that have no record are NXDOMAIN, all other names are REFUSED. Records are answered in the order that they
were given in, and have the TTL that the record or else the server was given.
"""

from __future__ import annotations

import re
from typing import Final

import dns.exception
import dns.message
import dns.query

from tests.peers.ports import free_port
from tests.peers.process import ServerProcess

ZONE: Final = "test"
START_WITHIN = 10.0
_QUESTION: Final = re.compile(r"query\[(\w+)\] (\S+) from ")
_READY: Final = f"ready.{ZONE}"


def host(name: str, *addresses: str, ttl: int | None = None) -> str:
    """Return a record for the A and AAAA addresses of a name."""
    return ",".join([f"host-record={name}", *addresses, *([] if ttl is None else [str(ttl)])])


def alias(name: str, target: str) -> str:
    """Return a CNAME record; the target's record comes from the same server."""
    return f"cname={name},{target}"


def srv(name: str, target: str, port: int, *, priority: int = 0, weight: int = 0) -> str:
    """Return an SRV record."""
    return f"srv-host={name},{target},{port},{priority},{weight}"


def no_service(name: str) -> str:
    """Return the SRV record that says that there is no such service: its target is the root."""
    return f"srv-host={name}"


def naptr(name: str, replacement: str, *, service: str, order: int = 10, preference: int = 10, flags: str = "s") -> str:
    """Return a NAPTR record without a regular expression."""
    return f"naptr-record={name},{order},{preference},{flags},{service},,{replacement}"


class DnsServer(ServerProcess):
    """A running dnsmasq: `with DnsServer(host("a.test", "192.0.2.1")) as names`."""

    def __init__(self, *records: str, ttl: int = 60) -> None:
        super().__init__("dnsmasq")
        self.host = "127.0.0.1"
        self.port = free_port(self.host)
        self.records = records
        self.ttl = ttl

    @property
    def address(self) -> str:
        """Where it listens, as IP:PORT."""
        return f"{self.host}:{self.port}"

    def command(self) -> list[str]:
        """Write the records as configuration and return the command."""
        lines = [*self.records, host(_READY, "192.0.2.1")]
        (self.directory / "dnsmasq.conf").write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
        command = ["dnsmasq", "--keep-in-foreground", "--conf-file=dnsmasq.conf", "--pid-file=", "--user=", "--group="]
        command += ["--bind-interfaces", f"--listen-address={self.host}", f"--port={self.port}"]
        command += ["--no-resolv", "--no-hosts", f"--local=/{ZONE}/", f"--local-ttl={self.ttl}", "--no-round-robin"]
        return [*command, "--log-queries", "--log-facility=-"]

    def wait_until_ready(self) -> None:
        """Block until it answers."""
        self.wait_until(self._answers, f"answering on port {self.port}", within=START_WITHIN)

    def questions(self) -> list[tuple[str, str]]:
        """Return the type and name of every question so far, in order, without our own."""
        asked = [(found[1], found[2]) for found in _QUESTION.finditer(self.log())]
        return [(kind, name) for kind, name in asked if name != _READY]

    def restart(self, *records: str) -> None:
        """End it and start it again on the same port with other records."""
        self.end()
        self.records = records
        self.start()

    def _answers(self) -> bool:
        try:
            dns.query.udp(dns.message.make_query(_READY, "A"), self.host, port=self.port, timeout=0.2)
        except (OSError, dns.exception.DNSException):
            return False
        return True
