"""NOTIFYs over UDP, TCP and TLS by either SIP engine, all to one Kamailio that does nothing but answer."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tests.bench.product import Run, bench, rollout
from tests.peers.certificates import Certificate, Certificates
from tests.peers.plain_client import PlainClient, host_port
from tests.peers.ports import free_port
from tests.peers.process import ServerProcess
from tests.peers.redis_server import RedisServer

CONFIGURATION: Final = Path(__file__).with_name("answering.cfg")
PHONES: Final = 20_000
SLOW_PHONES: Final = 5_000
"""For pjsua2, of which a thousand are in flight at most."""


class Speed(NamedTuple):
    """NOTIFYs a second with durable outcomes, and CPU microseconds of resyncctl for one, start included."""

    rate: float
    cpu: float


class Answerer(ServerProcess):
    """A Kamailio that answers 200, on one port of loopback for UDP and TCP and another one for TLS."""

    def __init__(self, certificate: Certificate) -> None:
        super().__init__("answerer")
        self._certificate = certificate
        self.port, self.tls_port = free_port(), free_port()

    def command(self) -> list[str]:
        """Write the TLS profiles and return the command."""
        shown = f"certificate = {self._certificate.certificate}\nprivate_key = {self._certificate.key}\n"
        profiles = f"[server:default]\nmethod = TLSv1.2+\n{shown}[client:default]\n{shown}"
        (self.directory / "tls.cfg").write_text(profiles, encoding="ascii")
        here = str(self.directory)
        sockets = [f"udp:127.0.0.1:{self.port}", f"tcp:127.0.0.1:{self.port}", f"tls:127.0.0.1:{self.tls_port}"]
        return [
            "kamailio", "-f", str(CONFIGURATION), "-DD", "-E", "-a", "no", "-b", "8000000", "-Y", here, "-w", here,
            "-P", f"{here}/kamailio.pid", "-A", f'TLS_PROFILES="{here}/tls.cfg"',
            *(word for socket in sockets for word in ("-l", socket)),
        ]  # fmt: skip

    def wait_until_ready(self) -> None:
        """Block until it answers."""
        self.wait_until(self._answers, "answering", within=10.0)

    def _answers(self) -> bool:
        try:
            with PlainClient("127.0.0.1") as client:
                options = client.compose("OPTIONS", f"sip:{host_port(('127.0.0.1', self.port))}")
                return client.exchange(options, ("127.0.0.1", self.port), within=0.2).status == 200
        except OSError:
            return False


def engines() -> tuple[str, ...]:
    """Return the SIP engines that are installed."""
    return ("asyncio", "pjsua2") if importlib.util.find_spec("pjsua2") else ("asyncio",)


def speeds() -> Iterator[tuple[str, str, Speed]]:
    """Yield engine, transport and speed of each that can be measured here; needs Kamailio with TLS."""
    with _peers() as (redis, answerer, certificates, folder):
        for transport in ("udp", "tcp", "tls"):
            for engine in engines():
                count = PHONES if engine == "asyncio" else SLOW_PHONES
                port = answerer.tls_port if transport == "tls" else answerer.port
                phones = _phones(folder / f"{transport}-{count}.csv", count, f"{port};transport={transport}")
                options = ("--now", "--rate", "0", "--engine", engine, "--tls-ca", str(certificates.ca))
                run = rollout(redis, phones, *options, "--id", f"{engine}-{transport}")
                yield engine, transport, Speed(count / run.seconds, run.cpu / count * 1e6)


def many_by_pjsua2(count: int) -> Run:
    """Send to so many phones over UDP by PJSIP, with the C responder as the phones."""
    with bench(count) as (redis, phones, _):
        return rollout(redis, phones, "--now", "--rate", "0", "--engine", "pjsua2")


@contextmanager
def _peers() -> Iterator[tuple[RedisServer, Answerer, Certificates, Path]]:
    with tempfile.TemporaryDirectory(prefix="resyncctl-bench-") as name:
        folder = Path(name)
        certificates = Certificates(folder / "certificates")
        with RedisServer() as redis, Answerer(certificates.right) as answerer:
            yield redis, answerer, certificates, folder


def _phones(path: Path, count: int, where: str) -> Path:
    lines = (f"sip:{number}@127.0.0.1:{where}\n" for number in range(100_000, 100_000 + count))
    path.write_text("contact\n" + "".join(lines), encoding="ascii")
    return path


if __name__ == "__main__":
    for engine, transport, speed in speeds():
        print(f"{engine} {transport} {speed.rate:,.0f}/s {speed.cpu:.0f} us")  # noqa: T201
