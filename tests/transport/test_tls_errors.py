"""What becomes of a request when TLS is not in order, and what it says of it. On asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvloop

from resyncctl.clock import monotonic
from resyncctl.errors import InputError
from resyncctl.sip.hop import Hop, Transport
from resyncctl.sip.message import Request
from resyncctl.sip.transaction import Timers
from resyncctl.sip.uac import Ending, Result
from resyncctl.transport.endpoint import Endpoint
from resyncctl.transport.flow import FlowLimits
from resyncctl.transport.ip import IpNetwork, TlsFiles
from tests.peers import sipp
from tests.peers.certificates import NAME, Certificate, Certificates
from tests.peers.kamailio import Kamailio
from tests.peers.pjsip_phone import PjsipPhone
from tests.peers.ports import free_port
from tests.peers.process import ServerProcess
from tests.peers.sipp import SippPhone
from tests.transport.phones import PATIENCE, prepare
from tests.transport.stream_peer import Call, Peer, Wire, serving

pytestmark = pytest.mark.needs("openssl")

TLS = Transport.TLS


class OpensslServer(ServerProcess):
    """`openssl s_server`: a TLS server that says nothing."""

    def __init__(self, certificate: Certificate, *options: str) -> None:
        super().__init__("openssl-s_server")
        self.port = free_port()
        self._certificate = certificate
        self._options = options

    def command(self) -> list[str]:
        own = ["-cert", str(self._certificate.certificate), "-key", str(self._certificate.key)]
        return ["openssl", "s_server", "-accept", f"127.0.0.1:{self.port}", *own, *self._options]

    def wait_until_ready(self) -> None:
        self.wait_until(lambda: "ACCEPT" in self.log(), "listening")

    @property
    def hop(self) -> Hop:
        return Hop(("127.0.0.1", self.port), TLS, NAME)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.getbasetemp() / "certificates")


@dataclass(frozen=True, slots=True)
class Client:
    """Sends one request over TLS on a kind of event loop."""

    loop: Callable[[], asyncio.AbstractEventLoop]
    ca: Path

    def ask(self, hop: Hop, tls: TlsFiles | None = None, *, connect: float = 5.0) -> Result:
        """Send to a server of another process."""
        with asyncio.Runner(loop_factory=self.loop) as runner:
            return runner.run(self._ask(hop, tls, connect))

    def ask_peer(
        self, peer: Peer, context: ssl.SSLContext | None, tls: TlsFiles | None = None, *, name: str = NAME
    ) -> Result:
        """Send to a server on the same loop: TLS with `context`, else TCP."""

        async def story() -> Result:
            async with serving(peer, tls=context) as hop:
                return await self._ask(Hop(hop.address, TLS, name), tls, 5.0)

        with asyncio.Runner(loop_factory=self.loop) as runner:
            return runner.run(story())

    async def _ask(self, hop: Hop, tls: TlsFiles | None, connect: float) -> Result:
        ended: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        endpoint = Endpoint(
            IpNetwork(TlsFiles(ca=self.ca) if tls is None else tls),
            timers=Timers(),
            on_result=ended.set_result,
            prepare=prepare,
            limits=FlowLimits(connect=connect),
        )
        endpoint.send(Call(hop.address, transport=hop.transport, name=hop.name), 1)
        try:
            async with asyncio.timeout(PATIENCE):
                return await ended
        finally:
            endpoint.close()


@pytest.fixture(
    params=[pytest.param(asyncio.SelectorEventLoop, id="asyncio"), pytest.param(uvloop.new_event_loop, id="uvloop")]
)
def client(request: pytest.FixtureRequest, certificates: Certificates) -> Client:
    return Client(request.param, certificates.ca)


def served(certificate: Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    return context


def verdict(result: Result) -> tuple[Ending, str]:
    """Return how a request ended of which nothing has left."""
    assert result.sent_at == 0.0
    return result.ending, result.detail


# The certificate of the peer

KINDS = [
    ("wrong_name", Ending.WRONG_NAME, f"Hostname mismatch, certificate is not valid for '{NAME}'"),
    ("expired", Ending.EXPIRED, "certificate has expired"),
    ("self_signed", Ending.NOT_TRUSTED, "self-signed certificate"),
]


@pytest.mark.parametrize(("kind", "ending", "fault"), KINDS)
def test_certificate_that_is_not_in_order_is_told_with_its_fault_and_nothing_is_sent(
    client: Client, certificates: Certificates, kind: str, ending: Ending, fault: str
) -> None:
    peer = Peer()
    result = client.ask_peer(peer, served(getattr(certificates, kind)))
    assert verdict(result) == (ending, f"TLS: the certificate for {NAME} is not accepted: {fault}")
    assert not peer.requests


@pytest.mark.parametrize("kind", ["right", "wrong_name", "expired", "self_signed"])
def test_without_verification_any_certificate_will_do(client: Client, certificates: Certificates, kind: str) -> None:
    result = client.ask_peer(Peer(), served(getattr(certificates, kind)), TlsFiles(verify=False))
    assert (result.ending, result.status) == (Ending.ANSWERED, 200)


def test_authorities_of_the_system_are_trusted_by_default_and_ours_is_none_of_them(
    client: Client, certificates: Certificates
) -> None:
    result = client.ask_peer(Peer(), served(certificates.right), TlsFiles())
    assert verdict(result) == (
        Ending.NOT_TRUSTED,
        f"TLS: the certificate for {NAME} is not accepted: unable to get local issuer certificate",
    )


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        *[(name, Ending.ANSWERED) for name in (NAME, "127.0.0.1", "::1", "")],
        *[(name, Ending.WRONG_NAME) for name in ("127.0.0.2", "::2", "other.test")],
    ],
)
def test_name_of_the_hop_is_what_the_certificate_has_to_name_and_what_the_server_is_told(
    client: Client, certificates: Certificates, name: str, ending: Ending
) -> None:
    asked: list[str | None] = []
    context = served(certificates.right)
    context.sni_callback = lambda _, server_name, __: asked.append(server_name)
    result = client.ask_peer(Peer(), context, name=name)
    assert result.ending is ending
    assert name in result.detail or ending is Ending.ANSWERED
    assert asked == [name if name.endswith(".test") else None], "an IP address is no server name (RFC 6066 3)"


@pytest.mark.parametrize("name", [".pbx.test", "a..b", "x" * 64 + ".test"])
def test_name_that_no_certificate_can_have_is_told(client: Client, certificates: Certificates, name: str) -> None:
    ending, detail = verdict(client.ask_peer(Peer(), served(certificates.right), name=name))
    assert ending is Ending.WRONG_NAME
    assert detail.startswith(f"TLS: no certificate can be for {name!r}: ")


# Our own certificate

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def demanding(certificates: Certificates, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = served(certificates.right)
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificates.ca)
    return context


@pytest.mark.parametrize("version", VERSIONS)
def test_certificate_of_our_own_is_shown_to_who_wants_one(
    client: Client, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    shown: list[object] = []

    def note(wire: Wire, request: Request) -> None:
        shown.append(wire.transport.get_extra_info("peercert")["subject"])
        wire.answer(request)

    ours = certificates.client
    files = TlsFiles(ca=certificates.ca, cert=ours.certificate, key=ours.key)
    result = client.ask_peer(Peer(note), demanding(certificates, version), files)
    assert (result.ending, result.status) == (Ending.ANSWERED, 200)
    assert shown == [((("commonName", "resyncctl.test"),),)]


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("kind", ["", "self_signed", "expired"])
def test_peer_that_does_not_accept_our_certificate_is_told(
    client: Client, certificates: Certificates, version: str, kind: str
) -> None:
    """With TLS 1.3 it says so only after the handshake: the request has been written by then, though never read."""
    ours: Certificate = getattr(certificates, kind or "client")
    files = TlsFiles(ca=certificates.ca, cert=ours.certificate, key=ours.key) if kind else TlsFiles(ca=certificates.ca)
    ca = str(certificates.ca)
    with OpensslServer(certificates.right, version, "-Verify", "1", "-verify_return_error", "-CAfile", ca) as server:
        result = client.ask(server.hop, files)
    assert result.ending is Ending.NO_TLS
    assert result.detail.startswith("TLS: ")
    assert result.detail.endswith("(--tls-cert)"), result.detail
    assert (result.sent_at > 0) is (version == "-tls1_3")


@pytest.mark.parametrize(
    ("version", "ending", "start"),
    [
        (ssl.TLSVersion.TLSv1_2, Ending.NO_TLS, "TLS: the peer has ended the handshake"),
        (ssl.TLSVersion.TLSv1_3, Ending.CONNECTION_LOST, "the peer has closed the connection"),
    ],
)
def test_peer_that_does_not_accept_us_and_closes_without_a_word_is_told_with_what_may_be_the_reason(
    client: Client, certificates: Certificates, version: ssl.TLSVersion, ending: Ending, start: str
) -> None:
    peer = Peer()
    result = client.ask_peer(peer, demanding(certificates, version))
    assert result.ending is ending
    assert result.detail.startswith(start)
    assert result.detail.endswith("wants another certificate of ours (--tls-cert)")
    assert not peer.requests


# What is no TLS, or too old


def test_tls_1_1_is_not_spoken(client: Client, certificates: Certificates) -> None:
    with OpensslServer(certificates.right, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0") as server:
        ending, detail = verdict(client.ask(server.hop))
        assert ending is Ending.NO_TLS
        assert detail.endswith(": the peer has no TLS 1.2 or newer"), detail
        old = ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0", "-connect", f"127.0.0.1:{server.port}"]
        spoken = subprocess.run(["openssl", "s_client", *old], input=b"Q", capture_output=True, timeout=5, check=False)
    assert b"Protocol  : TLSv1.1" in spoken.stdout, "who asks for it gets it"


@pytest.mark.needs("pjsua2")
def test_phone_that_has_tls_1_1_only_is_told(client: Client, certificates: Certificates) -> None:
    with PjsipPhone("300", transport="tls", tls=certificates.right, tls_version="1.1") as phone:
        ending, detail = verdict(client.ask(Hop(phone.address, TLS, NAME)))
    assert ending is Ending.NO_TLS
    assert detail.startswith("TLS: sslv3 alert handshake failure: no version and cipher in common")


@pytest.mark.parametrize(
    ("reaction", "words"),
    [
        (
            b"SIP/2.0 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
            "TLS: wrong version number: what is spoken there is no TLS",
        ),
        (
            None,
            "TLS: the peer has ended the handshake: it speaks no TLS, or wants another certificate of ours (--tls-cert)",
        ),
    ],
)
def test_peer_that_speaks_no_tls_is_told(client: Client, reaction: bytes | None, words: str) -> None:
    class Plain(Wire):
        def data_received(self, data: bytes) -> None:
            del data
            if reaction is None:
                self.transport.close()
            else:
                self.transport.write(reaction)

    peer = Peer()
    peer.make = lambda: Plain(peer)  # type: ignore[method-assign]
    assert verdict(client.ask_peer(peer, None)) == (Ending.NO_TLS, words)


@pytest.fixture(scope="module")
def plain(certificates: Certificates) -> Iterator[list[Hop]]:
    """TCP ports of Kamailio and SIPp, who wait for the end of what they take for a message."""
    with Kamailio() as proxy, SippPhone(sipp.answers(), transport="tcp") as phone:
        yield [Hop(proxy.address, TLS, NAME), Hop(phone.address, TLS, NAME)]


@pytest.mark.needs("kamailio", "sipp")
@pytest.mark.parametrize("number", [0, 1])
def test_peer_that_takes_the_handshake_for_a_message_is_given_up(client: Client, plain: list[Hop], number: int) -> None:
    assert verdict(client.ask(plain[number], connect=0.3)) == (Ending.NO_CONNECTION, "no connection within 0.3 s")


def test_peer_that_accepts_and_says_nothing_is_given_up_after_the_time_for_connecting(client: Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        before = monotonic()
        result = client.ask(Hop(mute.getsockname(), TLS, NAME), connect=0.3)
    assert verdict(result) == (Ending.NO_CONNECTION, "no connection within 0.3 s")
    assert 0.3 <= result.ended_at - before < 0.8


def test_refused_connection_is_not_taken_for_a_fault_of_tls(client: Client) -> None:
    result = client.ask(Hop(("127.0.0.1", free_port()), TLS, NAME))
    assert verdict(result) == (Ending.REFUSED, "no connection: Connection refused")


@pytest.mark.parametrize("abort", [True, False])
def test_connection_that_stood_and_ends_is_not_taken_for_a_fault_of_tls(
    client: Client, certificates: Certificates, abort: bool
) -> None:
    def end(wire: Wire, request: Request) -> None:
        wire.answer(request, 100)
        if abort:  # without a word of farewell
            wire.transport.abort()
        else:
            wire.transport.close()

    result = client.ask_peer(Peer(end), served(certificates.right))
    assert (result.ending, result.detail) == (Ending.CONNECTION_LOST, "the peer has closed the connection")
    assert result.sent_at > 0


# Files


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"key": "client.key"}, "--tls-key is given without --tls-cert; name the certificate that the key is of"),
        (
            {"ca": "missing.pem"},
            "--tls-ca missing.pem: No such file or directory; it has to be a PEM file of certificates",
        ),
        ({"ca": "text"}, "--tls-ca text: "),
        ({"cert": "missing.pem"}, "--tls-cert missing.pem: No such file or directory; give PEM files"),
        ({"cert": "client.pem"}, "--tls-cert client.pem: is not PEM; give PEM files of a certificate and its key"),
        (
            {"cert": "client.pem", "key": "right.key"},
            "--tls-cert client.pem, --tls-key right.key: key values mismatch; ",
        ),
        ({"cert": "client.pem", "key": "text"}, "--tls-cert client.pem, --tls-key text: is not PEM; give PEM files"),
        (
            {"cert": "client.pem", "key": "locked.key"},
            "--tls-key: the key is encrypted; give one without a pass phrase",
        ),
    ],
)
def test_files_that_cannot_be_used_are_told_before_anything_is_sent(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], words: str
) -> None:
    openssl(
        "ec",
        "-aes128",
        "-passout",
        "pass:secret",
        "-in",
        str(certificates.client.key),
        "-out",
        str(tmp_path / "locked.key"),
    )
    (tmp_path / "text").write_text("no certificate")
    for each in (certificates.client.certificate, certificates.client.key, certificates.right.key):
        (tmp_path / each.name).write_bytes(each.read_bytes())
    monkeypatch.chdir(tmp_path)
    ca, cert, key = (Path(files[option]) if option in files else None for option in ("ca", "cert", "key"))
    with pytest.raises(InputError) as refused:
        IpNetwork(TlsFiles(ca=ca, cert=cert, key=key))
    assert str(refused.value).startswith(words)


def test_certificate_and_key_may_be_in_one_file(certificates: Certificates, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(certificates.client.certificate.read_bytes() + certificates.client.key.read_bytes())
    assert TlsFiles(cert=both).context().minimum_version is ssl.TLSVersion.TLSv1_2


def openssl(*words: str) -> Sequence[str]:
    done = subprocess.run(["openssl", *words], check=True, capture_output=True, text=True, timeout=10)
    return done.stdout.splitlines()
