"""What the endpoint needs of a network: links that carry datagrams, and connections, real (`ip`) or in memory (`memory`)."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from typing import Final, NamedTuple, Protocol

from resyncctl.sip.hop import Hop, Transport
from resyncctl.sip.uac import Ending
from resyncctl.sip.uas import Address


class Receiver(Protocol):
    """Who gets what arrives at a link. Both methods are called from the event loop and must not block."""

    def datagram_received(self, data: bytes, source: Address) -> None:
        """Take one datagram."""

    def delivery_failed(self, quoted: bytes, destination: Address, ending: Ending, detail: str) -> None:
        """Take a delivery failure; `quoted` is what the error repeats of the datagram, perhaps nothing."""


class Link(Protocol):
    """A bound datagram socket."""

    @property
    def local(self) -> Address:
        """The address and port that it is bound to."""

    def send(self, data: bytes, destination: Address) -> None:
        """Hand over a datagram; raise OSError when the system refuses it. A full buffer counts as a lost datagram."""

    def close(self) -> None:
        """Stop receiving; idempotent."""


class Connection(Protocol):
    """What is needed of an asyncio.Transport."""

    def write(self, data: bytes) -> None:
        """Send, as soon as the peer takes it."""

    def close(self) -> None:
        """End after what has been written; idempotent."""

    def abort(self) -> None:
        """End at once."""


class Refusal(NamedTuple):
    """Why there is no connection."""

    ending: Ending
    detail: str


class Network(Protocol):
    """Where links and connections are opened."""

    def open(self, local: Address, receiver: Receiver) -> Link:
        """Bind a link (port 0 = any); raise TransportError when that is impossible."""

    def open_towards(self, destination: Address, port: int, receiver: Receiver) -> Link:
        """Bind a link to every address of the family; its `local` is the address that `destination` sees it at."""

    def source_for(self, destination: Address) -> str:
        """Return the local address that a datagram to `destination` leaves from; raise TransportError without a route."""

    async def connect(self, hop: Hop, local: str, protocol: asyncio.Protocol) -> Refusal | None:
        """Connect `protocol` to the hop over its transport, from the address `local` ('' = any); None when that worked.

        `connection_made` has been called then. It waits for as long as the caller lets it.
        """


def ending_of(number: int) -> Ending:
    """Translate an errno from ICMP, from connecting or from sending into how the request ends."""
    if number == errno.ECONNREFUSED:
        return Ending.REFUSED
    if number in {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENOPROTOOPT, errno.EHOSTDOWN, errno.ENONET}:
        return Ending.NO_ROUTE
    return Ending.NO_CONNECTION if number == errno.ETIMEDOUT else Ending.NOT_SENT


_VERDICTS: Final = {9: Ending.EXPIRED, 10: Ending.EXPIRED, 62: Ending.WRONG_NAME, 64: Ending.WRONG_NAME}
"""X509_V_ERR_* of OpenSSL (x509_vfy.h): not yet valid, expired, another host name, another IP address."""
UNLIKED: Final = "wants another certificate of ours (--tls-cert)"
_NOT_OURS: Final = "the peer does not accept our certificate (--tls-cert)"
_OLD: Final = "the peer has no TLS 1.2 or newer"
_MEANINGS: Final = {
    "WRONG_VERSION_NUMBER": "what is spoken there is no TLS",
    "UNSUPPORTED_PROTOCOL": _OLD,
    "TLSV1_ALERT_PROTOCOL_VERSION": _OLD,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": f"no version and cipher in common, or {_NOT_OURS}",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the peer wants a certificate of ours (--tls-cert)",
    "TLSV1_ALERT_UNKNOWN_CA": _NOT_OURS,
    "SSLV3_ALERT_BAD_CERTIFICATE": _NOT_OURS,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": _NOT_OURS,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": _NOT_OURS,
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": _NOT_OURS,
}
"""What the commoner errors of OpenSSL (sslerr.h) say to who operates this."""


def ending_of_error(error: Exception, hop: Hop) -> Refusal:
    """Say why there is no connection to a hop; for TLS with what is wrong with the certificate."""
    if isinstance(error, ssl.SSLCertVerificationError):
        ending = _VERDICTS.get(error.verify_code, Ending.NOT_TRUSTED)
        name, fault = hop.name or hop.address[0], error.verify_message.rstrip(".")
        return Refusal(ending, f"TLS: the certificate for {name} is not accepted: {fault}")
    if isinstance(error, ssl.SSLError):
        return Refusal(Ending.NO_TLS, _tls_fault(error))
    if isinstance(error, ConnectionResetError | BrokenPipeError) and hop.transport is Transport.TLS:
        return Refusal(Ending.NO_TLS, f"TLS: the peer has ended the handshake: it speaks no TLS, or {UNLIKED}")
    number = error.errno if isinstance(error, OSError) else None
    if number is None:
        return Refusal(Ending.NO_CONNECTION, f"no connection: {error}")
    return Refusal(ending_of(number), f"no connection: {os.strerror(number)}")


def loss_of_error(error: Exception, hop: Hop, *, early: bool) -> Refusal:
    """Say how a connection that stood has ended. `early`: nothing has come over it yet.

    A server with TLS 1.3 refuses a client's certificate only when that takes its handshake for done (RFC 8446 4.4.2.4).
    """
    if isinstance(error, ssl.SSLError):
        return Refusal(Ending.NO_TLS if early else Ending.CONNECTION_LOST, _tls_fault(error))
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return Refusal(Ending.CONNECTION_LOST, "the peer has reset the connection")
    number = error.errno if isinstance(error, OSError) else None
    fault = str(error) if number is None else os.strerror(number)
    return Refusal(Ending.CONNECTION_LOST, f"the connection to {hop.address[0]} has broken: {fault}")


def _tls_fault(error: ssl.SSLError) -> str:
    reason = error.reason or ""
    words = (reason or str(error)).replace("_", " ").lower()
    return f"TLS: {words}: {_MEANINGS[reason]}" if reason in _MEANINGS else f"TLS: {words}"
