"""The real network: UDP sockets, TCP and TLS connections."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from resyncctl.errors import InputError, TransportError
from resyncctl.sip.hop import Hop, Transport
from resyncctl.sip.uac import Ending
from resyncctl.sip.uas import Address
from resyncctl.transport.link import Link, Receiver, Refusal, ending_of_error
from resyncctl.transport.udp import UdpLink, family_of

_UNACKNOWLEDGED_MS: Final = 32_000
"""How long a peer's system may acknowledge nothing (RFC 5482): as long as Timer F, instead of Linux's quarter of an hour.

A phone that has lost its power, or a router that has forgotten the connection, would swallow all that is sent till then.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """What TLS connections are made with. PEM files; None = the system's authorities, no certificate of our own."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    """None: it is in the file of the certificate."""
    verify: bool = True

    def context(self) -> ssl.SSLContext:
        """Make the context: at least TLS 1.2, the peer's certificate and name verified unless told; raises InputError.

        The name is looked for as HTTPS does it, in DNS and IP entries, wildcards included: RFC 5922 7.1 and 7.2 want URI
        entries read and no wildcards, and the certificates of PBXes are those of their web servers.
        """
        if self.key is not None and self.cert is None:
            raise InputError("--tls-key is given without --tls-cert; name the certificate that the key is of")
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except (OSError, ssl.SSLError) as error:
            raise InputError(
                f"--tls-ca {self.ca}: {_fault(error)}; it has to be a PEM file of certificates"
                " (in the configuration: sip_tls_ca)"
            ) from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.cert is not None:
            try:
                context.load_cert_chain(self.cert, self.key, password=_no_password)
            except (OSError, ssl.SSLError) as error:
                files = f"--tls-cert {self.cert}" + (f", --tls-key {self.key}" if self.key else "")
                raise InputError(
                    f"{files}: {_fault(error)}; give PEM files of a certificate and its key (in the configuration: sip_tls_*)"
                ) from error
        return context


class IpNetwork:
    """Opens real sockets on the running event loop."""

    def __init__(self, tls: TlsFiles | None = None) -> None:
        """Take what TLS connections are made with; without, what the system trusts.

        Raises InputError for a file that cannot be used.
        """
        self._tls = tls or TlsFiles()
        self._context = self._tls.context() if tls is not None else None

    def open(self, local: Address, receiver: Receiver) -> Link:
        """Bind a UDP socket (port 0 = any); raise TransportError when the address or port cannot be used."""
        return UdpLink(local, receiver)

    def open_towards(self, destination: Address, port: int, receiver: Receiver) -> Link:
        """Bind a UDP socket to every address: the routing table chooses the source for each phone."""
        source = self.source_for(destination)
        link = UdpLink(("::" if ":" in source else "0.0.0.0", port), receiver)
        link.local = (source, link.local[1])
        return link

    def source_for(self, destination: Address) -> str:
        """Ask the routing table which local address leads to `destination`; raise TransportError without a route."""
        try:
            with socket.socket(family_of(destination[0]), socket.SOCK_DGRAM) as probe:
                probe.connect(destination)
                return str(probe.getsockname()[0])
        except OSError as error:
            raise TransportError(
                f"there is no route to {destination[0]} from this machine ({error.strerror}); check --local-address"
            ) from error

    async def connect(self, hop: Hop, local: str, protocol: asyncio.Protocol) -> Refusal | None:
        """Connect over TCP or TLS; see `Network.connect`."""
        secure = hop.transport is Transport.TLS
        if secure and self._context is None:
            self._context = self._tls.context()
        try:
            hop.name.encode("idna")
        except UnicodeError as error:
            return Refusal(Ending.WRONG_NAME, f"TLS: no certificate can be for {hop.name!r}: {error}")
        try:
            transport, _ = await asyncio.get_running_loop().create_connection(
                lambda: protocol,
                *hop.address,
                local_addr=(local, 0) if local else None,
                ssl=self._context if secure else None,
                server_hostname=(hop.name or hop.address[0]) if secure else None,
            )
        except TimeoutError:
            return Refusal(Ending.NO_CONNECTION, "no connection: the system has given up")
        except (OSError, ssl.SSLError) as error:
            return ending_of_error(error, hop)
        own = transport.get_extra_info("socket")
        if own is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            with suppress(OSError):  # it has ended meanwhile
                own.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
        return None


def _no_password() -> str:
    raise InputError("--tls-key: the key is encrypted; give one without a pass phrase")


def _fault(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason.replace("_", " ").lower() if error.reason else "is not PEM"
    return error.strerror or str(error.args[-1])
