"""A certificate authority of the tests and what it has signed, made with OpenSSL's command line (some 0.1 s).

    ca              signed by itself; what a client is told to trust
    right           for `pbx.test`, 127.0.0.1 and ::1
    wrong_name      by the same authority, for `other.test` only
    expired         the right names, valid in January 2020
    self_signed     the right names, signed by nobody else
    client          for a client that has to show one

Keys are EC P-256: a handshake with RSA costs ten times as much.
"""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.peers.process import PeerError

NAME: Final = "pbx.test"
"""The DNS name in the right certificate; its common name too."""
RIGHT_NAMES: Final = (f"DNS:{NAME}", "IP:127.0.0.1", "IP:::1")
WRONG_NAMES: Final = ("DNS:other.test",)
LONG_AGO: Final = ("-startdate", "20200101000000Z", "-enddate", "20200131000000Z")
AT_PRESENT: Final = ("-days", "30")

_CONFIGURATION = """\
[req]
distinguished_name = subject
prompt = no
[subject]
CN = {common_name}
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[end]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = {usage}
subjectKeyIdentifier = hash
subjectAltName = {names}
[ca]
default_ca = signing
[signing]
database = index.txt
new_certs_dir = .
default_md = sha256
unique_subject = no
rand_serial = yes
policy = any
[any]
commonName = supplied
"""


class Certificate(NamedTuple):
    """Two PEM files: the certificate, and its private key without a password."""

    certificate: Path
    key: Path


class Certificates:
    """The files in one directory: `Certificates(tmp_path_factory.getbasetemp() / "certificates")`.

    A directory that has them already is used as it is, so that every module of a test session can name the same one.
    """

    def __init__(self, directory: Path) -> None:
        """Make them if they are not there; PeerError says what OpenSSL did not like."""
        self.directory = directory
        self.authority = self._pair("ca")
        self.right = self._pair("right")
        self.wrong_name = self._pair("wrong_name")
        self.expired = self._pair("expired")
        self.self_signed = self._pair("self_signed")
        self.client = self._pair("client")
        if not (directory / "complete").exists():
            self._make()

    @property
    def ca(self) -> Path:
        """What signed all but the self-signed one, as a PEM file for those who verify."""
        return self.authority.certificate

    def context(self, *, client: Certificate | None = None) -> ssl.SSLContext:
        """Return a client's context that trusts this authority only and shows `client` when it is asked for one."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if client is not None:
            context.load_cert_chain(client.certificate, client.key)
        return context

    def _make(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "index.txt").write_text("")
        self._sign_itself("ca", RIGHT_NAMES, extensions="authority", common_name="Authority of the tests")
        self._sign_itself("self_signed", RIGHT_NAMES, extensions="end")
        self._issue("right", RIGHT_NAMES)
        self._issue("wrong_name", WRONG_NAMES)
        self._issue("expired", RIGHT_NAMES, valid=LONG_AGO)
        self._issue("client", ("DNS:resyncctl.test",), usage="clientAuth")
        (self.directory / "complete").touch()

    def _pair(self, kind: str) -> Certificate:
        return Certificate(self.directory / f"{kind}.pem", self.directory / f"{kind}.key")

    def _sign_itself(self, kind: str, names: Sequence[str], *, extensions: str, common_name: str = NAME) -> None:
        self._configure(names, "serverAuth", common_name)
        self._request(kind, "-x509", "-extensions", extensions, *AT_PRESENT, "-out", f"{kind}.pem")

    def _issue(
        self, kind: str, names: Sequence[str], *, valid: Sequence[str] = AT_PRESENT, usage: str = "serverAuth"
    ) -> None:
        """Let the authority sign a new key; `openssl ca`, because only it takes a date of the past (OpenSSL 3.0)."""
        self._configure(names, usage, names[0].removeprefix("DNS:"))
        self._request(kind, "-out", f"{kind}.csr")
        signing = ["-batch", "-notext", "-cert", "ca.pem", "-keyfile", "ca.key", *valid]
        self._openssl("ca", *signing, "-extensions", "end", "-in", f"{kind}.csr", "-out", f"{kind}.pem")

    def _configure(self, names: Sequence[str], usage: str, common_name: str) -> None:
        text = _CONFIGURATION.format(names=", ".join(names), usage=usage, common_name=common_name)
        (self.directory / "openssl.cnf").write_text(text)

    def _request(self, kind: str, *arguments: str) -> None:
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{kind}.key"]
        self._openssl("req", "-new", *key, *arguments)

    def _openssl(self, command: str, *arguments: str) -> None:
        words = ["openssl", command, "-config", "openssl.cnf", *arguments]
        done = subprocess.run(words, cwd=self.directory, check=False, capture_output=True, text=True, timeout=30)
        if done.returncode != 0:
            raise PeerError(f"{' '.join(words)}: {done.stderr}")
