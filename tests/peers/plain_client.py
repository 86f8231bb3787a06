"""NOTIFY and REGISTER written by hand, sent from a plain socket: no product code takes part.

There is no retransmission and no transaction here: loopback loses nothing, and a peer that stays silent is meant to.
Over TCP and TLS it is also a phone on its own connection: `register`, `receive` what comes, `answer` it.
"""

from __future__ import annotations

import secrets
import socket
import ssl
from types import TracebackType
from typing import Literal, Self

from tests.peers.digest import Credentials, answer_challenge
from tests.peers.message import SipText

ANSWER_WITHIN = 3.0
"""Seconds that we wait for a message unless told otherwise."""

Address = tuple[str, int]
Transport = Literal["udp", "tcp", "tls"]
"""As a URI parameter names them."""


def host_port(address: Address) -> str:
    """Write an address as SIP does: `127.0.0.1:5060`, `[::1]:5060`."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class PlainClient:
    """A UDP or TCP socket on a loopback address, with what is needed to write requests by hand."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        *,
        transport: Transport = "udp",
        context: ssl.SSLContext | None = None,
        name: str | None = None,
    ) -> None:
        """Bind a socket; TCP and TLS connect to the destination of the first message and stay there.

        TLS needs a `context`; `name` is what the certificate has to name, by default the destination's host.
        """
        assert (context is not None) == (transport == "tls"), "TLS and nothing else takes a context"
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM)
        self._socket.bind((host, 0))
        bound = self._socket.getsockname()
        self.address: Address = (bound[0], bound[1])
        self.transport: Transport = transport
        self._context = context
        self._name = name
        self._peer: Address | None = None
        self._unread = b""

    def compose(
        self,
        method: str,
        uri: str,
        *,
        call_id: str | None = None,
        cseq: int = 1,
        to: str | None = None,
        extra: tuple[str, ...] = (),
    ) -> str:
        """Return a request outside any dialog; `to` is a URI, by default the Request-URI; `extra` whole header lines."""
        here = host_port(self.address)
        to_uri = uri if to is None else to
        from_uri = to_uri if method == "REGISTER" else f"sip:resyncctl@{here}"
        lines = [
            f"{method} {uri} SIP/2.0",
            f"Via: SIP/2.0/{self.transport.upper()} {here};branch=z9hG4bK{secrets.token_hex(8)};rport",
            "Max-Forwards: 70",
            f"From: <{from_uri}>;tag={secrets.token_hex(4)}",
            f"To: <{to_uri}>",
            f"Call-ID: {call_id or secrets.token_hex(8)}",
            f"CSeq: {cseq} {method}",
            *extra,
            "Content-Length: 0",
        ]
        return "\r\n".join(lines) + "\r\n\r\n"

    def notify(
        self,
        uri: str,
        *,
        call_id: str | None = None,
        cseq: int = 1,
        event: str = "check-sync",
        to: str | None = None,
        extra: tuple[str, ...] = (),
    ) -> str:
        """Return a NOTIFY `Event: check-sync` as resyncctl sends it, outside any dialog or subscription."""
        own = (
            f"Contact: <{self.uri('resyncctl')}>",
            f"Event: {event}",
            "Subscription-State: terminated",
        )
        return self.compose("NOTIFY", uri, call_id=call_id, cseq=cseq, to=to, extra=(*own, *extra))

    def uri(self, user: str) -> str:
        """Return the URI of a user at this socket; over TCP and TLS one that can be reached on its connection only."""
        parameter = "" if self.transport == "udp" else f";transport={self.transport}"
        return f"sip:{user}@{host_port(self.address)}{parameter}"

    def connect(self, destination: Address) -> None:
        """Open the connection, unless it is open already; ssl.SSLError when the certificate is not in order."""
        if self._peer is None:
            self._socket.settimeout(ANSWER_WITHIN)
            self._socket.connect(destination)
            self._peer = destination
            if self._context is not None:
                self._socket = self._context.wrap_socket(self._socket, server_hostname=self._name or destination[0])
        assert self._peer == destination, f"this connection leads to {self._peer}, not to {destination}"

    def send(self, text: str, destination: Address) -> None:
        """Send one datagram, or one message on the connection."""
        if self.transport == "udp":
            self._socket.sendto(text.encode(), destination)
        else:
            self.connect(destination)
            self._socket.sendall(text.encode())

    def receive(self, *, within: float = ANSWER_WITHIN) -> SipText:
        """Return the next message; TimeoutError after `within` seconds without a byte, EOFError when closed."""
        self._socket.settimeout(within)
        if self.transport == "udp":
            return SipText(self._socket.recv(65_535).decode())
        while b"\r\n\r\n" not in self._unread.lstrip(b"\r\n"):
            self._read_more()
        head, _, rest = self._unread.lstrip(b"\r\n").partition(b"\r\n\r\n")
        length = int(SipText(head.decode()).header("Content-Length") or 0)
        while len(rest) < length:
            rest += self._read_more()
        self._unread = rest[length:]
        return SipText((head + b"\r\n\r\n" + rest[:length]).decode())

    def answer(self, request: SipText, status: int = 200, reason: str = "OK") -> None:
        """Answer a request that came on our connection."""
        copied = [f"{name}: {value}" for name in ("Via", "From", "Call-ID", "CSeq") for value in request.headers(name)]
        to = f"To: {request.header('To')};tag={secrets.token_hex(4)}"
        lines = [f"SIP/2.0 {status} {reason}", *copied, to, "Content-Length: 0"]
        self._socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())

    def ping(self, *, within: float = ANSWER_WITHIN) -> bytes:
        """Send the keep-alive of RFC 5626 3.5.1 on our connection and return what comes back: CRLF, if it is known."""
        self._socket.sendall(b"\r\n\r\n")
        self._socket.settimeout(within)
        return self._socket.recv(65_535)

    def _read_more(self) -> bytes:
        more = self._socket.recv(65_535)
        if not more:
            raise EOFError(f"{self._peer} has closed the connection; unread: {self._unread!r}")
        self._unread += more
        return more

    def exchange(self, text: str, destination: Address, *, within: float = ANSWER_WITHIN) -> SipText:
        """Send a request and return the next message."""
        self.send(text, destination)
        return self.receive(within=within)

    def register(
        self, uri: str, destination: Address, *, credentials: Credentials | None = None, extra: tuple[str, ...] = ()
    ) -> SipText:
        """Register the address of record `uri`, answering one 401 if there are credentials; return the last answer."""
        call_id = secrets.token_hex(8)
        registrar = "sip:" + uri.partition("@")[2]
        first = self.compose("REGISTER", registrar, to=uri, call_id=call_id, extra=extra)
        answer = self.exchange(first, destination)
        if answer.status != 401 or credentials is None:
            return answer
        authorization = answer_challenge(
            answer.header("WWW-Authenticate") or "", credentials, method="REGISTER", uri=registrar
        )
        second = self.compose(
            "REGISTER", registrar, to=uri, call_id=call_id, cseq=2, extra=(*extra, f"Authorization: {authorization}")
        )
        return self.exchange(second, destination)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
